//! What is known of one site file, and the version of it that serves.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::Moment;
use crate::reload::look::{Complaint, Good, Print};
use crate::site::directory::Stamp;
use crate::site::{HostPattern, Site, SiteName};
use crate::tls::AllClosed;

/// One site file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// Of what was last read and counted. `None`: there is no file.
    pub(super) print: Option<Print>,
    pub(super) verdict: Verdict,
    /// Of the verdict.
    pub(super) since: SystemTime,
    pub(super) live: Option<Live>,
    /// Could serve, but for a name that another site owns.
    pub(super) wanted: Option<Wanted>,
    /// The table in which the present version went live.
    pub(super) generation: u64,
}

#[derive(Debug)]
pub(super) enum Verdict {
    Fine,
    Broken(Vec<Complaint>),
    Conflict(Conflict),
    /// For a certificate file.
    Waiting(Complaint),
    Absent,
}

#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) owner: SiteName,
    pub(super) complaint: Complaint,
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) site: Arc<Site>,
    pub(super) made_of: MadeOf,
    pub(super) since: SystemTime,
    pub(super) warnings: Vec<Complaint>,
    /// From a start on, which found its certificate files missing or broken: nobody gets more than a 503.
    pub(super) is_shut: bool,
    /// Why every name of it answers 503, where no certificate has been found for any: nobody gets more either.
    pub(super) closed: Option<AllClosed>,
    pub(super) files: Files,
}

/// The certificate files of a version that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// Or it needs none.
    Read,
    /// It is early in a start. Nobody has been told yet that it is live, and with `is_quiet` nobody is.
    Unread { is_quiet: bool },
}

#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) good: Box<Good>,
    pub(super) made_of: MadeOf,
}

/// Tells versions of one site apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MadeOf {
    pub(super) text: u64,
    pub(super) files: Vec<(PathBuf, Option<Stamp>)>,
}

impl Entry {
    pub(super) fn set(&mut self, verdict: Verdict, at: Moment) {
        self.verdict = verdict;
        self.since = at.wall;
    }

    pub(super) fn shut(&mut self) {
        if let Some(live) = &mut self.live {
            live.is_shut = true;
            live.files = Files::Read;
        }
    }

    /// Why what is on disk and in force answers nothing but 503.
    pub(super) fn why_closed(&self) -> Option<&str> {
        Some(&self.closed()?.why)
    }

    pub(super) fn closed(&self) -> Option<&AllClosed> {
        match &self.verdict {
            Verdict::Fine => self.live.as_ref()?.closed.as_ref(),
            _ => None,
        }
    }

    pub(super) fn complaints(&self) -> impl Iterator<Item = &Complaint> {
        let errors = match &self.verdict {
            Verdict::Broken(complaints) => complaints.as_slice(),
            Verdict::Conflict(conflict) => std::slice::from_ref(&conflict.complaint),
            Verdict::Waiting(complaint) => std::slice::from_ref(complaint),
            Verdict::Fine | Verdict::Absent => &[],
        };
        let is_fine = matches!(self.verdict, Verdict::Fine);
        let live = self.live.iter().filter(move |_| is_fine);
        let warnings = live.flat_map(|live| live.warnings.iter());
        errors.iter().chain(warnings)
    }

    /// Whether an older version serves while the file waits for a certificate.
    pub(super) fn serves_meanwhile(&self) -> bool {
        let is_waiting = matches!(self.verdict, Verdict::Waiting(_));
        is_waiting && self.live.as_ref().is_some_and(|live| !live.is_shut)
    }

    /// Whether what serves waits for something of its backends.
    pub(super) fn awaits(&self, awaits: fn(&Site) -> bool) -> bool {
        self.live.as_ref().is_some_and(|live| awaits(&live.site))
    }
}

impl Live {
    /// Whether anybody gets more than a 503.
    pub(super) fn serves(&self) -> bool {
        !self.is_shut && self.closed.is_none()
    }

    pub(super) fn patterns(&self) -> impl ExactSizeIterator<Item = &HostPattern> {
        self.site.claims.iter().map(|claim| &claim.pattern)
    }
}
