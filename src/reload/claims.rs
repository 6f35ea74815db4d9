//! Who owns a name, when several sites want it.
//!
//! Pure: names of sites and patterns in, who may go live out. A site gets everything it wants or nothing; whoever
//! holds a pattern keeps it for as long as it wants it; among newcomers the file name decides. Who waited gets
//! its turn in the same settlement in which the last pattern it lacked is let go.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::site::{HostPattern, SiteName};

/// All claims: those in force and those that wait.
#[derive(Debug, Default)]
pub(super) struct Claims {
    owners: HashMap<HostPattern, SiteName>,
    held: HashMap<SiteName, Vec<HostPattern>>,
    waiting: HashMap<SiteName, Vec<HostPattern>>,
    waiters: HashMap<HostPattern, BTreeSet<SiteName>>,
    /// Has another owner since the last settlement.
    passed: Vec<HostPattern>,
}

/// What a site wants from now on.
#[derive(Clone, Debug)]
pub(super) enum Wants {
    Patterns(Vec<HostPattern>),
    /// What it has: its newest file cannot be used.
    NoMore,
    /// It is gone and lets go of everything.
    Nothing,
}

/// What a settlement decided.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Sites that got what they want.
    pub(super) adopted: Vec<SiteName>,
    /// Sites that did not, and why.
    pub(super) refused: Vec<Refused>,
    /// Patterns that nobody owns any more, and who did.
    pub(super) released: Vec<(HostPattern, SiteName)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) name: SiteName,
    /// The first pattern it lacks.
    pub(super) pattern: HostPattern,
    pub(super) owner: SiteName,
}

type Candidates = BTreeMap<SiteName, Vec<HostPattern>>;

impl Claims {
    /// Takes over a claim recorded by an earlier run. The first one for a pattern counts.
    pub(super) fn record(
        &mut self,
        name: &SiteName,
        patterns: impl IntoIterator<Item = HostPattern>,
    ) {
        for pattern in patterns {
            if !self.owners.contains_key(&pattern) {
                self.owners.insert(pattern.clone(), name.clone());
                self.held.entry(name.clone()).or_default().push(pattern);
            }
        }
    }

    /// Whether `name` owns `pattern`.
    pub(super) fn owns(&self, name: &SiteName, pattern: &HostPattern) -> bool {
        self.owners.get(pattern) == Some(name)
    }

    pub(super) fn owner(&self, pattern: &HostPattern) -> Option<&SiteName> {
        self.owners.get(pattern)
    }

    /// Everything that is owned.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &HostPattern> {
        self.owners.keys()
    }

    /// Whether `name` waits for somebody to let go.
    #[cfg(test)]
    fn waits(&self, name: &SiteName) -> bool {
        self.waiting.contains_key(name)
    }

    /// Whoever waits for something that `name` has.
    pub(super) fn waiting_for(&self, name: &SiteName) -> BTreeSet<&SiteName> {
        let held = self.held.get(name).into_iter().flatten();
        let waiters = held.filter_map(|pattern| self.waiters.get(pattern));
        waiters.flatten().collect()
    }

    /// The file `from` has become the file `to`, which has all that it had before anybody else is asked.
    pub(super) fn pass_on(&mut self, from: &SiteName, to: &SiteName) {
        let patterns = self.release(from);
        self.passed.extend(patterns.iter().cloned());
        self.record(to, patterns);
    }

    /// Lets the sites in `changes`, and whoever waits for something of theirs, have what they want where nobody
    /// else keeps it. The order of `changes` does not matter.
    pub(super) fn settle(
        &mut self,
        changes: impl IntoIterator<Item = (SiteName, Wants)>,
    ) -> Settled {
        let mut former = BTreeMap::new();
        let mut touched = std::mem::take(&mut self.passed);
        let mut candidates = Candidates::new();
        for (name, wants) in changes {
            touched.extend(self.stop_waiting(&name));
            match wants {
                Wants::NoMore => {}
                Wants::Nothing => {
                    let released = self.release(&name);
                    touched.extend(released.iter().cloned());
                    former.extend(released.into_iter().map(|p| (p, name.clone())));
                }
                Wants::Patterns(patterns) => {
                    touched.extend(self.held.get(&name).into_iter().flatten().cloned());
                    touched.extend(patterns.iter().cloned());
                    candidates.insert(name, patterns);
                }
            }
        }
        self.call_waiters(touched, &mut candidates);

        let mut settled = Settled::default();
        loop {
            let mut adopted = self.together(&candidates);
            if adopted.is_empty() {
                adopted.extend(self.alone(&candidates));
            }
            if adopted.is_empty() {
                break;
            }
            // All let go before anybody takes: files may swap their names.
            for name in &adopted {
                let released = self.release(name);
                former.extend(released.into_iter().map(|p| (p, name.clone())));
            }
            for name in adopted {
                let patterns = candidates.remove(&name).unwrap_or_default();
                self.record(&name, patterns);
                settled.adopted.push(name);
            }
        }
        for (name, patterns) in candidates {
            settled.refused.extend(self.refuse(name, patterns));
        }
        settled.adopted.sort();
        former.retain(|pattern, _| !self.owners.contains_key(pattern));
        settled.released = former.into_iter().collect();
        settled
    }

    fn stop_waiting(&mut self, name: &SiteName) -> Vec<HostPattern> {
        let patterns = self.waiting.remove(name).unwrap_or_default();
        for pattern in &patterns {
            if let Some(waiters) = self.waiters.get_mut(pattern) {
                waiters.remove(name);
                if waiters.is_empty() {
                    self.waiters.remove(pattern);
                }
            }
        }
        patterns
    }

    fn release(&mut self, name: &SiteName) -> Vec<HostPattern> {
        let patterns = self.held.remove(name).unwrap_or_default();
        for pattern in &patterns {
            self.owners.remove(pattern);
        }
        patterns
    }

    /// Makes candidates of everybody who waits for a touched pattern, or for one that such a waiter would let go.
    fn call_waiters(&mut self, mut touched: Vec<HostPattern>, candidates: &mut Candidates) {
        while let Some(pattern) = touched.pop() {
            let Some(names) = self.waiters.get(&pattern).cloned() else {
                continue;
            };
            for name in names {
                let patterns = self.stop_waiting(&name);
                touched.extend(self.held.get(&name).into_iter().flatten().cloned());
                touched.extend(patterns.iter().cloned());
                candidates.insert(name, patterns);
            }
        }
    }

    /// As many candidates as can go live in one step, each perhaps because another one lets go.
    fn together(&self, candidates: &Candidates) -> Vec<SiteName> {
        let mut next: BTreeSet<&SiteName> = candidates.keys().collect();
        loop {
            let keeps = |owner: &SiteName, pattern: &HostPattern| {
                !next.contains(owner) || candidates[owner].contains(pattern)
            };
            let blocked = |name: &SiteName| {
                candidates[name].iter().any(|pattern| {
                    let owner = self.owners.get(pattern).filter(|owner| *owner != name);
                    owner.is_some_and(|owner| keeps(owner, pattern))
                })
            };
            let mut losers: Vec<&SiteName> =
                next.iter().copied().filter(|name| blocked(name)).collect();
            if losers.is_empty() {
                losers = self.late_by_name(candidates, &next);
            }
            if losers.is_empty() {
                return next.into_iter().cloned().collect();
            }
            for loser in losers {
                next.remove(loser);
            }
        }
    }

    /// Those who want a pattern that another newcomer with an earlier file name wants too.
    fn late_by_name<'c>(
        &self,
        candidates: &'c Candidates,
        next: &BTreeSet<&'c SiteName>,
    ) -> Vec<&'c SiteName> {
        let mut taken: HashSet<&HostPattern> = HashSet::new();
        let mut late = Vec::new();
        for name in next.iter().copied() {
            let mut is_first = true;
            for pattern in candidates[name]
                .iter()
                .filter(|pattern| !self.owns(name, pattern))
            {
                is_first &= taken.insert(pattern);
            }
            if !is_first {
                late.push(name);
            }
        }
        late
    }

    /// The first candidate that nobody stands in the way of now.
    fn alone(&self, candidates: &Candidates) -> Option<SiteName> {
        let free = |(name, patterns): &(&SiteName, &Vec<HostPattern>)| {
            self.blocker(name, patterns.as_slice()).is_none()
        };
        candidates.iter().find(free).map(|(name, _)| name.clone())
    }

    fn blocker(
        &self,
        name: &SiteName,
        patterns: &[HostPattern],
    ) -> Option<(HostPattern, SiteName)> {
        patterns.iter().find_map(|pattern| {
            let owner = self.owners.get(pattern).filter(|owner| *owner != name)?;
            Some((pattern.clone(), owner.clone()))
        })
    }

    fn refuse(&mut self, name: SiteName, patterns: Vec<HostPattern>) -> Option<Refused> {
        let (pattern, owner) = self.blocker(&name, &patterns)?;
        for pattern in &patterns {
            let waiters = self.waiters.entry(pattern.clone()).or_default();
            waiters.insert(name.clone());
        }
        self.waiting.insert(name.clone(), patterns);
        Some(Refused {
            name,
            pattern,
            owner,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> SiteName {
        SiteName::new(text)
    }

    fn patterns(text: &str) -> Vec<HostPattern> {
        let words = text.split_whitespace();
        words
            .map(|word| HostPattern::parse(word).expect("pattern"))
            .collect()
    }

    fn wants(site: &str, text: &str) -> (SiteName, Wants) {
        (name(site), Wants::Patterns(patterns(text)))
    }

    fn gone(site: &str) -> (SiteName, Wants) {
        (name(site), Wants::Nothing)
    }

    fn owners(claims: &Claims) -> BTreeMap<String, String> {
        let owners = claims.owners.iter();
        owners
            .map(|(pattern, name)| (pattern.to_string(), name.to_string()))
            .collect()
    }

    fn adopted(settled: &Settled) -> Vec<&str> {
        settled.adopted.iter().map(SiteName::as_str).collect()
    }

    #[test]
    fn who_came_first_keeps_a_name_and_the_other_learns_whose_it_is() {
        let mut claims = Claims::default();
        claims.settle([wants("z", "shop.test")]);
        let settled = claims.settle([wants("a", "shop.test www.test")]);
        assert!(settled.adopted.is_empty());
        assert_eq!(settled.refused[0].owner, name("z"));
        assert_eq!(settled.refused[0].pattern, patterns("shop.test")[0]);
        assert!(claims.waits(&name("a")));
        assert!(!claims.owns(&name("a"), &patterns("www.test")[0]));
    }

    #[test]
    fn a_waiting_site_goes_live_in_the_settlement_that_frees_its_name() {
        let mut claims = Claims::default();
        claims.settle([wants("z", "shop.test")]);
        claims.settle([wants("a", "shop.test")]);
        let settled = claims.settle([gone("z")]);
        assert_eq!(adopted(&settled), ["a"]);
        assert!(settled.released.is_empty());
    }

    #[test]
    fn among_newcomers_the_file_name_decides() {
        let mut claims = Claims::default();
        let settled = claims.settle([wants("b", "x.test"), wants("a", "x.test")]);
        assert_eq!(adopted(&settled), ["a"]);
        assert_eq!(settled.refused[0].name, name("b"));
    }

    #[test]
    fn two_files_may_swap_their_names_at_once() {
        let mut claims = Claims::default();
        claims.settle([wants("a", "x.test"), wants("b", "y.test")]);
        let settled = claims.settle([wants("a", "y.test"), wants("b", "x.test")]);
        assert_eq!(adopted(&settled), ["a", "b"]);
        assert!(settled.released.is_empty());
    }

    #[test]
    fn two_files_may_swap_their_names_one_after_the_other() {
        let mut claims = Claims::default();
        claims.settle([wants("a", "x.test"), wants("b", "y.test")]);
        assert!(claims.settle([wants("a", "y.test")]).adopted.is_empty());
        let settled = claims.settle([wants("b", "x.test")]);
        assert_eq!(adopted(&settled), ["a", "b"]);
    }

    #[test]
    fn a_refused_edit_keeps_the_names_it_would_have_let_go() {
        let mut claims = Claims::default();
        claims.settle([wants("a", "x.test"), wants("b", "y.test")]);
        let settled = claims.settle([wants("a", "y.test"), wants("c", "x.test")]);
        assert!(settled.adopted.is_empty());
        assert_eq!(settled.refused.len(), 2);
        assert!(claims.owns(&name("a"), &patterns("x.test")[0]));
    }

    #[test]
    fn a_file_under_another_name_keeps_its_claims_before_those_who_wait() {
        let mut claims = Claims::default();
        claims.settle([wants("shop", "shop.test")]);
        claims.settle([wants("aaa", "shop.test")]);
        let waiting: Vec<String> = claims
            .waiting_for(&name("shop"))
            .into_iter()
            .map(SiteName::to_string)
            .collect();
        assert_eq!(waiting, ["aaa"]);
        claims.pass_on(&name("shop"), &name("shop-eu"));
        let settled = claims.settle([gone("shop"), wants("shop-eu", "shop.test")]);
        assert_eq!(adopted(&settled), ["shop-eu"]);
        assert!(settled.released.is_empty());
        assert!(claims.waits(&name("aaa")));

        // It may have been seen, and waited, before its old name was missed.
        let mut late = Claims::default();
        late.settle([wants("shop", "shop.test")]);
        late.settle([wants("shop-eu", "shop.test"), wants("aaa", "shop.test")]);
        late.pass_on(&name("shop"), &name("shop-eu"));
        assert_eq!(adopted(&late.settle([gone("shop")])), ["shop-eu"]);

        // What the new name does not want any more is for those who wait.
        claims.pass_on(&name("shop-eu"), &name("b"));
        let settled = claims.settle([gone("shop-eu"), wants("b", "other.test")]);
        assert_eq!(adopted(&settled), ["aaa", "b"]);
    }

    #[test]
    fn who_is_stopped_by_a_newcomer_that_is_stopped_itself_goes_live() {
        let mut claims = Claims::default();
        claims.settle([wants("c", "q.test")]);
        let settled = claims.settle([wants("a", "p.test q.test"), wants("b", "p.test")]);
        assert_eq!(adopted(&settled), ["b"]);
        let mut claims = Claims::default();
        claims.settle([wants("b", "r.test")]);
        let settled = claims.settle([wants("a", "p.test r.test"), wants("b", "p.test")]);
        assert_eq!(adopted(&settled).len(), 1, "{settled:?}");
    }

    #[test]
    fn a_file_that_became_unusable_no_longer_waits_and_keeps_what_it_has() {
        let mut claims = Claims::default();
        claims.settle([wants("a", "x.test"), wants("b", "y.test")]);
        claims.settle([wants("a", "y.test")]);
        claims.settle([(name("a"), Wants::NoMore)]);
        assert!(claims.settle([gone("b")]).adopted.is_empty());
        assert!(claims.owns(&name("a"), &patterns("x.test")[0]));
    }

    #[test]
    fn a_name_nobody_wants_any_more_is_released_with_its_last_owner() {
        let mut claims = Claims::default();
        claims.settle([wants("a", "x.test y.test")]);
        let settled = claims.settle([wants("a", "y.test")]);
        assert_eq!(
            settled.released,
            [(patterns("x.test")[0].clone(), name("a"))]
        );
    }

    fn site_files() -> impl Strategy<Value = BTreeMap<String, BTreeSet<String>>> {
        let some = prop::collection::btree_set("[u-z][.]t", 1..4);
        prop::collection::btree_map("[a-f]", some, 0..7)
    }

    fn changes(files: &BTreeMap<String, BTreeSet<String>>) -> Vec<(SiteName, Wants)> {
        let files = files.iter();
        files
            .map(|(site, set)| wants(site, &set.iter().cloned().collect::<Vec<_>>().join(" ")))
            .collect()
    }

    proptest! {
        #[test]
        fn the_same_files_and_recorded_claims_give_the_same_owners_in_any_order(
            steps in prop::collection::vec(site_files(), 1..5), seed: u64,
        ) {
            let (mut forth, mut shuffled) = (Claims::default(), Claims::default());
            let mut all = BTreeMap::new();
            for step in steps {
                let mut mixed = changes(&step);
                let length = mixed.len().max(1);
                mixed.rotate_left(seed as usize % length);
                if seed % 2 == 0 { mixed.reverse(); }
                let settled = forth.settle(changes(&step));
                prop_assert_eq!(&settled, &shuffled.settle(mixed));
                all.extend(step);
                for site in all.keys() {
                    let (live, waits) = (forth.held.contains_key(&name(site)), forth.waits(&name(site)));
                    prop_assert!(live || waits);
                }

                // A restart: the same files, and what was recorded.
                let mut again = Claims::default();
                for (site, patterns) in &forth.held {
                    again.record(site, patterns.clone());
                }
                again.settle(changes(&all));
                prop_assert_eq!(owners(&again), owners(&forth));
            }
        }

        #[test]
        fn every_site_that_waits_is_stopped_by_an_owner(steps in prop::collection::vec(site_files(), 1..6)) {
            let mut claims = Claims::default();
            for step in steps {
                claims.settle(changes(&step));
                for (site, patterns) in &claims.waiting {
                    prop_assert!(claims.blocker(site, patterns).is_some());
                }
                for (pattern, owner) in &claims.owners {
                    prop_assert!(claims.held[owner].contains(pattern));
                }
            }
        }
    }
}
