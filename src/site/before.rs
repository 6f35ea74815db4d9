//! The backends that a site had before an edit brought others: they answer until a new one has.
//!
//! Made when a version takes the place of another; asked only by a request that the new backends do not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Action, BackendState, Backends, Member, PathPattern, Site};

/// See the module.
#[derive(Debug)]
pub struct Before {
    lists: Box<[Former]>,
}

/// What one list of backends came to replace.
#[derive(Debug)]
pub struct Former {
    /// Of the path rule it is for. `None`: of the site.
    pattern: Option<PathPattern>,
    /// Those that the list does not have any more.
    pub backends: Backends,
    /// Those that the list did not have.
    new: Box<[Arc<BackendState>]>,
    answered: AtomicBool,
}

/// More are forgotten: who edits a site so often before any backend answers means the last ones.
const MOST: usize = 16;

impl Before {
    /// What `site` takes the place of; both have the states of their backends. `None`: nothing that is missed.
    pub fn of(old: &Site, site: &Site) -> Option<Before> {
        let paths = site.paths.iter();
        let paths = paths.map(|rule| (Some(&rule.pattern), rule.action.as_ref()));
        let places = [(None, site.action.as_ref())].into_iter().chain(paths);
        let lists: Box<[Former]> = places
            .filter_map(|(pattern, action)| match action {
                Some(Action::Proxy(backends)) => Former::of(old, pattern, backends),
                _ => None,
            })
            .collect();
        (!lists.is_empty()).then_some(Before { lists })
    }

    /// What the list of this place came to replace, unless one of its new ones has answered.
    pub fn former(&self, pattern: Option<&PathPattern>) -> Option<&Former> {
        let former = self.at(pattern)?;
        (!former.answered.load(Ordering::Relaxed)).then_some(former)
    }

    /// A backend of the list of this place has answered a request: when it is a new one, the former ones are over.
    pub fn answered(&self, pattern: Option<&PathPattern>, by: &Arc<BackendState>) {
        if let Some(former) = self.former(pattern)
            && former.new.iter().any(|new| Arc::ptr_eq(new, by))
        {
            former.answered.store(true, Ordering::Relaxed);
        }
    }

    /// All new backends, of all lists.
    pub fn new_ones(&self) -> impl Iterator<Item = &Arc<BackendState>> {
        self.lists.iter().flat_map(Former::new_ones)
    }

    fn at(&self, pattern: Option<&PathPattern>) -> Option<&Former> {
        self.lists
            .iter()
            .find(|former| former.pattern.as_ref() == pattern)
    }
}

impl Former {
    /// Those that have to answer, or to pass a check, before the former ones are over.
    fn new_ones(&self) -> impl Iterator<Item = &Arc<BackendState>> {
        self.new.iter()
    }

    /// Whether none of the new ones has passed its check yet.
    pub fn is_waited_for(&self) -> bool {
        use super::fitness::Against::Unproven;
        self.new.iter().all(|state| state.fitness.has(Unproven))
    }

    fn of(old: &Site, pattern: Option<&PathPattern>, backends: &Backends) -> Option<Former> {
        let is_in = |list: &[Member], state: &Arc<BackendState>| {
            list.iter().any(|member| Arc::ptr_eq(&member.state, state))
        };
        // What answered there until now.
        let rule = pattern.and_then(|pattern| old.paths.iter().find(|r| r.pattern == *pattern));
        let action = rule
            .and_then(|rule| rule.action.as_ref())
            .or(old.action.as_ref());
        let before: &[Member] = match action {
            Some(Action::Proxy(backends)) => &backends.list,
            _ => &[],
        };
        let earlier = old.before.as_ref().and_then(|b| b.former(pattern));
        let earlier = earlier.map_or(&[][..], |former| &*former.backends.list);
        let mut gone: Vec<Member> = Vec::new();
        for member in before.iter().chain(earlier) {
            // Another way of speaking to the same place was meant to be another.
            let mut list = backends.list.iter();
            let is_elsewhere = !list.any(|m| m.backend.address == member.backend.address);
            if is_elsewhere && !is_in(&gone, &member.state) {
                gone.push(member.clone());
            }
        }
        gone.truncate(MOST);
        // Those that have not answered yet are as new as they were.
        let still_new = |state: &Arc<BackendState>| {
            let former = old.before.as_ref().and_then(|b| b.former(pattern));
            former.is_some_and(|former| former.new.iter().any(|new| Arc::ptr_eq(new, state)))
        };
        let states = backends.list.iter().map(|member| &member.state);
        let new = states
            .filter(|state| !is_in(before, state) && !is_in(earlier, state) || still_new(state));
        let new: Box<[Arc<BackendState>]> = new.cloned().collect();
        if gone.is_empty() || new.is_empty() {
            return None;
        }
        Some(Former {
            pattern: pattern.cloned(),
            backends: Backends::new(gone),
            new,
            answered: AtomicBool::new(false),
        })
    }
}
