//! The states of site files as files of their own: for containers, and for teams that may not ask the socket.
//!
//! One small JSON file each, written beside and renamed, behind the publisher's back. Only those that change are
//! written; what is left of an earlier run is removed at the start.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::site::SiteName;

/// Between two attempts at what could not be written: whoever reads the files takes them for the truth.
const RETRY: Duration = Duration::from_secs(2);

/// A way to the writer. `None` inside: nobody wants the files.
#[derive(Clone, Debug, Default)]
pub(super) struct StatusFiles(Option<mpsc::UnboundedSender<Batch>>);

/// What is to be there: a state, or nothing.
type Batch = BTreeMap<SiteName, Option<Value>>;

impl StatusFiles {
    /// Starts the writer, a task on the current runtime that ends with the last clone.
    pub(super) fn open(folder: Option<PathBuf>) -> StatusFiles {
        let Some(folder) = folder else {
            return StatusFiles(None);
        };
        let (batches, receiver) = mpsc::unbounded_channel();
        tokio::spawn(write_behind(folder, receiver));
        StatusFiles(Some(batches))
    }

    pub(super) fn are_wanted(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn write(&self, batch: Batch) {
        if let Some(batches) = &self.0
            && !batch.is_empty()
        {
            // The writer only ends with the runtime.
            batches.send(batch).ok();
        }
    }
}

async fn write_behind(folder: PathBuf, mut batches: mpsc::UnboundedReceiver<Batch>) {
    let mut batch = Batch::new();
    let mut is_first = true;
    let mut is_failing = false;
    loop {
        let more = if is_failing {
            timeout(RETRY, batches.recv()).await.ok()
        } else {
            Some(batches.recv().await)
        };
        if let Some(more) = more {
            let Some(more) = more else { return };
            // The newest word about a site is the one that counts.
            batch.extend(more);
        }
        while let Ok(more) = batches.try_recv() {
            batch.extend(more);
        }
        let (to, work) = (folder.clone(), std::mem::take(&mut batch));
        let written = tokio::task::spawn_blocking(move || write(&to, work, is_first)).await;
        let Written {
            left,
            is_cleared,
            error,
        } = written.unwrap_or_default();
        batch = left;
        is_first &= !is_cleared;
        match error {
            Some(error) if !is_failing => {
                warn!(path = %folder.display(), "the status files cannot be written: {error}");
                is_failing = true;
            }
            Some(_) => {}
            None if is_failing => {
                info!(path = %folder.display(), "the status files are written again");
                is_failing = false;
            }
            None => {}
        }
    }
}

/// What came of a batch.
#[derive(Debug, Default)]
struct Written {
    /// What could not be written.
    left: Batch,
    /// What an earlier run left is gone.
    is_cleared: bool,
    error: Option<io::Error>,
}

fn write(folder: &Path, batch: Batch, clear: bool) -> Written {
    let prepared = make(folder).and_then(|()| match clear {
        true => remove_others(folder, &batch),
        false => Ok(()),
    });
    if let Err(error) = prepared {
        return Written {
            left: batch,
            is_cleared: false,
            error: Some(error),
        };
    }
    let mut written = Written {
        is_cleared: true,
        ..Written::default()
    };
    for (name, status) in batch {
        let file = folder.join(format!("{name}.json"));
        let done = match &status {
            Some(status) => put(&file, &format!("{status:#}\n")),
            None => match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        if let Err(error) = done {
            written.error.get_or_insert(error);
            written.left.insert(name, status);
        }
    }
    written
}

/// For everybody to read, whatever the umask of a service is.
fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
}

fn put(file: &Path, text: &str) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    make(folder)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    fs::remove_file(&beside).ok();
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&beside)?;
    out.write_all(text.as_bytes())?;
    fs::rename(&beside, file)
}

/// Removes what an earlier run left: JSON files of sites that are not in the first batch. Nothing else in the folder is
/// ours.
fn remove_others(folder: &Path, batch: &Batch) -> io::Result<()> {
    let is_known = |path: &Path| {
        let name = path.strip_prefix(folder).ok().and_then(Path::to_str);
        let name = name.and_then(|name| name.strip_suffix(".json"));
        name.is_some_and(|name| batch.contains_key(&SiteName::new(name)))
    };
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)?.flatten() {
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() && next == *folder {
                folders.push(path);
            } else if kind.is_file()
                && path.extension().is_some_and(|ending| ending == "json")
                && !is_known(&path)
            {
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(())
}
