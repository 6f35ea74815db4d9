//! A folder of its own for each test, removed when the test is over.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Short, because unix sockets in it must stay below 108 bytes.
        let path = std::env::temp_dir().join(format!("onedoor-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Some tests run onedoor as somebody else, who must get in.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A process that was just killed may still be making something in it.
        for _ in 0..100 {
            if fs::remove_dir_all(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        eprintln!("left behind: {}", self.0.display());
    }
}

/// Removes what runs of these tests left that were killed an hour ago or earlier.
fn sweep() {
    const OLD: Duration = Duration::from_secs(3600);
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let run = name
            .to_str()
            .and_then(run_of)
            .map(|run| format!("/proc/{run}"));
        let age = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = age.is_ok_and(|then| then.elapsed().is_ok_and(|age| age > OLD));
        if is_old && run.is_some_and(|run| !Path::new(&run).exists()) {
            // Somebody else's stays.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// The process in `onedoor-123-4` or `onedoor-reload-123-4`.
fn run_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("onedoor-")?;
    let rest = rest.strip_prefix("reload-").unwrap_or(rest);
    let (run, number) = rest.split_once('-')?;
    number.parse::<u32>().ok().and(run.parse().ok())
}
