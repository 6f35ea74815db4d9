//! The stores of a system: where its owner's own authorities lie, one file each, and the command that takes them over.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A place where a distribution looks for authorities of its owner's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Store {
    folder: &'static str,
    /// What a file there must end in.
    ending: &'static str,
    command: &'static [&'static str],
}

const STORES: [Store; 3] = [
    // Debian, Ubuntu, Alpine.
    Store {
        folder: "/usr/local/share/ca-certificates",
        ending: "crt",
        command: &["update-ca-certificates"],
    },
    // Fedora and its kin.
    Store {
        folder: "/etc/pki/ca-trust/source/anchors",
        ending: "pem",
        command: &["update-ca-trust"],
    },
    // Arch, and whatever else has p11-kit.
    Store {
        folder: "/etc/ca-certificates/trust-source/anchors",
        ending: "crt",
        command: &["update-ca-trust"],
    },
];

/// How the name of each of our files there begins; behind it stands which authority it is, because each state directory
/// has its own.
const NAME: &str = "onedoor-local-authority";

/// The stores that are here.
pub(super) fn stores() -> impl Iterator<Item = &'static Store> {
    STORES
        .iter()
        .filter(|store| Path::new(store.folder).is_dir())
}

impl Store {
    /// Where the authority with this fingerprint is, or would be.
    pub(super) fn place(&self, fingerprint: &str) -> PathBuf {
        Path::new(self.folder).join(format!("{NAME}-{fingerprint}.{}", self.ending))
    }

    /// Authorities of onedoor that are here besides the one at `own`.
    pub(super) fn others(&self, own: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder).into_iter().flatten().flatten();
        let is_other = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default();
            name.as_encoded_bytes().starts_with(NAME.as_bytes()) && path != own
        };
        let mut others: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_other).collect();
        others.sort();
        others
    }

    /// Has the system trust `pem`, which is copied to `place` from `root`.
    pub(super) fn put(&self, pem: &str, place: &Path, root: &Path) -> Result<(), String> {
        let copy = format!("cp {} {}", root.display(), place.display());
        fs::write(place, pem).map_err(|error| self.by_hand(&error, place, &copy))?;
        self.take_over()
    }

    /// Has the system trust it no more. Whether it did.
    pub(super) fn take_out(&self, place: &Path) -> Result<bool, String> {
        let pem = match fs::read(place) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(format!("{}: {error}", place.display())),
        };
        let remove = format!("rm {}", place.display());
        fs::remove_file(place).map_err(|error| self.by_hand(&error, place, &remove))?;
        self.take_over().map_err(|why| {
            // The system still trusts it, and the next attempt must not find that there is nothing to do.
            match fs::write(place, pem) {
                Ok(()) => format!("{why}; the system still trusts {}", place.display()),
                Err(_) => {
                    format!("{why}; run it again, the system still trusts a file that is gone")
                }
            }
        })?;
        Ok(true)
    }

    /// The same in commands, for somebody who may do more than we.
    fn by_hand(&self, error: &io::Error, place: &Path, command: &str) -> String {
        format!(
            "{}: {error}; with the right to write there:\n  sudo {command} && sudo {}",
            place.display(),
            self.command.join(" ")
        )
    }

    /// Runs the command of the distribution.
    fn take_over(&self) -> Result<(), String> {
        let (program, words) = self.command.split_first().unwrap_or((&"true", &[]));
        let ran = Command::new(program)
            .args(words)
            .stdout(Stdio::null())
            .status();
        match ran {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{program} ended with {status}")),
            Err(error) => Err(format!("{program} cannot be run: {error}")),
        }
    }
}
