//! What an operator should know of the certificates of a site, as of now.
//!
//! One adviser for as many sites as are asked about at once: what it has to look up for all, it looks up once.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::advice;
use super::found::Found;
use super::keyring::Keyring;
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
}

impl<'k> Adviser<'k> {
    pub(super) fn new(keyring: &'k Keyring, found: Arc<Found>) -> Adviser<'k> {
        Adviser {
            keyring,
            found,
            now: SystemTime::now(),
            of_a_start: keyring.only_looks,
            shown: OnceCell::new(),
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

    /// Names without a certificate: they are live in clear text only, or, where they had one, not at all.
    fn without_certificate(&self, site: &Site) -> Vec<String> {
        let lacks = |claim: &&Claim| {
            let is_any = claim.pattern == HostPattern::Any;
            self.found.covering(&claim.pattern).is_none()
                && (is_any || !may_be_local(&claim.pattern))
        };
        let without = site.claims.iter().filter(lacks);
        let remembered = &self.keyring.remembered;
        let had = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(name) => self.keyring.had(site, name.as_str()),
            pattern => remembered.had(&pattern.to_string(), || false),
        };
        let (closed, mut open): (Vec<&HostPattern>, Vec<&HostPattern>) = without
            .map(|claim| &claim.pattern)
            .partition(|pattern| had(pattern));
        // No certificate is for every name: of `*` it would be said for ever.
        open.retain(|pattern| **pattern != HostPattern::Any);
        let list = |patterns: Vec<&HostPattern>| {
            let names: Vec<String> = patterns.into_iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        let open = (!open.is_empty()).then(|| {
            let names = list(open);
            format!(
                "live, clear text only: no certificate for {names}; tls = \"off\" in its file says that this is meant"
            )
        });
        let closed = (!closed.is_empty()).then(|| {
            let names = list(closed);
            let knows = |why: &Arc<str>| format!("and whether it had one is not known ({why})");
            let why = remembered.why_unreadable().as_ref().map(knows);
            let why = why.as_deref().unwrap_or("and it had one");
            let answers = match self.of_a_start {
                true => "it answers, at the latest after a restart,",
                false => "it answers",
            };
            format!(
                "no certificate for {names}, {why}: {answers} 503 until it has one, or its file says tls = \"off\""
            )
        });
        open.into_iter().chain(closed).collect()
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
