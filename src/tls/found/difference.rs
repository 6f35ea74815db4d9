//! What is shown for names after a look at the folders, beside what was shown before it.

use std::collections::HashSet;
use std::sync::Arc;

use super::names::{Names, Shown};
use crate::site::HostPattern;
use crate::tls::certificate::Certificate;

/// See the module.
#[derive(Debug)]
pub struct Difference {
    before: Arc<Names>,
    after: Arc<Names>,
    /// Names in certificates for which others are shown now, or none.
    pub names: HashSet<HostPattern>,
}

/// What has become of a certificate, for one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Found,
    /// It is shown in the place of another: renewed, as a rule.
    Swapped,
    Gone,
}

impl Difference {
    /// `None`: the same is shown for all names, perhaps of files that were written again.
    pub(super) fn between(before: &Arc<Names>, after: &Arc<Names>) -> Option<Difference> {
        let differs = |name: &HostPattern| !is_same(before.covering(name), after.covering(name));
        let names = before.names().chain(after.names());
        let names: HashSet<HostPattern> = names.filter(differs).collect();
        (!names.is_empty()).then(|| Difference {
            before: Arc::clone(before),
            after: Arc::clone(after),
            names,
        })
    }

    /// For all that `pattern` may stand for.
    pub fn of(&self, pattern: &HostPattern) -> impl Iterator<Item = (Fate, &Arc<Certificate>)> {
        let (before, after) = (self.before.covering(pattern), self.after.covering(pattern));
        let came: Vec<_> = new_in(after, before).collect();
        let went: Vec<_> = new_in(before, after).collect();
        let fate = match went.is_empty() {
            true => Fate::Found,
            false => Fate::Swapped,
        };
        // Whatever came stands in the place of those.
        let went = went.into_iter().filter(|_| came.is_empty());
        let went: Vec<_> = went.map(|certificate| (Fate::Gone, certificate)).collect();
        let came = came.into_iter().map(move |certificate| (fate, certificate));
        came.chain(went)
    }
}

impl Fate {
    /// For the log and for programs.
    pub fn word(self) -> &'static str {
        match self {
            Fate::Found => "found",
            Fate::Swapped => "swapped",
            Fate::Gone => "gone",
        }
    }
}

fn is_same(one: Option<&Shown>, other: Option<&Shown>) -> bool {
    new_in(one, other).next().is_none() && new_in(other, one).next().is_none()
}

/// The certificates of `one` that `other` does not have.
fn new_in<'s>(
    one: Option<&'s Shown>,
    other: Option<&'s Shown>,
) -> impl Iterator<Item = &'s Arc<Certificate>> {
    let all = |shown: Option<&'s Shown>| shown.into_iter().flat_map(|all| &*all.certificates);
    let is_it = |one: &Arc<Certificate>, other: &Arc<Certificate>| {
        Arc::ptr_eq(one, other) || one.digest() == other.digest()
    };
    all(one).filter(move |one| !all(other).any(|other| is_it(one, other)))
}
