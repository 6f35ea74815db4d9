//! What is known of backends, found for a site that is about to be published; outlives reloads.
//!
//! Asked off the way of requests alone: a site's [`Member`](crate::site::Member)s hold what was found here. Also knows which endpoints live
//! sites name, so that nobody falls back to what is another site's by now.

use std::collections::{HashMap, HashSet};
use std::iter;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_lc_rs::hmac;
use dashmap::DashMap;

use super::{Tally, moment};
use crate::site::backend_tls::{BackendTls, Verify};
use crate::site::fitness::{Against, Moment};
use crate::site::member::Token;
use crate::site::tls::PairFiles;
use crate::site::{
    Action, Address, Backend, BackendState, Before, EndpointState, Hostname, PathPattern, Site,
    SiteName,
};

/// See the module.
#[derive(Debug)]
pub struct States {
    sites: DashMap<SiteName, Known>,
    endpoints: DashMap<EndpointKey, Weak<EndpointState>>,
    /// How many of them there were when they were last looked through.
    endpoints_kept: AtomicUsize,
    /// Who names an address. Kept small: a set per address, and two per port.
    named: DashMap<Spot, HashSet<SiteName>>,
    /// Sites that are gone and still known.
    gone: Mutex<HashSet<SiteName>>,
    numbers: Mutex<Numbers>,
    key: hmac::Key,
    tallies: Box<[Arc<Tally>]>,
}

/// What is known under one site's name.
#[derive(Debug, Default)]
struct Known {
    /// All that has requests in flight or is named.
    backends: Vec<(Backend, Arc<BackendState>)>,
    /// The spots that the live version names.
    spots: Vec<Spot>,
    /// Where turns are counted in lists that are not the first to have a backend: by whose list it is and the backend's
    /// own number.
    turns: HashMap<(Option<PathPattern>, u32), u32>,
    /// Since when the site is. `None`: it is not.
    gone_since: Option<Moment>,
}

/// A site that is gone is remembered for so many milliseconds, for whoever waits until nothing is left of it. Ten minutes:
/// a script that deploys has asked by then.
const REMEMBERED: Moment = 600_000;

/// An endpoint by what the file says of its TLS: known before any file is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct EndpointKey {
    address: Address,
    tls: Option<(Hostname, Verify, Option<PairFiles>)>,
    /// Who speaks another protocol there than HTTP/2 refuses some and accepts others.
    h2c: bool,
}

/// Where connects may end up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Spot {
    At(SocketAddr),
    Socket(Arc<std::path::Path>),
    Name(Arc<str>, u16),
    /// Any name on this port: where it leads is not known here.
    NameOn(u16),
    /// Anything on this port.
    AnyOn(u16),
}

#[derive(Debug, Default)]
struct Numbers {
    /// 0 is for states that are not from here.
    last: u32,
    free: Vec<u32>,
}

impl States {
    /// For so many workers. `key` makes the cookies of `sticky`: with the same one they are the same.
    pub fn new(workers: usize, key: &[u8]) -> States {
        States {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            sites: DashMap::new(),
            endpoints: DashMap::new(),
            endpoints_kept: AtomicUsize::new(0),
            named: DashMap::new(),
            gone: Mutex::default(),
            numbers: Mutex::default(),
            tallies: (0..workers.max(1)).map(|_| Arc::default()).collect(),
        }
    }

    /// What worker `number` counts in.
    pub fn tally(&self, number: usize) -> Arc<Tally> {
        Arc::clone(&self.tallies[number % self.tallies.len()])
    }

    /// How many requests are in flight at a backend of a site, over all workers.
    pub fn in_flight(&self, state: &BackendState) -> u32 {
        let counts = self.tallies.iter().map(|tally| tally.read(state.number));
        counts.sum()
    }

    /// Gives the backends of `site`, which is about to be published in place of `old`, what is known of them.
    pub fn bind(&self, site: &mut Site, old: Option<&Site>) {
        let name = site.name.clone();
        let mut known = self.sites.entry(name.clone()).or_default();
        known.gone_since = None;
        let is_sticky = site.balancing.sticky.is_some();
        for member in site.members_mut() {
            member.state = self.state(&mut known, &member.backend);
            if is_sticky {
                member.token = self.token(&name, &member.backend);
            }
        }
        self.count_turns(&mut known, site);
        if site.balancing.fallback {
            site.before = old.and_then(|old| Before::of(old, site));
        }
        // What nobody checks has nothing to pass, and what was found out when somebody did is of no use.
        if site.health.check.is_none() {
            for state in site.members().map(|member| &*member.state) {
                state.fitness.clear(Against::Unproven, moment());
                if state.fitness.has(Against::Check) {
                    state.fitness.clear(Against::Check, moment());
                    state.find(None);
                }
            }
        } else if let Some(before) = &site.before {
            for state in before.new_ones() {
                state.fitness.set(Against::Unproven, moment());
            }
        }
        self.prune(&mut known, site);
        let spots: Vec<Spot> = site.backends().flat_map(|b| spots(&b.address)).collect();
        let before = std::mem::replace(&mut known.spots, spots.clone());
        drop(known);
        for spot in before.iter().filter(|spot| !spots.contains(spot)) {
            self.unname(spot, &name);
        }
        for spot in spots {
            self.named.entry(spot).or_default().insert(name.clone());
        }
    }

    /// The site is gone: what it named is anybody's.
    pub fn forget(&self, name: &SiteName) {
        let Some(mut known) = self.sites.get_mut(name) else {
            return;
        };
        let spots = std::mem::take(&mut known.spots);
        self.numbers()
            .free
            .extend(known.turns.drain().map(|(_, turns)| turns));
        known.gone_since = Some(moment());
        drop(known);
        spots.iter().for_each(|spot| self.unname(spot, name));
        self.gone().insert(name.clone());
    }

    /// Forgets backends of sites that are gone, once nobody is at them, and then the sites. Called now and then: when a site
    /// goes, its last version is always in use.
    pub fn sweep(&self, now: Moment) {
        self.gone().retain(|name| {
            let mut is_kept = false;
            self.sites.remove_if_mut(name, |_, known| {
                let Some(since) = known.gone_since else {
                    return false;
                };
                self.drop_idle(known, |_| false);
                let is_over = now.saturating_sub(since) >= REMEMBERED;
                is_kept = !(is_over && known.backends.is_empty());
                !is_kept
            });
            is_kept
        });
    }

    /// Whether a site other than `name` may mean what is at `address`. An address of a name is not known here, so a
    /// name on the same port may.
    pub fn is_of_another(&self, address: &Address, name: &SiteName) -> bool {
        let by_another = |spot: &Spot| {
            let named = self.named.get(spot);
            named.is_some_and(|names| names.iter().any(|other| other != name))
        };
        match address {
            Address::Unix(path) => by_another(&Spot::Socket(Arc::clone(path))),
            Address::Name { port, .. } => by_another(&Spot::AnyOn(*port)),
            Address::Ip(at) => by_another(&Spot::At(*at)) || by_another(&Spot::NameOn(at.port())),
            Address::Loopback { port } => {
                loopback(*port).any(|at| by_another(&Spot::At(at)))
                    || by_another(&Spot::NameOn(*port))
            }
        }
    }

    /// Requests in flight at backends that the live version of `name` does not name. `None`: nothing is known of it.
    pub fn left_behind(&self, name: &SiteName, live: Option<&Site>) -> Option<u32> {
        let known = self.sites.get(name)?;
        let is_named = |state: &Arc<BackendState>| {
            let mut members = live.into_iter().flat_map(Site::members);
            members.any(|member| Arc::ptr_eq(&member.state, state))
        };
        let left = known.backends.iter().filter(|(_, state)| !is_named(state));
        Some(left.map(|(_, state)| self.in_flight(state)).sum())
    }

    fn state(&self, known: &mut Known, backend: &Backend) -> Arc<BackendState> {
        let same = known.backends.iter().find(|(known, _)| known == backend);
        if let Some((_, state)) = same {
            return Arc::clone(state);
        }
        let state = Arc::new(BackendState {
            number: self.number(),
            endpoint: self.endpoint(backend),
            ..BackendState::default()
        });
        if let Address::Name { .. } = backend.address {
            // Whoever looks names up takes it back.
            state.fitness.set(Against::Unresolved, moment());
        }
        known.backends.push((backend.clone(), Arc::clone(&state)));
        state
    }

    /// Each list of `site` has turns of its own, also where two have the same backends. The first that has a backend
    /// counts under its number, so that most sites need no other.
    fn count_turns(&self, known: &mut Known, site: &mut Site) {
        let mut before = std::mem::take(&mut known.turns);
        let mut seen = HashSet::new();
        let rules = site.paths.iter_mut();
        let rules = rules.map(|rule| (Some(&rule.pattern), rule.action.as_mut()));
        for (pattern, action) in iter::once((None, site.action.as_mut())).chain(rules) {
            let Some(Action::Proxy(backends)) = action else {
                continue;
            };
            for member in &mut backends.list {
                let number = member.state.number;
                member.turns = if seen.insert(number) {
                    number
                } else {
                    let key = (pattern.cloned(), number);
                    let turns = before.remove(&key).unwrap_or_else(|| self.number());
                    known.turns.insert(key, turns);
                    turns
                };
            }
        }
        self.numbers().free.extend(before.into_values());
    }

    /// Tells nothing of the backend to whoever does not have the key.
    fn token(&self, site: &SiteName, backend: &Backend) -> Token {
        let text = format!("{site}\0{backend}");
        let tag = hmac::sign(&self.key, text.as_bytes());
        let mut token = Token::default();
        for (at, digit) in token.iter_mut().enumerate() {
            let byte = tag.as_ref()[at / 2];
            let half = if at % 2 == 0 { byte >> 4 } else { byte & 15 };
            *digit = b"0123456789abcdef"[usize::from(half)];
        }
        token
    }

    /// What is known of where `backend` leads, whatever site names it.
    pub fn endpoint(&self, backend: &Backend) -> Arc<EndpointState> {
        let key = EndpointKey::of(backend);
        let state = {
            let mut found = self.endpoints.entry(key).or_default();
            found.upgrade().unwrap_or_else(|| {
                let state = Arc::default();
                *found = Arc::downgrade(&state);
                state
            })
        };
        self.sweep_endpoints();
        state
    }

    /// Forgets endpoints that nobody names any more, once as many have come as there were: so the look through all of
    /// them is paid for by those that came, however many sites there are.
    fn sweep_endpoints(&self) {
        const FEW: usize = 64;
        let kept = self.endpoints_kept.load(Ordering::Relaxed);
        if self.endpoints.len() < 2 * kept + FEW {
            return;
        }
        self.endpoints.retain(|_, state| state.strong_count() > 0);
        self.endpoints_kept
            .store(self.endpoints.len(), Ordering::Relaxed);
    }

    /// Forgets backends that nobody names and nobody is at.
    fn prune(&self, known: &mut Known, site: &Site) {
        self.drop_idle(known, |state| {
            site.members()
                .any(|member| Arc::ptr_eq(&member.state, state))
        });
    }

    fn drop_idle(&self, known: &mut Known, is_named: impl Fn(&Arc<BackendState>) -> bool) {
        known.backends.retain(|(_, state)| {
            // Older versions of the site may still be at work.
            if is_named(state) || Arc::strong_count(state) > 1 || self.in_flight(state) > 0 {
                return true;
            }
            self.numbers().free.push(state.number);
            false
        });
    }

    fn number(&self) -> u32 {
        let mut numbers = self.numbers();
        numbers.free.pop().unwrap_or_else(|| {
            numbers.last = numbers.last.saturating_add(1);
            numbers.last
        })
    }

    fn gone(&self) -> std::sync::MutexGuard<'_, HashSet<SiteName>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn numbers(&self) -> std::sync::MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unname(&self, spot: &Spot, name: &SiteName) {
        if let Some(mut names) = self.named.get_mut(spot) {
            names.remove(name);
        }
        self.named.remove_if(spot, |_, names| names.is_empty());
    }
}

impl EndpointKey {
    fn of(backend: &Backend) -> EndpointKey {
        let identity = |tls: &BackendTls| {
            let BackendTls {
                server_name,
                verify,
                own,
                identity: _,
            } = tls;
            (server_name.clone(), verify.clone(), own.clone())
        };
        EndpointKey {
            address: backend.address.clone(),
            tls: backend.tls.as_deref().map(identity),
            h2c: backend.h2c,
        }
    }
}

fn loopback(port: u16) -> impl Iterator<Item = SocketAddr> {
    let both = [
        (Ipv4Addr::LOCALHOST, port).into(),
        (Ipv6Addr::LOCALHOST, port).into(),
    ];
    both.into_iter()
}

/// All under which somebody who looks for `address` has to find it.
fn spots(address: &Address) -> Vec<Spot> {
    match address {
        Address::Unix(path) => vec![Spot::Socket(Arc::clone(path))],
        Address::Ip(at) => vec![Spot::At(*at), Spot::AnyOn(at.port())],
        Address::Loopback { port } => loopback(*port)
            .map(Spot::At)
            .chain([Spot::AnyOn(*port)])
            .collect(),
        Address::Name { name, port } => vec![
            Spot::Name(Arc::clone(name), *port),
            Spot::NameOn(*port),
            Spot::AnyOn(*port),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::SiteDocument;
    use crate::site::file::{self, Rules};

    fn site(name: &str, text: &str) -> Site {
        let document = SiteDocument {
            name: SiteName::new(name),
            text: format!("host = '{name}.test'\n{text}"),
            origin: "sites.d/x.toml".into(),
            real: "sites.d/x.toml".into(),
        };
        file::read(&document, &Rules::default()).expect("fine").site
    }

    #[test]
    fn sites_that_are_gone_are_forgotten_once_nobody_is_there() {
        let states = States::new(1, b"key");
        for number in 1..=3 {
            let name = SiteName::new(format!("pr-{number}"));
            let to = format!("to = 500{number}\n[[path]]\nmatch = '/a'\nto = 500{number}");
            let mut version = site(name.as_str(), &to);
            states.bind(&mut version, None);
            states.forget(&name);
            let later = moment() + REMEMBERED;
            states.sweep(later);
            assert!(states.left_behind(&name, None).is_some(), "it is at work");
            drop(version);
            states.sweep(moment());
            assert_eq!(states.left_behind(&name, None), Some(0), "a moment ago");
            states.sweep(later);
            assert!(states.left_behind(&name, None).is_none());
            assert!(states.sites.is_empty() && states.gone().is_empty());
        }
        assert_eq!(states.numbers().last, 2, "each was given again");
        let mut back = site("pr-1", "to = 5001");
        states.forget(&back.name);
        states.bind(&mut back, None);
        states.forget(&back.name);
        states.bind(&mut back, None);
        states.sweep(moment() + REMEMBERED);
        assert_eq!(states.sites.len(), 1, "it has come back");
    }

    #[test]
    fn endpoints_that_nobody_names_are_forgotten_and_the_others_are_not() {
        let states = States::new(1, b"key");
        let at = |port| states.endpoint(&Address::loopback(port).into());
        let named = at(1);
        named.knock.store(true, Ordering::Relaxed);
        for port in 2..10_000 {
            drop(at(port));
            assert!(states.endpoints.len() < 200, "{}", states.endpoints.len());
        }
        assert!(at(1).knock.load(Ordering::Relaxed), "it is the same");
    }
}
