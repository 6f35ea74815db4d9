//! What is known of a backend: told to the operator, and written down where requests read it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use tracing::{info, warn};

use super::{Running, User, Watch, Watched};
use crate::health::course::{Standing, Turn};
use crate::site::fitness::Against;
use crate::upstream::moment;

/// What follows from a check that has never passed: it takes nothing out that was there before it.
const NOT_IN_FORCE: &str = "check not in force";
/// And of a backend that an edit brought.
const UNPROVEN: &str = "a new backend, sent no requests until its check passes";

impl Watch {
    /// One line for what an operator must know.
    pub(super) fn tell(&mut self, number: u64, turn: Turn) {
        let Some(running) = self.checks.get_mut(&number) else {
            return;
        };
        let backend = &running.probe.address;
        let sites = names_of(&self.sites, &running.users);
        let told = running.told.as_deref().unwrap_or_default();
        match turn {
            Turn::NotInForce => {
                let is_new = |user: &User| is_unproven(&self.sites, *user);
                let (new, others): (Vec<User>, Vec<User>) =
                    running.users.iter().copied().partition(is_new);
                if !others.is_empty() {
                    let sites = names_of(&self.sites, &others);
                    warn!(site = %sites, "{told}; {NOT_IN_FORCE}");
                }
                if !new.is_empty() {
                    let sites = names_of(&self.sites, &new);
                    warn!(site = %sites, %backend, "{told}; {UNPROVEN}");
                }
            }
            Turn::InForce if running.told.is_some() => {
                info!(site = %sites, "{}; check in force", running.probe.passes());
            }
            Turn::Out => warn!(site = %sites, %backend, "backend out: {told}"),
            Turn::Back => {
                info!(site = %sites, %backend, "backend back: {}", running.probe.passes())
            }
            Turn::InForce | Turn::Nothing => {}
        }
        if matches!(turn, Turn::InForce | Turn::Back) {
            running.told = None;
        }
    }

    /// Writes down what is known of one backend of one site, where requests read it.
    pub(super) fn judge(&self, user: User) {
        let Some(watched) = self.sites.get(&user.site) else {
            return;
        };
        let site = &watched.site;
        let (Some(member), Some(numbers)) = (
            site.members().nth(user.member),
            watched.checks.get(user.member),
        ) else {
            return;
        };
        let running: Vec<&Running> = numbers
            .iter()
            .filter_map(|number| self.checks.get(number))
            .collect();
        let fitness = &member.state.fitness;
        let is_out = |running: &&Running| running.course.standing() == Standing::Out;
        if let Some(addresses) = member.state.leads_to() {
            for located in &addresses.list {
                let mut here = running
                    .iter()
                    .filter(|r| r.probe.address == located.address);
                located.is_out.store(here.any(is_out), Ordering::Relaxed);
            }
        }
        let now = moment();
        let mut is_back = false;
        if !running.is_empty() && running.iter().all(is_out) {
            fitness.set(Against::Check, now);
        } else {
            is_back |= fitness.clear(Against::Check, now);
        }
        let has_passed = |running: &&Running| running.course.standing() == Standing::Fit;
        let ever = |running: &&Running| running.course.standing() != Standing::NeverPassed;
        member.state.set_passed(running.iter().any(ever));
        if site.health.check.is_none() || running.iter().any(has_passed) {
            is_back |= fitness.clear(Against::Unproven, now);
        }
        let is_unproven = fitness.has(Against::Unproven);
        let why = running.iter().find_map(|running| {
            let told = running.told.as_deref()?;
            match running.course.standing() {
                // One that failed now and then, or until now.
                Standing::Fit => None,
                Standing::Out => Some(told.to_owned()),
                Standing::NeverPassed if is_unproven => Some(format!("{told}; {UNPROVEN}")),
                Standing::NeverPassed => Some(format!("{told}; {NOT_IN_FORCE}")),
            }
        });
        if !fitness.has(Against::Unresolved) {
            member.state.find(why);
        }
        if is_back {
            site.waiting.wake_all();
        }
    }
}

/// Whether an edit brought that backend, and its check has not passed there yet.
fn is_unproven(sites: &HashMap<u32, Watched>, user: User) -> bool {
    let member = sites
        .get(&user.site)
        .and_then(|watched| watched.site.members().nth(user.member));
    member.is_some_and(|member| member.state.fitness.has(Against::Unproven))
}

/// Whose check it is, for a line of the log: the first few by name.
fn names_of(sites: &HashMap<u32, Watched>, users: &[User]) -> String {
    const FEW: usize = 3;
    let mut numbers: Vec<u32> = users.iter().map(|user| user.site).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let named = numbers.iter().filter_map(|number| sites.get(number));
    let named: Vec<&str> = named.map(|watched| watched.site.name.as_str()).collect();
    let mut text = named
        .iter()
        .take(FEW)
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    if named.len() > FEW {
        text.push_str(&format!(" +{}", named.len() - FEW));
    }
    text
}
