//! Whether a backend is still there, and how often it may be asked: by ticks, without I/O.
//!
//! A ping costs the other side something, and gRPC's servers end a connection whose client sends more than a few within
//! five minutes in which they had nothing to say themselves ("too_many_pings"), or any while nothing is open. So one is
//! sent when somebody waits and nothing has come for a while, and then none for as long as nothing comes; but one more when
//! it is asked for something and says nothing to that either: those who came later want to know, too.

use std::time::Duration;

/// What time is counted in here.
pub(super) const TICK: Duration = Duration::from_secs(5);
/// To answer: 10 s, below the time that routers on the way forget.
const ANSWER_TICKS: u32 = 2;
/// Between two pings with nothing else from the backend between them: a little more than those five minutes.
const AGAIN_TICKS: u32 = 62;
/// How long a connection is kept without a stream. 60 s: what it cost to open is worth more than an idle one of HTTP/1.1.
const IDLE_TICKS: u32 = 12;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Since nobody waits.
    idle: u32,
    /// Since the ping that was sent while it is silent.
    asked: Option<u32>,
    is_answered: bool,
    /// Something was asked for since that ping.
    has_new: bool,
    /// It was not the first while it is silent.
    is_second: bool,
}

/// What a tick saw.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tick {
    /// Somebody waits for something.
    pub(super) is_needed: bool,
    /// Something has come.
    pub(super) has_come: bool,
    /// Something was asked for.
    pub(super) was_asked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    Ask,
    /// It does not answer, or nobody needs it.
    End,
}

impl Watch {
    /// It has answered the ping.
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
    }

    /// Another tick is over.
    pub(super) fn tick(&mut self, tick: Tick) -> Verdict {
        let Tick {
            is_needed,
            has_come,
            was_asked,
        } = tick;
        self.has_new |= was_asked;
        if let Some(ticks) = &mut self.asked {
            *ticks += 1;
            if *ticks >= ANSWER_TICKS && !self.is_answered && !has_come {
                return Verdict::End;
            }
        }
        self.idle = if is_needed { 0 } else { self.idle + 1 };
        if self.idle >= IDLE_TICKS {
            return Verdict::End;
        }
        if has_come {
            // What is under way is waited for all the same.
            if self.is_answered {
                self.asked = None;
                self.is_second = false;
            }
            return Verdict::Wait;
        }
        if !is_needed {
            return Verdict::Wait;
        }
        let may_ask_again = self.has_new && !self.is_second;
        let may_ask = self
            .asked
            .is_none_or(|ticks| self.is_answered && (ticks >= AGAIN_TICKS || may_ask_again));
        if !may_ask {
            return Verdict::Wait;
        }
        // Until something comes there is one such question, however many periods pass.
        self.is_second |= self.asked.is_some() && may_ask_again;
        self.has_new = false;
        self.asked = Some(0);
        self.is_answered = false;
        Verdict::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u32 = 720;

    fn tick(is_needed: bool, has_come: bool) -> Tick {
        Tick {
            is_needed,
            has_come,
            was_asked: false,
        }
    }

    /// The ticks at which a backend is asked that answers at once.
    fn asked(
        ticks: u32,
        is_needed: impl Fn(u32) -> bool,
        has_come: impl Fn(u32) -> bool,
    ) -> Vec<u32> {
        let mut watch = Watch::default();
        let mut at = Vec::new();
        for now in 0..ticks {
            match watch.tick(tick(is_needed(now), has_come(now))) {
                Verdict::Ask => {
                    at.push(now);
                    watch.answered();
                }
                Verdict::Wait => {}
                Verdict::End => panic!("it is there: {now}"),
            }
        }
        at
    }

    #[test]
    fn one_that_is_silent_is_asked_at_once_and_then_rarely() {
        let at = asked(HOUR, |_| true, |_| false);
        assert_eq!(at[0], 0);
        let rests = at.windows(2).map(|pair| (pair[1] - pair[0]) * 5);
        assert!(rests.clone().all(|seconds| seconds > 300), "{at:?}");
        assert!(rests.count() >= 10);
    }

    #[test]
    fn one_that_nobody_waits_for_is_not_asked_and_let_go_after_a_minute() {
        let mut watch = Watch::default();
        for _ in 1..IDLE_TICKS {
            assert_eq!(watch.tick(tick(false, false)), Verdict::Wait);
        }
        assert_eq!(watch.tick(tick(false, false)), Verdict::End);
    }

    #[test]
    fn one_that_says_something_is_not_asked() {
        assert!(asked(HOUR, |_| true, |_| true).is_empty());
        // Now and then it has nothing to say: each time it may be asked once.
        let at = asked(HOUR, |_| true, |tick| tick % 10 == 9);
        assert_eq!(at.len(), HOUR as usize / 10);
    }

    #[test]
    fn one_that_is_silent_is_asked_once_more_when_somebody_asks_for_something() {
        let asked = Tick {
            is_needed: true,
            has_come: false,
            was_asked: true,
        };
        let mut watch = Watch::default();
        assert_eq!(watch.tick(tick(true, false)), Verdict::Ask);
        watch.answered();
        for _ in 0..3 {
            assert_eq!(watch.tick(tick(true, false)), Verdict::Wait);
        }
        assert_eq!(watch.tick(asked), Verdict::Ask);
        watch.answered();
        // Not each time: it would have enough of it.
        for _ in 0..20 {
            assert_eq!(watch.tick(asked), Verdict::Wait);
        }
        assert_eq!(watch.tick(tick(true, true)), Verdict::Wait);
        assert_eq!(watch.tick(asked), Verdict::Ask);
        watch.answered();
        // What is gone meanwhile is found by that.
        assert_eq!(watch.tick(asked), Verdict::Ask);
        assert_eq!(watch.tick(asked), Verdict::Wait);
        assert_eq!(watch.tick(asked), Verdict::End);
    }

    #[test]
    fn one_that_stays_silent_is_asked_once_more_in_all_and_not_in_each_period() {
        let mut watch = Watch::default();
        let mut count = 0;
        for _ in 0..HOUR {
            let asked = Tick {
                is_needed: true,
                has_come: false,
                was_asked: true,
            };
            if watch.tick(asked) == Verdict::Ask {
                count += 1;
                watch.answered();
            }
        }
        // One in each period of a little over five minutes, and one more.
        assert!((11..=13).contains(&count), "{count}");
    }

    #[test]
    fn one_that_does_not_answer_is_gone() {
        let mut watch = Watch::default();
        assert_eq!(watch.tick(tick(true, false)), Verdict::Ask);
        assert_eq!(watch.tick(tick(true, false)), Verdict::Wait);
        assert_eq!(watch.tick(tick(true, false)), Verdict::End);
    }

    #[test]
    fn one_that_answers_late_but_says_something_is_there() {
        let mut watch = Watch::default();
        assert_eq!(watch.tick(tick(true, false)), Verdict::Ask);
        for _ in 0..10 {
            assert_eq!(watch.tick(tick(true, true)), Verdict::Wait);
        }
        watch.answered();
        assert_eq!(watch.tick(tick(true, true)), Verdict::Wait);
        assert_eq!(watch.tick(tick(true, false)), Verdict::Ask);
    }
}
