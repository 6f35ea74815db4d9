//! When a file counts: how long to wait before it is looked at, and whether to believe what was seen.
//!
//! Half of a TOML file is often valid, an editor may remove a file for the moment between two writes. Pure: the
//! time is passed in, looking is done by others.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::site::SiteName;

/// Quiet that stands for the close where none can be seen: a hard link, a file truncated by its path.
const QUIET: Duration = Duration::from_millis(200);
/// Between two equal looks, where there are no events: longer than the pause between two writes of a slow copy.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// For how long empty, vanished and unparsable content is looked at again: longer than any editor's pause.
const DOUBT: Duration = Duration::from_millis(300);
const BETWEEN_DOUBTS: Duration = Duration::from_millis(100);
/// For how long a close is waited for after the last write: nobody writes a site file more slowly.
const CLOSE: Duration = Duration::from_secs(60);

/// What is known of a file that may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// Written and closed, or renamed in: it is whole.
    Whole,
    /// Written to by somebody who has it open: a close will follow.
    Writing,
    /// Created or changed in its metadata: a close may follow or not.
    Touched,
    /// Deleted or renamed away; editors do that and bring it back.
    Gone,
    /// Renamed to the file of another site: it does not come back.
    Moved,
    /// Differs from what was read, without any event.
    Differs,
}

/// What a look found, compared with what is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing new.
    Same,
    /// A site, by the hash of its text.
    Site(u64),
    /// Empty or unparsable text, by its hash, or something that cannot be read.
    Broken(u64),
    Nothing,
}

/// Whether to act on what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Counts,
    LookAgain,
}

/// All files that may have changed and do not count yet.
#[derive(Debug, Default)]
pub(super) struct Settle {
    pending: HashMap<SiteName, Pending>,
    /// The same by time.
    due: BTreeSet<(Instant, SiteName)>,
}

#[derive(Debug)]
struct Pending {
    due: Instant,
    rule: Rule,
    doubt: Option<Doubt>,
    /// A look is under way, and no hint has come since it began.
    looking: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Look, and believe a site that is seen.
    Look,
    /// The same, and believe that it is gone.
    Moved,
    /// Somebody writes, it seems: the same is seen when only the time of the file was set, and then no close comes.
    AwaitClose {
        until: Instant,
    },
    AwaitQuiet,
    TwoLooks {
        first: Option<Seen>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    since: Instant,
    seen: Seen,
}

impl Settle {
    pub(super) fn hint(&mut self, name: &SiteName, hint: Hint, now: Instant) {
        let before = self.take(name);
        let doubt = before.as_ref().and_then(|pending| pending.doubt);
        let rule = before.as_ref().map(|pending| pending.rule);
        let (rule, due) = match (hint, rule, before) {
            (Hint::Whole | Hint::Gone, ..) => (Rule::Look, now),
            (Hint::Moved, ..) => (Rule::Moved, now),
            (Hint::Writing, ..) => (Rule::AwaitClose { until: now + CLOSE }, now + QUIET),
            (Hint::Touched, Some(Rule::AwaitQuiet) | None, _) => (Rule::AwaitQuiet, now + QUIET),
            (Hint::Differs, None, _) => (Rule::TwoLooks { first: None }, now),
            // What is pending will look in any case.
            (Hint::Touched | Hint::Differs, Some(rule), before) => {
                (rule, before.map_or(now, |pending| pending.due))
            }
        };
        let pending = Pending {
            due,
            rule,
            doubt,
            looking: false,
        };
        self.put(name.clone(), pending);
    }

    /// The files to look at now. Each stays pending until [`Settle::looked`] says that it counts.
    pub(super) fn due(&mut self, now: Instant) -> Vec<SiteName> {
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        let names: Vec<SiteName> = due.map(|(_, name)| name.clone()).collect();
        for name in &names {
            if let Some(pending) = self.pending.get_mut(name) {
                pending.looking = true;
            }
        }
        names
    }

    /// When there is something to look at next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(super) fn is_pending(&self, name: &SiteName) -> bool {
        self.pending.contains_key(name)
    }

    /// No longer wants to look at `name`.
    pub(super) fn forget(&mut self, name: &SiteName) {
        self.take(name);
    }

    pub(super) fn names(&self) -> HashSet<SiteName> {
        self.pending.keys().cloned().collect()
    }

    /// Takes what a look at `name` found. Something that counts is no longer pending. When a hint has come since
    /// the look began, the look is worth nothing and another one will follow.
    pub(super) fn looked(&mut self, name: &SiteName, seen: Seen, now: Instant) -> Verdict {
        match self.pending.get(name) {
            None => return Verdict::Counts,
            Some(pending) if !pending.looking => return Verdict::LookAgain,
            Some(_) => {}
        }
        let Some(mut pending) = self.take(name) else {
            return Verdict::Counts;
        };
        let again = match (seen, pending.rule) {
            (Seen::Same, _) | (Seen::Nothing, Rule::Moved) => return Verdict::Counts,
            (_, Rule::AwaitClose { until }) if now < until => until,
            (Seen::Site(_), Rule::TwoLooks { first }) if first != Some(seen) => {
                pending.rule = Rule::TwoLooks { first: Some(seen) };
                now + BETWEEN_LOOKS
            }
            (Seen::Site(_), _) => return Verdict::Counts,
            (Seen::Broken(_) | Seen::Nothing, _) => {
                let before = pending.doubt.filter(|doubt| doubt.seen == seen);
                let doubt = before.unwrap_or(Doubt { since: now, seen });
                if now >= doubt.since + DOUBT {
                    return Verdict::Counts;
                }
                pending.doubt = Some(doubt);
                (now + BETWEEN_DOUBTS).min(doubt.since + DOUBT)
            }
        };
        pending.due = again;
        pending.looking = false;
        self.put(name.clone(), pending);
        Verdict::LookAgain
    }

    fn take(&mut self, name: &SiteName) -> Option<Pending> {
        let pending = self.pending.remove(name)?;
        self.due.remove(&(pending.due, name.clone()));
        Some(pending)
    }

    fn put(&mut self, name: SiteName, pending: Pending) {
        self.due.insert((pending.due, name.clone()));
        self.pending.insert(name, pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One file and a clock.
    struct Story {
        settle: Settle,
        name: SiteName,
        start: Instant,
        now: Instant,
    }

    impl Story {
        fn new() -> Story {
            let now = Instant::now();
            Story {
                settle: Settle::default(),
                name: SiteName::new("shop"),
                start: now,
                now,
            }
        }

        fn at(&mut self, millis: u64) -> &mut Story {
            self.now = self.start + Duration::from_millis(millis);
            self
        }

        fn hint(&mut self, hint: Hint) -> &mut Story {
            self.settle.hint(&self.name, hint, self.now);
            self
        }

        fn looks(&mut self) -> bool {
            !self.settle.due(self.now).is_empty()
        }

        fn sees(&mut self, seen: Seen) -> Verdict {
            assert!(self.looks(), "nothing is due");
            self.settle.looked(&self.name, seen, self.now)
        }
    }

    #[test]
    fn a_closed_file_is_read_at_once() {
        let mut story = Story::new();
        assert_eq!(story.hint(Hint::Whole).sees(Seen::Site(1)), Verdict::Counts);
        assert!(story.settle.pending.is_empty());
    }

    #[test]
    fn a_file_that_is_being_written_does_not_count_before_its_close() {
        let mut story = Story::new();
        story.hint(Hint::Touched).hint(Hint::Writing);
        assert_eq!(story.at(200).sees(Seen::Site(1)), Verdict::LookAgain);
        assert!(!story.at(5000).looks());
        story.hint(Hint::Touched).hint(Hint::Differs);
        assert!(!story.at(9000).looks());
        assert_eq!(story.hint(Hint::Whole).sees(Seen::Site(1)), Verdict::Counts);
    }

    #[test]
    fn a_file_that_never_closes_is_read_after_a_minute_of_silence() {
        let mut story = Story::new();
        story.hint(Hint::Writing).at(30_000).hint(Hint::Writing);
        assert_eq!(story.at(30_200).sees(Seen::Broken(1)), Verdict::LookAgain);
        assert!(!story.at(89_000).looks());
        assert_eq!(story.at(90_000).sees(Seen::Site(1)), Verdict::Counts);
    }

    #[test]
    fn a_file_whose_time_was_set_is_not_waited_for() {
        let mut story = Story::new();
        assert_eq!(
            story.hint(Hint::Writing).at(200).sees(Seen::Same),
            Verdict::Counts
        );
        assert!(story.settle.pending.is_empty());
    }

    #[test]
    fn a_file_that_only_appeared_is_read_after_200_ms_of_quiet() {
        let mut story = Story::new();
        story.hint(Hint::Touched).at(150).hint(Hint::Touched);
        assert!(!story.at(349).looks());
        assert_eq!(story.at(350).sees(Seen::Site(1)), Verdict::Counts);
    }

    #[test]
    fn without_events_two_equal_looks_250_ms_apart_count() {
        let mut story = Story::new();
        assert_eq!(
            story.hint(Hint::Differs).sees(Seen::Site(1)),
            Verdict::LookAgain
        );
        assert!(!story.at(249).looks());
        assert_eq!(story.at(250).sees(Seen::Site(2)), Verdict::LookAgain);
        assert_eq!(story.at(500).sees(Seen::Site(2)), Verdict::Counts);
    }

    #[test]
    fn an_empty_file_counts_only_after_300_ms_of_staying_so() {
        let mut story = Story::new();
        assert_eq!(
            story.hint(Hint::Whole).sees(Seen::Broken(0)),
            Verdict::LookAgain
        );
        assert_eq!(story.at(100).sees(Seen::Broken(0)), Verdict::LookAgain);
        assert_eq!(story.at(200).sees(Seen::Broken(7)), Verdict::LookAgain);
        assert_eq!(story.at(300).sees(Seen::Broken(7)), Verdict::LookAgain);
        assert_eq!(story.at(400).sees(Seen::Broken(7)), Verdict::LookAgain);
        assert_eq!(story.at(500).sees(Seen::Broken(7)), Verdict::Counts);
    }

    #[test]
    fn a_file_that_comes_back_was_never_gone() {
        let mut story = Story::new();
        assert_eq!(
            story.hint(Hint::Gone).sees(Seen::Nothing),
            Verdict::LookAgain
        );
        assert_eq!(story.at(100).sees(Seen::Same), Verdict::Counts);
        assert!(story.settle.pending.is_empty());
    }

    #[test]
    fn a_file_renamed_to_another_site_is_gone_at_once() {
        let mut story = Story::new();
        assert_eq!(story.hint(Hint::Moved).sees(Seen::Nothing), Verdict::Counts);
    }

    #[test]
    fn a_look_that_a_new_write_has_overtaken_is_worth_nothing() {
        let mut story = Story::new();
        story.hint(Hint::Whole);
        assert!(story.looks());
        story.hint(Hint::Writing);
        let verdict = story.settle.looked(&story.name, Seen::Site(1), story.now);
        assert_eq!(verdict, Verdict::LookAgain);
        story.hint(Hint::Whole);
        let verdict = story.settle.looked(&story.name, Seen::Site(1), story.now);
        assert_eq!(verdict, Verdict::LookAgain);
        assert_eq!(story.sees(Seen::Site(2)), Verdict::Counts);
    }
}
