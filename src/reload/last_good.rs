//! The version of each site that last went live, and the names it owns, on disk.
//!
//! One small JSON file per site in the state directory, written after publishing and off the control thread. A
//! state directory that is full or cannot be written is a warning and costs nothing but the memory of a restart.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{history, parallel};
use crate::site::{HostPattern, SiteDocument, SiteName};

/// Another number means another layout; a file with an unknown one is left alone and not used.
const FORMAT: u64 = 1;
/// Between two attempts at what could not be written.
const RETRY: Duration = Duration::from_secs(30);
/// From so many files on, one sync of the filesystem is cheaper than one of each.
const MANY: usize = 16;

/// A site as it last went live.
#[derive(Clone, Debug)]
pub(super) struct LastGood {
    pub(super) document: SiteDocument,
    pub(super) claims: Vec<HostPattern>,
    pub(super) since: SystemTime,
}

/// What becomes of files that a process left half written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// The directory is ours.
    Remove,
    /// Somebody else may be writing them just now.
    Keep,
}

/// Everything in `directory` that can be read, in the order of names; the rest is said and skipped.
pub(super) fn read_all(directory: &Path, leftovers: Leftovers) -> Vec<LastGood> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            warn!(path = %directory.display(), "cannot read what was live before: {error}");
            return Vec::new();
        }
    };
    let mut paths = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().as_bytes();
        if name.starts_with(b".") {
            // Left by a process that was killed while it wrote. Where it cannot be removed, it does no harm.
            if leftovers == Leftovers::Remove {
                fs::remove_file(&path).ok();
            }
        } else if name.ends_with(b".json") {
            paths.push(path);
        }
    }
    let read = parallel::map(paths, |path| match read_one(&path) {
        Ok(last_good) => Some(last_good),
        Err(reason) => {
            warn!(path = %path.display(), "cannot use what was live before: {reason}");
            None
        }
    });
    let mut all: Vec<LastGood> = read.into_iter().flatten().collect();
    all.sort_by(|a, b| a.document.name.cmp(&b.document.name));
    all
}

/// One version.
pub(super) fn read_one(path: &Path) -> Result<LastGood, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    match value["format"].as_u64() {
        Some(FORMAT) => {}
        Some(other) => {
            return Err(format!(
                "written in format {other}, this version reads {FORMAT}"
            ));
        }
        None => return Err("it has no format number".to_owned()),
    }
    let text = |key: &str| value[key].as_str().ok_or(format!("{key} is missing"));
    let claims = value["claims"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let claims = claims.iter().map(|claim| {
        let claim = claim.as_str().unwrap_or_default();
        HostPattern::parse(claim).map_err(|error| error.to_string())
    });
    Ok(LastGood {
        document: SiteDocument {
            name: SiteName::new(text("name")?),
            text: text("text")?.to_owned(),
            origin: to_path(&value["origin"]),
            real: to_path(&value["real"]),
        },
        claims: claims.collect::<Result<_, _>>()?,
        since: match value["since"].as_u64() {
            Some(since) => UNIX_EPOCH + Duration::from_millis(since),
            // Written before that was noted.
            None => modified(path),
        },
    })
}

fn modified(path: &Path) -> SystemTime {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.unwrap_or(UNIX_EPOCH)
}

/// A path is text, or bytes where it is not UTF-8.
fn to_path(value: &Value) -> PathBuf {
    if let Some(text) = value.as_str() {
        return PathBuf::from(text);
    }
    let bytes = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let bytes = bytes
        .iter()
        .filter_map(|byte| u8::try_from(byte.as_u64()?).ok());
    PathBuf::from(OsString::from_vec(bytes.collect()))
}

fn from_path(path: &Path) -> Value {
    match path.to_str() {
        Some(text) => json!(text),
        None => json!(path.as_os_str().as_bytes()),
    }
}

/// Writes behind the publisher's back.
#[derive(Clone, Debug)]
pub(super) struct Store {
    jobs: mpsc::UnboundedSender<Job>,
    trouble: Trouble,
}

/// Why what is live cannot be written just now, in one line.
type Trouble = Arc<Mutex<Option<String>>>;

#[derive(Debug)]
enum Job {
    Keep(Box<LastGood>),
    Forget(SiteName),
    Flush(oneshot::Sender<()>),
}

impl Store {
    /// Starts the writer, a task on the current runtime that ends with the last clone of the store.
    pub(super) fn open(directory: PathBuf) -> Store {
        let (jobs, receiver) = mpsc::unbounded_channel();
        let trouble = Trouble::default();
        tokio::spawn(write_behind(directory, receiver, Arc::clone(&trouble)));
        Store { jobs, trouble }
    }

    /// Why what is live cannot be written, for whoever looks. `None`: it can, as far as is known.
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    pub(super) fn keep(&self, last_good: LastGood) {
        self.send(Job::Keep(Box::new(last_good)));
    }

    pub(super) fn forget(&self, name: &SiteName) {
        self.send(Job::Forget(name.clone()));
    }

    /// Waits until everything so far was written or has failed to be.
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        self.send(Job::Flush(done));
        // A writer that is gone has nothing left to write.
        written.await.ok();
    }

    fn send(&self, job: Job) {
        // The writer only ends with the runtime.
        self.jobs.send(job).ok();
    }
}

/// What is to be on disk: a version, or nothing.
type Batch = BTreeMap<SiteName, Option<Box<LastGood>>>;

/// A line is whole whatever panicked beside it.
fn lock(trouble: &Trouble) -> MutexGuard<'_, Option<String>> {
    trouble.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write_behind(
    directory: PathBuf,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    trouble: Trouble,
) {
    let mut batch = Batch::new();
    let mut is_failing = false;
    loop {
        let first = if is_failing {
            timeout(RETRY, jobs.recv()).await.ok()
        } else {
            Some(jobs.recv().await)
        };
        if first.as_ref().is_some_and(Option::is_none) {
            return;
        }
        let mut flushed = Vec::new();
        let more = std::iter::from_fn(|| jobs.try_recv().ok());
        for job in first.flatten().into_iter().chain(more) {
            match job {
                // The newest word about a site is the one that counts.
                Job::Keep(last_good) => {
                    batch.insert(last_good.document.name.clone(), Some(last_good));
                }
                Job::Forget(name) => {
                    batch.insert(name, None);
                }
                Job::Flush(done) => flushed.push(done),
            }
        }
        let (to, work) = (directory.clone(), std::mem::take(&mut batch));
        let written = tokio::task::spawn_blocking(move || write(&to, work)).await;
        let (left, error) = written.unwrap_or_default();
        batch = left;
        *lock(&trouble) = error.as_ref().filter(|_| !batch.is_empty()).map(|error| {
            let path = directory.display();
            format!(
                "what is live cannot be written into {path}, a restart would not know it: {error}"
            )
        });
        match error {
            Some(error) if !is_failing => warn!(
                path = %directory.display(),
                "cannot write what is live, a restart would not know it: {error}"
            ),
            None if is_failing => {
                info!(path = %directory.display(), "what is live is written again")
            }
            _ => {}
        }
        is_failing = !batch.is_empty();
        for done in flushed {
            // Who no longer waits has given up.
            done.send(()).ok();
        }
    }
}

/// Puts `batch` on disk, all of it with one sync of the folder. Gives back what could not be written and why.
fn write(directory: &Path, batch: Batch) -> (Batch, Option<io::Error>) {
    let mut left = Batch::new();
    // Not its parents: a state directory that was taken away is no longer ours, nor is its lock.
    let made = DirBuilder::new().mode(0o700).create(directory);
    let mut error = made
        .err()
        .filter(|error| error.kind() != io::ErrorKind::AlreadyExists);
    let is_many = batch.len() > MANY;
    let mut ready = Vec::new();
    for (name, version) in batch {
        let beside = directory.join(format!(".{}.tmp", file_stem(&name)));
        let done = match &version {
            Some(version) => write_one(&beside, version, is_many),
            None => Ok(()),
        };
        match done {
            Ok(()) => ready.push((name, version, beside)),
            Err(reason) => {
                // A half-written one only wastes space on a full disk.
                fs::remove_file(&beside).ok();
                error.get_or_insert(reason);
                left.insert(name, version);
            }
        }
    }
    if is_many && let Err(reason) = sync_filesystem(directory) {
        error.get_or_insert(reason);
    }
    let mut has_gone = false;
    for (name, version, beside) in ready {
        let file = directory.join(format!("{}.json", file_stem(&name)));
        let is_gone = version.is_none();
        // What was live is worth less than what is.
        if let Err(reason) = keep_former(directory, &name, &file, version.as_deref()) {
            warn!(site = %name, "the version before is not kept for `onedoor history`: {reason}");
        }
        let done = match &version {
            Some(_) => fs::rename(&beside, &file),
            None => remove_if_there(&file),
        };
        has_gone |= is_gone;
        if let Err(reason) = done {
            error.get_or_insert(reason);
            left.insert(name, version);
        }
    }
    if has_gone {
        history::tidy(directory);
    }
    if let Err(reason) = File::open(directory).and_then(|folder| folder.sync_all()) {
        error.get_or_insert(reason);
    }
    (left, error)
}

/// Keeps what is there aside, before `version` takes its place; unless it says the same.
fn keep_former(
    directory: &Path,
    name: &SiteName,
    file: &Path,
    version: Option<&LastGood>,
) -> io::Result<()> {
    let Ok(former) = read_one(file) else {
        return Ok(());
    };
    match version {
        Some(version) if version.document.text == former.document.text => Ok(()),
        _ => history::keep_aside(directory, name, file, former.since),
    }
}

fn remove_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(reason),
        _ => Ok(()),
    }
}

fn write_one(beside: &Path, version: &LastGood, is_many: bool) -> io::Result<()> {
    let claims: Vec<String> = version.claims.iter().map(HostPattern::to_string).collect();
    let content = json!({
        "format": FORMAT,
        "name": version.document.name.as_str(),
        "origin": from_path(&version.document.origin),
        "real": from_path(&version.document.real),
        "claims": claims,
        "since": milliseconds(version.since),
        "text": version.document.text,
    });
    let mut file = File::create(beside)?;
    file.write_all(content.to_string().as_bytes())?;
    if is_many { Ok(()) } else { file.sync_all() }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn sync_filesystem(directory: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(directory)?)?)
}

/// The name of a site as the name of a file: no slash, nothing a shell or another system trips over.
pub(super) fn file_stem(name: &SiteName) -> String {
    const LONGEST: usize = 200;
    let mut stem = String::new();
    for byte in name.as_str().bytes() {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_')
            || (byte == b'.' && !stem.is_empty())
        {
            stem.push(char::from(byte));
        } else {
            stem.push_str(&format!("%{byte:02x}"));
        }
    }
    if stem.len() > LONGEST {
        stem.truncate(LONGEST);
        stem.push_str(&format!(
            "%{:016x}",
            super::digest(name.as_str().as_bytes())
        ));
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::tests::TempFolder;

    fn version(name: &str, text: &str, claim: &str) -> LastGood {
        LastGood {
            document: SiteDocument {
                name: SiteName::new(name),
                text: text.to_owned(),
                origin: PathBuf::from("/etc/sites.d").join(name),
                real: PathBuf::from(OsString::from_vec(b"/srv/\xff".to_vec())),
            },
            claims: vec![HostPattern::parse(claim).expect("pattern")],
            since: UNIX_EPOCH + Duration::from_secs(1000),
        }
    }

    #[tokio::test]
    async fn what_was_kept_is_read_again_after_a_restart() {
        let folder = TempFolder::new();
        let store = Store::open(folder.path().join("sites"));
        store.keep(version("team/shop", "old", "a.test"));
        store.keep(version("team/shop", "line\n\"two\"", "*.b.test"));
        store.keep(version("blog", "x", "blog.test"));
        store.forget(&SiteName::new("blog"));
        store.flush().await;
        let read = read_all(&folder.path().join("sites"), Leftovers::Remove);
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].document.name.as_str(), "team/shop");
        assert_eq!(read[0].document.text, "line\n\"two\"");
        assert_eq!(read[0].document.real.as_os_str().as_bytes(), b"/srv/\xff");
        assert_eq!(read[0].claims[0].to_string(), "*.b.test");
    }

    #[tokio::test]
    async fn former_versions_are_kept_up_to_a_number_also_of_a_site_that_is_gone() {
        let folder = TempFolder::new();
        let sites = folder.path().join("sites");
        let store = Store::open(sites.clone());
        let name = SiteName::new("team/shop");
        let texts = |versions: &[history::Version]| -> Vec<String> {
            versions
                .iter()
                .map(|version| version.text.clone())
                .collect()
        };
        for text in ["1", "2", "2", "3"] {
            store.keep(version("team/shop", text, "a.test"));
            store.flush().await;
        }
        let (versions, has_present) = history::versions(folder.path(), &name);
        assert!(has_present);
        assert_eq!(texts(&versions), ["3", "2", "1"]);
        for number in 4..40 {
            store.keep(version("team/shop", &number.to_string(), "a.test"));
            store.flush().await;
        }
        let (versions, _) = history::versions(folder.path(), &name);
        assert_eq!(versions.len(), 21);
        assert_eq!((&*versions[0].text, &*versions[20].text), ("39", "19"));
        store.forget(&name);
        store.flush().await;
        let (versions, has_present) = history::versions(folder.path(), &name);
        assert!(!has_present);
        assert_eq!((&*versions[0].text, versions.len()), ("39", 20));
        assert!(
            read_all(&sites, Leftovers::Remove).is_empty(),
            "it does not come back"
        );
    }

    #[test]
    fn what_served_is_known_until_the_new_version_is_in_its_place() {
        let folder = TempFolder::new();
        let sites = folder.path().join("sites");
        let batch = |text: &str| {
            let version = version("shop", text, "a.test");
            Batch::from([(version.document.name.clone(), Some(Box::new(version)))])
        };
        assert!(write(&sites, batch("one")).1.is_none());
        let (name, file) = (SiteName::new("shop"), sites.join("shop.json"));
        // As far as a process gets that ends in the middle.
        let LastGood { claims, .. } = version("shop", "two", "a.test");
        let next = LastGood {
            claims,
            ..version("shop", "two", "b.test")
        };
        keep_former(&sites, &name, &file, Some(&next)).expect("kept");
        let known = read_all(&sites, Leftovers::Remove);
        assert_eq!(known[0].document.text, "one");
        assert!(write(&sites, batch("two")).1.is_none());
        assert_eq!(read_all(&sites, Leftovers::Remove)[0].document.text, "two");
        let (versions, _) = history::versions(folder.path(), &name);
        assert_eq!(versions.last().expect("a former one").text, "one");
    }

    #[tokio::test]
    async fn many_at_once_are_all_kept() {
        let folder = TempFolder::new();
        let store = Store::open(folder.path().to_owned());
        for n in 0..100 {
            store.keep(version(&format!("s{n}"), "x", &format!("s{n}.test")));
        }
        store.flush().await;
        assert_eq!(read_all(folder.path(), Leftovers::Remove).len(), 100);
    }

    #[tokio::test]
    async fn a_state_directory_that_cannot_be_written_is_no_outage_and_recovers() {
        let folder = TempFolder::new();
        let place = folder.path().join("sites");
        fs::write(&place, "in the way").expect("file");
        let store = Store::open(place.clone());
        store.keep(version("shop", "x", "a.test"));
        store.flush().await;
        assert!(read_all(&place, Leftovers::Remove).is_empty());
        fs::remove_file(&place).expect("remove");
        store.flush().await;
        assert_eq!(read_all(&place, Leftovers::Remove).len(), 1);
    }

    #[test]
    fn a_broken_or_newer_file_is_skipped_and_a_half_written_one_removed() {
        let folder = TempFolder::new();
        fs::write(folder.path().join("a.json"), "{").expect("file");
        fs::write(folder.path().join("b.json"), r#"{"format":2}"#).expect("file");
        fs::write(folder.path().join(".c.tmp"), "").expect("file");
        assert!(read_all(folder.path(), Leftovers::Remove).is_empty());
        assert!(!folder.path().join(".c.tmp").exists());
        assert!(folder.path().join("b.json").exists());
    }

    #[test]
    fn every_site_name_makes_a_file_name_of_its_own() {
        let stem = |name: &str| file_stem(&SiteName::new(name));
        assert_eq!(stem("shop.example.com"), "shop.example.com");
        assert_eq!(stem("team/shop"), "team%2fshop");
        assert_eq!(stem(".."), "%2e.");
        assert_ne!(stem(&"ü".repeat(100)), stem(&"ü".repeat(101)));
        assert!(stem(&"ü".repeat(120)).len() < 240);
    }
}
