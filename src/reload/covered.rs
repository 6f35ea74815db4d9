//! Names whose TLS is passed through and that a certificate is for which onedoor shows (CASES T-22): said of each once
//! whenever it becomes so, by whatever edit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::warn;

use super::Follower;
use super::book::TALKATIVE;
use crate::site::Site;
use crate::site::tls::Mode;
use crate::tls::Adviser;

/// The sites whose TLS is passed through, by number.
#[derive(Debug, Default)]
pub(super) struct Passed {
    sites: BTreeMap<u32, Told>,
}

#[derive(Debug)]
struct Told {
    site: Arc<Site>,
    /// What was said and is so still.
    lines: BTreeSet<String>,
    /// Nobody has looked yet which certificates are for its names.
    is_fresh: bool,
}

/// Which of them are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    Fresh,
}

impl Passed {
    /// Takes note of a site that is about to serve.
    pub(super) fn take(&mut self, site: &Arc<Site>) {
        if site.tls.mode != Mode::Passthrough {
            self.sites.remove(&site.number);
            return;
        }
        let told = Told {
            site: Arc::clone(site),
            lines: BTreeSet::new(),
            is_fresh: true,
        };
        self.sites.insert(site.number, told);
    }

    /// The site is gone from every table.
    pub(super) fn forget(&mut self, number: u32) {
        self.sites.remove(&number);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// Whether something that was said may have ended.
    fn are_told(&self) -> bool {
        self.sites.values().any(|told| !told.lines.is_empty())
    }

    /// What is new to say, as far as `adviser` knows certificates.
    fn news(&mut self, which: Which, adviser: &Adviser<'_>) -> Vec<(Arc<Site>, String)> {
        let mut news = Vec::new();
        for told in self.sites.values_mut() {
            if which == Which::Fresh && !told.is_fresh {
                continue;
            }
            told.is_fresh = false;
            let lines = BTreeSet::from_iter(adviser.of_passed(&told.site));
            let new = lines.difference(&told.lines).cloned();
            news.extend(new.map(|line| (Arc::clone(&told.site), line)));
            told.lines = lines;
        }
        news
    }
}

impl Follower {
    /// Says which names of these sites are covered now and were not before.
    pub(super) fn tell_covered(&mut self, which: Which) {
        if self.passed.is_empty() {
            return;
        }
        let adviser = self.keyring.adviser();
        say(self.passed.news(which, &adviser));
    }

    /// The same after an edit that changed nothing but the certificates of `sites`: all others are not asked again, unless
    /// they may be for a name that these were for.
    pub(super) fn tell_covered_by(&mut self, sites: &[u32]) {
        if self.passed.is_empty() || sites.is_empty() {
            return;
        }
        let adviser = match self.passed.are_told() {
            true => self.keyring.adviser(),
            false => self.keyring.adviser_on(sites),
        };
        say(self.passed.news(Which::All, &adviser));
    }
}

fn say(news: Vec<(Arc<Site>, String)>) {
    if news.len() > TALKATIVE {
        let names = news.len();
        return warn!(
            names,
            "whose TLS is passed through, and that a certificate which onedoor shows is for; `onedoor ls` says which"
        );
    }
    for (site, line) in news {
        warn!(site = %site.name, "{line}");
    }
}
