//! What the book tells: to the log, to `ls` and to those who wait.

use std::collections::HashSet;
use std::path::Path;

use tracing::{info, warn};

use super::change::what_changed;
use super::entry::{Entry, Files, Live, Verdict};
use super::{Book, TALKATIVE};
use crate::document::Problem;
use crate::observe::Reason;
use crate::reload::contest::{Contender, Incumbent};
use crate::reload::gauges::{BackendGauges, SiteGauges};
use crate::reload::status::{BackendStatus, FileStatus, State, Summary};
use crate::reload::wrong::wrong_with;
use crate::site::faults::Fault;
use crate::site::{Action, HostPattern, Site, SiteName};
use crate::tls::Adviser;

const NO_PASS_YET: &str = "no backend has passed its check yet";

impl Book {
    /// The warnings of a large batch, as many as a person reads.
    pub(super) fn tell_warnings(&self, names: &[SiteName]) {
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
    pub(super) fn tell_overlaps(&self, fresh: &HashSet<HostPattern>) {
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

    /// `sites.d/z.toml:1:8`
    pub(super) fn place_of(&self, owner: &SiteName, pattern: &HostPattern) -> String {
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
    pub(in crate::reload) fn tell_conflicts(&mut self, is_pending: impl Fn(&SiteName) -> bool) {
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

    /// What `wait` wants to know of a site.
    pub(in crate::reload) fn standing(&self, name: &SiteName) -> Standing {
        match self.entries.get(name) {
            None => Standing::Unknown,
            Some(entry) => match &entry.verdict {
                Verdict::Fine if entry.why_closed().is_some() => Standing::Closed,
                Verdict::Fine if entry.awaits(Site::awaits_a_fit_backend) => Standing::Waiting,
                Verdict::Fine => Standing::Live {
                    generation: entry.generation,
                },
                Verdict::Broken(_) => Standing::Rejected,
                Verdict::Conflict(conflict) => Standing::Conflict {
                    owner: conflict.owner.clone(),
                },
                Verdict::Waiting(_) => Standing::Waiting,
                Verdict::Absent => Standing::Absent,
            },
        }
    }

    /// Whether what is on disk has never served yet: it waits for a certificate, or for a first backend. One that has served and whose
    /// app is down is no matter of whoever waits for all.
    pub(in crate::reload) fn is_to_come(&self, name: &SiteName) -> bool {
        let entry = self.entries.get(name);
        entry.is_some_and(|entry| match entry.verdict {
            Verdict::Waiting(_) => true,
            Verdict::Fine => {
                // What has served before is an outage of its own.
                entry.closed().is_some_and(|closed| !closed.had_one)
                    || entry.awaits(Site::awaits_a_first_pass)
            }
            _ => false,
        })
    }

    /// What a file that is no mistake waits for, in one line.
    pub(in crate::reload) fn lacks(&self, name: &SiteName) -> Option<String> {
        let entry = self.entries.get(name)?;
        if let Some(why) = entry.why_closed() {
            return Some(why.to_owned());
        }
        match &entry.verdict {
            Verdict::Waiting(complaint) => Some(complaint.line.clone()),
            Verdict::Conflict(conflict) => Some(conflict.complaint.line.clone()),
            Verdict::Fine if entry.awaits(Site::awaits_a_fit_backend) => {
                let site = &entry.live.as_ref()?.site;
                let what = match site.awaits_a_first_pass() {
                    true => NO_PASS_YET,
                    false => "no backend is fit",
                };
                let found = site.members().find_map(|member| {
                    let (at, why) = (member.to_string(), wrong_with(member)?);
                    Some(match why.contains(&at) {
                        true => format!("{what}; {why}"),
                        false => format!("{what}; {at}: {why}"),
                    })
                });
                Some(found.unwrap_or_else(|| what.to_owned()))
            }
            Verdict::Fine | Verdict::Broken(_) | Verdict::Absent => None,
        }
    }

    pub(in crate::reload) fn problems(&self, name: &SiteName) -> Vec<String> {
        let entry = self.entries.get(name);
        let drawn = entry.into_iter().flat_map(Entry::complaints);
        drawn.map(|complaint| complaint.drawn.clone()).collect()
    }

    /// Files that are not served as they are.
    pub(in crate::reload) fn rejected(&self) -> impl Iterator<Item = &SiteName> {
        let is_rejected = |entry: &Entry| !matches!(entry.verdict, Verdict::Fine | Verdict::Absent);
        let entries = self.entries.iter();
        entries
            .filter(move |(_, entry)| is_rejected(entry))
            .map(|(name, _)| name)
    }

    /// Those of them whose reason is no other site.
    pub(in crate::reload) fn rejected_by_itself(&self) -> impl Iterator<Item = &SiteName> {
        let entries = self.entries.iter();
        entries
            .filter(|(_, entry)| matches!(entry.verdict, Verdict::Broken(_) | Verdict::Waiting(_)))
            .map(|(name, _)| name)
    }

    pub(in crate::reload) fn summary(&self, ignored: usize) -> Summary {
        let count =
            |is: fn(&Entry) -> bool| self.entries.values().filter(|entry| is(entry)).count();
        let fine = count(|entry| matches!(entry.verdict, Verdict::Fine));
        let unread = count(|entry| {
            let is_unread = |live: &Live| live.files != Files::Read && live.closed.is_none();
            matches!(entry.verdict, Verdict::Fine) && entry.live.as_ref().is_some_and(is_unread)
        });
        let closed = count(|entry| entry.why_closed().is_some());
        let kept = count(|entry| matches!(entry.verdict, Verdict::Absent));
        Summary {
            live: fine - closed,
            not_live: self.entries.len() - fine - kept + closed,
            unread,
            kept,
            ignored,
            notice: None,
        }
    }

    /// Files that claim one of `patterns` and wait for another site to let go of a name.
    pub(in crate::reload) fn refused(&self, patterns: &[HostPattern]) -> Vec<Contender> {
        let waiting = self.entries.iter().filter_map(|(name, entry)| {
            let Verdict::Conflict(conflict) = &entry.verdict else {
                return None;
            };
            let wanted = entry.wanted.as_ref()?;
            let mut claims = wanted.good.site.claims.iter();
            let claim = claims.find(|claim| patterns.contains(&claim.pattern))?;
            Some(Contender {
                site: name.to_string(),
                path: entry.path.clone(),
                line: claim.line,
                column: claim.column,
                pattern: claim.pattern.to_string(),
                why: conflict.complaint.line.clone(),
            })
        });
        waiting.collect()
    }

    pub(in crate::reload) fn gauges(&self) -> Vec<SiteGauges> {
        let each = self.entries.iter().map(|(name, entry)| {
            let site = entry.live.as_ref().map(|live| &*live.site);
            SiteGauges {
                name: name.to_string(),
                state: state(entry),
                answered: site
                    .map(|site| site.slots.counts.read())
                    .unwrap_or_default(),
                connections: site.map_or(0, |site| site.slots.open()),
                backends: site.map(members).unwrap_or_default(),
            }
        });
        each.collect()
    }

    pub(in crate::reload) fn incumbent(&self, name: &SiteName) -> Option<Incumbent> {
        let entry = self.entries.get(name)?;
        let state = state(entry);
        let first = || entry.complaints().next().map(|first| first.line.clone());
        Some(Incumbent {
            path: entry.path.clone(),
            state,
            since: entry.since,
            why: match &entry.verdict {
                Verdict::Absent => Some("its file is gone".to_owned()),
                _ if state == State::Live => None,
                Verdict::Fine => self.lacks(name),
                _ => first().or_else(|| self.lacks(name)),
            },
        })
    }

    /// `notice`: why a file that is not seen may serve all the same.
    pub(in crate::reload) fn statuses(
        &self,
        notice: Option<&str>,
        adviser: &Adviser<'_>,
    ) -> Vec<FileStatus> {
        let entries = self.entries.iter();
        entries
            .map(|(name, entry)| self.status(name, entry, notice, adviser))
            .collect()
    }

    /// Of one file; `None`: there is no such file, and nothing of it serves.
    pub(in crate::reload) fn status_of(
        &self,
        name: &SiteName,
        adviser: &Adviser<'_>,
    ) -> Option<FileStatus> {
        let entry = self.entries.get(name)?;
        Some(self.status(name, entry, None, adviser))
    }

    fn status(
        &self,
        name: &SiteName,
        entry: &Entry,
        notice: Option<&str>,
        adviser: &Adviser<'_>,
    ) -> FileStatus {
        let reason = match &entry.verdict {
            Verdict::Fine if entry.why_closed().is_some() => entry.why_closed().map(str::to_owned),
            Verdict::Fine if entry.awaits(Site::awaits_a_first_pass) => {
                Some(NO_PASS_YET.to_owned())
            }
            Verdict::Fine | Verdict::Broken(_) => None,
            Verdict::Conflict(conflict) => Some(conflict.complaint.line.clone()),
            Verdict::Waiting(complaint) => Some(complaint.line.clone()),
            Verdict::Absent => Some(notice.unwrap_or("its file is gone").to_owned()),
        };
        let site = entry.live.as_ref().map(|live| &*live.site);
        let advice = site.map(|site| adviser.of(site)).unwrap_or_default();
        let serving = entry.live.as_ref().filter(|live| live.serves());
        let meanwhile = entry.serves_meanwhile();
        let meanwhile = meanwhile.then(|| {
            "what served before is served until it is there, but not after a restart".to_owned()
        });
        let advice = meanwhile
            .into_iter()
            .chain(advice)
            .map(|line| Problem::warning_of_file(&entry.path, line).render("", false));
        FileStatus {
            name: name.to_string(),
            path: entry.path.clone(),
            state: state(entry),
            since: entry.since,
            // One that is shut answers that it has no certificate: nobody may take that for its version of before.
            serving_since: serving.map(|live| live.since),
            hosts: site.map(hosts).unwrap_or_default(),
            to: site.map(to).unwrap_or_default(),
            backends: site.map(|site| self.backends(site)).unwrap_or_default(),
            answers: site.map(answers).unwrap_or_default(),
            connections: site.map(|site| site.slots.open()),
            answered: site.map(|site| site.slots.counts.read()),
            note: site
                .and_then(|site| site.note.as_deref())
                .map(str::to_owned),
            refusals: site.map(refusals).unwrap_or_default(),
            problems: self.problems(name).into_iter().chain(advice).collect(),
            reason,
        }
    }
}

fn state(entry: &Entry) -> State {
    match (&entry.verdict, &entry.live) {
        (Verdict::Fine, _) if entry.why_closed().is_some() => State::Waiting,
        (Verdict::Fine, _) if entry.awaits(Site::awaits_a_first_pass) => State::Waiting,
        (Verdict::Fine, _) => State::Live,
        (Verdict::Broken(_) | Verdict::Absent, Some(live)) if live.serves() => State::Stale,
        (Verdict::Broken(_) | Verdict::Absent, _) => State::Down,
        (Verdict::Conflict(_), _) => State::Conflict,
        (Verdict::Waiting(_), _) => State::Waiting,
    }
}

/// A backend in words, and what is known of it.
impl Book {
    fn backends(&self, site: &Site) -> Vec<BackendStatus> {
        let mut all: Vec<BackendStatus> = Vec::new();
        for member in site.members() {
            let at = member.to_string();
            if all.iter().any(|known| known.at == at) {
                continue;
            }
            let state = &member.state;
            let addresses = state.leads_to();
            let addresses = addresses.iter().flat_map(|addresses| addresses.list.iter());
            all.push(BackendStatus {
                at,
                fit: state.is_fit(),
                reason: wrong_with(member),
                addresses: addresses
                    .map(|located| located.address.to_string())
                    .collect(),
                in_flight: self.states.in_flight(state),
            });
        }
        all
    }
}

/// How a site stands, for those who wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::reload) enum Standing {
    Unknown,
    /// Once the table of this generation is acknowledged.
    Live {
        generation: u64,
    },
    Rejected,
    Conflict {
        owner: SiteName,
    },
    /// For a certificate file, or for a fit backend.
    Waiting,
    /// It is in force, and for want of a certificate nobody gets more than a 503.
    Closed,
    Absent,
}

impl Live {
    /// `old` is the version whose place it takes.
    pub(super) fn tell(&self, name: &SiteName, entry: &Entry, old: Option<&Live>, is_quiet: bool) {
        if is_quiet {
            return;
        }
        for warning in &self.warnings {
            warn!(site = %name, "{}", warning.line);
        }
        match old {
            // Said when they have been read.
            _ if self.files != Files::Read => {}
            Some(old) => {
                let (file, hosts) = (entry.path.display(), few(self.patterns()));
                let what = what_changed(old, self);
                info!(site = %name, %file, %hosts, %what, "site changed");
            }
            None => self.tell_live(name, &entry.path),
        }
    }

    pub(super) fn tell_live(&self, name: &SiteName, path: &Path) {
        let (file, hosts) = (path.display(), few(self.patterns()));
        info!(site = %name, %file, %hosts, "site live");
    }
}

fn hosts(site: &Site) -> Vec<String> {
    site.claims
        .iter()
        .map(|claim| claim.pattern.to_string())
        .collect()
}

/// For a line of the log: a file may claim more names than anybody wants to read there, and a certificate be for more.
pub(in crate::reload) fn few<'p>(
    patterns: impl ExactSizeIterator<Item = &'p HostPattern>,
) -> String {
    const FEW: usize = 8;
    let more = patterns.len().saturating_sub(FEW);
    let mut text: Vec<String> = patterns.take(FEW).map(ToString::to_string).collect();
    if more > 0 {
        text.push(format!("+{more}"));
    }
    text.join(" ")
}

fn to(site: &Site) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for backend in site.backends() {
        let backend = backend.to_string();
        if !all.contains(&backend) {
            all.push(backend);
        }
    }
    all
}

/// Each backend once.
fn members(site: &Site) -> Vec<BackendGauges> {
    let mut all: Vec<BackendGauges> = Vec::new();
    for member in site.members() {
        let name = member.to_string();
        if all.iter().any(|known| known.name == name) {
            continue;
        }
        let state = &member.state;
        let faults = Fault::ALL.map(|fault| (fault, state.faults.read(fault)));
        all.push(BackendGauges {
            name,
            is_fit: state.is_fit(),
            faults: faults.into_iter().filter(|(_, count)| *count > 0).collect(),
        });
    }
    all
}

/// What the site says itself: `respond 200`, `redirect https://www.shop.test`; each once.
fn answers(site: &Site) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for action in site.actions() {
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

/// Why we refused or ended something of it, and how often.
fn refusals(site: &Site) -> Vec<(&'static str, u64)> {
    Reason::counted(|reason| site.slots.refusals.read(reason)).collect()
}
