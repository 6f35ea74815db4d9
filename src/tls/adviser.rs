//! What an operator should know of the certificates of a site, as of now.
//!
//! One adviser for as many sites as are asked about at once: what it has to look up for all, it looks up once.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::advice;
use super::found::Found;
use super::keyring::{Keyring, WhyClosed, why_closed};
use crate::site::local::may_be_local;
use crate::site::tls::{ClearText, Mode};
use crate::site::{Claim, HostPattern, Site};

/// See the module.
#[derive(Debug)]
pub struct Adviser<'k> {
    keyring: &'k Keyring,
    found: Arc<Found>,
    now: SystemTime,
    /// Nobody is served from what it knows: it says what would come of a start.
    of_a_start: bool,
    /// Names in certificates that sites show from files of their own.
    shown: OnceCell<HashSet<HostPattern>>,
    /// Wildcards that stand for some name in the folders.
    above: OnceCell<HashSet<HostPattern>>,
}

/// Why every name of a site answers 503.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllClosed {
    pub why: String,
    /// One of them had a certificate: it served before.
    pub had_one: bool,
}

impl<'k> Adviser<'k> {
    pub(super) fn new(keyring: &'k Keyring, found: Arc<Found>) -> Adviser<'k> {
        Adviser {
            keyring,
            found,
            now: SystemTime::now(),
            of_a_start: keyring.only_looks,
            shown: OnceCell::new(),
            above: OnceCell::new(),
        }
    }

    /// One that knows the certificates of these sites alone.
    pub(super) fn on(keyring: &'k Keyring, sites: &[u32]) -> Adviser<'k> {
        let own = sites
            .iter()
            .flat_map(|number| keyring.own(*number).to_vec());
        let names = own.flat_map(|own| own.names().to_vec());
        Adviser {
            shown: OnceCell::from(names.collect::<HashSet<_>>()),
            ..Adviser::new(keyring, Arc::default())
        }
    }

    /// What is of no use in the folders of certificates.
    pub fn of_folders(&self) -> Vec<String> {
        let of_no_use = self.found.problems().cloned();
        // Whoever serves has said what became of it.
        let bare = self.found.bare().filter(|_| self.of_a_start);
        let bare = bare.map(|path| {
            let path = path.display();
            format!("{path}: there is no certificate in it; is a volume not mounted?")
        });
        of_no_use.chain(bare).collect()
    }

    /// All there is, one line each.
    pub fn of(&self, site: &Site) -> Vec<String> {
        let mut advice = self.when_live(site);
        if site.tls.mode == Mode::Auto {
            for claim in &site.claims {
                for line in self.found.advice(&claim.pattern, self.now) {
                    if !advice.contains(&line) {
                        advice.push(line);
                    }
                }
            }
        }
        advice
    }

    /// What is to be said when a site goes live: without what was said of the pairs in the folders when they were read.
    pub fn when_live(&self, site: &Site) -> Vec<String> {
        let mut lines = match site.tls.mode {
            Mode::Auto => self.without_certificate(site),
            Mode::Passthrough => self.of_passed(site),
            Mode::Local | Mode::Files(_) | Mode::Off => Vec::new(),
        };
        lines.extend(self.of_redirect(site));
        let own = self.keyring.own(site.number);
        let own = own.iter();
        lines.extend(own.flat_map(|own| advice::of_certificate(own, "clients", self.now)));
        lines.extend(self.of_backends(site));
        lines.extend(self.keyring.advice_on_lists(site.number));
        if self.is_vouched_for(site) {
            lines.extend(self.keyring.authority.advice());
        }
        lines
    }

    /// Clear text is sent on to a port on which nobody may listen.
    fn of_redirect(&self, site: &Site) -> Option<String> {
        if !self.keyring.lacks_443 || site.tls.https_port.is_some() {
            return None;
        }
        let is_meant = site.tls.clear_text == Some(ClearText::Redirect);
        let is_usual = is_meant || site.tls.clear_text.is_none();
        let is_found = |claim: &&Claim| match self.found.covering(&claim.pattern) {
            Some(_) => is_usual,
            None => is_meant && may_be_local(&claim.pattern),
        };
        let leads_on = match site.tls.mode {
            Mode::Auto => site.claims.iter().any(|claim| is_found(&claim)),
            Mode::Local => is_meant,
            Mode::Files(_) | Mode::Passthrough => is_usual,
            Mode::Off => false,
        };
        leads_on.then(|| {
            "clear text is sent on to https:// without a port, so to 443, where this onedoor does not listen; add it to \
             \"listen\", or, if somebody in front of it takes 443 for it, say https_port = 443 under [tls], or for all \
             sites tls.https_port = 443 under [defaults] of onedoor.toml"
                .to_owned()
        })
    }

    /// Of what the `https://` backends of a site are shown.
    pub fn of_backends(&self, site: &Site) -> Vec<String> {
        let mut lines = Vec::new();
        for tls in site.backends().filter_map(|backend| backend.tls.as_ref()) {
            let Some(Ok(identity)) = tls.identity.get() else {
                continue;
            };
            let identity = self.keyring.identity(identity);
            let own = identity.as_ref().and_then(|identity| identity.own.as_ref());
            let own = own.into_iter();
            for line in own.flat_map(|own| advice::of_certificate(own, "the backend", self.now)) {
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        lines
    }

    /// CASES T-22: a browser that is shown the certificate of another site for such a name uses that connection for it
    /// (RFC 9113 9.1.1), and is sent away with 421.
    pub fn of_passed(&self, site: &Site) -> Vec<String> {
        let shown = self.shown.get_or_init(|| self.keyring.names_of_sites());
        let is_shown = |claim: &&Claim| {
            let name = &claim.pattern;
            let above = || name.wildcard_above();
            self.found.covering(name).is_some()
                || shown.contains(name)
                || above().is_some_and(|above| shown.contains(&above))
        };
        let claims = site.claims.iter().filter(is_shown);
        let say = |claim: &Claim| {
            let name = &claim.pattern;
            format!(
                "a certificate that onedoor shows for other names is also for {name}, whose TLS is passed through: \
                 browsers may ask for it on such a connection, get 421, and have to open another"
            )
        };
        claims.map(say).collect()
    }

    /// Names without a certificate: they are live in clear text only, or, where that is not what the operator wants, or they
    /// had one, not at all.
    fn without_certificate(&self, site: &Site) -> Vec<String> {
        let mut open = Vec::new();
        let mut closed: Vec<(WhyClosed, Vec<&HostPattern>)> = Vec::new();
        for pattern in self.lacking(site) {
            match self.why_closed(site, pattern) {
                // No certificate is for every name: of `*` it would be said for ever.
                None | Some(WhyClosed::AsksClients | WhyClosed::MustBeTls(_))
                    if *pattern == HostPattern::Any => {}
                None => open.push(pattern),
                Some(why) => match closed.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, patterns)) => patterns.push(pattern),
                    None => closed.push((why, vec![pattern])),
                },
            }
        }
        let open = (!open.is_empty()).then(|| {
            let names = list(&open);
            format!(
                "live, clear text only: no certificate for {names}; tls = \"off\" in its file says that this is meant"
            )
        });
        let closed = closed.iter();
        let closed = closed.map(|(why, patterns)| self.closed(site, *why, patterns));
        open.into_iter().chain(closed).collect()
    }

    /// Why every name of a site answers 503, where it is for want of a certificate that somebody is still to put into the
    /// folders: nobody is served then.
    pub fn why_all_closed(&self, site: &Site) -> Option<AllClosed> {
        if site.tls.mode != Mode::Auto || self.lacking(site).count() < site.claims.len() {
            return None;
        }
        let mut had_one = false;
        let is_closed = |claim: &Claim| match &claim.pattern {
            // Some names below it may have one.
            HostPattern::Any => false,
            pattern => {
                let why = self.why_closed(site, pattern);
                had_one |= why == Some(WhyClosed::Had);
                why.is_some() && !self.covers_one_of(pattern)
            }
        };
        let is_closed = site.claims.iter().all(is_closed);
        is_closed.then(|| AllClosed {
            why: self.without_certificate(site).join("; "),
            had_one,
        })
    }

    /// Whether a certificate is there for some name that a wildcard stands for.
    fn covers_one_of(&self, pattern: &HostPattern) -> bool {
        let above = || {
            let names = self.found.names();
            names.filter_map(|name| name.wildcard_above()).collect()
        };
        matches!(pattern, HostPattern::Wildcard(_))
            && self.above.get_or_init(above).contains(pattern)
    }

    /// The names that have no certificate, and for which the local authority gives none.
    fn lacking<'s>(&self, site: &'s Site) -> impl Iterator<Item = &'s HostPattern> {
        let patterns = site.claims.iter().map(|claim| &claim.pattern);
        patterns.filter(|pattern| {
            let is_any = **pattern == HostPattern::Any;
            self.found.covering(pattern).is_none() && (is_any || !may_be_local(pattern))
        })
    }

    fn why_closed(&self, site: &Site, pattern: &HostPattern) -> Option<WhyClosed> {
        let had = || match pattern {
            HostPattern::Exact(name) => self.keyring.had(site, name.as_str()),
            pattern => (self.keyring.remembered).had(&pattern.to_string(), || false),
        };
        why_closed(site, had)
    }

    /// That these names answer 503, and what ends it.
    fn closed(&self, site: &Site, why: WhyClosed, patterns: &[&HostPattern]) -> String {
        let names = list(patterns);
        let unreadable = self.keyring.remembered.why_unreadable();
        let knows = |why: Arc<str>| format!("whether it had one is not known ({why})");
        let is_told_late = why == WhyClosed::Had && self.of_a_start;
        let why = match why {
            WhyClosed::Had => unreadable.map_or("it had one".to_owned(), knows),
            WhyClosed::AsksClients => "[tls.client] asks clients for theirs".to_owned(),
            WhyClosed::MustBeTls(ClearText::Refuse) => "http = \"refuse\" wants TLS".to_owned(),
            WhyClosed::MustBeTls(_) => "http = \"redirect\" wants TLS".to_owned(),
        };
        let answers = match is_told_late {
            true => "it answers, at the latest after a restart,",
            false => "it answers",
        };
        // To be open to everybody is no way out for who asks for certificates, or wants TLS.
        let or_open = match (&site.tls.client, site.tls.clear_text) {
            (None, None | Some(ClearText::Serve)) => ", or its file says tls = \"off\"",
            _ => "",
        };
        format!("no certificate for {names}, and {why}: {answers} 503 until it has one{or_open}")
    }

    /// Whether a name of `site` depends on the local authority.
    fn is_vouched_for(&self, site: &Site) -> bool {
        let depends = |pattern: &HostPattern| match pattern {
            HostPattern::Any => false,
            named => may_be_local(named) && self.found.covering(named).is_none(),
        };
        match site.tls.mode {
            Mode::Auto => site.claims.iter().any(|claim| depends(&claim.pattern)),
            Mode::Local => true,
            Mode::Files(_) | Mode::Passthrough | Mode::Off => false,
        }
    }
}

fn list(patterns: &[&HostPattern]) -> String {
    let names: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    names.join(", ")
}
