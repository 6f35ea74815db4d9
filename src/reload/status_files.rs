//! The states of site files as files of their own: for containers, and for teams that may not ask the socket.
//!
//! One small JSON file each, written beside and renamed, behind the publisher's back. Only those that change are
//! written; what is left of an earlier run is removed at the start. What says `live` of a daemon that is gone would be a
//! lie: at the end all are removed, and one more file tells which process writes them and when it last did.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{info, warn};

use super::status::seconds;
use crate::site::SiteName;

/// Between two attempts at what could not be written: whoever reads the files takes them for the truth.
const RETRY: Duration = Duration::from_secs(2);

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(5);
/// The file of the daemon. No site can have this name, and whoever takes every `*.json` for one does not meet it.
const OF_DAEMON: &str = ".onedoor.json";

/// A way to the writer.
#[derive(Debug)]
pub(super) struct StatusFiles {
    /// `None`: nobody wants the files.
    words: Option<mpsc::UnboundedSender<Word>>,
    /// What was said last.
    notice: Option<String>,
    /// The states of the start have been told, be there none.
    is_begun: bool,
}

/// What the writer is told.
#[derive(Debug)]
enum Word {
    States(Batch),
    /// What stands between the sites directory and what serves.
    Notice(Option<String>),
    /// It is over; answered when nothing is left of the files.
    End(oneshot::Sender<()>),
}

/// What is to be there: a state, or nothing.
type Batch = BTreeMap<SiteName, Option<Value>>;

impl StatusFiles {
    /// Starts the writer, a task on the current runtime that ends when this is dropped.
    pub(super) fn open(folder: Option<PathBuf>) -> StatusFiles {
        let words = folder.map(|folder| {
            let (words, receiver) = mpsc::unbounded_channel();
            tokio::spawn(write_behind(folder, receiver));
            words
        });
        StatusFiles {
            words,
            notice: None,
            is_begun: false,
        }
    }

    pub(super) fn are_wanted(&self) -> bool {
        self.words.is_some()
    }

    pub(super) fn write(&mut self, batch: Batch) {
        if !batch.is_empty() || !self.is_begun {
            self.is_begun = true;
            self.say(Word::States(batch));
        }
    }

    /// Tells what stands between the sites directory and what serves, if that is another thing than before.
    pub(super) fn tell(&mut self, notice: Option<String>) {
        if self.notice != notice {
            self.notice.clone_from(&notice);
            self.say(Word::Notice(notice));
        }
    }

    /// Removes all of them; from then on nothing is written. `removed` is answered, or dropped.
    pub(super) fn end(&mut self, removed: oneshot::Sender<()>) {
        self.say(Word::End(removed));
        self.words = None;
    }

    fn say(&self, word: Word) {
        if let Some(words) = &self.words {
            // The writer only ends with the runtime.
            words.send(word).ok();
        }
    }
}

async fn write_behind(folder: PathBuf, mut words: mpsc::UnboundedReceiver<Word>) {
    let mut batch = Batch::new();
    let mut notice = None;
    let started = SystemTime::now();
    let mut is_told = false;
    let mut is_first = true;
    let mut is_failing = false;
    loop {
        let patience = if is_failing { RETRY } else { BEAT };
        let mut next = match timeout(patience, words.recv()).await {
            Ok(None) => return,
            Ok(word) => word,
            Err(_) => None,
        };
        while let Some(word) = next {
            match word {
                // The newest word about a site is the one that counts.
                Word::States(more) => {
                    batch.extend(more);
                    is_told = true;
                }
                Word::Notice(now) => notice = now,
                Word::End(removed) => {
                    let remove = move || remove_others(&folder, &Batch::new());
                    // Left behind they have the time of their last sign of life beside them.
                    drop(tokio::task::spawn_blocking(remove).await);
                    removed.send(()).ok();
                    return;
                }
            }
            next = words.try_recv().ok();
        }
        // Until the first states are there, nobody knows what is left of an earlier run.
        let clear = is_first && is_told;
        let of_daemon = of_daemon(started, notice.as_deref());
        let (to, work) = (folder.clone(), std::mem::take(&mut batch));
        let written =
            tokio::task::spawn_blocking(move || write(&to, work, clear, &of_daemon)).await;
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

fn of_daemon(started: SystemTime, notice: Option<&str>) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started": seconds(started),
        "time": seconds(SystemTime::now()),
        "notice": notice,
    })
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

fn write(folder: &Path, batch: Batch, clear: bool, of_daemon: &Value) -> Written {
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
    let of_daemon = put(&folder.join(OF_DAEMON), &format!("{of_daemon:#}\n"));
    let mut written = Written {
        is_cleared: clear,
        error: of_daemon.err(),
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
