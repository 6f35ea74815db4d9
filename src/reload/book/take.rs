//! What follows from what was seen and counts: a site goes live, is rejected, waits for a name, or leaves.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::entry::{Conflict, Entry, Files, Live, MadeOf, Verdict, Wanted};
use super::{Book, Grace, Held, Leaving, Moment, Step, TALKATIVE};
use crate::document::Problem;
use crate::reload::claims::{Refused, Wants};
use crate::reload::last_good::LastGood;
use crate::reload::look::{self, Absence, Complaint, Found, Good, Look, Print};
use crate::reload::status::clock;
use crate::route::SiteChange;
use crate::site::directory::Stamp;
use crate::site::{HostPattern, SiteName};
use crate::tls::{self, AllClosed};

/// A name without an owner is served by its last one for so long: a file may be on its way to another name.
const GRACE: Duration = Duration::from_secs(2);

impl Book {
    /// Takes what was seen and counts.
    pub(in crate::reload) fn apply(&mut self, looks: Vec<Look>, at: Moment, step: &mut Step) {
        let mut wants = Vec::new();
        let departed = self.departed(&looks);
        for look in looks {
            let Look { name, path, found } = look;
            self.touched.insert(name.clone());
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
                Found::Waiting(print, complaint) => {
                    Some(self.take_waiting(&name, path, print, complaint, at))
                }
                Found::Nothing(absence) => self.take_absence(&name, absence, at, step),
            };
            wants.extend(want.map(|want| (name, want)));
        }
        self.pass_claims_on(&departed, &wants);
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
        self.touched.extend(settled.adopted.iter().cloned());
        let refused = settled.refused.iter().map(|refused| refused.name.clone());
        self.touched.extend(refused);
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

    /// Files that are gone, as they were.
    fn departed(&self, looks: &[Look]) -> Vec<(SiteName, Stamp)> {
        let gone = looks
            .iter()
            .filter(|look| matches!(look.found, Found::Nothing(_)));
        gone.filter_map(|look| Some((look.name.clone(), self.print(&look.name)?.stamp?)))
            .collect()
    }

    /// A file that has another name now takes its claims with it: what waits for them is another file. It may have been
    /// seen before it was missed under its old name.
    fn pass_claims_on(&mut self, departed: &[(SiteName, Stamp)], wants: &[(SiteName, Wants)]) {
        if departed.is_empty() {
            return;
        }
        let files = |name: &SiteName| self.print(name)?.stamp.map(|stamp| stamp.file());
        let newcomers = wants
            .iter()
            .filter(|(_, want)| matches!(want, Wants::Patterns(_)));
        let newcomers: HashMap<_, &SiteName> = newcomers
            .filter_map(|(name, _)| Some((files(name)?, name)))
            .collect();
        let heirs = departed.iter().filter_map(|(name, stamp)| {
            let file = stamp.file();
            let mut waiting = self.claims.waiting_for(name).into_iter();
            let heir = match newcomers.get(&file) {
                Some(heir) => heir,
                None => waiting.find(|waiting| files(waiting) == Some(file))?,
            };
            (heir != name).then(|| (name.clone(), heir.clone()))
        });
        for (from, to) in heirs.collect::<Vec<_>>() {
            self.claims.pass_on(&from, &to);
        }
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
                .is_some_and(|live| live.made_of == made_of && !live.is_shut)
        {
            if matches!(
                entry.verdict,
                Verdict::Broken(_) | Verdict::Conflict(_) | Verdict::Waiting(_)
            ) {
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
        // Read once more, and nothing is new.
        if matches!(&entry.verdict, Verdict::Broken(before) if *before == complaints) {
            return Wants::NoMore;
        }
        for complaint in &complaints {
            warn!(site = %name, "{}", complaint.line);
        }
        let file = entry.path.display();
        match &entry.live {
            Some(live) if !live.is_shut => {
                let since = clock(live.since, at.wall);
                warn!(site = %name, %file, "rejected, still serving the version of {since}");
            }
            _ => warn!(site = %name, %file, "rejected, nothing older to serve"),
        }
        entry.set(Verdict::Broken(complaints), at);
        match &entry.live {
            // It had let go of its names already.
            Some(live) if was_leaving => Wants::Patterns(live.patterns().cloned().collect()),
            _ => Wants::NoMore,
        }
    }

    /// As good as it can be, but for a file that somebody is still to make.
    fn take_waiting(
        &mut self,
        name: &SiteName,
        path: PathBuf,
        print: Print,
        complaint: Complaint,
        at: Moment,
    ) -> Wants {
        let was_leaving = self.leaving.remove(name).is_some();
        let entry = self.entry(name, path, print, at);
        entry.wanted = None;
        if matches!(&entry.verdict, Verdict::Waiting(before) if *before == complaint) {
            return Wants::NoMore;
        }
        match &entry.live {
            Some(live) if !live.is_shut => {
                let since = clock(live.since, at.wall);
                warn!(site = %name, "waiting, still serving the version of {since}: {}", complaint.line);
            }
            _ => info!(site = %name, "waiting: {}", complaint.line),
        }
        entry.set(Verdict::Waiting(complaint), at);
        match &entry.live {
            Some(live) if was_leaving => Wants::Patterns(live.patterns().cloned().collect()),
            _ => Wants::NoMore,
        }
    }

    /// What serves lacks a certificate file that somebody is still to make: until then its TLS is refused.
    pub(in crate::reload) fn await_file(&mut self, name: &SiteName, problem: &Problem, at: Moment) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        entry.shut();
        let Some(complaint) = look::complaints(std::slice::from_ref(problem), "").pop() else {
            return;
        };
        let waits = match entry.verdict {
            Verdict::Fine => "waiting: ",
            _ => "",
        };
        warn!(
            site = %name,
            "{waits}{}; its TLS is refused, and clear text answers 503, until it is there", complaint.line
        );
        if let Verdict::Fine = entry.verdict {
            entry.set(Verdict::Waiting(complaint), at);
            self.touched.insert(name.clone());
        }
    }

    /// What serves has certificate files, and they are good: only now it is live.
    pub(in crate::reload) fn is_read(&mut self, name: &SiteName) {
        if let Some(entry) = self.entries.get_mut(name)
            && let Some(live) = &mut entry.live
            && let Files::Unread { is_quiet } = std::mem::replace(&mut live.files, Files::Read)
            && !is_quiet
        {
            live.tell_live(name, &entry.path);
        }
    }

    /// Takes note of why every name of what serves answers 503 for want of a certificate, or that it is not so.
    pub(in crate::reload) fn close(&mut self, name: &SiteName, why: Option<AllClosed>, at: Moment) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let Some(live) = entry.live.as_mut().filter(|live| live.closed != why) else {
            return;
        };
        let is_open = why.is_none();
        let was_open = std::mem::replace(&mut live.closed, why).is_none();
        self.touched.insert(name.clone());
        if was_open != is_open && matches!(entry.verdict, Verdict::Fine) {
            entry.since = at.wall;
            if is_open {
                info!(site = %name, "it has a certificate now, live");
            }
        }
    }

    /// What serves has certificate files that cannot be used: until that is mended its TLS is refused.
    pub(in crate::reload) fn shut(
        &mut self,
        name: &SiteName,
        complaints: Vec<Complaint>,
        at: Moment,
    ) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        entry.shut();
        if let Verdict::Fine = entry.verdict {
            entry.set(Verdict::Broken(complaints), at);
            self.touched.insert(name.clone());
        }
    }

    fn take_absence(
        &mut self,
        name: &SiteName,
        absence: Absence,
        at: Moment,
        step: &mut Step,
    ) -> Option<Wants> {
        let entry = self.entries.get_mut(name)?;
        self.present -= usize::from(entry.print.take().is_some());
        self.elsewhere.set(name, None);
        entry.wanted = None;
        if entry.live.is_some() {
            entry.set(Verdict::Absent, at);
            let until = match absence {
                Absence::Meant => at.now,
                Absence::Gone | Absence::WithFolder => at.now + GRACE,
            };
            let leaving = Leaving { until, absence };
            let known = self.leaving.entry(name.clone()).or_insert(leaving);
            if absence == Absence::Meant {
                *known = leaving;
            }
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
        self.elsewhere.set(name, Some(&print));
        let entry = self.entries.entry(name.clone()).or_insert_with(|| Entry {
            path: PathBuf::new(),
            print: None,
            verdict: Verdict::Absent,
            since: at.wall,
            live: None,
            wanted: None,
            generation: 0,
        });
        self.missed.remove(name);
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
                let before = old.map(|old| &*old.site);
                let Wanted { good, made_of } = wanted;
                let site = self.numbered(good.site, before);
                let files = match good.tls.is_none() && tls::needs_files(&site) {
                    true => Files::Unread { is_quiet },
                    false => Files::Read,
                };
                step.held.push(Held {
                    site: site.clone(),
                    tls: good.tls,
                });
                let claims = site.claims.iter().map(|claim| claim.pattern.clone());
                let version = LastGood {
                    document: good.document,
                    claims: claims.collect(),
                    since: at.wall,
                };
                // After a restart the version before has to be there, if no new backend is.
                if before.is_some() && site.awaits_a_fit_backend() {
                    self.unproven.insert(name.clone(), version);
                } else {
                    self.unproven.remove(name);
                    step.keep.push(version);
                }
                entry.set(Verdict::Fine, at);
                entry.generation = at.generation;
                self.serving += usize::from(old.is_none());
                let (since, warnings) = (at.wall, good.warnings);
                Some(Live {
                    site,
                    made_of,
                    since,
                    warnings,
                    is_shut: false,
                    closed: None,
                    files,
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
            live.tell(name, &entry, old.as_ref(), is_quiet);
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
            let (until, absence) = (at.now + GRACE, Absence::Gone);
            self.leaving.insert(name, Leaving { until, absence });
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
        let mut complaints = look::complaints(&[problem], text);
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
}
