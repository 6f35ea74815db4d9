//! The state directory: made, locked for the life of the process, and with a name of its own for Via.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::warn;

use super::StartError;

/// The state directory, ours for as long as this lives.
#[derive(Debug)]
pub(super) struct Home {
    /// Our name in Via, without `onedoor-`: random, kept from run to run.
    pub(super) pseudonym: String,
    /// What the cookies of `sticky` are made with: random, kept from run to run.
    pub(super) key: [u8; 32],
    /// Holds the lock. `None`: there is nothing to write to, and we serve all the same.
    _lock: Option<File>,
}

impl Home {
    /// Makes the directory if need be, and locks it.
    ///
    /// # Errors
    /// `Running` when another process has it. A directory that cannot be written is a warning.
    pub(super) fn open(state: &Path) -> Result<Home, StartError> {
        let lock = match lock_file(state) {
            Ok(file) => file,
            Err(source) => {
                warn!(
                    path = %state.display(), cause = %source,
                    "the state directory cannot be used; a restart will know nothing of what goes live, and a second onedoor is not noticed"
                );
                return Ok(Home {
                    pseudonym: fresh_pseudonym(),
                    key: fresh_key(),
                    _lock: None,
                });
            }
        };
        let mut lock = lock;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Only for the message; without it the message is still true.
                drop(lock.read_to_string(&mut pid));
                return Err(StartError::Running {
                    state: state.display().to_string(),
                    by: pid.trim().parse().ok(),
                });
            }
            // Some network file systems have no locks.
            Err(source) => warn!(
                path = %state.display(), cause = %source,
                "the state directory cannot be locked; see that no second onedoor uses it"
            ),
        }
        drop(write_pid(&mut lock));
        Ok(Home {
            pseudonym: pseudonym(state),
            key: key(state),
            _lock: Some(lock),
        })
    }
}

/// Shows on this machine that a onedoor follows this sites directory, for as long as it lives.
#[derive(Debug)]
pub(super) struct Follows {
    _name: Option<UnixDatagram>,
}

impl Follows {
    /// Says it where another one has shown the same: it has names, certificates and a history of its own.
    ///
    /// A name in no file system: the folder may be read-only, and one that is kept open cannot be unmounted.
    pub(super) fn show(sites: &Path) -> Follows {
        let Ok(folder) = std::fs::metadata(sites) else {
            return Follows { _name: None };
        };
        let name = format!("onedoor-follows-{}-{}", folder.dev(), folder.ino());
        let bound =
            SocketAddr::from_abstract_name(name).and_then(|name| UnixDatagram::bind_addr(&name));
        if bound
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        {
            warn!(
                path = %sites.display(),
                "another onedoor with another state directory serves this folder, too; each remembers names and versions for itself"
            );
        }
        Follows { _name: bound.ok() }
    }
}

fn lock_file(state: &Path) -> io::Result<File> {
    if !state.is_dir() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state)?;
        std::fs::set_permissions(state, Permissions::from_mode(0o700))?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(state.join("lock"))
}

fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

const PSEUDONYM: &str = "pseudonym";

/// The name kept in the directory, or a new one.
fn pseudonym(state: &Path) -> String {
    kept_pseudonym(state).unwrap_or_else(|| {
        let fresh = fresh_pseudonym();
        // Not kept, it only lives as long as this run.
        drop(std::fs::write(state.join(PSEUDONYM), format!("{fresh}\n")));
        fresh
    })
}

/// The name kept in the directory.
pub(super) fn kept_pseudonym(state: &Path) -> Option<String> {
    let kept = std::fs::read_to_string(state.join(PSEUDONYM)).ok()?;
    let kept = kept.trim();
    let is_good =
        !kept.is_empty() && kept.len() <= 32 && kept.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_good.then(|| kept.to_owned())
}

/// The key kept in the directory, or a new one.
fn key(state: &Path) -> [u8; 32] {
    let path = state.join("sticky.key");
    if let Ok(kept) = std::fs::read(&path)
        && let Ok(kept) = kept.try_into()
    {
        return kept;
    }
    let fresh = fresh_key();
    // Not kept, clients are spread anew after the next start.
    drop(std::fs::remove_file(&path));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    drop(file.and_then(|mut file| file.write_all(&fresh)));
    fresh
}

fn fresh_key() -> [u8; 32] {
    let mut key = [0; 32];
    for part in key.chunks_mut(8) {
        part.copy_from_slice(&random().to_ne_bytes());
    }
    key
}

fn fresh_pseudonym() -> String {
    format!("{:08x}", random() >> 32)
}

/// A number nobody can guess; from the clock where the system has no randomness to give.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        now.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(32)
    })
}
