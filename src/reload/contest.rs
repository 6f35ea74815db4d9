//! Who wants to answer for a name: the one that does, those that would like to, and what somebody may have meant.

use std::path::PathBuf;
use std::time::SystemTime;

use super::book::Book;
use super::status::State;
use crate::document::keys::distance;
use crate::site::{HostPattern, Hostname, SiteName};

/// Names that are alike, and files that are not served, as many as a person reads.
const FEW: usize = 5;
/// Beyond so many names nobody looks for one that is alike: it is a question of a person, and the thread has other work.
const MOST_COMPARED: usize = 20_000;

/// What there is to say about one name.
#[derive(Clone, Debug, Default)]
pub struct Contest {
    /// The file of the site that answers.
    pub winner: Option<Incumbent>,
    /// Files that claim the name and did not get it.
    pub refused: Vec<Contender>,
    /// Where nobody answers: names that somebody does answer for, and that are alike.
    pub alike: Vec<String>,
    /// Where nobody answers: files that are not served as they are.
    pub rejected: Vec<String>,
}

/// The file of a site that answers.
#[derive(Clone, Debug)]
pub struct Incumbent {
    pub path: PathBuf,
    pub state: State,
    /// Of the state.
    pub since: SystemTime,
    /// Why it is in this state, in one line, where it is not live.
    pub why: Option<String>,
}

/// A file that claims a name which is another's.
#[derive(Clone, Debug)]
pub struct Contender {
    pub site: String,
    pub path: PathBuf,
    pub line: u32,
    pub column: u32,
    pub pattern: String,
    /// The whole reason, in one line: it need not be this name that it lacks.
    pub why: String,
}

impl Book {
    pub(super) fn contest(&self, host: &str, winner: Option<&SiteName>) -> Contest {
        let (alike, rejected) = match winner {
            Some(_) => (Vec::new(), Vec::new()),
            None => (
                self.alike(host),
                self.rejected().take(FEW).map(SiteName::to_string).collect(),
            ),
        };
        Contest {
            winner: winner.and_then(|name| self.incumbent(name)),
            refused: self.refused(&patterns_for(host)),
            alike,
            rejected,
        }
    }

    /// The names most like `host`, the nearest first.
    fn alike(&self, host: &str) -> Vec<String> {
        let exact = self.patterns().filter_map(|pattern| match pattern {
            HostPattern::Exact(name) => Some(name.as_str()),
            HostPattern::Wildcard(_) | HostPattern::Any => None,
        });
        let most = 1 + host.len() / 6;
        let of_like_length = exact.filter(|name| name.len().abs_diff(host.len()) <= most);
        let mut near: Vec<(usize, &str)> = of_like_length
            .take(MOST_COMPARED)
            .map(|name| (distance(host, name), name))
            .filter(|(distance, _)| *distance <= most)
            .collect();
        near.sort_unstable();
        let nearest = near.into_iter().take(FEW);
        nearest.map(|(_, name)| name.to_owned()).collect()
    }
}

/// What may stand in a file that claims `host`, the one that goes first in front.
pub fn patterns_for(host: &str) -> Vec<HostPattern> {
    let exact = Hostname::parse(host).ok().map(HostPattern::Exact);
    let wildcard = exact.as_ref().and_then(HostPattern::wildcard_above);
    exact
        .into_iter()
        .chain(wildcard)
        .chain([HostPattern::Any])
        .collect()
}
