//! Everything known of all site files, and which versions serve.
//!
//! Takes what was seen on disk and counts, and says what follows: edits of the route table, news for the workers,
//! what to keep for a restart. No I/O, no clock; the loop in `mod.rs` does what is said here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::claims::{Claims, Refused, Wants};
use super::guard::{Folder, Guard, Judgement};
use super::last_good::LastGood;
use super::look::{Complaint, Found, Good, Look, Print};
use super::status::{FileStatus, State, Summary, clock, thousands};
use crate::document::Problem;
use crate::route::{SiteChange, TableEdit};
use crate::site::directory::Stamp;
use crate::site::{Action, HostPattern, Site, SiteName};

/// A name without an owner is served by its last one for so long: a file may be on its way to another name.
const GRACE: Duration = Duration::from_secs(2);
/// A batch with more sites than that is said in one line.
const TALKATIVE: usize = 50;

#[derive(Debug, Default)]
pub(super) struct Book {
    entries: BTreeMap<SiteName, Entry>,
    claims: Claims,
    /// Names that nobody owns and that are served a moment longer.
    grace: HashMap<HostPattern, Grace>,
    /// Sites that serve and have no file any more.
    leaving: BTreeMap<SiteName, Leaving>,
    guard: Guard,
    numbers: Numbers,
    versions: u64,
    /// Those whose changes may make no events in the sites directory.
    elsewhere: BTreeSet<SiteName>,
    /// How many entries have a file.
    present: usize,
    /// How many entries serve.
    serving: usize,
    /// What the guard keeps, as it was said.
    kept: Option<Kept>,
    /// Conflicts nobody has been told of yet.
    untold: Vec<SiteName>,
    /// When [`Book::tick`] has something to do.
    due: Option<Instant>,
}

/// One site file.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
    /// Of what was last read and counted. `None`: there is no file.
    print: Option<Print>,
    verdict: Verdict,
    /// Of the verdict.
    since: SystemTime,
    live: Option<Live>,
    /// Could serve, but for a name that another site owns.
    wanted: Option<Wanted>,
    /// The table in which the present version went live.
    generation: u64,
}

#[derive(Debug)]
enum Verdict {
    Fine,
    Broken(Vec<Complaint>),
    Conflict(Conflict),
    Absent,
}

#[derive(Debug)]
struct Conflict {
    owner: SiteName,
    complaint: Complaint,
}

#[derive(Debug)]
struct Live {
    site: Arc<Site>,
    made_of: MadeOf,
    since: SystemTime,
    warnings: Vec<Complaint>,
}

#[derive(Debug)]
struct Wanted {
    good: Box<Good>,
    made_of: MadeOf,
}

/// Tells versions of one site apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MadeOf {
    text: u64,
    files: Vec<(PathBuf, Option<Stamp>)>,
}

#[derive(Debug)]
struct Grace {
    site: Arc<Site>,
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// It serves until then.
    until: Instant,
    /// Its operator said so by a name.
    off: bool,
}

#[derive(Debug)]
struct Kept {
    lost: usize,
    message: String,
}

/// Which folder the sites directory is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// The one that it was when it last had files.
    Same,
    /// Another one: made anew, mounted or unmounted.
    Other,
    Missing,
}

/// What follows from what was seen.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) edits: Vec<TableEdit>,
    pub(super) changes: Vec<SiteChange>,
    pub(super) keep: Vec<LastGood>,
    pub(super) forget: Vec<SiteName>,
    /// To be given back to [`Book::free`] when the workers have acknowledged.
    pub(super) freed: Vec<u32>,
    pub(super) added: Vec<SiteName>,
    pub(super) changed: Vec<SiteName>,
    pub(super) removed: Vec<SiteName>,
}

/// When something happened: for deciding and for telling.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
    /// Of the table that will be made from this.
    pub(super) generation: u64,
}

impl Book {
    /// Takes over what served before a restart: its claims, and the site itself where its file is no longer fit.
    pub(super) fn restore(
        &mut self,
        record: &LastGood,
        site: Option<Site>,
        at: Moment,
        step: &mut Step,
    ) {
        let name = record.document.name.clone();
        self.claims.record(&name, record.claims.iter().cloned());
        let live = site.map(|site| {
            let site = Arc::new(self.numbered(site, None));
            for claim in &site.claims {
                if self.claims.owns(&name, &claim.pattern) {
                    step.own(&claim.pattern, &site);
                }
            }
            self.serving += 1;
            let text = super::digest(record.document.text.as_bytes());
            let made_of = MadeOf {
                text,
                files: Vec::new(),
            };
            Live {
                site,
                made_of,
                since: at.wall,
                warnings: Vec::new(),
            }
        });
        let entry = Entry {
            path: record.document.origin.clone(),
            print: None,
            verdict: Verdict::Absent,
            since: at.wall,
            live,
            wanted: None,
            generation: at.generation,
        };
        self.entries.insert(name, entry);
    }

    /// Takes what was seen and counts.
    pub(super) fn apply(&mut self, looks: Vec<Look>, at: Moment, step: &mut Step) {
        let mut wants = Vec::new();
        for look in looks {
            let Look { name, path, found } = look;
            let want = match found {
                Found::Unknown => None,
                Found::Same(print) => {
                    if self.print(&name).is_some() {
                        self.entry(&name, path, print, at);
                    }
                    None
                }
                Found::Site(print, good) => Some(self.take_good(&name, path, print, good, at)),
                Found::Broken(print, broken) => {
                    Some(self.take_broken(&name, path, print, broken.complaints, at))
                }
                Found::Nothing { off } => self.take_absence(&name, off, at, step),
            };
            wants.extend(want.map(|want| (name, want)));
        }
        let settled = self.claims.settle(wants);
        for (pattern, former) in settled.released {
            let live = self
                .entries
                .get(&former)
                .and_then(|entry| entry.live.as_ref());
            if let Some(live) = live {
                let site = live.site.clone();
                self.grace.insert(
                    pattern,
                    Grace {
                        site,
                        until: at.now + GRACE,
                    },
                );
            }
        }
        let is_quiet = settled.adopted.len() > TALKATIVE;
        let mut fresh = HashSet::new();
        for name in &settled.adopted {
            self.adopt(name, at, is_quiet, &mut fresh, step);
        }
        if is_quiet && at.generation > 1 {
            let (added, changed) = (step.added.len(), step.changed.len());
            info!(added, changed, "sites live");
        }
        if is_quiet {
            self.tell_warnings(&settled.adopted);
        }
        self.tell_overlaps(&fresh);
        for refused in settled.refused {
            self.refuse(refused, at);
        }
        self.due = Some(at.now);
    }

    fn take_good(
        &mut self,
        name: &SiteName,
        path: PathBuf,
        print: Print,
        good: Box<Good>,
        at: Moment,
    ) -> Wants {
        let is_leaving = self.leaving.contains_key(name);
        let made_of = MadeOf {
            text: print.digest,
            files: print.files.clone(),
        };
        let entry = self.entry(name, path, print, at);
        if !is_leaving
            && entry
                .live
                .as_ref()
                .is_some_and(|live| live.made_of == made_of)
        {
            if matches!(entry.verdict, Verdict::Broken(_) | Verdict::Conflict(_)) {
                info!(site = %name, "as it was served all the time, live");
            }
            entry.set(Verdict::Fine, at);
            entry.wanted = None;
            return Wants::NoMore;
        }
        let patterns = good
            .site
            .claims
            .iter()
            .map(|claim| claim.pattern.clone())
            .collect();
        entry.wanted = Some(Wanted { good, made_of });
        Wants::Patterns(patterns)
    }

    fn take_broken(
        &mut self,
        name: &SiteName,
        path: PathBuf,
        print: Print,
        complaints: Vec<Complaint>,
        at: Moment,
    ) -> Wants {
        let was_leaving = self.leaving.remove(name).is_some();
        let entry = self.entry(name, path, print, at);
        entry.wanted = None;
        for complaint in &complaints {
            warn!(site = %name, "{}", complaint.line);
        }
        let file = entry.path.display();
        match &entry.live {
            Some(live) => {
                let since = clock(live.since, at.wall);
                warn!(site = %name, %file, "rejected, still serving the version of {since}");
            }
            None => warn!(site = %name, %file, "rejected, nothing older to serve"),
        }
        entry.set(Verdict::Broken(complaints), at);
        match &entry.live {
            // It had let go of its names already.
            Some(live) if was_leaving => Wants::Patterns(live.patterns().cloned().collect()),
            _ => Wants::NoMore,
        }
    }

    fn take_absence(
        &mut self,
        name: &SiteName,
        off: bool,
        at: Moment,
        step: &mut Step,
    ) -> Option<Wants> {
        let entry = self.entries.get_mut(name)?;
        self.present -= usize::from(entry.print.take().is_some());
        self.elsewhere.remove(name);
        entry.wanted = None;
        if entry.live.is_some() {
            entry.set(Verdict::Absent, at);
            let until = if off { at.now } else { at.now + GRACE };
            self.leaving
                .entry(name.clone())
                .or_insert(Leaving { until, off });
        } else {
            self.entries.remove(name);
            step.forget.push(name.clone());
            step.removed.push(name.clone());
            info!(site = %name, "site gone");
        }
        Some(Wants::Nothing)
    }

    /// The entry of a file that is there.
    fn entry(&mut self, name: &SiteName, path: PathBuf, print: Print, at: Moment) -> &mut Entry {
        if print.is_made_elsewhere() {
            self.elsewhere.insert(name.clone());
        } else {
            self.elsewhere.remove(name);
        }
        let entry = self.entries.entry(name.clone()).or_insert_with(|| Entry {
            path: PathBuf::new(),
            print: None,
            verdict: Verdict::Absent,
            since: at.wall,
            live: None,
            wanted: None,
            generation: 0,
        });
        self.present += usize::from(entry.print.is_none());
        entry.print = Some(print);
        entry.path = path;
        entry
    }

    /// `name` has got the names it wants.
    /// `fresh` gets the patterns it did not have before.
    fn adopt(
        &mut self,
        name: &SiteName,
        at: Moment,
        is_quiet: bool,
        fresh: &mut HashSet<HostPattern>,
        step: &mut Step,
    ) {
        let Some(mut entry) = self.entries.remove(name) else {
            return;
        };
        self.leaving.remove(name);
        let old = entry.live.take();
        let live = match (entry.wanted.take(), old.as_ref()) {
            // Its file came back as it was, or became unusable while it was on its way out.
            (None, None) => return,
            (Some(wanted), Some(old)) if wanted.made_of == old.made_of => {
                entry.set(Verdict::Fine, at);
                None
            }
            (None, Some(_)) => None,
            (Some(wanted), old) => {
                let number = old.map(|old| old.site.number);
                let Wanted { good, made_of } = wanted;
                let site = Arc::new(self.numbered(good.site, number));
                step.keep.push(LastGood {
                    document: good.document,
                    claims: site
                        .claims
                        .iter()
                        .map(|claim| claim.pattern.clone())
                        .collect(),
                });
                entry.set(Verdict::Fine, at);
                entry.generation = at.generation;
                self.serving += usize::from(old.is_none());
                let (since, warnings) = (at.wall, good.warnings);
                Some(Live {
                    site,
                    made_of,
                    since,
                    warnings,
                })
            }
        };
        match (&live, &old) {
            (Some(live), Some(old)) => {
                let (old, new) = (old.site.clone(), live.site.clone());
                step.changes.push(SiteChange::Edited { old, new });
                step.changed.push(name.clone());
            }
            (Some(_), None) => step.added.push(name.clone()),
            (None, _) => debug!(site = %name, "its file is back"),
        }
        if let Some(live) = &live {
            live.tell(name, &entry, old.is_some(), is_quiet);
            let before: HashSet<&HostPattern> = old.iter().flat_map(Live::patterns).collect();
            let patterns = live.patterns();
            fresh.extend(patterns.filter(|p| !before.contains(p)).cloned());
        }
        entry.live = live.or(old);
        if let Some(live) = &entry.live {
            for pattern in live
                .patterns()
                .filter(|pattern| self.claims.owns(name, pattern))
            {
                self.grace.remove(pattern);
                step.own(pattern, &live.site);
            }
        }
        self.entries.insert(name.clone(), entry);
    }

    /// The warnings of a large batch, as many as a person reads.
    fn tell_warnings(&self, names: &[SiteName]) {
        let sites = names.iter().filter_map(|name| {
            let live = self.entries.get(name)?.live.as_ref()?;
            Some((name, live))
        });
        let all = sites.flat_map(|(name, live)| live.warnings.iter().map(move |w| (name, w)));
        let mut count = 0;
        for (name, warning) in all {
            count += 1;
            if count <= TALKATIVE {
                warn!(site = %name, "{}", warning.line);
            }
        }
        if count > TALKATIVE {
            let more = count - TALKATIVE;
            warn!("and {more} more warnings of this kind; `onedoor check` shows all");
        }
    }

    /// CASES S-09: that an exact name of one site lies under the wildcard of another is as it should be, and may
    /// surprise both.
    fn tell_overlaps(&self, fresh: &HashSet<HostPattern>) {
        let has_wildcard = fresh.iter().any(|p| matches!(p, HostPattern::Wildcard(_)));
        // All owners only for a new wildcard, which is rare.
        let exact: Vec<&HostPattern> = match has_wildcard {
            true => self.claims.patterns().collect(),
            false => fresh.iter().collect(),
        };
        let mut overlaps: Vec<_> = exact
            .into_iter()
            .filter_map(|exact| {
                let wildcard = exact.wildcard_above()?;
                if !fresh.contains(exact) && !fresh.contains(&wildcard) {
                    return None;
                }
                let (site, other) = (self.claims.owner(exact)?, self.claims.owner(&wildcard)?);
                (site != other).then_some((exact, site, wildcard, other))
            })
            .collect();
        overlaps.sort();
        let more = overlaps.len().saturating_sub(TALKATIVE);
        for (exact, site, wildcard, other) in overlaps.iter().take(TALKATIVE) {
            info!(%site, %other, "{exact} is answered by {site}, not by {other}, which claims {wildcard}");
        }
        if more > 0 {
            info!(more, "more names lie under wildcards of other sites");
        }
    }

    fn refuse(&mut self, refused: Refused, at: Moment) {
        let Refused {
            name,
            pattern,
            owner,
        } = refused;
        let owners_place = self.place_of(&owner, &pattern);
        let Some(entry) = self.entries.get_mut(&name) else {
            return;
        };
        let Some(wanted) = &entry.wanted else {
            // A version on its way out that found its names taken.
            let (until, off) = (at.now + GRACE, false);
            self.leaving.insert(name, Leaving { until, off });
            return;
        };
        let mut claims = wanted.good.site.claims.iter();
        let claim = claims.find(|claim| claim.pattern == pattern);
        let text = &wanted.good.document.text;
        let message = format!("\"{pattern}\" belongs to {owners_place}");
        let problem = match claim {
            Some(claim) => Problem {
                excerpt: wanted.good.excerpt,
                ..Problem::of_file(&entry.path, message).at(text, claim.line, claim.column)
            },
            None => Problem::of_file(&entry.path, message),
        };
        let problem = problem.with_help(format!(
            "a name has one owner; this file goes live by itself when {owner} lets go of it"
        ));
        let mut complaints = super::look::complaints(&[problem], text);
        let Some(complaint) = complaints.pop() else {
            return;
        };
        if let Verdict::Conflict(conflict) = &entry.verdict
            && conflict.complaint == complaint
        {
            return;
        }
        entry.set(Verdict::Conflict(Conflict { owner, complaint }), at);
        self.untold.push(name);
    }

    /// `sites.d/z.toml:1:8`
    fn place_of(&self, owner: &SiteName, pattern: &HostPattern) -> String {
        let Some(entry) = self.entries.get(owner) else {
            return owner.to_string();
        };
        let path = crate::document::problem::printable(&entry.path.to_string_lossy());
        let sites = entry.live.iter().map(|live| &*live.site);
        let mut claims = sites.flat_map(|site| site.claims.iter());
        match claims.find(|claim| claim.pattern == *pattern) {
            Some(claim) => format!("{path}:{}:{}", claim.line, claim.column),
            None => path,
        }
    }

    /// Tells of conflicts, except those with a file that is just being looked at: it may be on its way out.
    pub(super) fn tell_conflicts(&mut self, is_pending: impl Fn(&SiteName) -> bool) {
        let Book {
            untold, entries, ..
        } = self;
        untold.retain(|name| {
            let Some(entry) = entries.get(name) else {
                return false;
            };
            let Verdict::Conflict(conflict) = &entry.verdict else {
                return false;
            };
            if is_pending(&conflict.owner) {
                return true;
            }
            warn!(site = %name, owner = %conflict.owner, "conflict: {}", conflict.complaint.line);
            false
        });
    }

    /// Ends what has had its time: names in grace, sites without a file.
    pub(super) fn tick(&mut self, ground: Ground, at: Moment, step: &mut Step) {
        if self.due.is_none_or(|due| due > at.now) {
            return;
        }
        let folder = match (self.present, ground) {
            (_, Ground::Missing) => Folder::Unreadable,
            (0, Ground::Other) => Folder::EmptyAndOther,
            (0, Ground::Same) => Folder::Empty,
            _ => Folder::Filled,
        };
        // No loss is what was switched off, and what other files have taken over with all its names.
        let leaving = self.leaving.iter();
        let (lost, free): (Vec<_>, Vec<_>) =
            leaving.partition(|(name, leaving)| !leaving.off && self.serves_any(name));
        let mut over: Vec<SiteName> = free.into_iter().map(|(name, _)| name.clone()).collect();
        let timed_out = lost.iter().filter(|(_, leaving)| leaving.until <= at.now);
        let timed_out: Vec<SiteName> = timed_out.map(|(name, _)| (*name).clone()).collect();
        let lost = lost.len();
        let judgement = match lost {
            0 => Judgement::LetGo,
            _ => self.guard.judge(lost, self.serving, folder, at.now),
        };
        let is_held = judgement != Judgement::LetGo;
        let is_told = is_held && !timed_out.is_empty();
        if !is_held {
            over.extend(timed_out);
        }
        if is_told {
            self.say_kept(lost, judgement);
        } else if !is_held {
            self.kept = None;
        }
        let is_quiet = over.len() > TALKATIVE;
        if is_quiet {
            info!(count = over.len(), "sites gone");
        }
        for name in over {
            self.remove(&name, is_quiet, step);
        }
        if self.leaving.is_empty() {
            self.guard = Guard::default();
        }
        let leaving = &self.leaving;
        self.grace.retain(|pattern, grace| {
            if grace.until > at.now || leaving.contains_key(&grace.site.name) {
                return true;
            }
            step.edits.push(TableEdit::Release {
                pattern: pattern.clone(),
            });
            false
        });
        let leaving = self.leaving.values().map(|leaving| leaving.until);
        let leaving = leaving.filter(|until| *until > at.now).min();
        let held = match judgement {
            Judgement::Hold { until } => until,
            Judgement::LetGo => None,
        };
        let grace = self.grace.values().map(|grace| grace.until);
        let grace = grace.filter(|until| *until > at.now).min();
        self.due = [leaving, held, grace].into_iter().flatten().min();
    }

    /// Whether a site on its way out still answers for a name.
    fn serves_any(&self, name: &SiteName) -> bool {
        let live = self.entries.get(name).and_then(|entry| entry.live.as_ref());
        live.is_some_and(|live| {
            live.patterns().any(|pattern| {
                let last = self.grace.get(pattern);
                last.is_some_and(|grace| Arc::ptr_eq(&grace.site, &live.site))
            })
        })
    }

    fn say_kept(&mut self, lost: usize, judgement: Judgement) {
        if self.kept.as_ref().is_some_and(|kept| kept.lost == lost) {
            return;
        }
        let (lost_text, total) = (thousands(lost), thousands(self.present + lost));
        let advice = match judgement {
            Judgement::Hold { until: None } => "onedoor reload --accept-removals",
            _ => "for 60 s, or onedoor reload --accept-removals",
        };
        let message =
            format!("sites.d lost {lost_text} of {total} files; still serving them; {advice}");
        warn!("{message}");
        self.kept = Some(Kept { lost, message });
    }

    /// The end of a site: it no longer serves.
    fn remove(&mut self, name: &SiteName, is_quiet: bool, step: &mut Step) {
        self.leaving.remove(name);
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let Some(live) = entry.live.take() else {
            return;
        };
        if entry.print.is_none() {
            self.entries.remove(name);
        }
        for pattern in live.patterns() {
            let last = self.grace.get(pattern);
            if last.is_some_and(|grace| Arc::ptr_eq(&grace.site, &live.site)) {
                self.grace.remove(pattern);
                step.edits.push(TableEdit::Release {
                    pattern: pattern.clone(),
                });
            }
        }
        if !is_quiet {
            info!(site = %name, "site gone");
        }
        self.serving -= 1;
        step.freed.push(live.site.number);
        step.removed.push(name.clone());
        step.forget.push(name.clone());
        let (old, drain) = (live.site.clone(), live.site.drain.remove);
        step.changes.push(SiteChange::Removed { old, drain });
    }

    /// An operator said that what is gone may go.
    pub(super) fn accept_removals(&mut self, now: Instant) {
        self.guard.accept();
        self.hurry(now);
    }

    /// Sites without a file have been served long enough.
    pub(super) fn hurry(&mut self, now: Instant) {
        for leaving in self.leaving.values_mut() {
            leaving.until = now;
        }
        self.due = Some(now);
    }

    /// Numbers of removed sites, which nobody uses any more.
    pub(super) fn free(&mut self, numbers: Vec<u32>) {
        self.numbers.free.extend(numbers);
    }

    fn numbered(&mut self, site: Site, number: Option<u32>) -> Site {
        self.versions += 1;
        Site {
            number: number.unwrap_or_else(|| self.numbers.next()),
            version: self.versions,
            ..site
        }
    }

    /// When [`Book::tick`] is next worth a call.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is gone and kept all the same.
    pub(super) fn kept(&self) -> Option<&str> {
        self.kept.as_ref().map(|kept| kept.message.as_str())
    }

    pub(super) fn has_files(&self) -> bool {
        self.present > 0
    }

    pub(super) fn serving(&self) -> usize {
        self.serving
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &SiteName> {
        self.entries.keys()
    }

    /// Whether the site serves without a file, as far as is known.
    pub(super) fn is_leaving(&self, name: &SiteName) -> bool {
        self.leaving.contains_key(name)
    }

    pub(super) fn path(&self, name: &SiteName) -> Option<&PathBuf> {
        self.entries.get(name).map(|entry| &entry.path)
    }

    pub(super) fn print(&self, name: &SiteName) -> Option<&Print> {
        self.entries.get(name)?.print.as_ref()
    }

    /// Every file whose changes may make no events in the sites directory, with its place and print.
    pub(super) fn elsewhere(&self) -> impl Iterator<Item = (&SiteName, &PathBuf, &Print)> {
        let names = self.elsewhere.iter();
        names.filter_map(|name| Some((name, self.path(name)?, self.print(name)?)))
    }

    /// What `wait` wants to know of a site.
    pub(super) fn standing(&self, name: &SiteName) -> Standing {
        match self.entries.get(name) {
            None => Standing::Unknown,
            Some(entry) => match &entry.verdict {
                Verdict::Fine => Standing::Live {
                    generation: entry.generation,
                },
                Verdict::Broken(_) => Standing::Rejected,
                Verdict::Conflict(conflict) => Standing::Conflict {
                    owner: conflict.owner.clone(),
                },
                Verdict::Absent => Standing::Absent,
            },
        }
    }

    pub(super) fn problems(&self, name: &SiteName) -> Vec<String> {
        let entry = self.entries.get(name);
        let drawn = entry.into_iter().flat_map(Entry::complaints);
        drawn.map(|complaint| complaint.drawn.clone()).collect()
    }

    /// Files that are not served as they are.
    pub(super) fn rejected(&self) -> impl Iterator<Item = &SiteName> {
        let is_rejected =
            |entry: &Entry| matches!(entry.verdict, Verdict::Broken(_) | Verdict::Conflict(_));
        let entries = self.entries.iter();
        entries
            .filter(move |(_, entry)| is_rejected(entry))
            .map(|(name, _)| name)
    }

    pub(super) fn summary(&self, ignored: usize) -> Summary {
        let live = self
            .entries
            .values()
            .filter(|entry| matches!(entry.verdict, Verdict::Fine));
        let live = live.count();
        let not_live = self.entries.len() - live;
        Summary {
            live,
            not_live,
            ignored,
        }
    }

    /// `notice`: why a file that is not seen may serve all the same.
    pub(super) fn statuses(&self, notice: Option<&str>) -> Vec<FileStatus> {
        let entries = self.entries.iter();
        entries
            .map(|(name, entry)| self.status(name, entry, notice))
            .collect()
    }

    fn status(&self, name: &SiteName, entry: &Entry, notice: Option<&str>) -> FileStatus {
        let (state, reason) = match (&entry.verdict, &entry.live) {
            (Verdict::Fine, _) => (State::Live, None),
            (Verdict::Broken(_), Some(_)) => (State::Stale, None),
            (Verdict::Broken(_), None) => (State::Down, None),
            (Verdict::Conflict(conflict), _) => {
                (State::Conflict, Some(conflict.complaint.line.clone()))
            }
            (Verdict::Absent, live) => {
                let state = if live.is_some() {
                    State::Stale
                } else {
                    State::Down
                };
                let reason = notice.unwrap_or("its file is gone");
                (state, Some(reason.to_owned()))
            }
        };
        let site = entry.live.as_ref().map(|live| &*live.site);
        FileStatus {
            name: name.to_string(),
            path: entry.path.clone(),
            state,
            since: entry.since,
            serving_since: entry.live.as_ref().map(|live| live.since),
            hosts: site.map(hosts).unwrap_or_default(),
            backends: site.map(backends).unwrap_or_default(),
            answers: site.map(answers).unwrap_or_default(),
            note: site
                .and_then(|site| site.note.as_deref())
                .map(str::to_owned),
            problems: self.problems(name),
            reason,
        }
    }
}

/// How a site stands, for those who wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Unknown,
    /// Once the table of this generation is acknowledged.
    Live {
        generation: u64,
    },
    Rejected,
    Conflict {
        owner: SiteName,
    },
    Absent,
}

impl Entry {
    fn set(&mut self, verdict: Verdict, at: Moment) {
        self.verdict = verdict;
        self.since = at.wall;
    }

    fn complaints(&self) -> impl Iterator<Item = &Complaint> {
        let errors = match &self.verdict {
            Verdict::Broken(complaints) => complaints.as_slice(),
            Verdict::Conflict(conflict) => std::slice::from_ref(&conflict.complaint),
            Verdict::Fine | Verdict::Absent => &[],
        };
        let is_fine = matches!(self.verdict, Verdict::Fine);
        let live = self.live.iter().filter(move |_| is_fine);
        let warnings = live.flat_map(|live| live.warnings.iter());
        errors.iter().chain(warnings)
    }
}

impl Live {
    fn patterns(&self) -> impl Iterator<Item = &HostPattern> {
        self.site.claims.iter().map(|claim| &claim.pattern)
    }

    fn tell(&self, name: &SiteName, entry: &Entry, is_edit: bool, is_quiet: bool) {
        if is_quiet {
            return;
        }
        for warning in &self.warnings {
            warn!(site = %name, "{}", warning.line);
        }
        let (file, hosts) = (entry.path.display(), few_hosts(&self.site));
        if is_edit {
            info!(site = %name, %file, %hosts, "site changed");
        } else {
            info!(site = %name, %file, %hosts, "site live");
        }
    }
}

impl Step {
    fn own(&mut self, pattern: &HostPattern, site: &Arc<Site>) {
        let (pattern, site) = (pattern.clone(), site.clone());
        self.edits.push(TableEdit::Own { pattern, site });
    }
}

fn hosts(site: &Site) -> Vec<String> {
    site.claims
        .iter()
        .map(|claim| claim.pattern.to_string())
        .collect()
}

/// For a line of the log: a file may claim more names than anybody wants to read there.
fn few_hosts(site: &Site) -> String {
    const FEW: usize = 8;
    let shown = site.claims.iter().take(FEW);
    let mut text: Vec<String> = shown.map(|claim| claim.pattern.to_string()).collect();
    if site.claims.len() > FEW {
        text.push(format!("+{}", site.claims.len() - FEW));
    }
    text.join(" ")
}

fn backends(site: &Site) -> Vec<String> {
    let actions = site
        .action
        .iter()
        .chain(site.paths.iter().filter_map(|rule| rule.action.as_ref()));
    let mut all: Vec<String> = Vec::new();
    for action in actions {
        if let Action::Proxy(backends) = action {
            for address in &backends.list {
                let address = address.to_string();
                if !all.contains(&address) {
                    all.push(address);
                }
            }
        }
    }
    all
}

/// What the site says itself: `respond 200`, `redirect https://www.shop.test`; each once.
fn answers(site: &Site) -> Vec<String> {
    let paths = site.paths.iter().filter_map(|rule| rule.action.as_ref());
    let mut all: Vec<String> = Vec::new();
    for action in site.action.iter().chain(paths) {
        let said = match action {
            Action::Proxy(_) => continue,
            Action::Redirect(redirect) => format!("redirect {}", redirect.location),
            Action::Respond(respond) => format!("respond {}", respond.status),
        };
        if !all.contains(&said) {
            all.push(said);
        }
    }
    all
}

/// Dense numbers, each given again once it is free.
#[derive(Debug, Default)]
struct Numbers {
    next: u32,
    free: Vec<u32>,
}

impl Numbers {
    fn next(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let number = self.next;
            self.next += 1;
            number
        })
    }
}
