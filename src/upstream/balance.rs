//! Which backend of a list a request goes to.
//!
//! Fit ones that are no backups first, fit backups then; what to do when there is neither is the caller's choice. One
//! for each worker: its turns, its random numbers, and its own requests in flight.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use super::{InFlight, Tally, moment};
use crate::site::balance::Balance;
use crate::site::member::Token;
use crate::site::{BackendState, Backends, Member};

/// See the module.
#[derive(Debug)]
pub struct Balancer {
    tally: Arc<Tally>,
    random: Cell<u64>,
    /// How far ahead a backend is of its turn in a list, by `Member::turns` (nginx's smooth round-robin).
    ahead: RefCell<Vec<i64>>,
}

/// How a list is chosen from.
#[derive(Clone, Copy, Debug)]
pub struct Way<'s> {
    pub balance: &'s Balance,
    pub slow_start: Duration,
    /// Of what [`Balance::Hash`] hashes. `None`: the request has nothing of the kind.
    pub hash: Option<u64>,
    /// The backend that the client was at before, where the site is sticky.
    pub token: Option<Token>,
}

/// Backends that a request does not go to again, by their place in the list. Those behind the 64th are never in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried(u64);

/// How many places [`Tried`] has.
pub const PLACES: usize = 64;

/// Whether those are chosen from too that something speaks against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    Fit,
    /// Those too that nothing but requests that failed speaks against: they fail no check.
    Passing,
    All,
}

impl Among {
    fn has(self, state: &BackendState) -> bool {
        match self {
            Among::Fit => state.is_fit(),
            Among::Passing => state.fitness.is_fit_but_for_failures(),
            Among::All => true,
        }
    }
}

/// Shares are counted in thousandths of a weight, so that one that warms up may have a part of one.
const WHOLE: u64 = 1_000;
/// What one that is back gets at once: with nothing it would never be seen to work.
const LEAST: u64 = WHOLE / 10;
/// An endpoint that is back is remembered to be so for this long, because its other sites may warm it up more slowly than
/// the one that asks. One minute: six times what they do unless they say otherwise.
const SHARED_FOR: Duration = Duration::from_secs(60);

impl Balancer {
    pub fn new(tally: Arc<Tally>, seed: u64) -> Balancer {
        Balancer {
            tally,
            random: Cell::new(seed | 1),
            ahead: RefCell::default(),
        }
    }

    /// Counts a request at a backend of this list for as long as the answer lives.
    pub fn enter(&self, member: &Member) -> InFlight<'_> {
        self.tally.enter(member.state.number)
    }

    /// Where in the list the request goes. `None`: there is nobody of that kind, or all have been tried.
    pub fn choose(
        &self,
        backends: &Backends,
        way: Way<'_>,
        tried: Tried,
        among: Among,
    ) -> Option<usize> {
        let list = &*backends.list;
        if let Some(token) = &way.token {
            let at = list.iter().position(|member| member.token == *token);
            // Who is at one that is drained stays there.
            let usable = |at: &usize| !tried.has(*at) && list[*at].state.is_fit();
            if let Some(at) = at.filter(usable) {
                return Some(at);
            }
        }
        if backends.is_even {
            match (list.len(), way.balance) {
                (1, _) => {
                    let usable = among.has(&list[0].state);
                    return (usable && !tried.has(0)).then_some(0);
                }
                (count, Balance::LeastRequests) => {
                    if let Some(at) = self.best_of_two(list, count, tried) {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        let of = |backup| Candidates {
            list,
            tried,
            among,
            backup,
            slow_start: way.slow_start,
        };
        let primaries = of(false);
        let found = self.choose_from(&primaries, way);
        found.or_else(|| self.choose_from(&of(true), way))
    }

    /// The usual case at the least cost: equal shares, and the two that are drawn have nothing against them.
    fn best_of_two(&self, list: &[Member], count: usize, tried: Tried) -> Option<usize> {
        let (a, b) = self.two(count);
        let is_usable = |at: usize| {
            let state = &list[at].state;
            state.fitness.is_plain() && state.endpoint.fitness.is_plain() && !tried.has(at)
        };
        if !is_usable(a) || !is_usable(b) {
            return None;
        }
        let busy = |at: usize| self.tally.read(list[at].state.number);
        Some(if busy(b) < busy(a) { b } else { a })
    }

    fn choose_from(&self, from: &Candidates<'_>, way: Way<'_>) -> Option<usize> {
        let total: u64 = from.each().map(|(_, share)| share).sum();
        if total == 0 {
            return None;
        }
        match (way.balance, way.hash) {
            (Balance::LeastRequests, _) => {
                let (a, b) = (self.by_share(from, total)?, self.by_share(from, total)?);
                // Requests for each part of a share, with the one that is about to come.
                let load = |(at, share): (usize, u64)| {
                    let busy = self.tally.read(from.list[at].state.number);
                    (u64::from(busy) + 1, share)
                };
                let ((busy_a, share_a), (busy_b, share_b)) = (load(a), load(b));
                let is_a_busier = u128::from(busy_b) * u128::from(share_a)
                    < u128::from(busy_a) * u128::from(share_b);
                // Equal shares drawn by their weight already: only what is in flight decides.
                let is_b = busy_a != busy_b && is_a_busier;
                Some(if is_b { b.0 } else { a.0 })
            }
            (Balance::Random, _) | (Balance::Hash(_), None) => {
                self.by_share(from, total).map(|(at, _)| at)
            }
            (Balance::RoundRobin, _) => self.next_turn(from, total),
            (Balance::Hash(_), Some(hash)) => from.by_hash(hash),
        }
    }

    fn by_share(&self, from: &Candidates<'_>, total: u64) -> Option<(usize, u64)> {
        let mut left = self.below(total);
        from.each()
            .find(|(_, share)| match left.checked_sub(*share) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            })
    }

    /// Everybody gains its share, the one that is ahead most has its turn and pays for it.
    fn next_turn(&self, from: &Candidates<'_>, total: u64) -> Option<usize> {
        let mut ahead = self.ahead.borrow_mut();
        let mut best: Option<(usize, i64)> = None;
        for (at, share) in from.each() {
            let number = from.list[at].turns as usize;
            if ahead.len() <= number {
                ahead.resize(number + 1, 0);
            }
            ahead[number] = ahead[number].saturating_add_unsigned(share);
            if best.is_none_or(|(_, most)| ahead[number] > most) {
                best = Some((at, ahead[number]));
            }
        }
        let (at, _) = best?;
        let number = from.list[at].turns as usize;
        ahead[number] = ahead[number].saturating_sub_unsigned(total);
        Some(at)
    }

    /// Two different places among `count`, which is at least two.
    fn two(&self, count: usize) -> (usize, usize) {
        let random = self.next_random();
        let scale = |half: u64, count: usize| ((half * count as u64) >> 32) as usize;
        let a = scale(random >> 32, count);
        let b = scale(random & 0xffff_ffff, count - 1);
        (a, if b >= a { b + 1 } else { b })
    }

    fn below(&self, limit: u64) -> u64 {
        ((u128::from(self.next_random()) * u128::from(limit)) >> 64) as u64
    }

    /// splitmix64 (Steele, Lea, Flood): enough to spread load by.
    fn next_random(&self) -> u64 {
        let next = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(next);
        mix(next)
    }
}

/// Those of a list that may be chosen.
struct Candidates<'l> {
    list: &'l [Member],
    tried: Tried,
    among: Among,
    backup: bool,
    slow_start: Duration,
}

impl Candidates<'_> {
    /// Each with its present share, which is not 0.
    fn each(&self) -> impl Iterator<Item = (usize, u64)> {
        let usable = self.list.iter().enumerate().filter(|(at, member)| {
            member.backup == self.backup
                && !member.is_drained()
                && !self.tried.has(*at)
                && self.among.has(&member.state)
        });
        usable.map(|(at, member)| (at, u64::from(member.weight) * self.part(member)))
    }

    /// How much of its share it gets, in thousandths.
    fn part(&self, member: &Member) -> u64 {
        let fitnesses = [
            (&member.state.fitness, Duration::ZERO),
            (&member.state.endpoint.fitness, SHARED_FOR),
        ];
        let parts = fitnesses.into_iter().map(|(fitness, others)| {
            let Some(since) = fitness.warming_since() else {
                return WHOLE;
            };
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let length = millis(self.slow_start);
            let warm_for = moment().saturating_sub(since);
            if warm_for >= length.max(millis(others)) {
                fitness.is_warm();
            }
            if warm_for >= length {
                return WHOLE;
            }
            (WHOLE * warm_for / length).max(LEAST)
        });
        parts.min().unwrap_or(WHOLE)
    }

    /// Weighted rendezvous hashing: each has a score with this value, and the highest wins. One more backend takes only
    /// what it wins; one less leaves all others where they are. One that warms up has less weight, and so wins its values
    /// back one after the other, each once (HAProxy's consistent hash does so, too): no value moves between two others,
    /// and all workers see the same, because a share is a matter of time alone.
    fn by_hash(&self, hash: u64) -> Option<usize> {
        let score = |(at, share): (usize, u64)| {
            let drawn = mix(hash ^ self.list[at].seed);
            // (0, 1): never quite either end.
            let uniform = ((drawn >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            (at, share as f64 / -uniform.ln())
        };
        let scores = self.each().map(score);
        scores.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
    }
}

impl Tried {
    pub fn add(&mut self, at: usize) {
        if at < PLACES {
            self.0 |= 1 << at;
        }
    }

    pub fn has(self, at: usize) -> bool {
        at < PLACES && self.0 & 1 << at != 0
    }

    /// What is in either.
    pub fn and(self, other: Tried) -> Tried {
        Tried(self.0 | other.0)
    }
}

/// The end of splitmix64: each bit of the input changes half of the output's.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::site::Backend;
    use crate::site::backend::LinkLocal;
    use crate::site::balance::HashBy;
    use crate::site::fitness::Against;

    const HASH: Balance = Balance::Hash(HashBy::Path);

    fn backends(weights: &[u32]) -> Backends {
        let members = weights.iter().enumerate().map(|(at, &weight)| {
            let text = format!("10.0.0.{at}:80");
            let backend = Backend::parse(&text, Path::new("/"), LinkLocal::Refused).expect("fine");
            Member {
                weight,
                turns: at as u32 + 1,
                state: Arc::new(BackendState {
                    number: at as u32 + 1,
                    ..BackendState::default()
                }),
                ..Member::from(backend)
            }
        });
        Backends::new(members.collect())
    }

    fn way(balance: &Balance) -> Way<'_> {
        Way {
            balance,
            slow_start: Duration::ZERO,
            hash: None,
            token: None,
        }
    }

    fn balancer() -> Balancer {
        Balancer::new(Arc::default(), 7)
    }

    fn count(backends: &Backends, balance: &Balance, times: usize) -> Vec<usize> {
        let balancer = balancer();
        let mut counts = vec![0; backends.list.len()];
        for n in 0..times {
            let way = Way {
                hash: Some(mix(n as u64)),
                ..way(balance)
            };
            let at = balancer.choose(backends, way, Tried::default(), Among::Fit);
            counts[at.expect("one is fit")] += 1;
        }
        counts
    }

    #[test]
    fn round_robin_weights_are_exact() {
        let counts = count(&backends(&[5, 1, 0, 2]), &Balance::RoundRobin, 80);
        assert_eq!(counts, [50, 10, 0, 20]);
        let counts = count(&backends(&[1, 1, 1]), &Balance::RoundRobin, 300);
        assert_eq!(counts, [100, 100, 100]);
    }

    #[test]
    fn other_weights_are_within_three_standard_deviations() {
        const TIMES: usize = 60_000;
        for balance in [Balance::LeastRequests, Balance::Random, HASH] {
            for weights in [&[3, 1, 0, 2][..], &[1, 1, 1], &[1, 1]] {
                let counts = count(&backends(weights), &balance, TIMES);
                let total: u32 = weights.iter().sum();
                for (&weight, &seen) in weights.iter().zip(&counts) {
                    let share = f64::from(weight) / f64::from(total);
                    let expected = share * TIMES as f64;
                    let deviation = (expected * (1.0 - share)).sqrt();
                    assert!(
                        (seen as f64 - expected).abs() <= 3.0 * deviation,
                        "{balance:?} {weights:?}: {counts:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn fewer_requests_in_flight_win() {
        let backends = backends(&[1, 1]);
        let balancer = balancer();
        let busy: Vec<_> = (0..3).map(|_| balancer.enter(&backends.list[0])).collect();
        for _ in 0..100 {
            let at = balancer.choose(
                &backends,
                way(&Balance::LeastRequests),
                Tried::default(),
                Among::Fit,
            );
            assert_eq!(at, Some(1));
        }
        drop(busy);
    }

    #[test]
    fn one_backend_more_moves_its_share_of_values_and_no_others() {
        let (four, five) = (backends(&[1; 4]), backends(&[1; 5]));
        let choose = |backends: &Backends, hash| {
            let way = Way {
                hash: Some(hash),
                ..way(&HASH)
            };
            // Each time another worker.
            let at = balancer().choose(backends, way, Tried::default(), Among::Fit);
            at.expect("one is fit")
        };
        let mut moved = 0;
        for n in 0..10_000 {
            let (before, after) = (choose(&four, mix(n)), choose(&five, mix(n)));
            if before != after {
                assert_eq!(after, 4, "only to the new one");
                moved += 1;
            }
        }
        assert!((1_880..2_120).contains(&moved), "{moved} of 10,000");
    }

    #[test]
    fn a_backup_is_chosen_only_when_no_other_is_fit() {
        let mut backends = backends(&[1, 1, 1]);
        backends.list[2].backup = true;
        let backends = Backends::new(backends.list.into_vec());
        for balance in [
            Balance::LeastRequests,
            Balance::RoundRobin,
            Balance::Random,
            HASH,
        ] {
            let choose = |tried, among| balancer().choose(&backends, way(&balance), tried, among);
            assert!(choose(Tried::default(), Among::Fit) < Some(2));
            let mut tried = Tried::default();
            tried.add(0);
            tried.add(1);
            assert_eq!(choose(tried, Among::Fit), Some(2));
            tried.add(2);
            assert_eq!(choose(tried, Among::Fit), None);
            for at in 0..3 {
                backends.list[at].state.fitness.set(Against::Check, 1);
            }
            assert_eq!(choose(Tried::default(), Among::Fit), None);
            assert!(choose(Tried::default(), Among::All) < Some(2));
            for at in 0..3 {
                backends.list[at].state.fitness.clear(Against::Check, 1);
            }
        }
    }

    #[test]
    fn one_that_is_back_wins_its_values_back_little_by_little() {
        let backends = backends(&[1; 4]);
        let fitness = &backends.list[1].state.fitness;
        let all = |slow_start| -> Vec<usize> {
            let choose = |n| {
                let way = Way {
                    hash: Some(mix(n)),
                    slow_start,
                    ..way(&HASH)
                };
                let at = balancer().choose(&backends, way, Tried::default(), Among::Fit);
                at.expect("one is fit")
            };
            (0..4_000).map(choose).collect()
        };
        let before = all(Duration::ZERO);
        fitness.set(Against::Check, moment());
        let without = all(Duration::ZERO);
        fitness.clear(Against::Check, moment());
        // As in the first moments of an hour: a tenth.
        let early = all(Duration::from_secs(3600));
        for ((before, without), early) in before.iter().zip(&without).zip(&early) {
            assert!(early == without || *early == 1 && *before == 1);
        }
        let won = early.iter().filter(|at| **at == 1).count();
        // 0.1 of 3.1 shares, and three standard deviations.
        assert!((95..165).contains(&won), "{won} of 4,000");
        assert_eq!(all(Duration::ZERO), before, "it is warm");
    }

    #[test]
    fn a_site_that_warms_nothing_up_does_not_end_it_for_others() {
        let backends = backends(&[1, 1]);
        let fitness = &backends.list[1].state.endpoint.fitness;
        fitness.set(Against::Failures, moment());
        fitness.clear(Against::Failures, moment());
        let balance = Balance::Random;
        let balancer = balancer();
        let share = |slow_start| {
            let way = Way {
                slow_start,
                ..way(&balance)
            };
            let choose = || balancer.choose(&backends, way, Tried::default(), Among::Fit);
            (0..1_000).filter(|_| choose() == Some(1)).count()
        };
        assert!(share(Duration::ZERO) > 400);
        assert!(share(Duration::from_secs(3600)) < 140);
    }

    #[test]
    fn one_that_is_back_gets_a_part_of_its_share() {
        let backends = backends(&[1, 1]);
        let fitness = &backends.list[1].state.fitness;
        fitness.set(Against::Check, moment());
        fitness.clear(Against::Check, moment());
        let balance = Balance::Random;
        let way = Way {
            slow_start: Duration::from_secs(3600),
            ..way(&balance)
        };
        let balancer = balancer();
        let chosen = (0..1_000)
            .filter(|_| balancer.choose(&backends, way, Tried::default(), Among::Fit) == Some(1));
        let share = chosen.count();
        assert!(
            (50..140).contains(&share),
            "{share} of 1000 is about a tenth"
        );
    }
}
