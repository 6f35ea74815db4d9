//! What a publish means for the connections of a worker: which of them end, and when.

use std::sync::Arc;
use std::time::Duration;

use crate::http::Kit;
use crate::route::SiteChange;
use crate::site::Site;
use crate::site::tls::{ClearText, MinVersion};
use crate::tls::{Keyring, Policy};
use crate::wheel::{GONE, Serving};

/// Cuts what the changes of one publish say must end: every connection is looked at once, however many changes there
/// are, and none where no change can be about any.
pub(super) fn apply(changes: &[SiteChange], kit: &Kit) {
    let changes = Changes::of(changes, &kit.shared.keyring);
    if !changes.0.is_empty() {
        kit.wheel.cut(|serving| changes.cut(serving));
    }
}

/// Those changes that may end something, in the order of the sites' numbers; of one site in the order they were made.
struct Changes<'p>(Vec<Change<'p>>);

struct Change<'p> {
    /// `Site::number`.
    site: u32,
    change: &'p SiteChange,
    /// The policy of the new version, where one is asked for.
    policy: Option<Asked>,
}

/// How a site wants its clients to come.
enum Asked {
    Policy(Arc<Policy>),
    /// Nobody can come by TLS: what it needs cannot be had.
    Nobody,
}

impl<'p> Changes<'p> {
    fn of(changes: &'p [SiteChange], keyring: &Keyring) -> Changes<'p> {
        let mut all: Vec<Change<'p>> = changes
            .iter()
            .filter(|change| may_end_something(change))
            .map(|change| {
                let (old, new) = match change {
                    SiteChange::Removed { old, .. } => (old, None),
                    SiteChange::Edited { old, new } => (old, Some(new)),
                };
                let policy = new.filter(|new| asks_for_tls(new)).map(|new| {
                    let policy = keyring.policy(new);
                    policy.map_or(Asked::Nobody, Asked::Policy)
                });
                Change {
                    site: old.number,
                    change,
                    policy,
                }
            })
            .collect();
        all.sort_by_key(|change| change.site);
        Changes(all)
    }

    /// How long a connection still has, where it has to end. Says anew what it is to be found by.
    fn cut(&self, serving: &mut Serving) -> Option<Duration> {
        let site = serving.site;
        let first = self.0.partition_point(|change| change.site < site);
        let of_site = self.0[first..].iter();
        of_site
            .take_while(|change| change.site == site)
            .filter_map(|change| change.cut(serving))
            .min()
    }
}

impl Change<'_> {
    fn cut(&self, serving: &mut Serving) -> Option<Duration> {
        match self.change {
            SiteChange::Removed { old, drain } => is_of(serving, old).then(|| {
                serving.site = GONE;
                *drain
            }),
            SiteChange::Edited { old, new } => {
                if !is_of(serving, old) {
                    return None;
                }
                serving.rule = serving.rule.and_then(|rule| rule_in(new, old, rule));
                serving.version = new.version;
                if is_admitted(new, serving) && self.is_admitted_by_tls(new, serving) {
                    new.drain.edit
                } else {
                    // DESIGN, "When a file counts": whatever `drain` says.
                    Some(Duration::ZERO)
                }
            }
        }
    }

    /// Whether whoever came as this connection did may still come so.
    fn is_admitted_by_tls(&self, new: &Site, serving: &Serving) -> bool {
        match (&self.policy, serving.tls) {
            (None, _) => true,
            (Some(Asked::Policy(policy)), Some(came)) => {
                came.version >= policy.min
                    && (policy.client.is_none() || came.policy == policy.number)
            }
            (Some(Asked::Nobody), Some(_)) => false,
            // Without TLS nobody shows a certificate; whether that is needed is for the operator to say.
            (Some(_), None) => {
                new.tls.client.is_none() || new.tls.clear_text == Some(ClearText::Serve)
            }
        }
    }
}

/// Whether any connection may have to end for it, or to be found by something else.
fn may_end_something(change: &SiteChange) -> bool {
    let SiteChange::Edited { old, new } = change else {
        return true;
    };
    let same_paths = old.paths.iter().map(|rule| &rule.pattern);
    let same_paths = same_paths.eq(new.paths.iter().map(|rule| &rule.pattern));
    !same_paths || new.drain.edit.is_some() || has_allow(new) || asks_for_tls(new)
}

fn has_allow(site: &Site) -> bool {
    site.allow.is_some() || site.paths.iter().any(|rule| rule.allow.is_some())
}

/// Whether the site asks more of TLS than that it is spoken.
fn asks_for_tls(site: &Site) -> bool {
    site.tls.client.is_some() || site.tls.min > MinVersion::default()
}

/// Whether a connection is busy with this version of a site or an older one. With a newer one it may be already,
/// because requests look at the table by themselves.
fn is_of(serving: &Serving, site: &Site) -> bool {
    serving.site == site.number && serving.version <= site.version
}

/// Where in the new version the path rule is that was number `rule` of the old one.
fn rule_in(new: &Site, old: &Site, rule: u32) -> Option<u32> {
    let pattern = &old.paths.get(rule as usize)?.pattern;
    let at = new.paths.iter().position(|rule| rule.pattern == *pattern)?;
    u32::try_from(at).ok()
}

/// Whether this version of the site would admit who asked.
fn is_admitted(site: &Site, serving: &Serving) -> bool {
    let rule = serving.rule.and_then(|rule| site.paths.get(rule as usize));
    let allow = rule
        .and_then(|rule| rule.allow.as_ref())
        .or(site.allow.as_ref());
    allow.is_none_or(|allow| serving.asker.is_some_and(|asker| allow.admits(asker)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::file::{Rules, read};
    use crate::site::{SiteDocument, SiteName};

    fn site(number: u32, version: u64, more: &str) -> Arc<Site> {
        let document = SiteDocument {
            name: SiteName::new("shop"),
            text: format!("host = 'a.test'\nto = 5000\n{more}"),
            origin: "sites.d/shop.toml".into(),
            real: "sites.d/shop.toml".into(),
        };
        let mut site = read(&document, &Rules::default()).expect("a site").site;
        (site.number, site.version) = (number, version);
        Arc::new(site)
    }

    fn serving(site: u32) -> Serving {
        Serving {
            site,
            version: 1,
            rule: None,
            asker: None,
            tls: None,
        }
    }

    fn keyring() -> Keyring {
        Keyring::only_to_look(Vec::new(), "no such folder".into()).expect("randomness")
    }

    #[test]
    fn each_connection_is_cut_by_the_changes_of_its_own_site_in_their_order() {
        let edited = |number: u32, version: u64, more: &str| SiteChange::Edited {
            old: site(number, version, ""),
            new: site(number, version + 1, more),
        };
        let minute = Duration::from_secs(60);
        let changes = [
            edited(7, 1, "allow = '10.0.0.0/8'\n"),
            edited(3, 1, "drain.edit = '9s'\n"),
            edited(5, 1, ""),
            edited(3, 2, "drain.edit = '5s'\n"),
            SiteChange::Removed {
                old: site(4, 1, ""),
                drain: minute,
            },
            // Another site has that number by then.
            edited(4, 9, "drain.edit = '1s'\n"),
        ];
        let keyring = keyring();
        let changes = Changes::of(&changes, &keyring);
        assert_eq!(changes.0.len(), 5, "one is about nobody");
        for (number, cut, site, version) in [
            (3, Some(Duration::from_secs(5)), 3, 3),
            (4, Some(minute), GONE, 1),
            (5, None, 5, 1),
            (6, None, 6, 1),
            (7, Some(Duration::ZERO), 7, 2),
            (8, None, 8, 1),
        ] {
            let mut serving = serving(number);
            assert_eq!(changes.cut(&mut serving), cut, "{number}");
            assert_eq!((serving.site, serving.version), (site, version), "{number}");
        }
    }
}
