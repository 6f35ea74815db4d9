//! Names that once were served with a certificate: their content never falls back to clear text, also after a
//! restart (DESIGN; whoever removes a certificate by mistake must not publish what it protected).
//!
//! One line each in a file of the state directory, appended when a name is first served so. What is kept is what an
//! operator wrote, a name or `*.` and a name, and never what a client asks for: nobody outside makes it grow.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use dashmap::DashSet;
use tracing::warn;

const FILE: &str = "had-certificates";

#[derive(Debug)]
pub(super) struct Remembered {
    names: DashSet<Box<str>>,
    /// Of wildcards, what stands behind `*.`.
    suffixes: DashSet<Box<str>>,
    /// To the thread that writes: who asks here must not wait for a disk.
    fresh: Option<Sender<Box<str>>>,
}

impl Remembered {
    /// What `state` has; nothing where there is no such file.
    pub(super) fn open(state: &Path) -> Remembered {
        let path = state.join(FILE);
        let (fresh, names) = channel();
        let writer = thread::Builder::new()
            .name("remember".into())
            .spawn(move || write_behind(&path, &names));
        Remembered {
            fresh: writer.is_ok().then_some(fresh),
            ..Remembered::read(state)
        }
    }

    /// The same, and nothing is ever written.
    pub(super) fn read(state: &Path) -> Remembered {
        let text = fs::read_to_string(state.join(FILE)).unwrap_or_default();
        let kept = Remembered {
            names: DashSet::new(),
            suffixes: DashSet::new(),
            fresh: None,
        };
        let (wildcards, names): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with("*."));
        for line in wildcards.into_iter().chain(names) {
            kept.take(line);
        }
        kept
    }

    /// `host` is a name that was asked for.
    pub(super) fn had(&self, host: &str) -> bool {
        let is_below = |(_, rest)| self.suffixes.contains::<str>(rest);
        self.names.contains(host) || host.split_once('.').is_some_and(is_below)
    }

    /// Keeps that `host` was served with a certificate: as `pattern`, the name that an operator wrote for it. Costs a look
    /// or two in a set but the first time.
    pub(super) fn remember(&self, host: &str, pattern: impl FnOnce() -> String) {
        if self.had(host) {
            return;
        }
        let pattern = pattern();
        if !self.take(&pattern) {
            return;
        }
        if let Some(fresh) = &self.fresh {
            // The writer only ends with the sender.
            drop(fresh.send(pattern.into()));
        }
    }

    /// Whether it was not here yet.
    fn take(&self, line: &str) -> bool {
        match line.strip_prefix("*.") {
            Some(suffix) => self.suffixes.insert(suffix.into()),
            None => !self.had(line) && self.names.insert(line.into()),
        }
    }
}

fn write_behind(path: &PathBuf, names: &Receiver<Box<str>>) {
    while let Ok(host) = names.recv() {
        if let Err(error) = append(path, &host) {
            warn!(path = %path.display(), host = &*host, "cannot write that this name has a certificate, a restart would not know it: {error}");
        }
    }
}

fn append(path: &PathBuf, host: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(format!("{host}\n").as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_one_line_and_stands_for_one_label() {
        let state = std::env::temp_dir().join(format!("onedoor-had-{}", std::process::id()));
        fs::create_dir_all(&state).expect("folder");
        // A file of the time when every name asked for was kept.
        fs::write(state.join(FILE), "x.w.example\nshop.example\n*.w.example\n").expect("file");
        let kept = Remembered::read(&state);
        assert_eq!((kept.names.len(), kept.suffixes.len()), (1, 1));
        for (host, had) in [
            ("shop.example", true),
            ("any.w.example", true),
            ("w.example", false),
            ("a.b.w.example", false),
            ("blog.example", false),
        ] {
            assert_eq!(kept.had(host), had, "{host}");
        }
        for number in 0..1000 {
            kept.remember(&format!("{number}.v.example"), || "*.v.example".into());
        }
        assert_eq!((kept.names.len(), kept.suffixes.len()), (1, 2));
        fs::remove_dir_all(&state).expect("gone");
    }
}
