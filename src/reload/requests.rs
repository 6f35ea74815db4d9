//! What others ask of the loop, and the answers: `ls`, `wait`, `reload`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::Follower;
use super::access::Access;
use super::book::Step;
use super::certificates;
use super::handle::Request;
use super::look::{Absence, Found, Look};
use super::news::News;
use super::settle::Hint;
use super::status::{self, FileStatus, Overview, Report, State};
use super::wait::{Everything, Goal, Progress, Waiter};
use crate::route::SiteChange;
use crate::site::SiteName;
use crate::site::directory;
use crate::site::file::Rules;
use crate::tls::Removals;

/// How long a `reload` waits for files that somebody is still writing.
pub(super) const RELOAD_TIME: Duration = Duration::from_secs(10);

/// How long `ls` waits for the disk to say how old files are that nobody serves.
const PATIENCE: Duration = Duration::from_secs(1);

impl Follower {
    pub(super) async fn take_request(&mut self, request: Request) {
        match request {
            Request::List { .. }
            | Request::Gauges { .. }
            | Request::Contest { .. }
            | Request::Flush { .. }
            | Request::Farewell { .. }
            | Request::Backends => self.answer(request),
            Request::Rules { rules } => self.change_rules(*rules),
            Request::Gone { name, cut, reply } => {
                reply.send(self.take_gone(&name, cut).await).ok();
            }
            #[cfg(test)]
            Request::Hang { until } => drop(self.on_disk(move || until.recv()).await),
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
                self.glance_if_away().await;
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
                self.glance_if_away().await;
                self.wait(Goal::All { reply }, self.settle.names(), timeout);
            }
            Request::Reload {
                accept_removals,
                reply,
            } => {
                // Who watches may have ended, with the process.
                self.news.send(News::LookUp).ok();
                let goal = Goal::Report {
                    report: Report::default(),
                    is_looking: true,
                    reply,
                };
                self.wait(goal, HashSet::new(), RELOAD_TIME);
                self.glance().await;
                let absent = self.look_everywhere().await;
                if accept_removals {
                    self.search_certificates(Removals::Meant).await;
                    self.let_go(absent);
                }
                self.look_anew();
                let unsettled = self.settle.names();
                if let Some(waiter) = self.report_under_way() {
                    waiter.looks_are_made(unsettled);
                }
            }
        }
    }

    /// Answers what needs no disk and changes nothing of what is known of site files.
    pub(super) fn answer(&mut self, request: Request) {
        // Whoever asked may have gone.
        match request {
            // With many sites it takes long, and more may have gone than have waited.
            Request::List { reply } if reply.is_closed() => {}
            Request::Gauges { reply } if reply.is_closed() => {}
            Request::List { reply } => {
                let notice = self.notice();
                let adviser = self.keyring.adviser();
                let files = self.book.statuses(notice.as_deref(), &adviser);
                let of_folders = adviser.of_folders();
                let of_folders = certificates::lines_of_folders(&of_folders);
                let of_rules = self.missing_catch_all();
                let of_state = self.store.trouble();
                let notice = notice.into_iter().chain(of_state);
                let notice = notice.chain(of_rules).chain(of_folders);
                let notice = notice.reduce(|all, line| all + "\n" + &line);
                let ignored = self.ignored.iter().map(|(path, why)| {
                    let file = path.file_name().unwrap_or_default();
                    Ignored {
                        path: path.clone(),
                        why: why.clone(),
                        named: self.book.files_called(file).cloned().collect(),
                    }
                });
                let (ignored, sites) = (ignored.collect(), self.sites.clone());
                tokio::spawn(async move {
                    let files = with_ignored(files, ignored, &sites).await;
                    reply.send(Overview { files, notice }).ok();
                });
            }
            Request::Gauges { reply } => drop(reply.send(self.gauges())),
            Request::Contest {
                host,
                winner,
                reply,
            } => {
                reply.send(self.book.contest(&host, winner.as_ref())).ok();
            }
            Request::Backends => self.backends_changed(),
            Request::Farewell { reply } => self.status_files.end(reply),
            Request::Flush { reply } => {
                let store = self.store.clone();
                tokio::spawn(async move {
                    store.flush().await;
                    reply.send(()).ok();
                });
            }
            _ => {}
        }
    }

    /// What stands between what is on disk and what serves, and how to have that ended.
    pub(super) fn notice(&self) -> Option<String> {
        let kept = || self.book.kept().map(str::to_owned);
        self.stuck().or_else(|| self.blind()).or_else(kept)
    }

    /// That the site which may claim `*` has no file, so that nobody does.
    pub(super) fn missing_catch_all(&self) -> Option<String> {
        self.rules
            .missing_catch_all(|name| self.book.print(name).is_some())
    }

    pub(super) fn warn_of_missing_catch_all(&self) {
        if let Some(line) = self.missing_catch_all() {
            warn!("{line}");
        }
    }

    /// What an operator mended may be no file that a rejected one names.
    fn look_anew(&mut self) {
        let now = Instant::now();
        for name in self.book.rejected_by_itself() {
            if self.book.print(name).is_none() {
                continue;
            }
            // What is pending is looked at in any case, but it would be compared with what it was.
            self.anew.insert(name.clone());
            if !self.settle.is_pending(name) {
                self.settle.hint(name, Hint::Whole, now);
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
        self.warn_of_missing_catch_all();
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
        let there = self.on_disk(move || fs::symlink_metadata(path).is_ok());
        let there = there.await;
        if !is_plain(name) || there.unwrap_or(true) {
            return false;
        }
        let at = self.moment();
        let path = self.path_of(name);
        self.settle.forget(name);
        let look = Look {
            name: name.clone(),
            path,
            found: Found::Nothing(Absence::Meant),
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
                found: Found::Nothing(Absence::Meant),
            });
        }
        let mut step = Step::default();
        self.book.apply(looks, at, &mut step);
        self.book.accept_removals(at.now);
        self.book.tick(self.ground(), at, &mut step);
        self.publish(step, at);
    }

    /// Whether there is a sites directory at all, before somebody is told that all is well.
    async fn glance_if_away(&mut self) {
        let sites = self.sites.clone();
        let access = self.on_disk(move || Access::of(&sites)).await;
        if access.is_ok_and(|access| access != self.access) {
            self.glance().await;
        }
    }

    /// Looks at one file without waiting for events, which may still be on their way.
    async fn look_now(&mut self, name: &SiteName) {
        let serving = self.book.site(name);
        if serving.is_some_and(|site| self.keyring.lacks_found(site)) {
            self.search_certificates(Removals::Doubted).await;
        }
        if self.settle.is_pending(name) || !is_plain(name) {
            return;
        }
        let looks = self.look_at(vec![name.clone()]).await;
        for (look, _) in looks {
            let is_known = self.book.print(name).is_some();
            match look.found {
                Found::Same(_) | Found::Unknown => {}
                Found::Nothing(_) if !is_known => {}
                Found::Nothing(_) => self.settle.hint(name, Hint::Gone, Instant::now()),
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

    /// Answers those of the waiters in `whom` whose waiting is over.
    pub(super) fn answer_waiters(&mut self, whom: impl Fn(&Waiter) -> bool) {
        if self.waiters.is_empty() {
            return;
        }
        let published = self.current.generation();
        let (blind, stuck) = (self.blind(), self.stuck());
        let acknowledged = match self.outstanding.first_key_value() {
            Some((oldest, _)) => oldest - 1,
            None => published,
        };
        let waiters = std::mem::take(&mut self.waiters);
        let progress = Progress {
            everything: &Everything::default(),
            book: &self.book,
            settle: &self.settle,
            blind: blind.as_deref(),
            stuck: stuck.as_deref(),
            sites: &self.sites,
            ignored: &self.ignored,
            acknowledged,
            published,
            now: Instant::now(),
        };
        let proceed = |waiter: Waiter| match whom(&waiter) {
            true => waiter.proceed(progress),
            false => Some(waiter),
        };
        self.waiters = waiters.into_iter().filter_map(proceed).collect();
    }
}

/// Something in the sites directory that is no site file.
struct Ignored {
    path: PathBuf,
    why: String,
    /// Files of the same name that sites are made from: it may be one of them.
    named: Vec<PathBuf>,
}

/// And what is no site file. How old those files are the disk knows, which may have hung.
async fn with_ignored(
    mut files: Vec<FileStatus>,
    mut ignored: Vec<Ignored>,
    sites: &Path,
) -> Vec<FileStatus> {
    ignored.retain(|ignored| !ignored.named.contains(&ignored.path));
    if ignored.is_empty() {
        return files;
    }
    let asked: Vec<(PathBuf, Vec<PathBuf>)> = ignored
        .iter()
        .map(|ignored| (ignored.path.clone(), ignored.named.clone()))
        .collect();
    let ask = spawn_blocking(move || asked.iter().map(Asked::of).collect::<Vec<_>>());
    let asked = match timeout(PATIENCE, ask).await {
        Ok(Ok(asked)) => asked,
        _ => Vec::new(),
    };
    let asked = asked.into_iter().chain(std::iter::repeat(Asked::default()));
    let ignored = ignored.iter().zip(asked);
    let ignored = ignored.filter(|(_, asked)| !asked.is_named);
    files.extend(ignored.map(|(ignored, asked)| ignored_status(ignored, sites, asked.since)));
    files
}

/// What the disk says of something that is no site file.
#[derive(Clone, Copy, Default)]
struct Asked {
    since: Option<SystemTime>,
    /// A site names it by another way, which leads through links.
    is_named: bool,
}

impl Asked {
    fn of((path, named): &(PathBuf, Vec<PathBuf>)) -> Asked {
        let metadata = fs::symlink_metadata(path);
        let real = |path: &PathBuf| fs::canonicalize(path).ok();
        let is_named = !named.is_empty() && {
            let this = real(path);
            this.is_some() && named.iter().any(|other| real(other) == this)
        };
        Asked {
            since: metadata.and_then(|metadata| metadata.modified()).ok(),
            is_named,
        }
    }
}

fn ignored_status(ignored: &Ignored, sites: &Path, since: Option<SystemTime>) -> FileStatus {
    let Ignored { path, why, .. } = ignored;
    // Two teams may have files of the same name.
    let below = path.strip_prefix(sites).unwrap_or(path);
    let name = below.to_string_lossy();
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
