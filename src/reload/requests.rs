//! What others ask of the loop, and the answers: `ls`, `wait`, `reload`.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::Follower;
use super::access::Access;
use super::book::Step;
use super::handle::Request;
use super::look::{Found, Look};
use super::news::News;
use super::settle::Hint;
use super::status::{self, FileStatus, Overview, Report, State};
use super::wait::{Goal, Progress, Waiter};
use crate::route::SiteChange;
use crate::site::SiteName;
use crate::site::directory;
use crate::site::file::Rules;

/// How long a `reload` waits for files that somebody is still writing.
const RELOAD_TIME: Duration = Duration::from_secs(10);

impl Follower {
    pub(super) async fn take_request(&mut self, request: Request) {
        match request {
            Request::List { reply } => {
                let notice = self.blind().or(self.book.kept().map(str::to_owned));
                let mut files = self.book.statuses(notice.as_deref(), &self.keyring);
                let ignored = self.ignored.iter();
                files.extend(ignored.map(|(path, why)| ignored_status(path, why)));
                reply.send(Overview { files, notice }).ok();
            }
            Request::Rules { rules } => self.change_rules(*rules),
            Request::Gauges { reply } => drop(reply.send(self.gauges())),
            Request::Contest {
                host,
                winner,
                reply,
            } => {
                reply.send(self.book.contest(&host, winner.as_ref())).ok();
            }
            Request::Gone { name, cut, reply } => {
                reply.send(self.take_gone(&name, cut).await).ok();
            }
            Request::Backends => self.backends_changed(),
            Request::Flush { reply } => {
                let store = self.store.clone();
                tokio::spawn(async move {
                    store.flush().await;
                    reply.send(()).ok();
                });
            }
            #[cfg(test)]
            Request::Panic => {
                // In the middle of a step: half of it is in the books.
                self.book.free(vec![0]);
                panic!("a fault in the loop");
            }
            Request::Wait {
                name: Some(name),
                until,
                timeout,
                reply,
            } => {
                let name = SiteName::new(name);
                self.look_now(&name).await;
                let goal = Goal::One {
                    name: name.clone(),
                    until,
                    reply,
                };
                self.wait(goal, HashSet::from([name]), timeout);
            }
            Request::Wait {
                name: None,
                timeout,
                reply,
                ..
            } => {
                self.look_everywhere().await;
                self.wait(Goal::All { reply }, self.settle.names(), timeout);
            }
            Request::Reload {
                accept_removals,
                reply,
            } => {
                // Who watches may have ended, with the process.
                self.news.send(News::LookUp).ok();
                let report = Report::default();
                self.wait(Goal::Report { report, reply }, HashSet::new(), RELOAD_TIME);
                self.glance().await;
                let absent = self.look_everywhere().await;
                if accept_removals {
                    self.let_go(absent);
                }
                let unsettled = self.settle.names();
                if let Some(waiter) = self.waiters.last_mut() {
                    waiter.unsettled = unsettled;
                }
            }
        }
    }

    /// What is there is read once more, also where no file has changed.
    fn change_rules(&mut self, rules: Rules) {
        self.rules = Arc::new(Rules {
            sites: self.sites.clone(),
            number: self.rules.number + 1,
            ..rules
        });
        let now = Instant::now();
        for name in self.book.names() {
            // What is pending is looked at in any case, and perhaps still being written.
            if self.book.print(name).is_some() && !self.settle.is_pending(name) {
                self.settle.hint(name, Hint::Whole, now);
            }
        }
    }

    /// Ends a site whose file is really gone.
    async fn take_gone(&mut self, name: &SiteName, cut: bool) -> bool {
        let path = self.path_of(name);
        let there = spawn_blocking(move || fs::symlink_metadata(path).is_ok()).await;
        if !is_plain(name) || there.unwrap_or(true) {
            return false;
        }
        let at = self.moment();
        let path = self.path_of(name);
        self.settle.forget(name);
        let look = Look {
            name: name.clone(),
            path,
            found: Found::Nothing { off: true },
        };
        let mut step = Step::default();
        self.book.apply(vec![look], at, &mut step);
        self.book.tick(self.ground(), at, &mut step);
        for change in &mut step.changes {
            if let SiteChange::Removed { old, drain } = change
                && cut
                && old.name == *name
            {
                *drain = Duration::ZERO;
            }
        }
        self.publish(step, at);
        true
    }

    /// An operator said that what is gone is meant to be gone.
    fn let_go(&mut self, absent: Vec<SiteName>) {
        let at = self.moment();
        let mut looks = Vec::new();
        for name in absent {
            let path = self.path_of(&name);
            self.settle.forget(&name);
            looks.push(Look {
                name,
                path,
                found: Found::Nothing { off: true },
            });
        }
        let mut step = Step::default();
        self.book.apply(looks, at, &mut step);
        self.book.accept_removals(at.now);
        self.book.tick(self.ground(), at, &mut step);
        self.publish(step, at);
    }

    /// Looks at one file without waiting for events, which may still be on their way.
    async fn look_now(&mut self, name: &SiteName) {
        if self.settle.is_pending(name) || !is_plain(name) {
            return;
        }
        let looks = self.look_at(vec![name.clone()]).await;
        for (look, _) in looks {
            let is_known = self.book.print(name).is_some();
            match look.found {
                Found::Same(_) | Found::Unknown => {}
                Found::Nothing { .. } if !is_known => {}
                Found::Nothing { .. } => self.settle.hint(name, Hint::Gone, Instant::now()),
                _ => self.settle.hint(name, Hint::Differs, Instant::now()),
            }
        }
    }

    /// Why nothing is known of what is on disk, for a person.
    fn blind(&self) -> Option<String> {
        let path = self.sites.display();
        let serving = match self.book.serving() {
            0 => String::new(),
            1 => "still serving its site; ".to_owned(),
            count => format!("still serving its {} sites; ", status::thousands(count)),
        };
        match &self.access {
            Access::Open(_) => None,
            Access::Closed(why) => Some(format!("{path} cannot be read; {serving}{why}")),
            Access::Missing if serving.is_empty() => Some(format!("{path} is missing")),
            Access::Missing => Some(format!(
                "{path} is missing; {serving}onedoor reload --accept-removals"
            )),
        }
    }

    fn wait(&mut self, goal: Goal, unsettled: HashSet<SiteName>, timeout: Duration) {
        let now = Instant::now();
        let deadline = now
            .checked_add(timeout)
            .unwrap_or(now + Duration::from_secs(86_400));
        self.waiters.push(Waiter {
            goal,
            unsettled,
            deadline,
        });
    }

    pub(super) fn answer_waiters(&mut self) {
        if self.waiters.is_empty() {
            return;
        }
        let published = self.current.generation();
        let blind = self.blind();
        let acknowledged = match self.outstanding.first_key_value() {
            Some((oldest, _)) => oldest - 1,
            None => published,
        };
        let waiters = std::mem::take(&mut self.waiters);
        let progress = Progress {
            book: &self.book,
            settle: &self.settle,
            blind: blind.as_deref(),
            sites: &self.sites,
            ignored: &self.ignored,
            acknowledged,
            published,
            now: Instant::now(),
        };
        let waiting = waiters
            .into_iter()
            .filter_map(|waiter| waiter.proceed(progress))
            .collect();
        self.waiters = waiting;
    }
}

fn ignored_status(path: &Path, why: &str) -> FileStatus {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let since = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    FileStatus {
        name: crate::document::problem::printable(&name),
        path: path.to_owned(),
        state: State::Ignored,
        since: since.unwrap_or(SystemTime::UNIX_EPOCH),
        serving_since: None,
        hosts: Vec::new(),
        to: Vec::new(),
        backends: Vec::new(),
        answers: Vec::new(),
        connections: None,
        answered: None,
        note: None,
        refusals: Vec::new(),
        problems: Vec::new(),
        reason: Some(why.to_owned()),
    }
}

/// Whether a name that somebody typed can be one of ours, and does not lead out of the sites directory.
fn is_plain(name: &SiteName) -> bool {
    directory::classify(Path::new(&format!("{name}.toml")))
        .is_ok_and(|classified| classified == *name)
}
