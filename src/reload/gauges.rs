//! What metrics want to know of all sites, without a word for people.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::warn;

use super::Follower;
use super::status::State;
use crate::site::counts::Sums;
use crate::site::faults::Fault;

/// As of now.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub sites: Vec<SiteGauges>,
    /// Whether the sites directory can be looked into. If not, all of this is how it was.
    pub is_readable: bool,
    /// Tables that were put in force.
    pub reloads: u64,
    /// From the first notice of the last change to its table in force.
    pub last_reload: Duration,
    /// The same of all of them together.
    pub reloading: Duration,
    /// How often the whole sites directory was listed, which costs in proportion to it.
    pub listings: u64,
    /// The end of each certificate, by one of its names.
    pub certificates: Vec<(String, SystemTime)>,
}

#[derive(Clone, Debug)]
pub struct SiteGauges {
    pub name: String,
    pub state: State,
    pub answered: Sums,
    pub connections: usize,
    /// Each backend once.
    pub backends: Vec<BackendGauges>,
}

#[derive(Clone, Debug)]
pub struct BackendGauges {
    pub name: String,
    /// Whether it gets requests.
    pub is_fit: bool,
    /// What was found wrong with it, and how often.
    pub faults: Vec<(Fault, u64)>,
}

/// Between two looks at the ends of certificates, if nothing is to be said before.
const LOOK_AT_ENDS: Duration = Duration::from_secs(3600);
/// From here on an end is said, once a day: time for somebody to do what a timer has not done.
const SOON: Duration = Duration::from_secs(14 * 86_400);
const A_DAY: Duration = Duration::from_secs(86_400);

/// The end of a certificate.
struct End {
    certificate: String,
    at: SystemTime,
    /// Who refuses it from then on.
    by: &'static str,
}

/// When ends of certificates are looked at next, and which were said when.
#[derive(Debug)]
pub(super) struct Ends {
    next: Instant,
    /// And whether it had ended by then.
    told: BTreeMap<String, (Instant, bool)>,
}

impl Ends {
    pub(super) fn from(next: Instant) -> Ends {
        let told = BTreeMap::new();
        Ends { next, told }
    }

    /// The certificates that are near their end, or beyond, and what is to be said of each today.
    fn news(&mut self, ends: Vec<End>, now: Instant, wall: SystemTime) -> Vec<(String, String)> {
        let turns = ends
            .iter()
            .flat_map(|end| [end.at.checked_sub(SOON), Some(end.at)]);
        let ahead = |turn: SystemTime| {
            turn.duration_since(wall)
                .ok()
                .filter(|span| !span.is_zero())
        };
        let next = turns.flatten().filter_map(ahead).min();
        self.next = now + next.unwrap_or(LOOK_AT_ENDS).min(LOOK_AT_ENDS);
        // Of those that are renewed or gone nothing is kept.
        let told = std::mem::take(&mut self.told);
        let mut news = Vec::new();
        for End {
            certificate: name,
            at: end,
            by,
        } in ends
        {
            if end > wall + SOON {
                continue;
            }
            let has_ended = end <= wall;
            let is_told = |(at, had_ended): &(Instant, bool)| {
                now.duration_since(*at) < A_DAY && *had_ended == has_ended
            };
            if let Some(before) = told.get(&name).filter(|before| is_told(before)) {
                self.told.insert(name, *before);
                continue;
            }
            let what = match end.duration_since(wall) {
                Ok(left) => match left.as_secs() / 86_400 {
                    0 => "it ends within a day".to_owned(),
                    1 => "it ends in 1 day".to_owned(),
                    days => format!("it ends in {days} days"),
                },
                Err(_) => format!("it has ended; {by} refuse it"),
            };
            self.told.insert(name.clone(), (now, has_ended));
            news.push((name, what));
        }
        news
    }
}

impl Follower {
    /// Says which certificates are near their end.
    pub(super) fn tell_ends(&mut self) {
        let now = Instant::now();
        if now < self.ends.next {
            return;
        }
        let shown = self.keyring.ends().into_iter();
        let shown = shown.map(|(certificate, at)| End {
            certificate,
            at,
            by: "clients",
        });
        let to_backends = self.keyring.ends_towards_backends().into_iter();
        let to_backends = to_backends.map(|(certificate, at)| End {
            certificate,
            at,
            by: "backends",
        });
        let ends = shown.chain(to_backends).collect();
        for (certificate, what) in self.ends.news(ends, now, SystemTime::now()) {
            warn!(certificate, "{what}");
        }
    }

    pub(super) fn gauges(&self) -> Gauges {
        Gauges {
            sites: self.book.gauges(),
            is_readable: self.access.identity().is_some(),
            reloads: self.reloads,
            last_reload: self.last_reload,
            reloading: self.reloading,
            listings: self.listings,
            certificates: self.keyring.ends(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn end(certificate: &str, at: SystemTime) -> End {
        End {
            certificate: certificate.to_owned(),
            at,
            by: "clients",
        }
    }

    #[test]
    fn the_next_look_is_when_something_is_to_be_said() {
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + 1_000 * A_DAY);
        let mut ends = Ends::from(now);
        let mut next = |all: &[Duration]| {
            let all = all.iter().map(|left| end("", wall + *left));
            ends.news(all.collect(), now, wall);
            ends.next - now
        };
        assert_eq!(next(&[]), LOOK_AT_ENDS);
        assert_eq!(next(&[90 * A_DAY, HOUR / 2]), HOUR / 2);
        assert_eq!(next(&[SOON + HOUR / 4, Duration::ZERO]), HOUR / 4);
    }

    #[test]
    fn nothing_is_kept_of_a_certificate_that_is_gone() {
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + 1_000 * A_DAY);
        let mut ends = Ends::from(now);
        ends.news(vec![end("a.test", wall), end("b.test", wall)], now, wall);
        ends.news(vec![end("b.test", wall)], now + HOUR, wall + HOUR);
        assert_eq!(ends.told.keys().collect::<Vec<_>>(), ["b.test"]);
    }

    #[test]
    fn a_certificate_near_its_end_is_said_once_a_day_until_it_is_renewed() {
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + 1_000 * A_DAY);
        let mut ends = Ends::from(now);
        let mut news = |after: Duration, at: SystemTime| {
            let all = vec![
                end("far.test", wall + 15 * A_DAY + after),
                end("shop.test", at),
            ];
            let news = ends.news(all, now + after, wall + after);
            let news = news
                .into_iter()
                .map(|(name, what)| format!("{name}: {what}"));
            news.collect::<Vec<_>>()
        };
        let at = wall + 14 * A_DAY;
        assert_eq!(news(Duration::ZERO, at), ["shop.test: it ends in 14 days"]);
        assert!(news(HOUR, at).is_empty(), "once a day");
        assert_eq!(news(25 * HOUR, at), ["shop.test: it ends in 12 days"]);
        assert!(news(26 * HOUR, at + 90 * A_DAY).is_empty(), "renewed");
        let at = wall + 28 * HOUR;
        assert_eq!(news(27 * HOUR, at), ["shop.test: it ends within a day"]);
        assert_eq!(
            news(32 * HOUR, at),
            ["shop.test: it has ended; clients refuse it"],
            "at once"
        );
        assert_eq!(
            news(60 * HOUR, at),
            ["shop.test: it has ended; clients refuse it"]
        );
    }
}
