//! Who shows which certificate, under which policy: the one place that workers ask.
//!
//! Asked when a connection shakes hands and when it asks for another host, never for a request. What stands here
//! outlives reloads; a site's entry is replaced just before the table with its new version is published.

mod in_clear;
mod memory;

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::Notify;
use tracing::error;

pub use in_clear::InClear;

use crate::site::backend_tls::TlsIdentity;
use crate::site::local::is_local;
use crate::site::tls::{Http2, MinVersion, Mode, Need};
use crate::site::{HostPattern, Site};
use crate::tls::adviser::Adviser;
use crate::tls::at_hand::AtHand;
use crate::tls::authority::is_near;
use crate::tls::certificate::Certificate;
use crate::tls::found::{Again, Found, Removals, Told};
use crate::tls::identity::{Identities, Identity};
use crate::tls::load::{LoadError, Loaded};
use crate::tls::policy::{Policies, Policy};
use crate::tls::remembered::{Remembered, is_denied};
use crate::tls::revoked::Lists;

/// See the module.
#[derive(Debug)]
pub struct Keyring {
    /// By `Site::number`; only sites that are not plain `auto`.
    sites: DashMap<u32, Held>,
    found: ArcSwap<Found>,
    folders: ArcSwap<Vec<PathBuf>>,
    pub(super) authority: AtHand,
    policies: Policies,
    /// Of every site that says nothing of its own.
    usual: Arc<Policy>,
    pub(super) remembered: Remembered,
    /// A link to `https://` that names no port leads nowhere here; see [`Keyring::listening_on`].
    pub(super) lacks_443: bool,
    /// See [`Keyring::only_to_look`].
    pub(super) only_looks: bool,
    /// Towards backends.
    identities: Identities,
    /// Somebody's files have been read.
    read: Notify,
}

/// What is held for one site.
#[derive(Clone, Debug)]
enum Held {
    /// Its files are still to be read: it is early in a start.
    Unread,
    /// Its files cannot be used, and there is nothing older.
    Unusable,
    Ready(Arc<Ready>),
}

#[derive(Debug)]
struct Ready {
    policy: Arc<Policy>,
    /// Of certificates that were taken back.
    lists: Lists,
    /// Empty: by the name that is asked for.
    certificates: Arc<[Arc<Certificate>]>,
}

/// Which certificate is the one for a name.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Those that the site names.
    Files {
        policy: Arc<Policy>,
        certificates: Arc<[Arc<Certificate>]>,
    },
    /// One that lies in the daemon's folders.
    Found {
        policy: Arc<Policy>,
        certificates: Arc<[Arc<Certificate>]>,
    },
    /// One of the local authority's, made when it is first asked for.
    Local {
        policy: Arc<Policy>,
    },
    /// See [`Offer`]; so for the next two.
    NotYet,
    Broken,
    Nothing,
}

/// What a client is offered that asks for a name over TLS.
#[derive(Clone, Debug)]
pub enum Offer {
    Show {
        policy: Arc<Policy>,
        certificates: Arc<[Arc<Certificate>]>,
    },
    /// Ask again when [`Keyring::something_was_read`].
    NotYet,
    /// The site should have a certificate and has none: internal_error.
    Broken,
    /// Nobody's certificate: unrecognized_name.
    Nothing,
}

impl Keyring {
    /// `folders` are searched for pairs by [`Keyring::search`]; `state` keeps the local authority and what names
    /// once had a certificate.
    ///
    /// # Errors
    /// When the library has no randomness.
    pub fn new(folders: Vec<PathBuf>, state: PathBuf) -> Result<Keyring, rustls::Error> {
        let remembered = Remembered::open(&state);
        Keyring::with(folders, state, remembered, false)
    }

    /// One to be asked and not to be served from: it writes nothing, as long as nobody takes up an offer.
    ///
    /// # Errors
    /// As [`Keyring::new`].
    pub fn only_to_look(folders: Vec<PathBuf>, state: PathBuf) -> Result<Keyring, rustls::Error> {
        let remembered = Remembered::read(&state);
        Keyring::with(folders, state, remembered, true)
    }

    fn with(
        folders: Vec<PathBuf>,
        state: PathBuf,
        remembered: Remembered,
        only_looks: bool,
    ) -> Result<Keyring, rustls::Error> {
        let policies = Policies::new();
        Ok(Keyring {
            sites: DashMap::new(),
            found: ArcSwap::default(),
            folders: ArcSwap::from_pointee(folders),
            authority: AtHand::of(state),
            usual: policies.of(Default::default(), Default::default(), None)?,
            policies,
            identities: Identities::new(),
            remembered,
            lacks_443: false,
            only_looks,
            read: Notify::new(),
        })
    }

    /// The same, for a daemon that listens there.
    #[must_use]
    pub fn listening_on(self, addresses: &[SocketAddr]) -> Keyring {
        let listens_on = |port| addresses.iter().any(|address| address.port() == port);
        Keyring {
            // Of any other port than 80 the client names the number, and is sent to where it is.
            lacks_443: listens_on(80) && !listens_on(443),
            ..self
        }
    }

    /// What `host`, a name of `site`, shows to a client at `client`.
    pub fn offer(&self, site: &Site, host: &str, client: IpAddr) -> Offer {
        let (policy, certificate) = match self.choose(site, host, client) {
            Choice::Files {
                policy,
                certificates,
            }
            | Choice::Found {
                policy,
                certificates,
            } => {
                self.remember(site, host, &certificates);
                return Offer::Show {
                    policy,
                    certificates,
                };
            }
            Choice::Local { policy } => {
                let authority = self.authority.get();
                match authority.and_then(|authority| authority.leaf(host)) {
                    Some(leaf) => (policy, leaf),
                    None => return Offer::Broken,
                }
            }
            Choice::NotYet => return Offer::NotYet,
            Choice::Broken => return Offer::Broken,
            Choice::Nothing => return Offer::Nothing,
        };
        Offer::Show {
            policy,
            certificates: Arc::from([certificate]),
        }
    }

    /// The same, before anything is made or remembered for it.
    pub fn choose(&self, site: &Site, host: &str, client: IpAddr) -> Choice {
        let held = self.sites.get(&site.number).map(|held| held.clone());
        let policy = match held {
            Some(Held::Unread) => return Choice::NotYet,
            Some(Held::Unusable) => return Choice::Broken,
            Some(Held::Ready(ready)) if !ready.certificates.is_empty() => {
                return Choice::Files {
                    policy: Arc::clone(&ready.policy),
                    certificates: Arc::clone(&ready.certificates),
                };
            }
            Some(Held::Ready(ready)) => Arc::clone(&ready.policy),
            None if is_usual(site) => Arc::clone(&self.usual),
            // It is put here before it is published; without it nobody knows who may come.
            None => return Choice::Broken,
        };
        let is_ours = || is_local(host) && is_near(client);
        match site.tls.mode {
            Mode::Auto => match self.found.load().find(host) {
                Some(shown) => Choice::Found {
                    policy,
                    certificates: Arc::clone(&shown.certificates),
                },
                // It answers for such a name whatever became of another's certificate.
                None if is_ours() => Choice::Local { policy },
                None if self.had(site, host) => Choice::Broken,
                None => Choice::Nothing,
            },
            Mode::Local if is_ours() => Choice::Local { policy },
            Mode::Files(_) => Choice::Broken,
            Mode::Local | Mode::Passthrough | Mode::Off => Choice::Nothing,
        }
    }

    /// The policy under which clients of `site` have to come. `None`: they cannot come by TLS.
    pub fn policy(&self, site: &Site) -> Option<Arc<Policy>> {
        if !site.tls.is_terminated() {
            return None;
        }
        match self.sites.get(&site.number).as_deref() {
            Some(Held::Ready(ready)) => Some(Arc::clone(&ready.policy)),
            Some(Held::Unread | Held::Unusable) => None,
            None => is_usual(site).then(|| Arc::clone(&self.usual)),
        }
    }

    /// Takes what `site`, about to be published, has for TLS. `Err` is for a site that served before the restart.
    pub fn hold(&self, site: &Site, loaded: Result<&Loaded, &LoadError>) {
        let held = match loaded {
            Ok(loaded) => self.ready(site, loaded),
            Err(_) => Held::Unusable,
        };
        if is_usual(site) || !site.tls.is_terminated() {
            self.sites.remove(&site.number);
        } else {
            self.sites.insert(site.number, held);
        }
        self.read.notify_waiters();
    }

    /// Gives the `https://` backends of `site` what they come to, before it is published or soon after.
    pub fn hold_backends(&self, site: &Site, loaded: Result<&Loaded, &LoadError>) {
        let backends = site.backends().filter_map(|backend| backend.tls.as_ref());
        for (at, tls) in backends.enumerate() {
            let identity = match loaded {
                Ok(loaded) => match loaded.backends.get(at) {
                    Some(terms) => self
                        .identities
                        .of(terms)
                        .map_err(|error| error.to_string().into()),
                    None => continue,
                },
                Err(error) => Err(error.to_string().into()),
            };
            // Held once for each version.
            drop(tls.identity.set(identity));
        }
        self.read.notify_waiters();
    }

    /// What `identity` of a backend stands for.
    pub fn identity(&self, identity: &TlsIdentity) -> Option<Arc<Identity>> {
        self.identities.find(identity)
    }

    /// The site is published before its files have been read. Where only its backends need some, it is ready.
    pub fn hold_unread(&self, site: &Site) {
        match needs_files(site) {
            true => drop(self.sites.insert(site.number, Held::Unread)),
            false => self.hold(site, Ok(&Loaded::default())),
        }
    }

    /// The site is gone from every table.
    pub fn forget(&self, number: u32) {
        self.sites.remove(&number);
        self.read.notify_waiters();
    }

    fn ready(&self, site: &Site, loaded: &Loaded) -> Held {
        let client = match (&site.tls.client, &loaded.authorities) {
            (None, _) => None,
            (Some(client), Some(authorities)) => Some((client.need, authorities)),
            // Fail closed (CASES T-46).
            (Some(_), None) => return Held::Unusable,
        };
        match self.policies.of(site.tls.min, site.tls.http2, client) {
            Ok(policy) => Held::Ready(Arc::new(Ready {
                policy,
                // One that had ended by then was told of when it was read.
                lists: loaded
                    .authorities
                    .as_ref()
                    .map(|authorities| authorities.lists.clone())
                    .filter(|lists| lists.advice().is_none())
                    .unwrap_or_default(),
                certificates: loaded.certificates.iter().cloned().collect(),
            })),
            Err(why) => {
                error!(site = %site.name, "its TLS cannot be set up: {why}");
                Held::Unusable
            }
        }
    }

    /// When each certificate ends that may be shown, by its first name. Not those of the local authority, which are made
    /// anew in time.
    pub fn ends(&self) -> Vec<(String, SystemTime)> {
        let of_sites = self.of_sites();
        let found = self.found.load();
        let all = of_sites.iter().chain(found.certificates());
        let mut ends: Vec<(String, SystemTime)> = all
            .filter_map(|certificate| {
                let name = certificate.names().first()?;
                Some((name.to_string(), certificate.not_after))
            })
            .collect();
        // Of several with one name, which are one for each kind of key, the one that ends first.
        ends.sort();
        ends.dedup_by(|later, first| later.0 == first.0);
        ends
    }

    /// The same of those that are shown to backends, by their files: many are for no name.
    pub fn ends_towards_backends(&self) -> Vec<(String, SystemTime)> {
        let own = self.identities.own();
        let mut ends: Vec<(String, SystemTime)> = (own.iter())
            .map(|own| (own.file.display().to_string(), own.not_after))
            .collect();
        ends.sort();
        ends.dedup_by(|later, first| later.0 == first.0);
        ends
    }

    /// Waits until the files of some site have been read. Take the future before asking, or one may be missed.
    pub fn something_was_read(&self) -> tokio::sync::futures::Notified<'_> {
        self.read.notified()
    }

    /// Other folders, from the next [`Keyring::search`] on.
    pub fn change_folders(&self, folders: Vec<PathBuf>) {
        self.folders.store(Arc::new(folders));
    }

    /// What it looks into, and whoever asks may not: nobody knows what is in there. Blocks.
    pub fn hidden(&self) -> Vec<PathBuf> {
        let folders = self.folders.load();
        let folders = folders
            .iter()
            .filter(|folder| is_denied(fs::read_dir(folder)));
        let mut hidden: Vec<PathBuf> = folders.cloned().collect();
        hidden.extend(self.remembered.hidden().map(Path::to_owned));
        hidden
    }

    /// Looks into the folders again, blocking.
    pub fn search(&self, removals: Removals) -> Told {
        let now = SystemTime::now();
        let is_mended = self.remembered.look_again();
        let Again { found, mut told } =
            self.found.load().again(&self.folders.load(), now, removals);
        told.is_news |= is_mended;
        if let Some(found) = found {
            self.found.store(Arc::new(found));
        }
        told
    }

    /// To be asked what operators should know of their sites' certificates.
    pub fn adviser(&self) -> Adviser<'_> {
        Adviser::new(self, self.found.load_full())
    }

    /// The same, as if nobody but these sites, by their numbers, had certificates.
    pub fn adviser_on(&self, sites: &[u32]) -> Adviser<'_> {
        Adviser::on(self, sites)
    }

    /// The certificates of a site, by its number, that come from files which it names.
    pub(super) fn own(&self, number: u32) -> Arc<[Arc<Certificate>]> {
        match self.sites.get(&number).as_deref() {
            Some(Held::Ready(ready)) => Arc::clone(&ready.certificates),
            Some(Held::Unread | Held::Unusable) | None => Arc::default(),
        }
    }

    /// Whether it has any.
    pub fn has_own(&self, number: u32) -> bool {
        !self.own(number).is_empty()
    }

    /// The names in all such certificates.
    pub(super) fn names_of_sites(&self) -> HashSet<HostPattern> {
        let of_sites = self.of_sites();
        let names = of_sites.iter().flat_map(|certificate| certificate.names());
        names.cloned().collect()
    }

    fn of_sites(&self) -> Vec<Arc<Certificate>> {
        let sites = self.sites.iter();
        sites
            .flat_map(|held| match held.value() {
                Held::Ready(ready) => ready.certificates.to_vec(),
                Held::Unread | Held::Unusable => Vec::new(),
            })
            .collect()
    }

    /// Of the lists that clients of a site are looked up in.
    pub(super) fn advice_on_lists(&self, number: u32) -> Option<String> {
        match self.sites.get(&number).as_deref() {
            Some(Held::Ready(ready)) => ready.lists.advice(),
            Some(Held::Unread | Held::Unusable) | None => None,
        }
    }
}

/// Whether a site has the policy of those that say nothing, and finds its certificate by the name that is asked for.
fn is_usual(site: &Site) -> bool {
    !needs_files(site)
        && site.tls.min == MinVersion::default()
        && site.tls.http2 == Http2::default()
}

/// Whether a site has TLS that only files can give it.
pub fn needs_files(site: &Site) -> bool {
    matches!(site.tls.mode, Mode::Files(_)) || site.tls.client.is_some()
}

/// Whether a site has backends whose TLS has to be set up.
pub fn has_tls_backends(site: &Site) -> bool {
    site.backends().any(|backend| backend.tls.is_some())
}

/// Whether a connection that was let in under `had` may ask a site that lets in under `wants` (CASES T-43).
pub fn admits(had: &Arc<Policy>, wants: &Arc<Policy>) -> bool {
    match wants.client {
        None => true,
        Some(Need::Require | Need::Optional) => Arc::ptr_eq(had, wants),
    }
}
