//! Those who wait for what is on disk to serve.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::book::{Book, Standing};
use super::settle::Settle;
use super::status::{Report, Until, Waited};
use crate::document::keys::distance;
use crate::document::problem::printable;
use crate::site::{HostPattern, SiteName};

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

/// What all who wait for everything are told of, or wait for: found out once in a turn, however many they are.
#[derive(Debug, Default)]
pub(super) struct Everything {
    answer: OnceCell<Option<Waited>>,
    /// Each name, and what it lacks.
    to_come: OnceCell<BTreeMap<SiteName, Option<String>>>,
}

/// How far things are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress<'a> {
    pub(super) everything: &'a Everything,
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
    /// What is told to those who wait for everything; `None`: there is more to come.
    fn of_all(self) -> Option<Waited> {
        let answer = self.everything.answer.get_or_init(|| all(self));
        answer.clone()
    }

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
                    None if is_over => {
                        let reason = match until {
                            Until::Serving => lacks(&name, progress),
                            // What it waits for is the end of something else.
                            Until::Gone | Until::Drained => None,
                        };
                        drop(reply.send(Waited::Timeout {
                            pending: vec![(name.to_string(), reason)],
                            notice: progress.notice().map(str::to_owned),
                        }));
                    }
                    None if reply.is_closed() => {}
                    None => {
                        self.goal = Goal::One { name, until, reply };
                        return Some(self);
                    }
                }
            }
            Goal::All { reply } => {
                let answer = match is_settled && is_everywhere {
                    true => progress.of_all(),
                    false => None,
                };
                match answer {
                    Some(answer) => drop(reply.send(answer)),
                    None if is_over => drop(reply.send(Waited::Timeout {
                        pending: pending(&self.unsettled, progress),
                        notice: progress.notice().map(str::to_owned),
                    })),
                    None if reply.is_closed() => {}
                    None => {
                        self.goal = Goal::All { reply };
                        return Some(self);
                    }
                }
            }
            Goal::Report { report, reply, .. }
                if is_over
                    || is_settled && is_everywhere && !brings_what_waits(&report, progress) =>
            {
                let book = progress.book;
                let rejected = book
                    .names()
                    .filter(|name| is_rejected(&book.standing(name)));
                let waiting = book.names().filter(|name| {
                    book.is_to_come(name)
                        || matches!(book.standing(name), Standing::Closed)
                        || brings(&report, name) && is_waiting(&book.standing(name))
                });
                let report = Report {
                    rejected: rejected.map(SiteName::to_string).collect(),
                    waiting: waiting.map(SiteName::to_string).collect(),
                    unsettled: in_order(&self.unsettled),
                    live: progress.book.open(),
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
            let reason = ignored(name, progress).or_else(|| host_of_a_site(name, book));
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
        (Standing::Waiting | Standing::Closed, _) => None,
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

/// As [`one`] of each, but for those that have served and whose app is down: one team's outage is not everybody's. What is
/// rejected is not made better by what still waits.
fn all(progress: Progress<'_>) -> Option<Waited> {
    let Progress {
        book,
        settle,
        blind,
        ..
    } = progress;
    if let Some(notice) = blind {
        let notice = notice.to_owned();
        return Some(Waited::Blind { notice });
    }
    let mut problems = Vec::new();
    let mut has_more = false;
    for name in book.names() {
        match book.standing(name) {
            Standing::Waiting | Standing::Closed => has_more |= book.is_to_come(name),
            // Whoever owns the name may be on its way out.
            Standing::Conflict { owner } if settle.is_pending(&owner) => has_more = true,
            Standing::Conflict { .. } | Standing::Rejected => problems.extend(book.problems(name)),
            Standing::Live { .. } | Standing::Absent | Standing::Unknown => {}
        }
    }
    match (problems.is_empty(), has_more) {
        (false, _) => Some(Waited::Rejected { problems }),
        (true, true) => None,
        (true, false) => Some(Waited::Serving),
    }
}

fn is_rejected(standing: &Standing) -> bool {
    matches!(standing, Standing::Rejected | Standing::Conflict { .. })
}

fn is_waiting(standing: &Standing) -> bool {
    matches!(standing, Standing::Waiting)
}

/// Whether something that a reload has put in force has no fit backend yet. What waited before must not hold up
/// everybody's reload.
fn brings_what_waits(report: &Report, progress: Progress<'_>) -> bool {
    let mut brought = report.added.iter().chain(&report.changed);
    brought.any(|name| is_waiting(&progress.book.standing(&SiteName::new(name.as_str()))))
}

fn brings(report: &Report, name: &SiteName) -> bool {
    let mut brought = report.added.iter().chain(&report.changed);
    brought.any(|brought| brought == name.as_str())
}

/// Everything that is still to come, and what it lacks.
fn pending(unsettled: &HashSet<SiteName>, progress: Progress<'_>) -> Vec<(String, Option<String>)> {
    let with_reason = |name: &SiteName| (name.clone(), lacks(name, progress));
    let to_come = progress.everything.to_come.get_or_init(|| {
        let names = progress.book.names();
        let to_come = names.filter(|name| progress.book.is_to_come(name));
        to_come.map(with_reason).collect()
    });
    let mut pending = to_come.clone();
    pending.extend(unsettled.iter().map(with_reason));
    let pending = pending.into_iter();
    pending
        .map(|(name, reason)| (name.to_string(), reason))
        .collect()
}

/// Why `name` does not serve yet, as far as that is known.
fn lacks(name: &SiteName, progress: Progress<'_>) -> Option<String> {
    let being_written = || "its file is still being written".to_owned();
    let is_pending = progress.settle.is_pending(name);
    let lacks = || progress.book.lacks(name);
    is_pending.then(being_written).or_else(lacks)
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

/// People know their hosts better than their files.
fn host_of_a_site(name: &SiteName, book: &Book) -> Option<String> {
    let host = HostPattern::parse(name.as_str()).ok()?;
    let site = book.owner(&host)?;
    Some(format!("{host} is a host of the site \"{site}\""))
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
