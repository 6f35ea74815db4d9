//! Certificates, as far as they come from files: those that sites name, and the daemon's folders.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::warn;

use super::book::{Held, TALKATIVE};
use super::covered::Which;
use super::look::{self, Complaint, Look};
use super::{Follower, parallel};
use crate::document::Problem;
use crate::site::tls::Mode;
use crate::site::{HostPattern, Site};
use crate::tls::{self, LoadError, Loaded, Removals};

/// What reading the files of a site that serves already brought.
#[derive(Debug)]
pub(super) struct Read {
    site: Arc<Site>,
    shown: Result<Loaded, LoadError>,
    backends: Result<Loaded, LoadError>,
}

impl Follower {
    /// Gives the keyring what belongs to the sites that are about to be published.
    pub(super) fn hold(&mut self, held: Vec<Held>) {
        let sites: Vec<Arc<Site>> = held.iter().map(|held| Arc::clone(&held.site)).collect();
        let mut unread = Vec::new();
        let mut ready = Vec::new();
        let mut with_others = Vec::new();
        for Held { site, tls } in held {
            self.passed.take(&site);
            let had = self.keyring.has_own(site.number);
            match tls {
                Some(loaded) => {
                    let has = !loaded.certificates.is_empty();
                    with_others.extend((had || has).then_some(site.number));
                    self.keyring.hold(&site, Ok(&loaded));
                    self.keyring.hold_backends(&site, Ok(&loaded));
                    self.keyring.remember_names(&site);
                    ready.push(site);
                }
                None if tls::needs_files(&site) || tls::has_tls_backends(&site) => {
                    self.keyring.hold_unread(&site);
                    unread.push(site);
                }
                None => {
                    self.keyring.hold(&site, Ok(&Loaded::default()));
                    self.keyring.remember_names(&site);
                    ready.push(site);
                }
            }
        }
        self.close(sites);
        ready.retain(|site| site.tls.mode != Mode::Passthrough);
        self.advise(&ready);
        // What the certificates of others cover is known when these have been read.
        match unread.is_empty() {
            true => self.tell_covered(Which::Fresh),
            false => self.read_behind(unread),
        }
        self.tell_covered_by(&with_others);
    }

    /// Finds out which of `sites` answer nothing but 503 for want of a certificate: nobody may take these for live.
    fn close(&mut self, sites: Vec<Arc<Site>>) {
        let at = self.moment();
        let keyring = Arc::clone(&self.keyring);
        let adviser = keyring.adviser();
        for site in sites {
            // It may be one of before a restart, whose place another takes at once.
            if self.book.is_serving(&site) {
                let why = adviser.why_all_closed(&site);
                self.book.close(&site.name, why, at);
            }
        }
    }

    /// Says what their operators should know of sites that have just gone live: that they are without TLS although nobody
    /// said so, that a certificate has ended.
    pub(super) fn advise(&self, sites: &[Arc<Site>]) {
        let adviser = self.keyring.adviser();
        let advised = sites.iter().filter_map(|site| {
            let advice = adviser.when_live(site);
            (!advice.is_empty()).then_some((site, advice))
        });
        let advised: Vec<_> = advised.collect();
        if advised.len() > TALKATIVE {
            let sites = advised.len();
            return warn!(
                sites,
                "without a certificate, or with one of which there is something to say; `onedoor ls` says it"
            );
        }
        for (site, advice) in advised {
            for line in advice {
                warn!(site = %site.name, "{line}");
            }
        }
    }

    /// Reads the files of sites that serve already: handshakes for them, and with their backends, wait.
    fn read_behind(&self, sites: Vec<Arc<Site>>) {
        let (rules, read) = (self.rules.clone(), self.reads.clone());
        drop(spawn_blocking(move || {
            parallel::map(sites, |site| {
                let shown = tls::load_shown(&site, &rules);
                let backends = tls::load_backends(&site, &rules);
                let done = Read {
                    site,
                    shown,
                    backends,
                };
                // A loop that has ended serves nobody.
                read.send(Some(done)).ok();
            });
            read.send(None).ok();
        }));
    }

    /// Takes what came of it, unless the site has been edited meanwhile.
    pub(super) fn take_read(&mut self, read: Read) {
        let Read {
            site,
            shown,
            backends,
        } = read;
        // Also of a version that was replaced meanwhile: some of its requests may be waiting.
        self.keyring.hold_backends(&site, backends.as_ref());
        if !self.book.is_serving(&site) {
            return;
        }
        // Only now it is known how its backends are asked.
        self.tell_news(vec![Arc::clone(&site)], &[]);
        self.keyring.hold(&site, shown.as_ref());
        self.keyring.remember_names(&site);
        if shown.is_ok() {
            self.book.is_read(&site.name);
        }
        if site.tls.mode != Mode::Passthrough {
            self.advise(&[Arc::clone(&site)]);
        }
        let path = self.book.path(&site.name).cloned().unwrap_or_default();
        if let Err(error @ LoadError::Missing(_)) = &shown {
            let problem = Problem::of_file(&path, error.to_string());
            let at = self.moment();
            self.book.await_file(&site.name, &problem, at);
        }
        let is_broken = matches!(&shown, Err(error) if !matches!(error, LoadError::Missing(_)));
        let mut lines = match shown {
            Ok(loaded) => loaded.warnings,
            Err(LoadError::Missing(_)) => Vec::new(),
            Err(error) => vec![format!(
                "{error}; its TLS is refused, and clear text answers 503, until that is mended"
            )],
        };
        match backends {
            Ok(loaded) => lines.extend(loaded.warnings),
            Err(error) => lines.push(format!(
                "{error}; requests for its backends behind https:// are answered 502 until that is mended"
            )),
        }
        let problems: Vec<Problem> = lines
            .into_iter()
            .map(|line| match is_broken {
                true => Problem::of_file(&path, line),
                false => Problem::warning_of_file(&path, line),
            })
            .collect();
        let complaints: Vec<Complaint> = look::complaints(&problems, "");
        for complaint in &complaints {
            warn!(site = %site.name, "{}", complaint.line);
        }
        match is_broken {
            true => {
                let at = self.moment();
                self.book.shut(&site.name, complaints, at);
            }
            false => self.book.warn(&site.name, complaints),
        }
    }

    /// Whether the folders of certificates are to be looked into because a new version of a site has nothing in there:
    /// whoever brings a site often brings its pair just before, and it is not to be live without.
    pub(super) fn may_have_come_with_pairs(&self, looks: &[(Look, bool)]) -> bool {
        let mut sites = looks.iter().filter_map(|(look, _)| look.site());
        sites.any(|site| self.keyring.lacks_found(site))
    }

    /// Looks into the folders of certificates. What is found there changes what open connections may ask for.
    pub(super) async fn search_certificates(&mut self, removals: Removals) {
        let keyring = Arc::clone(&self.keyring);
        let begun = Instant::now();
        // A search that panicked has found nothing new.
        let told = self.on_disk(move || keyring.search(removals)).await;
        let told = told.unwrap_or_default();
        self.search = told.again_in.map(|pause| {
            // However many there are, looking for them is the least of what we do.
            let least = begun.elapsed() * 20;
            Instant::now() + pause.max(least)
        });
        tell_of_folders(&told.problems);
        if told.is_news {
            let table = self.current.snapshot().with([]);
            self.keyring.remember_found(|host| table.find(host));
            drop(tokio::spawn(self.current.publish(table, Vec::new())));
            self.tell_covered(Which::All);
            for site in self.book.sites() {
                self.keyring.remember_names(site);
            }
            self.close(self.book.sites().cloned().collect());
            self.write_status();
        }
        if let Some(difference) = &told.difference {
            self.tell_swapped(difference);
        }
        let lost = |pattern: &HostPattern| told.lost.contains(pattern);
        let concerns = |site: &Site| {
            let mut patterns = site.claims.iter().map(|claim| &claim.pattern);
            patterns.any(|pattern| {
                lost(pattern) || pattern.wildcard_above().is_some_and(|above| lost(&above))
            })
        };
        if !told.lost.is_empty() {
            let concerned: Vec<Arc<Site>> = self
                .book
                .sites()
                .filter(|site| concerns(site))
                .cloned()
                .collect();
            self.advise(&concerned);
        }
    }
}

/// Says what in the folders of certificates is of no use.
pub(super) fn tell_of_folders(problems: &[String]) {
    for line in lines_of_folders(problems) {
        warn!("{line}");
    }
}

/// As many of them as somebody reads.
pub(super) fn lines_of_folders(problems: &[String]) -> impl Iterator<Item = String> {
    let few = problems.iter().take(TALKATIVE);
    let few = few.map(|problem| format!("in the folders of certificates: {problem}"));
    let more = problems.len().saturating_sub(TALKATIVE);
    let more = (more > 0).then(|| format!("in the folders of certificates: {more} more"));
    few.chain(more)
}
