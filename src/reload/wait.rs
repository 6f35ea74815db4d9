//! Those who wait for what is on disk to serve.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::book::{Book, Standing};
use super::settle::Settle;
use super::status::{Report, Until, Waited};
use crate::document::keys::distance;
use crate::document::problem::printable;
use crate::site::SiteName;

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) goal: Goal,
    /// Files that had not settled when the waiting began.
    pub(super) unsettled: HashSet<SiteName>,
    pub(super) deadline: Instant,
}

#[derive(Debug)]
pub(super) enum Goal {
    One {
        name: SiteName,
        until: Until,
        reply: oneshot::Sender<Waited>,
    },
    All {
        reply: oneshot::Sender<Waited>,
    },
    Report {
        report: Report,
        /// What is on disk is just being looked at.
        is_looking: bool,
        reply: oneshot::Sender<Report>,
    },
}

/// How far things are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress<'a> {
    pub(super) book: &'a Book,
    pub(super) settle: &'a Settle,
    /// Why nothing is known of what is on disk.
    pub(super) blind: Option<&'a str>,
    /// The disk takes long.
    pub(super) stuck: Option<&'a str>,
    pub(super) sites: &'a Path,
    /// What is no site file, and why.
    pub(super) ignored: &'a BTreeMap<PathBuf, String>,
    /// The newest table that all workers have.
    pub(super) acknowledged: u64,
    /// The newest table.
    pub(super) published: u64,
    pub(super) now: Instant,
}

impl<'a> Progress<'a> {
    /// What serves although it is not seen on disk, and how to have that ended.
    fn notice(self) -> Option<&'a str> {
        self.stuck.or(self.blind).or(self.book.kept())
    }
}

impl Waiter {
    /// A reload has seen everything, and waits for what has not settled.
    pub(super) fn looks_are_made(&mut self, unsettled: HashSet<SiteName>) {
        self.unsettled = unsettled;
        if let Goal::Report { is_looking, .. } = &mut self.goal {
            *is_looking = false;
        }
    }

    /// Whether it waits for requests to end.
    pub(super) fn is_for_requests(&self) -> bool {
        let until = match &self.goal {
            Goal::One { until, .. } => *until,
            Goal::All { .. } | Goal::Report { .. } => Until::Serving,
        };
        until == Until::Drained
    }

    /// Answers and gives nothing back when the waiting is over.
    pub(super) fn proceed(mut self, progress: Progress<'_>) -> Option<Waiter> {
        self.unsettled
            .retain(|name| progress.settle.is_pending(name));
        let is_over = progress.now >= self.deadline;
        let is_settled = self.unsettled.is_empty();
        let is_everywhere = progress.acknowledged >= progress.published;
        // Who no longer listens has given up.
        match self.goal {
            Goal::One { name, until, reply } => {
                let answer = match is_settled {
                    true => one(&name, until, progress),
                    false => None,
                };
                match answer {
                    Some(answer) => drop(reply.send(answer)),
                    None if is_over => drop(reply.send(Waited::Timeout {
                        pending: vec![name.to_string()],
                        notice: progress.notice().map(str::to_owned),
                    })),
                    None if reply.is_closed() => {}
                    None => {
                        self.goal = Goal::One { name, until, reply };
                        return Some(self);
                    }
                }
            }
            Goal::All { reply } if is_settled && is_everywhere => {
                drop(reply.send(all(progress)));
            }
            Goal::All { reply } if is_over => {
                drop(reply.send(Waited::Timeout {
                    pending: in_order(&self.unsettled),
                    notice: progress.notice().map(str::to_owned),
                }));
            }
            Goal::Report { report, reply, .. } if is_over || is_settled && is_everywhere => {
                let rejected = progress.book.rejected().map(SiteName::to_string).collect();
                let report = Report {
                    rejected,
                    unsettled: in_order(&self.unsettled),
                    live: progress.book.serving(),
                    kept: progress.notice().map(str::to_owned),
                    ..report
                };
                drop(reply.send(report));
            }
            _ => return Some(self),
        }
        None
    }
}

fn one(name: &SiteName, until: Until, progress: Progress<'_>) -> Option<Waited> {
    let Progress {
        book,
        settle,
        acknowledged,
        published,
        ..
    } = progress;
    if let (Some(notice), Until::Serving) = (progress.blind, until) {
        let notice = notice.to_owned();
        return Some(Waited::Blind { notice });
    }
    let is_drained = || book.left_behind(name) == 0;
    match (book.standing(name), until) {
        (Standing::Unknown, Until::Gone) => (acknowledged >= published).then_some(Waited::Gone),
        (_, Until::Gone) => None,
        // It has gone, and something may be left of it.
        (Standing::Unknown, Until::Drained) if book.has_left_something(name) => {
            (acknowledged >= published && is_drained()).then_some(Waited::Drained)
        }
        (Standing::Unknown, _) => {
            let did_you_mean = closest(name, book);
            let reason = ignored(name, progress);
            Some(Waited::Unknown {
                did_you_mean,
                reason: reason.or(progress.blind.map(str::to_owned)),
            })
        }
        (Standing::Live { generation }, Until::Serving) => {
            (acknowledged >= generation).then_some(Waited::Serving)
        }
        (Standing::Live { generation }, Until::Drained) => {
            (acknowledged >= generation && is_drained()).then_some(Waited::Drained)
        }
        (Standing::Waiting, _) => None,
        // Whoever owns the name may be on its way out.
        (Standing::Conflict { owner }, _) if settle.is_pending(&owner) => None,
        (Standing::Conflict { .. } | Standing::Rejected, _) => Some(Waited::Rejected {
            problems: book.problems(name),
        }),
        // Its names have a little time yet.
        (Standing::Absent, Until::Drained) => None,
        (Standing::Absent, Until::Serving) => {
            let reason = progress.notice().unwrap_or("its file is gone").to_owned();
            Some(Waited::Unknown {
                did_you_mean: None,
                reason: Some(reason),
            })
        }
    }
}

fn all(progress: Progress<'_>) -> Waited {
    let Progress { book, blind, .. } = progress;
    if let Some(notice) = blind {
        let notice = notice.to_owned();
        return Waited::Blind { notice };
    }
    let rejected = book.rejected().flat_map(|name| book.problems(name));
    let problems: Vec<String> = rejected.collect();
    if problems.is_empty() {
        Waited::Serving
    } else {
        Waited::Rejected { problems }
    }
}

fn in_order(names: &HashSet<SiteName>) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(SiteName::to_string).collect();
    names.sort();
    names
}

/// Why the file that somebody means by `name` is no site file: by its whole name, or without its ending.
fn ignored(name: &SiteName, progress: Progress<'_>) -> Option<String> {
    let Progress { sites, ignored, .. } = progress;
    ignored.iter().find_map(|(path, why)| {
        let file = path.strip_prefix(sites).ok()?.to_str()?;
        let ending = file.strip_prefix(name.as_str())?;
        let is_meant = ending.is_empty() || ending.starts_with(['.', '~']);
        is_meant.then(|| format!("{} is ignored: {why}", printable(file)))
    })
}

/// The site whose name is most like `name`, if any is at all.
fn closest(name: &SiteName, book: &Book) -> Option<String> {
    let name = name.as_str();
    let candidates = book.names().map(SiteName::as_str);
    let by_distance = candidates.map(|other| (distance(name, other), other));
    let (distance, other) = by_distance.min()?;
    let length = name.chars().count();
    let is_near = distance < length && distance <= 1 + length / 4;
    if is_near {
        return Some(other.to_owned());
    }
    // `red` for `red.localhost`: the file's name says more than somebody remembers.
    let mut names = book.names().map(SiteName::as_str);
    let longer = names.find(|other| {
        let rest = other.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('.')) || other.ends_with(&format!("/{name}"))
    });
    longer.map(str::to_owned)
}
