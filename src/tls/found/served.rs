//! Which names pairs are for, and whether they do for all names of another what that one did.

use std::collections::HashMap;
use std::sync::Arc;

use super::folder::Pair;
use crate::site::HostPattern;

/// See the module.
pub(super) struct Served<'p> {
    /// Whether one of them comes with those who vouch for it.
    names: HashMap<&'p HostPattern, bool>,
    is_restless: bool,
}

impl<'p> Served<'p> {
    /// While the files are restless, a chain without those who vouch for it is half of one.
    pub(super) fn by(pairs: &'p [Arc<Pair>], is_restless: bool) -> Served<'p> {
        let mut names: HashMap<&HostPattern, bool> = HashMap::new();
        for pair in pairs {
            for name in pair.certificate.names() {
                *names.entry(name).or_default() |= pair.has_intermediates();
            }
        }
        Served { names, is_restless }
    }

    pub(super) fn has_all_of(&self, old: &Pair) -> bool {
        let mut names = old.certificate.names().iter();
        names.all(|name| self.has(name, old))
    }

    fn has(&self, name: &HostPattern, old: &Pair) -> bool {
        let above = name.wildcard_above();
        let by = |name: &HostPattern| self.names.get(name).copied();
        let by = by(name).max(above.as_ref().and_then(by));
        by.is_some_and(|has_intermediates| {
            has_intermediates || !old.has_intermediates() || !self.is_restless
        })
    }
}
