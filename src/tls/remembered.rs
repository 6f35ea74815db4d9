//! Names that once were served with a certificate: their content never falls back to clear text, also after a
//! restart (DESIGN; whoever removes a certificate by mistake must not publish what it protected).
//!
//! One line each in a file of the state directory, appended when a name is first served so. Of names that only a wildcard
//! stands for it is the wildcard that is remembered: anybody may ask for any number of these.

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
    /// What follows the `*.` of a wildcard.
    wildcards: DashSet<Box<str>>,
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
        let remembered = Remembered {
            names: DashSet::new(),
            wildcards: DashSet::new(),
            fresh: None,
        };
        for line in text.lines() {
            match line.strip_prefix("*.") {
                Some(rest) => remembered.wildcards.insert(rest.into()),
                None => remembered.names.insert(line.into()),
            };
        }
        remembered
    }

    pub(super) fn had(&self, host: &str) -> bool {
        self.names.contains(host)
            || host
                .split_once('.')
                .is_some_and(|(_, rest)| self.wildcards.contains(rest))
    }

    /// `host` is served with a certificate. `is_named`: it stands as such in a site file or in the certificate. Costs a
    /// look or two but the first time.
    pub(super) fn remember(&self, host: &str, is_named: impl FnOnce() -> bool) {
        if self.had(host) {
            return;
        }
        let line = match host.split_once('.') {
            Some((_, rest)) if !is_named() => {
                self.wildcards.insert(rest.into());
                format!("*.{rest}")
            }
            _ => {
                self.names.insert(host.into());
                host.to_owned()
            }
        };
        if let Some(fresh) = &self.fresh {
            // The writer only ends with the sender.
            drop(fresh.send(line.into()));
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
