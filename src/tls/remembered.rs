//! Names that once were served with a certificate: their content never falls back to clear text, also after a
//! restart (DESIGN; whoever removes a certificate by mistake must not publish what it protected).
//!
//! One line each in a file of the state directory, appended when a name is first served so. What is kept is what an
//! operator wrote, a name or `*.` and a name, and never what a client asks for: nobody outside makes it grow. A file
//! that cannot be read may have any name in it, so then every name is one of them that somebody may own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use dashmap::DashSet;
use tracing::{error, warn};

use crate::site::local::is_local;

const FILE: &str = "had-certificates";
/// Names that are written with one call, and brought to the disk with one: each alone takes milliseconds.
const WRITTEN_TOGETHER: usize = 1_000;

#[derive(Debug)]
pub(super) struct Remembered {
    path: PathBuf,
    names: DashSet<Box<str>>,
    /// Of wildcards, what stands behind `*.`.
    suffixes: DashSet<Box<str>>,
    /// Whether the file could not be read, for those who only have a moment.
    is_unreadable: AtomicBool,
    /// Why.
    why: Mutex<Option<Arc<str>>>,
    /// To the thread that writes: who asks here must not wait for a disk.
    fresh: Option<Sender<Box<str>>>,
}

impl Remembered {
    /// What `state` has; nothing where there is no such file.
    pub(super) fn open(state: &Path) -> Remembered {
        let path = state.join(FILE);
        if let Err(error) = finish_last_line(&path) {
            warn!(path = %path.display(), "cannot finish the last line of it: {error}");
        }
        let kept = Remembered::read(state);
        if let Some(why) = kept.why_unreadable() {
            error!(
                "{why}; so it is not known which names had a certificate, and those without one answer 503 until that is \
                 mended and `onedoor reload` has been said"
            );
        }
        let (fresh, names) = channel();
        let writer = thread::Builder::new()
            .name("remember".into())
            .spawn(move || write_behind(&path, &names));
        Remembered {
            fresh: writer.is_ok().then_some(fresh),
            ..kept
        }
    }

    /// The same, and nothing is ever written.
    pub(super) fn read(state: &Path) -> Remembered {
        let kept = Remembered {
            path: state.join(FILE),
            names: DashSet::new(),
            suffixes: DashSet::new(),
            is_unreadable: AtomicBool::new(false),
            why: Mutex::default(),
            fresh: None,
        };
        kept.look();
        kept
    }

    /// Looks once more into a file that could not be read. Whether it can be now.
    pub(super) fn look_again(&self) -> bool {
        if !self.is_unreadable() {
            return false;
        }
        self.look();
        !self.is_unreadable()
    }

    /// Takes what can be read of the file.
    fn look(&self) {
        let why = match fs::read(&self.path) {
            Ok(text) => {
                let (lines, damaged) = lines(&text);
                for line in lines {
                    self.take(line);
                }
                damaged.map(|line| format!("{}:{line}: that is no name", self.path.display()))
            }
            // Nor can one be where the state directory is none.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                None
            }
            Err(error) => Some(format!("cannot read {}: {error}", self.path.display())),
        };
        self.is_unreadable.store(why.is_some(), Ordering::Relaxed);
        *self.why() = why.map(Into::into);
    }

    /// The file, if whoever asks may not read it.
    pub(super) fn hidden(&self) -> Option<&Path> {
        is_denied(File::open(&self.path)).then_some(&self.path)
    }

    /// Why the file could not be read, if it could not.
    pub(super) fn why_unreadable(&self) -> Option<Arc<str>> {
        self.why().clone()
    }

    fn why(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        // It is whole, whatever panicked beside it.
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unreadable(&self) -> bool {
        self.is_unreadable.load(Ordering::Relaxed)
    }

    /// Whether `host`, a name that was asked for, was ever served with a certificate, or may have been. See
    /// [`Remembered::knows`].
    pub(super) fn had(&self, host: &str, is_own: impl FnOnce() -> bool) -> bool {
        // The local authority has one for every name that nobody owns.
        self.knows(host, is_own) || (self.is_unreadable() && !is_local(host))
    }

    /// Whether `host` was served with a certificate for sure. What a wildcard had says nothing of a site that claims the
    /// very name (`is_own`): that is another site, which may never have had one.
    pub(super) fn knows(&self, host: &str, is_own: impl FnOnce() -> bool) -> bool {
        let is_below = |(_, rest)| self.suffixes.contains::<str>(rest);
        self.names.contains(host) || host.split_once('.').is_some_and(is_below) && !is_own()
    }

    /// Keeps that `host` was served with a certificate: as `pattern`, the name that an operator wrote for it, if there
    /// is one. Costs a look or two in a set but the first time.
    pub(super) fn remember(
        &self,
        host: &str,
        is_own: impl FnOnce() -> bool,
        pattern: impl FnOnce() -> Option<String>,
    ) {
        if self.knows(host, is_own) {
            return;
        }
        let Some(pattern) = pattern().filter(|pattern| self.take(pattern)) else {
            return;
        };
        if let Some(fresh) = &self.fresh {
            // The writer only ends with the sender.
            drop(fresh.send(pattern.into()));
        }
    }

    /// Whether it was not here yet.
    fn take(&self, line: &str) -> bool {
        match line.strip_prefix("*.") {
            Some(suffix) => self.suffixes.insert(suffix.into()),
            None => self.names.insert(line.into()),
        }
    }
}

pub(super) fn is_denied<T>(opened: io::Result<T>) -> bool {
    opened.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The names in a file, and the number of the first line that is none. All are written in ASCII, without spaces.
fn lines(text: &[u8]) -> (Vec<&str>, Option<usize>) {
    let mut damaged = None;
    let mut names = Vec::new();
    for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
        match std::str::from_utf8(line) {
            Ok(name) if name.bytes().all(|byte| byte.is_ascii_graphic()) => {
                names.extend((!name.is_empty()).then_some(name));
            }
            _ => damaged = damaged.or(Some(at + 1)),
        }
    }
    (names, damaged)
}

/// A machine that stopped while a line was written may have left half of it, or the zeros of a block that never came
/// to the disk. Zeros are taken off; half a name stands for itself, and nothing is glued to it.
fn finish_last_line(path: &Path) -> io::Result<()> {
    let text = match fs::read(path) {
        Ok(text) => text,
        // Whoever reads it next says so.
        Err(_) => return Ok(()),
    };
    let whole = text
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    let (text, zeros) = text.split_at(whole);
    if !zeros.is_empty() {
        File::options()
            .write(true)
            .open(path)?
            .set_len(whole as u64)?;
    }
    if text.is_empty() || text.ends_with(b"\n") {
        return Ok(());
    }
    OpenOptions::new().append(true).open(path)?.write_all(b"\n")
}

fn write_behind(path: &Path, names: &Receiver<Box<str>>) {
    while let Ok(host) = names.recv() {
        // Of a start with many sites all are here at once.
        let more = names.try_iter().take(WRITTEN_TOGETHER - 1);
        let mut text = format!("{host}\n");
        let mut others = 0;
        for name in more {
            text.extend([&*name, "\n"]);
            others += 1;
        }
        if let Err(error) = append(path, &text) {
            warn!(path = %path.display(), host = &*host, others, "cannot write that this name has a certificate, a restart would not know it: {error}");
        }
    }
}

/// Appends whole lines.
fn append(path: &Path, lines: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let before = file.metadata()?.len();
    file.write_all(lines.as_bytes())
        // On a full disk half of it may be there, and the next would be glued to it.
        .inspect_err(|_| drop(file.set_len(before)))?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a file with this text, and the text afterwards.
    fn opened(name: &str, text: &[u8]) -> (Remembered, Vec<u8>) {
        let state = std::env::temp_dir().join(format!("onedoor-had-{name}-{}", std::process::id()));
        fs::create_dir_all(&state).expect("folder");
        fs::write(state.join(FILE), text).expect("file");
        let kept = Remembered::open(&state);
        let text = fs::read(state.join(FILE)).expect("still there");
        fs::remove_dir_all(&state).expect("gone");
        (kept, text)
    }

    #[test]
    fn a_wildcard_is_one_line_and_stands_for_one_label() {
        let (kept, _) = opened("wildcard", b"shop.example\n*.w.example\n");
        assert_eq!((kept.names.len(), kept.suffixes.len()), (1, 1));
        for (host, had) in [
            ("shop.example", true),
            ("any.w.example", true),
            ("w.example", false),
            ("a.b.w.example", false),
            ("blog.example", false),
        ] {
            assert_eq!(kept.had(host, || false), had, "{host}");
        }
        for number in 0..1000 {
            let pattern = || Some("*.v.example".into());
            kept.remember(&format!("{number}.v.example"), || false, pattern);
        }
        assert_eq!((kept.names.len(), kept.suffixes.len()), (1, 2));
    }

    #[test]
    fn what_a_wildcard_had_says_nothing_of_a_name_with_a_site_of_its_own() {
        let (kept, _) = opened("own", b"one.w.example\n*.w.example\ntwo.w.example\n");
        for (host, had) in [
            ("one.w.example", true),
            ("two.w.example", true),
            ("three.w.example", false),
        ] {
            assert_eq!(kept.had(host, || true), had, "{host}");
            assert!(kept.had(host, || false), "{host}");
        }
        kept.remember(
            "three.w.example",
            || true,
            || Some("three.w.example".into()),
        );
        assert!(kept.had("three.w.example", || true));
    }

    #[test]
    fn a_line_that_is_no_name_makes_every_name_one_that_may_have_had_a_certificate() {
        for text in [
            &b"shop.example\n\xff\nblog.example\n"[..],
            b"shop.example\n\0\0\0blog.example\n",
            b"shop.example\nblog.example\nno name\n",
            b"shop.example\nblog.example\nx\xff",
        ] {
            let (kept, _) = opened("damaged", text);
            assert!(kept.why_unreadable().is_some(), "{}", text.escape_ascii());
            assert!(kept.had("any.example", || false) && !kept.knows("any.example", || false));
            assert!(kept.knows("shop.example", || true));
            assert!(!kept.had("blue.localhost", || true));
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_one_that_is_not_there() {
        let state = std::env::temp_dir().join(format!("onedoor-had-folder-{}", std::process::id()));
        fs::create_dir_all(state.join(FILE)).expect("folder");
        let kept = Remembered::read(&state);
        assert!(kept.had("any.example", || true));
        assert!(!kept.look_again());
        fs::remove_dir(state.join(FILE)).expect("gone");
        assert!(kept.look_again());
        assert!(!kept.had("any.example", || true));
        assert!(!Remembered::read(&state.join("no such folder")).had("any.example", || true));
        fs::remove_dir_all(&state).expect("gone");
    }

    #[test]
    fn what_a_machine_left_that_stopped_is_finished_and_nothing_is_glued_to_it() {
        for (text, finished) in [
            (
                &b"shop.example\nblog.exa"[..],
                &b"shop.example\nblog.exa\n"[..],
            ),
            (b"shop.example\n\0\0\0\0", b"shop.example\n"),
            (b"shop.example\nblog\0\0", b"shop.example\nblog\n"),
            (b"\0\0", b""),
            (b"", b""),
            (b"shop.example\n", b"shop.example\n"),
        ] {
            let (kept, left) = opened("torn", text);
            assert_eq!(left, finished, "{}", text.escape_ascii());
            assert!(kept.why_unreadable().is_none());
            assert!(!kept.had("any.example", || true));
        }
    }
}
