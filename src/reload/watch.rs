//! What the kernel says about the folders that are watched: "this path may have changed".
//!
//! The kernel watches a folder once, by whatever path it was asked to; what it says of that one is told of every path
//! that leads there. Only says where to look. Whether events come at all is found out at the start, by a canary and by the type of
//! the filesystem; without them the caller has to look everywhere every so often. Mounts, replaced folders and
//! other things without events are the caller's slow look to find.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Event, EventKind, INotifyWatcher, Watcher};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::settle::Hint;
use super::watched::{Watched, identity};
use crate::settings;

/// Something may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    At {
        path: PathBuf,
        hint: Hint,
    },
    /// A file has another name now.
    Moved {
        from: PathBuf,
        to: PathBuf,
    },
    /// A watched folder may be gone or another one.
    Folder {
        path: PathBuf,
    },
    /// Anything may have changed: events were lost.
    Everything,
}

#[derive(Debug)]
pub(super) struct Watch {
    means: Means,
    notes: mpsc::Receiver<Note>,
    /// Of a note that is told of several paths, those that are not told yet.
    untold: VecDeque<Note>,
    /// Keeps `notes` open when there is no watcher.
    teller: Teller,
    canary: Arc<Notify>,
}

/// Tells notes, and never waits: whoever takes them may be waiting for the thread that tells.
#[derive(Clone, Debug)]
struct Teller {
    notes: mpsc::Sender<Note>,
    /// Some were too many.
    lost: Arc<Notify>,
}

impl Teller {
    fn tell(&self, note: Note) {
        // A receiver that is gone has no more interest.
        if let Err(TrySendError::Full(_)) = self.notes.try_send(note) {
            self.lost.notify_one();
        }
    }
}

#[derive(Debug)]
enum Means {
    Events(Watched),
    Poll {
        every: Duration,
        /// `None`: by wish, or because of the filesystem.
        lacking: Option<Lacking>,
    },
}

/// What events failed at a limit for; somebody may raise it.
#[derive(Debug)]
struct Lacking {
    /// Watched before, and the one too many.
    folders: Vec<PathBuf>,
    next: Instant,
    pause: Duration,
}

/// Notes that may wait, four times the events that the kernel keeps: somebody who writes without a pause costs no more
/// memory, and then everything is looked at.
pub(super) const WAITING_NOTES: usize = 1 << 16;
/// Between two looks where events were hoped for and do not come.
const POLL: Duration = Duration::from_secs(2);
/// Between two attempts to get events again, the first and the last.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_LAST: Duration = Duration::from_secs(300);
/// A canary that has not sung by then is dead: events take microseconds.
const CANARY: Duration = Duration::from_secs(1);

impl Watch {
    /// Watches `sites`, which may be missing, as `wish` says or as it turns out to be possible.
    pub(super) async fn start(sites: &Path, wish: settings::Watch) -> Watch {
        let (sender, notes) = mpsc::channel(WAITING_NOTES);
        let teller = Teller {
            notes: sender,
            lost: Arc::default(),
        };
        let mut watch = Watch {
            means: Means::poll(POLL),
            notes,
            untold: VecDeque::new(),
            teller,
            canary: Arc::default(),
        };
        if let settings::Watch::Poll(every) = wish {
            watch.means = Means::poll(every);
            return watch;
        }
        if wish == settings::Watch::Auto
            && let Some(kind) = kind_without_events(sites)
        {
            info!(path = %sites.display(), "{kind} does not tell what others change, looking every 2 s");
            return watch;
        }
        match new_watcher(watch.teller.clone(), watch.canary.clone()) {
            Ok(watcher) => watch.means = Means::Events(Watched::by(watcher)),
            Err(error) => {
                watch.fall_back(&error, sites);
                return watch;
            }
        }
        // A folder that is missing or closed tells nothing about events.
        let is_armed = watch.arm(sites) && watch.poll_every().is_none();
        if wish == settings::Watch::Auto && is_armed && !watch.canary_sings(sites).await {
            warn!(path = %sites.display(), "no events arrive for this folder, looking every 2 s");
            watch.means = Means::poll(POLL);
        }
        watch
    }

    /// How often everything must be looked at because no events come. `None`: they come.
    pub(super) fn poll_every(&self) -> Option<Duration> {
        match self.means {
            Means::Poll { every, .. } => Some(every),
            Means::Events(_) => None,
        }
    }

    /// Watches `folder`, which another one may have taken the place of. Whether it is watched only from now on:
    /// then what is in it must be looked at.
    pub(super) fn arm(&mut self, folder: &Path) -> bool {
        let Means::Events(watched) = &mut self.means else {
            return false;
        };
        let Some(identity) = identity(folder) else {
            return false;
        };
        if watched.folders.get(folder) == Some(&identity) {
            return false;
        }
        // The old one may be gone, and its watch with it.
        let handed_over = watched.remove(folder);
        let added = watched.add(folder, identity);
        self.look_after(handed_over);
        match added {
            Ok(()) => true,
            Err(error) if is_missing(&error) => false,
            Err(error) => {
                self.fall_back(&error, folder);
                true
            }
        }
    }

    /// Whether this path is watched already. `true`: or nothing is.
    pub(super) fn has(&self, folder: &Path) -> bool {
        match &self.means {
            Means::Events(watched) => watched.folders.contains_key(folder),
            Means::Poll { .. } => true,
        }
    }

    /// Stops watching what is no longer there under this path.
    pub(super) fn disarm(&mut self, folder: &Path) {
        if let Means::Events(watched) = &mut self.means {
            let handed_over = watched.remove(folder);
            self.look_after(handed_over);
        }
    }

    /// What came while nobody watched has made no event.
    fn look_after(&mut self, handed_over: bool) {
        if handed_over {
            self.teller.tell(Note::Everything);
        }
    }

    /// The next note. Never ends; nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Note {
        if let Some(note) = self.untold.pop_front() {
            return note;
        }
        tokio::select! {
            biased;
            () = self.teller.lost.notified() => Note::Everything,
            note = self.notes.recv() => match note {
                Some(note) => self.of_all_paths(note),
                // Not while `teller` lives.
                None => std::future::pending().await,
            }
        }
    }

    pub(super) fn try_next(&mut self) -> Option<Note> {
        if let Some(note) = self.untold.pop_front() {
            return Some(note);
        }
        let note = self.notes.try_recv().ok()?;
        Some(self.of_all_paths(note))
    }

    /// `note` as it came; the same of the other paths that lead there comes next.
    fn of_all_paths(&mut self, note: Note) -> Note {
        if let Means::Events(watched) = &self.means {
            self.untold.extend(watched.same_elsewhere(&note));
        }
        note
    }

    /// inotify's own limits are an operator's to raise; until then looking does it.
    fn fall_back(&mut self, error: &notify::Error, folder: &Path) {
        let advice = match &error.kind {
            notify::ErrorKind::MaxFilesWatch => ", raise fs.inotify.max_user_watches",
            notify::ErrorKind::Io(error) if is_too_many(error) => {
                ", raise fs.inotify.max_user_instances or the limit of open files"
            }
            _ => "",
        };
        warn!("cannot get file events, looking every 2 s{advice}: {error}");
        let mut folders = vec![folder.to_owned()];
        if let Means::Events(watched) = &self.means {
            folders.extend(watched.folders.keys().cloned());
        }
        self.means = Means::Poll {
            every: POLL,
            lacking: Some(Lacking {
                folders,
                next: Instant::now() + RETRY,
                pause: RETRY,
            }),
        };
    }

    /// Tries now and then whether events can be had after all, for all folders at once, so that it does not go back
    /// and forth. What changed before must be looked at afterwards.
    pub(super) fn recover(&mut self) {
        let Means::Poll {
            lacking: Some(lacking),
            ..
        } = &mut self.means
        else {
            return;
        };
        if Instant::now() < lacking.next {
            return;
        }
        lacking.pause = (lacking.pause * 2).min(RETRY_LAST);
        lacking.next = Instant::now() + lacking.pause;
        let Ok(watcher) = new_watcher(self.teller.clone(), self.canary.clone()) else {
            return;
        };
        let mut watched = Watched::by(watcher);
        for folder in &lacking.folders {
            // What is no longer there is not needed.
            let Some(identity) = identity(folder) else {
                continue;
            };
            match watched.add(folder, identity) {
                Ok(()) => {}
                Err(error) if is_missing(&error) => {}
                Err(_) => return,
            }
        }
        info!("file events can be had again, no longer looking every 2 s");
        self.means = Means::Events(watched);
    }

    /// Opening a folder is an event too, and needs no right to write there.
    async fn canary_sings(&self, folder: &Path) -> bool {
        let sung = self.canary.notified();
        drop(fs::read_dir(folder));
        timeout(CANARY, sung).await.is_ok()
    }
}

impl Means {
    fn poll(every: Duration) -> Means {
        Means::Poll {
            every,
            lacking: None,
        }
    }
}

fn new_watcher(teller: Teller, canary: Arc<Notify>) -> notify::Result<INotifyWatcher> {
    let mut sung = false;
    let take = move |event: notify::Result<Event>| {
        if !sung {
            sung = true;
            canary.notify_one();
        }
        for note in notes_of(event) {
            teller.tell(note);
        }
    };
    INotifyWatcher::new(take, notify::Config::default())
}

/// Our own reading makes events too (the library asks for "opened"); of all accesses only the close after a write
/// means something.
fn notes_of(event: notify::Result<Event>) -> Vec<Note> {
    let Ok(event) = event else {
        return vec![Note::Everything];
    };
    if event.need_rescan() {
        return vec![Note::Everything];
    }
    let hint = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Hint::Whole,
        EventKind::Access(_) => return Vec::new(),
        EventKind::Modify(ModifyKind::Data(_)) => Hint::Writing,
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {
            // Each end was told by itself already.
            let mut paths = event.paths.into_iter();
            let both = paths.next().zip(paths.next());
            return both
                .map(|(from, to)| Note::Moved { from, to })
                .into_iter()
                .collect();
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Hint::Whole,
        EventKind::Modify(ModifyKind::Name(_)) => Hint::Gone,
        EventKind::Remove(RemoveKind::Folder | RemoveKind::Other)
        | EventKind::Create(CreateKind::Folder) => {
            let paths = event.paths.into_iter();
            return paths.map(|path| Note::Folder { path }).collect();
        }
        EventKind::Remove(_) => Hint::Gone,
        _ => Hint::Touched,
    };
    let paths = event.paths.into_iter();
    paths.map(|path| Note::At { path, hint }).collect()
}

fn is_missing(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::NotADirectory
        ),
        _ => false,
    }
}

fn is_too_many(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(rustix::io::Errno::MFILE.raw_os_error())
        || code == Some(rustix::io::Errno::NFILE.raw_os_error())
}

/// The name of a filesystem whose changes by other machines or the host make no events here. inotify(7) NOTES.
fn kind_without_events(folder: &Path) -> Option<&'static str> {
    let kind = rustix::fs::statfs(folder).ok()?.f_type as u64 & 0xffff_ffff;
    Some(match kind {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9p",
        0x786f_4256 => "vboxsf",
        0x00c3_6400 => "Ceph",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x0bd0_0bd0 => "Lustre",
        0x6a65_6a63 => "gRPC FUSE",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::tests::TempFolder;

    /// Notes until one is `wanted`; fails after ten seconds.
    async fn until(watch: &mut Watch, wanted: impl Fn(&Note) -> bool) -> Vec<Note> {
        let mut seen = Vec::new();
        let wait = timeout(Duration::from_secs(10), async {
            loop {
                let note = watch.next().await;
                let is_wanted = wanted(&note);
                seen.push(note);
                if is_wanted {
                    return;
                }
            }
        });
        assert!(wait.await.is_ok(), "it did not come, only {seen:?}");
        seen
    }

    fn at(path: &Path, hint: Hint) -> impl Fn(&Note) -> bool {
        let wanted = Note::At {
            path: path.to_owned(),
            hint,
        };
        move |note| *note == wanted
    }

    #[tokio::test]
    async fn a_written_file_is_whole_at_its_close_and_reading_says_nothing() {
        let folder = TempFolder::new();
        let mut watch = Watch::start(folder.path(), settings::Watch::Auto).await;
        assert_eq!(watch.poll_every(), None);
        let file = folder.path().join("a.toml");
        fs::write(&file, "x").expect("write");
        until(&mut watch, at(&file, Hint::Whole)).await;
        fs::read(&file).expect("read");
        fs::rename(&file, folder.path().join("b.toml")).expect("rename");
        let notes = until(&mut watch, |note| matches!(note, Note::Moved { .. })).await;
        assert_eq!(notes.len(), 3, "{notes:?}");
    }

    #[tokio::test]
    async fn a_folder_that_is_made_anew_can_be_armed_again() {
        let folder = TempFolder::new();
        let sites = folder.path().join("sites.d");
        fs::create_dir(&sites).expect("folder");
        let mut watch = Watch::start(&sites, settings::Watch::Events).await;
        fs::remove_dir(&sites).expect("remove");
        until(&mut watch, |note| matches!(note, Note::Folder { .. })).await;
        // Its inode may come back, so the old one is let go by name.
        watch.disarm(&sites);
        fs::create_dir(&sites).expect("folder");
        assert!(watch.arm(&sites));
        assert!(!watch.arm(&sites));
        fs::write(sites.join("a.toml"), "x").expect("write");
        until(&mut watch, at(&sites.join("a.toml"), Hint::Whole)).await;
    }

    #[tokio::test]
    async fn a_folder_with_two_paths_is_told_of_by_both_and_watched_until_both_are_gone() {
        let folder = TempFolder::new();
        let (shared, link) = (folder.path().join("shared"), folder.path().join("link"));
        fs::create_dir(&shared).expect("folder");
        std::os::unix::fs::symlink(&shared, &link).expect("link");
        for (first, second) in [(&shared, &link), (&link, &shared)] {
            let mut watch = Watch::start(folder.path(), settings::Watch::Events).await;
            assert!(watch.arm(first));
            assert!(watch.arm(second));
            fs::write(shared.join("a.toml"), "x").expect("write");
            until(&mut watch, at(&first.join("a.toml"), Hint::Whole)).await;
            until(&mut watch, at(&second.join("a.toml"), Hint::Whole)).await;
            watch.disarm(first);
            until(&mut watch, |note| *note == Note::Everything).await;
            fs::write(shared.join("b.toml"), "x").expect("write");
            until(&mut watch, at(&second.join("b.toml"), Hint::Whole)).await;
            // The other way about nothing is handed over.
            assert!(watch.arm(first));
            watch.disarm(first);
            fs::write(shared.join("c.toml"), "x").expect("write");
            let notes = until(&mut watch, at(&second.join("c.toml"), Hint::Whole)).await;
            assert!(!notes.contains(&Note::Everything), "{notes:?}");
        }
    }

    #[tokio::test]
    async fn notes_beyond_the_limit_are_not_kept_and_mean_that_anything_may_have_changed() {
        let folder = TempFolder::new();
        // Nobody else tells anything.
        let wish = settings::Watch::Poll(POLL);
        let mut watch = Watch::start(folder.path(), wish).await;
        let note = |number: usize| Note::At {
            path: folder.path().join(number.to_string()),
            hint: Hint::Touched,
        };
        for number in 0..WAITING_NOTES {
            watch.teller.tell(note(number));
        }
        assert_eq!(watch.next().await, note(0), "all of them can wait");
        for number in 0..3 {
            watch.teller.tell(note(number));
        }
        assert_eq!(watch.next().await, Note::Everything);
        assert_eq!(watch.next().await, note(1), "said once");
        let mut waiting = 0;
        while watch.try_next().is_some() {
            waiting += 1;
        }
        assert_eq!(waiting, WAITING_NOTES - 1);
    }

    #[tokio::test]
    async fn a_missing_folder_is_no_reason_to_poll() {
        let folder = TempFolder::new();
        let sites = folder.path().join("sites.d");
        let mut watch = Watch::start(&sites, settings::Watch::Auto).await;
        assert_eq!(watch.poll_every(), None);
        fs::create_dir(&sites).expect("folder");
        assert!(watch.arm(&sites));
    }

    #[test]
    fn lost_events_mean_that_anything_may_have_changed() {
        let lost = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert_eq!(notes_of(Ok(lost)), [Note::Everything]);
        assert_eq!(
            notes_of(Err(notify::Error::generic("x"))),
            [Note::Everything]
        );
    }
}
