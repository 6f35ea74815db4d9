//! Which names have had a certificate: they never fall back to clear text.

use std::sync::Arc;

use super::{Held, Keyring};
use crate::site::local::may_be_local;
use crate::site::tls::Mode;
use crate::site::{HostPattern, Site};
use crate::tls::certificate::Certificate;

impl Keyring {
    /// Remembers that `host`, a name of `site`, has the certificates that the site names.
    pub(super) fn remember_files(&self, site: &Site, host: &str) {
        let held = self.sites.get(&site.number).map(|held| held.clone());
        if let Some(Held::Ready(ready)) = held {
            self.remember(site, host, &ready.certificates);
        }
    }

    /// Remembers the names of `site` that have a certificate. It serves them from now on, and whoever takes the certificate
    /// away before anybody has asked must not publish them either.
    pub fn remember_names(&self, site: &Site) {
        let own = self.own(site.number);
        for claim in &site.claims {
            let host = match &claim.pattern {
                HostPattern::Exact(name) => name.to_string(),
                // One label is as good as any other.
                HostPattern::Wildcard(suffix) => format!("any.{suffix}"),
                HostPattern::Any => continue,
            };
            match site.tls.mode {
                // Nobody is to close a name for good by writing it down.
                Mode::Files(_) if !own.iter().any(|one| one.covers(&host)) => {}
                Mode::Files(_) => self.remember(site, &host, &own),
                Mode::Auto => drop(self.has_found(site, &host)),
                Mode::Local | Mode::Passthrough | Mode::Off => {}
            }
        }
    }

    /// The same of the names in the daemon's folders that only a wildcard of a site stands for, or `*`. `owner`: the site that
    /// answers for a name.
    pub fn remember_found<'s>(&self, owner: impl Fn(&str) -> Option<&'s Arc<Site>>) {
        for name in self.found.load().names() {
            if let HostPattern::Exact(name) = name
                && let Some(site) = owner(name.as_str())
                && site.tls.mode == Mode::Auto
            {
                self.has_found(site, name.as_str());
            }
        }
    }

    /// Whether nothing lies in the daemon's folders for a name of `site` that would be shown a certificate from there.
    pub fn lacks_found(&self, site: &Site) -> bool {
        let found = self.found.load();
        let lacks = |pattern: &HostPattern| {
            *pattern != HostPattern::Any
                && !may_be_local(pattern)
                && found.covering(pattern).is_none()
        };
        site.tls.mode == Mode::Auto && site.claims.iter().any(|claim| lacks(&claim.pattern))
    }

    /// Whether a certificate for `host`, a name of `site`, lies in the daemon's folders. One that does is remembered.
    pub(super) fn has_found(&self, site: &Site, host: &str) -> bool {
        let found = self.found.load();
        let shown = found.find(host);
        if let Some(shown) = shown {
            self.remember(site, host, &shown.certificates);
        }
        shown.is_some()
    }

    /// Whether `host`, a name of `site`, ever had a certificate, or may have had: it never falls back to clear text.
    pub(in crate::tls) fn had(&self, site: &Site, host: &str) -> bool {
        let by_name_alone = || {
            let mut patterns = site.claims.iter().map(|claim| &claim.pattern);
            patterns.all(|pattern| is_exact(pattern) || !pattern.matches(host))
        };
        self.remembered.had(host, by_name_alone)
    }

    /// Keeps that `host`, a name of `site`, was served with one of `certificates`: as the site claims it, or where a
    /// wildcard of the site stands for it, as the certificate does, or else the site. A label that a client thought of is
    /// no name of anybody's.
    pub(super) fn remember(&self, site: &Site, host: &str, certificates: &[Arc<Certificate>]) {
        let patterns = || site.claims.iter().map(|claim| &claim.pattern);
        // An exact one before a wildcard; what only `*` stands for has no name.
        let is_named =
            |pattern: &&HostPattern| **pattern != HostPattern::Any && pattern.matches(host);
        let is_own = || patterns().any(|pattern| is_exact(pattern) && pattern.matches(host));
        let pattern = || match patterns().filter(is_named).min() {
            Some(name @ HostPattern::Exact(_)) => Some(name.to_string()),
            other => {
                let certified = certificates.iter().find_map(|one| one.name_for(host));
                certified.or(other).map(ToString::to_string)
            }
        };
        self.remembered.remember(host, is_own, pattern);
    }
}

fn is_exact(pattern: &HostPattern) -> bool {
    matches!(pattern, HostPattern::Exact(_))
}
