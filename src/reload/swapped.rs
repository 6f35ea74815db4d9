//! Certificates of the folders that sites show now, or show no more: each is said once, with its end and for which names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};
use time::OffsetDateTime;
use tracing::info;

use super::Follower;
use super::book::{TALKATIVE, few};
use super::status::seconds;
use super::wait::Goal;
use crate::site::tls::Mode;
use crate::site::{HostPattern, Site, SiteName};
use crate::tls::{Difference, Fate};

/// What has become of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateChange {
    pub fate: Fate,
    /// Where its chain lies, or lay.
    pub file: PathBuf,
    pub ends: SystemTime,
    pub sites: BTreeSet<SiteName>,
    /// Names of theirs, or in it.
    pub hosts: BTreeSet<HostPattern>,
}

impl Follower {
    /// Says what has become of certificates that sites find by their names, to the log and to whoever asked for a reload.
    pub(super) fn tell_swapped(&mut self, difference: &Difference) {
        let changes = self.changes_of(difference);
        for waiter in &mut self.waiters {
            if let Goal::Report { report, .. } = &mut waiter.goal {
                report.certificates.extend(changes.iter().cloned());
            }
        }
        if changes.len() > TALKATIVE {
            let count = |fate| changes.iter().filter(|one| one.fate == fate).count();
            let [found, swapped, gone] = [Fate::Found, Fate::Swapped, Fate::Gone].map(count);
            return info!(
                found,
                swapped, gone, "certificates of sites are others now, or there no more"
            );
        }
        for change in changes {
            change.tell();
        }
    }

    /// In the order of fates and files. Of what no site shows there is nothing.
    fn changes_of(&self, difference: &Difference) -> Vec<CertificateChange> {
        let mut changes: BTreeMap<(Fate, &Path), CertificateChange> = BTreeMap::new();
        for (host, site) in self.concerned_by(difference) {
            for (fate, certificate) in difference.of(host) {
                let file = certificate.file();
                let change = changes
                    .entry((fate, file))
                    .or_insert_with(|| CertificateChange {
                        fate,
                        file: file.to_owned(),
                        ends: certificate.not_after,
                        sites: BTreeSet::new(),
                        hosts: BTreeSet::new(),
                    });
                change.sites.insert(site.clone());
                change.hosts.insert(host.clone());
            }
        }
        changes.into_values().collect()
    }

    /// Names that sites claim, and those in certificates that are for a part of what a site claims.
    fn concerned_by<'f>(
        &'f self,
        difference: &'f Difference,
    ) -> BTreeMap<&'f HostPattern, &'f SiteName> {
        let names = &difference.names;
        let is_covered = |claimed: &HostPattern| {
            let above = || claimed.wildcard_above();
            names.contains(claimed) || above().is_some_and(|above| names.contains(&above))
        };
        let claims = self.book.sites().filter(|site| finds(site));
        let claims = claims.flat_map(|site| site.claims.iter().map(|claim| (claim, &site.name)));
        let claimed = claims
            .map(|(claim, site)| (&claim.pattern, site))
            .filter(|(claimed, _)| is_covered(claimed));
        let part_of_a_claim = names.iter().filter_map(|name| {
            let owner = |pattern: &HostPattern| self.book.owner(pattern);
            let above = name.wildcard_above();
            let owner = owner(name)
                .or_else(|| owner(above.as_ref()?))
                .or_else(|| owner(&HostPattern::Any))?;
            let site = self.book.site(owner).filter(|site| finds(site))?;
            Some((name, &site.name))
        });
        part_of_a_claim.chain(claimed).collect()
    }
}

fn finds(site: &Site) -> bool {
    site.tls.mode == Mode::Auto
}

impl CertificateChange {
    fn tell(&self) {
        let (file, what) = (self.file.display(), self.fate.word());
        let hosts = few(self.hosts.iter());
        let ends = OffsetDateTime::from_unix_timestamp(seconds(self.ends).cast_signed());
        let ends = ends.unwrap_or(OffsetDateTime::UNIX_EPOCH).date();
        let mut sites = self.sites.iter();
        match (sites.next(), sites.len()) {
            (Some(site), 0) => info!(%site, %file, %hosts, %ends, "certificate {what}"),
            (_, more) => info!(sites = more + 1, %file, %hosts, %ends, "certificate {what}"),
        }
    }

    /// As programs get it.
    pub fn json(&self) -> Value {
        let names = |all: &BTreeSet<HostPattern>| all.iter().map(ToString::to_string).collect();
        let hosts: Vec<String> = names(&self.hosts);
        let sites: Vec<&str> = self.sites.iter().map(SiteName::as_str).collect();
        json!({
            "change": self.fate.word(),
            "file": self.file.to_string_lossy(),
            "sites": sites,
            "hosts": hosts,
            "ends": seconds(self.ends),
        })
    }
}
