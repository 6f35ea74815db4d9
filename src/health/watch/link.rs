//! Which checks there are, and for whom: those of a site in the place of those of the version before.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::time::Instant;

use super::{Running, User, Watch, Watched};
use crate::health::course::Standing;
use crate::health::hash_of;
use crate::health::schedule::{Beat, FEW, SOON_TIMES};
use crate::site::addresses::{Addresses, Located};
use crate::site::fitness::Against;
use crate::site::{Address, Backend, Member, Site};
use crate::upstream::moment;

impl Watch {
    /// Takes `site` in the place of the version before: what both ask alike goes on. `come`: how many come together.
    pub(super) fn link(&mut self, site: Arc<Site>, come: usize) {
        let now = Instant::now();
        let number = site.number;
        let old = self.sites.remove(&number);
        self.unlink(number, old.iter());
        let mut still = Vec::new();
        let members: Vec<&Member> = site.members().collect();
        let mut checks = Vec::new();
        for (at, member) in members.iter().enumerate() {
            if let Address::Name { name, .. } = &member.backend.address {
                still.push(Arc::clone(name));
            }
            let addresses = self.addresses(&site, member, now);
            let user = User {
                site: number,
                member: at,
            };
            let numbers = addresses
                .into_iter()
                .filter_map(|address| self.check(&site, member, address, user, come, old.as_ref()))
                .collect();
            checks.push(numbers);
        }
        let had = old.as_ref().map(|old| &*old.names).unwrap_or_default();
        self.names.let_go(number, had, &still);
        self.drop_unused(old.iter());
        let count = checks.len();
        let watched = Watched {
            site,
            checks,
            names: still,
        };
        self.sites.insert(number, watched);
        for member in 0..count {
            self.judge(User {
                site: number,
                member,
            });
        }
    }

    /// Where `member` is to be asked: its address, or those that its name leads to, which requests learn here.
    fn addresses(&mut self, site: &Site, member: &Member, now: Instant) -> Vec<Address> {
        let Address::Name { name, port } = &member.backend.address else {
            return vec![member.backend.address.clone()];
        };
        let state = &member.state;
        let Some(answer) = self.names.of(name, site.number, now) else {
            state.fitness.set(Against::Unresolved, moment());
            state.find(
                self.names
                    .trouble(name)
                    .map(|why| format!("{name} does not resolve: {why}")),
            );
            return Vec::new();
        };
        let before = state.leads_to();
        let located = |ip: &std::net::IpAddr| {
            let address = Address::Ip((*ip, *port).into());
            let known = before.iter().flat_map(|before| before.list.iter());
            let known = known.into_iter().find(|located| located.address == address);
            known.cloned().unwrap_or_else(|| {
                let backend = Backend {
                    address: address.clone(),
                    tls: member.backend.tls.clone(),
                    h2c: member.backend.h2c,
                };
                Located {
                    endpoint: self.tools.states.endpoint(&backend),
                    address,
                    is_out: Arc::new(AtomicBool::new(false)),
                }
            })
        };
        let list: Box<[Located]> = answer.iter().map(located).collect();
        let addresses = list.iter().map(|located| located.address.clone()).collect();
        let doubt = self.names.doubt(name);
        state.lead_to(Addresses { list, doubt });
        if state.fitness.clear(Against::Unresolved, moment()) {
            site.waiting.wake_all();
        }
        addresses
    }

    /// The check of `member` at `address`: one that runs already, or a new one.
    fn check(
        &mut self,
        site: &Site,
        member: &Member,
        address: Address,
        user: User,
        come: usize,
        old: Option<&Watched>,
    ) -> Option<u64> {
        let check = site.health.check.as_ref()?;
        let (same, probe) = self.probe(site, member, address, check)?;
        if let Some(number) = self.numbers.get(&same) {
            let running = self.checks.get_mut(number)?;
            running.users.push(user);
            return Some(*number);
        }
        self.last_number += 1;
        let number = self.last_number;
        let beat = Beat::new(check.every, hash_of(&same));
        let now = Instant::now();
        let is_one_of_few = come <= FEW;
        let due = if is_one_of_few { now } else { beat.first(now) };
        // Only how often or how long changed: what was found out still holds.
        let earlier = old.into_iter().flat_map(|old| old.checks.iter().flatten());
        let (course, told) = earlier
            .filter_map(|number| self.checks.get(number))
            .find(|running| running.same.asked == same.asked)
            .map(|running| (running.course.clone(), running.told.clone()))
            .unwrap_or_default();
        let soon = match course.standing() {
            Standing::NeverPassed if is_one_of_few => SOON_TIMES,
            _ => 0,
        };
        self.agenda.put(number, due);
        self.numbers.insert(same.clone(), number);
        let running = Running {
            probe: Arc::new(probe),
            same,
            course,
            beat,
            soon,
            due: Some(due),
            is_failing: false,
            told,
            endpoint: Arc::clone(&member.state.endpoint),
            users: vec![user],
        };
        self.checks.insert(number, running);
        Some(number)
    }

    /// Site number `site` asks for none of the checks of `old` any more.
    pub(super) fn unlink<'w>(&mut self, site: u32, old: impl Iterator<Item = &'w Watched>) {
        for number in old.flat_map(|old| old.checks.iter().flatten()) {
            if let Some(running) = self.checks.get_mut(number) {
                running.users.retain(|user| user.site != site);
            }
        }
    }

    /// Ends those that nobody asks for.
    pub(super) fn drop_unused<'w>(&mut self, old: impl Iterator<Item = &'w Watched>) {
        for number in old.flat_map(|old| old.checks.iter().flatten()) {
            let is_unused = |running: &Running| running.users.is_empty();
            if self.checks.get(number).is_some_and(is_unused)
                && let Some(running) = self.checks.remove(number)
            {
                self.numbers.remove(&running.same);
                if let Some(due) = running.due {
                    self.agenda.take_out(*number, due);
                }
            }
        }
    }
}
