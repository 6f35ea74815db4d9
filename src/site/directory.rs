//! All of sites.d: which files are site files, which are not and why, and the text of one.
//!
//! Only looks; what a change means is decided by `reload`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::fence::{FileError, read_regular};
use super::{SiteDocument, SiteName};
use crate::document::{Problem, Severity};
use crate::limits::SITE_FILE_BYTES;

/// What is in the sites directory, in the order of names.
#[derive(Debug, Default)]
pub struct Listing {
    pub files: BTreeMap<SiteName, Found>,
    /// In the order of paths, each as it would be opened.
    pub ignored: Vec<(PathBuf, Ignored)>,
    /// Team folders that cannot be listed: what was in them is unknown, not gone.
    pub unreadable: Vec<(PathBuf, io::Error)>,
    /// Folders that everybody may write into: whoever does owns every free name.
    pub exposed: Vec<PathBuf>,
}

/// A site file in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: SiteName,
    pub path: PathBuf,
    /// `None`: there is a name but no file behind it that could be looked at (dangling link, loop).
    pub stamp: Option<Stamp>,
}

/// Tells one state of a file from another without opening it; of the file behind symlinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    pub dev: u64,
    pub inode: u64,
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
}

impl Stamp {
    /// The same for one file with the same content, whatever it is called: a rename changes the ctime.
    pub fn file(self) -> impl Eq + std::hash::Hash + Copy {
        (self.dev, self.inode, self.size, self.mtime_ns)
    }

    fn of(metadata: &fs::Metadata) -> Stamp {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
        Stamp {
            dev: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Lists the directory and its team folders.
///
/// # Errors
/// When the directory itself cannot be listed.
pub fn list(sites: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let (entries, mode) = entries(sites)?;
    if mode & OTHERS_WRITE != 0 {
        listing.exposed.push(sites.to_owned());
    }
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if is_kubernetes(&name) {
            continue;
        }
        let path = entry.path();
        if !is_folder(&entry, &path) {
            listing.add(Path::new(&name), path);
        } else if let Err(ignored) = classify_folder(&name) {
            listing.ignored.push((path, ignored));
        } else {
            listing.add_team(&name, path);
        }
    }
    listing.ignored.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(listing)
}

impl Listing {
    fn add(&mut self, relative: &Path, path: PathBuf) {
        match classify(relative) {
            Err(ignored) => self.ignored.push((path, ignored)),
            Ok(name) => {
                let stamp = stamp(&path).ok();
                self.files.insert(name.clone(), Found { name, path, stamp });
            }
        }
    }

    fn add_team(&mut self, team: &OsStr, folder: PathBuf) {
        let (entries, mode) = match entries(&folder) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable.push((folder, error)),
        };
        if mode & OTHERS_WRITE != 0 {
            self.exposed.push(folder.clone());
        }
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.unreadable.push((folder, error)),
            };
            let name = entry.file_name();
            if is_kubernetes(&name) {
                continue;
            }
            let path = entry.path();
            if is_folder(&entry, &path) {
                self.ignored.push((path, Ignored::TooDeep));
            } else {
                self.add(&Path::new(team).join(name), path);
            }
        }
    }
}

/// Whether names in `folder` can be listed and what is behind them can be asked for.
///
/// # Errors
/// As opendir(3) and stat(2); [`why_closed`] has words for a person.
pub fn admits(folder: &Path) -> io::Result<()> {
    entries(folder).map(drop)
}

/// What is in a folder, and its mode.
fn entries(folder: &Path) -> io::Result<(fs::ReadDir, u32)> {
    let entries = fs::read_dir(folder)?;
    // With `r` and without `x` there are names, and every file behind them seems to be broken.
    let metadata = fs::metadata(folder.join("."))?;
    Ok((entries, metadata.mode()))
}

/// Why a folder cannot be listed, with the command that mends it where there is one.
pub fn why_closed(folder: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("permission denied: {}", how_to_permit(folder, "rx"))
        }
        _ => error.to_string(),
    }
}

/// `..data`, `..2026_11_23` and the like: the inside of a mounted ConfigMap. Links that lead through them are the
/// site files.
fn is_kubernetes(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"..")
}

fn is_folder(entry: &fs::DirEntry, path: &Path) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()),
        Ok(kind) => kind.is_dir(),
        Err(_) => false,
    }
}

/// The stamp of the file behind `path`.
///
/// # Errors
/// As stat(2).
pub fn stamp(path: &Path) -> io::Result<Stamp> {
    fs::metadata(path).map(|metadata| Stamp::of(&metadata))
}

/// Where the file of a site is, or would be.
pub fn path_of(sites: &Path, name: &SiteName) -> PathBuf {
    sites.join(format!("{name}.toml"))
}

/// The site a file is, by its path below the sites directory: `shop.toml`, `team/shop.toml`.
///
/// # Errors
/// Why it is no site file.
pub fn classify(relative: &Path) -> Result<SiteName, Ignored> {
    let mut parts = Vec::new();
    for component in relative.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            _ => return Err(Ignored::Elsewhere),
        }
    }
    match parts[..] {
        [file] => Ok(SiteName::new(stem(file)?)),
        [team, file] => {
            classify_folder(team)?;
            let team = team.to_str().ok_or(Ignored::NotUtf8)?;
            Ok(SiteName::new(format!("{team}/{}", stem(file)?)))
        }
        [] => Err(Ignored::Elsewhere),
        _ => Err(Ignored::TooDeep),
    }
}

fn classify_folder(name: &OsStr) -> Result<(), Ignored> {
    let name = readable(name)?;
    leftover(name)?;
    // What Docker makes where a bind-mounted file was missing.
    if name.ends_with(".toml") {
        Err(Ignored::Folder)
    } else {
        Ok(())
    }
}

/// The name of a site file without `.toml`.
fn stem(file: &OsStr) -> Result<&str, Ignored> {
    let name = readable(file)?;
    leftover(name)?;
    match name.strip_suffix(".toml") {
        Some(stem) => Ok(stem),
        None => Err(Ignored::NotToml {
            suggestion: suggestion(name),
        }),
    }
}

fn readable(name: &OsStr) -> Result<&str, Ignored> {
    let name = name.to_str().ok_or(Ignored::NotUtf8)?;
    if name.chars().any(char::is_control) {
        Err(Ignored::Control)
    } else {
        Ok(name)
    }
}

/// CASES S-06: what editors and package managers leave behind.
fn leftover(name: &str) -> Result<(), Ignored> {
    const SCRATCH: [&str; 8] = [
        ".swp",
        ".swo",
        ".swx",
        ".tmp",
        ".temp",
        ".part",
        ".crdownload",
        ".lock",
    ];
    const BACKUP: [&str; 6] = ["~", ".bak", ".orig", ".old", ".rej", ".save"];
    let has = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if name.ends_with(".off") || name.ends_with(".disabled") {
        return Err(Ignored::Off);
    }
    if name.starts_with('.') {
        return Err(Ignored::Hidden);
    }
    if name == "4913" || name.starts_with('#') && name.ends_with('#') || has(&SCRATCH) {
        return Err(Ignored::Scratch);
    }
    if has(&BACKUP) {
        return Err(Ignored::Backup);
    }
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    if extension.starts_with("dpkg-")
        || extension.starts_with("ucf-")
        || extension.starts_with("rpm")
    {
        return Err(Ignored::Package);
    }
    Ok(())
}

/// What the file should probably be called.
fn suggestion(name: &str) -> Option<String> {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let extension = extension.to_ascii_lowercase();
    let stem = match extension.as_str() {
        "" | "tml" | "tom" | "tol" | "tmol" | "otml" | "tolm" | "toml" | "ini" | "conf" | "cfg"
        | "yaml" | "yml" => stem,
        "txt" => stem.strip_suffix(".toml").unwrap_or(stem),
        // README.md and the like are no attempt at a site.
        "md" | "html" | "sh" | "json" | "pem" | "crt" | "key" => return None,
        // "shop.example.com" without an ending.
        _ if super::Hostname::parse(name).is_ok() => name,
        _ => return None,
    };
    Some(format!("{stem}.toml"))
}

/// Why something in the sites directory is no site file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// `shop.toml.off`: switched off by the operator.
    Off,
    Hidden,
    Scratch,
    Backup,
    Package,
    NotToml {
        suggestion: Option<String>,
    },
    NotUtf8,
    Control,
    TooDeep,
    Folder,
    Elsewhere,
}

impl Ignored {
    /// Whether a folder of the same name may have site files. What editors and scripts write beside a file, to rename it
    /// over that, has a name that no team's folder has.
    pub fn may_be_a_folder(&self) -> bool {
        match self {
            Ignored::NotToml { .. } => true,
            Ignored::Off
            | Ignored::Hidden
            | Ignored::Scratch
            | Ignored::Backup
            | Ignored::Package
            | Ignored::NotUtf8
            | Ignored::Control
            | Ignored::TooDeep
            | Ignored::Folder
            | Ignored::Elsewhere => false,
        }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ignored::Off => f.write_str("switched off by its name"),
            Ignored::Hidden => f.write_str("its name begins with a dot"),
            Ignored::Scratch => f.write_str("a temporary file, by its name"),
            Ignored::Backup => f.write_str("a backup, by its name"),
            Ignored::Package => f.write_str("left by the package manager, by its name"),
            Ignored::NotToml {
                suggestion: Some(name),
            } => write!(f, "does not end in .toml, did you mean {name}?"),
            Ignored::NotToml { suggestion: None } => f.write_str("does not end in .toml"),
            Ignored::NotUtf8 => f.write_str("its name is not UTF-8"),
            Ignored::Control => f.write_str("its name has control characters"),
            Ignored::TooDeep => f.write_str("deeper than one folder"),
            Ignored::Folder => f.write_str("a folder with the name of a site file"),
            Ignored::Elsewhere => f.write_str("not in the sites directory"),
        }
    }
}

/// Reads a site file.
///
/// # Errors
/// As [`ReadError`] says; it never waits for a writer and never reads more than a site file may have.
pub fn read(path: &Path, name: &SiteName) -> Result<SiteDocument, ReadError> {
    // Opened by its real path, so that a link that is switched in between cannot give text and folder of different
    // files.
    let real = path
        .canonicalize()
        .map_err(|error| ReadError::from_io(error, path))?;
    let bytes = read_regular(&real, SITE_FILE_BYTES).map_err(|error| match error {
        FileError::Io(error) => ReadError::from_io(error, &real),
        FileError::TooLarge { .. } => ReadError::TooLarge,
        FileError::NotRegular | FileError::Outside | FileError::OutsideOwn => ReadError::NotRegular,
    })?;
    let text = decode(bytes)?;
    Ok(SiteDocument {
        name: name.clone(),
        text,
        origin: path.to_owned(),
        real,
    })
}

/// CASES S-03: whoever may write the file owns the site.
pub fn exposed(path: &Path) -> Option<Problem> {
    let mode = path.metadata().ok()?.mode();
    let message = format!("everybody may write this file (mode {:04o})", mode & 0o7777);
    (mode & OTHERS_WRITE != 0).then(|| Problem {
        severity: Severity::Warning,
        ..Problem::of_file(path, message).with_help(format!("chmod o-w '{}'", path.display()))
    })
}

const OTHERS_WRITE: u32 = 0o002;

/// The text of a file.
///
/// # Errors
/// `NotUtf8` with the place.
pub fn decode(bytes: Vec<u8>) -> Result<String, ReadError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(ReadError::Utf16);
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line_start = memchr::memrchr(b'\n', good).map_or(0, |at| at + 1);
        let line = memchr::memchr_iter(b'\n', good).count() + 1;
        let column = String::from_utf8_lossy(&good[line_start..]).chars().count() + 1;
        ReadError::NotUtf8 {
            line: line as u32,
            column: column as u32,
        }
    })
}

/// Why the text of a site file cannot be had.
#[derive(Debug)]
pub enum ReadError {
    /// Not there any more, or a link that leads nowhere.
    Gone,
    NotRegular,
    TooLarge,
    /// With all that is needed to mend it, in words.
    PermissionDenied(String),
    Utf16,
    NotUtf8 {
        line: u32,
        column: u32,
    },
    Io(io::Error),
}

impl ReadError {
    pub(crate) fn from_io(error: io::Error, path: &Path) -> ReadError {
        match error.kind() {
            io::ErrorKind::NotFound => ReadError::Gone,
            io::ErrorKind::PermissionDenied => {
                ReadError::PermissionDenied(how_to_permit(path, "r"))
            }
            _ => ReadError::Io(error),
        }
    }

    /// This error as a problem of the file `origin`.
    pub fn into_problem(self, origin: &Path) -> Problem {
        let problem = Problem::of_file(origin, self.to_string());
        match self {
            ReadError::NotUtf8 { line, column } => Problem {
                line,
                column,
                ..problem
            },
            ReadError::Utf16 => Problem {
                line: 1,
                column: 1,
                ..problem
            },
            _ => problem,
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Gone => f.write_str("there is no file behind this name"),
            ReadError::NotRegular => f.write_str("not a regular file"),
            ReadError::TooLarge => write!(f, "larger than {} KiB", SITE_FILE_BYTES >> 10),
            ReadError::PermissionDenied(how) => write!(f, "permission denied: {how}"),
            ReadError::Utf16 => f.write_str("the file is UTF-16, save it as UTF-8"),
            ReadError::NotUtf8 { .. } => {
                f.write_str("not UTF-8 from here on, save the file as UTF-8")
            }
            ReadError::Io(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// Whose the file is, who we are, and the command that brings the two together.
fn how_to_permit(path: &Path, right: &'static str) -> String {
    let our_user = effective_user().map_or("?".to_owned(), user);
    let closed = path
        .ancestors()
        .skip(1)
        .filter(|folder| fs::metadata(folder).is_ok())
        .find(|folder| {
            let inside = path
                .strip_prefix(folder)
                .ok()
                .and_then(|rest| rest.components().next());
            inside.is_some_and(|next| {
                fs::symlink_metadata(folder.join(next))
                    .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
            })
        });
    let (what, place, right) = match closed {
        Some(folder) => ("its folder", folder, "x"),
        None => ("it", path, right),
    };
    let shown = place.display();
    let advice = format!("chmod o+{right} '{shown}' or setfacl -m u:{our_user}:{right} '{shown}'");
    match fs::metadata(place) {
        Ok(metadata) => format!(
            "{what} belongs to {} with mode {:04o} and onedoor runs as {our_user}; {advice}",
            user(metadata.uid()),
            metadata.mode() & 0o7777,
        ),
        Err(_) => format!("onedoor runs as {our_user}; {advice}"),
    }
}

/// Not the owner of `/proc/self`: with a capability on the executable, as a low port needs it, that is root (proc(5)).
fn effective_user() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The name of a user, or the number where it has none.
fn user(uid: u32) -> String {
    let names = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = names.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder of its own, gone when dropped.
    pub(crate) struct Folder(pub(crate) PathBuf);

    impl Folder {
        pub(crate) fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("onedoor-{name}-{}", std::process::id()));
            drop(fs::remove_dir_all(&path));
            fs::create_dir_all(&path).expect("a folder for the test");
            Folder(path)
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(&path, text).expect("file");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn named(name: &str) -> Result<String, Ignored> {
        classify(Path::new(name)).map(|name| name.to_string())
    }

    #[test]
    fn a_site_is_named_after_its_file_and_one_folder() {
        assert_eq!(named("shop.toml"), Ok("shop".into()));
        assert_eq!(
            named("shop.example.com.toml"),
            Ok("shop.example.com".into())
        );
        assert_eq!(named("team/shop.toml"), Ok("team/shop".into()));
        assert_eq!(named("a/b/shop.toml"), Err(Ignored::TooDeep));
        assert_eq!(named("../shop.toml"), Err(Ignored::Elsewhere));
        assert_eq!(named("shop.toml/x.toml"), Err(Ignored::Folder));
    }

    #[test]
    fn leftovers_are_ignored_with_the_reason() {
        use Ignored::*;
        for (name, reason) in [
            (".shop.toml", Hidden),
            (".shop.toml.swp", Hidden),
            ("shop.toml~", Backup),
            ("shop.swp", Scratch),
            ("shop.toml.tmp", Scratch),
            ("shop.toml.bak", Backup),
            ("shop.toml.off", Off),
            ("shop.off", Off),
            ("shop.toml.dpkg-new", Package),
            ("shop.toml.dpkg-old", Package),
            ("shop.toml.rpmnew", Package),
            ("shop.toml.rpmsave", Package),
            ("4913", Scratch),
            ("#shop.toml#", Scratch),
            (".toml", Hidden),
            ("x\n.toml", Control),
            ("x\x1b.toml", Control),
            ("README.md", NotToml { suggestion: None }),
        ] {
            assert_eq!(named(name), Err(reason), "{name}");
        }
        for name in [
            "shop.tml",
            "shop.conf",
            "shop.toml.txt",
            "shop",
            "shop.TOML",
            "shop.yaml",
        ] {
            let ignored = named(name).expect_err(name);
            assert_eq!(
                ignored.to_string(),
                "does not end in .toml, did you mean shop.toml?",
                "{name}"
            );
        }
        assert_eq!(
            classify(Path::new(OsStr::from_bytes(b"\xff.toml"))),
            Err(NotUtf8)
        );
    }

    #[test]
    fn the_listing_follows_links_and_kubernetes_folders() {
        let folder = Folder::new("list");
        folder.write("..2026_1/shop.toml", "x");
        folder.write("team/blog.toml", "");
        folder.write("team/deep/x.toml", "");
        folder.write("shop.conf", "");
        folder.write(".git/config", "");
        symlink("..2026_1", folder.0.join("..data")).expect("link");
        symlink("..data/shop.toml", folder.0.join("shop.toml")).expect("link");
        symlink("nowhere", folder.0.join("lost.toml")).expect("link");
        symlink("loop.toml", folder.0.join("loop.toml")).expect("link");
        let listing = list(&folder.0).expect("listing");
        let names: Vec<_> = listing.files.keys().map(SiteName::as_str).collect();
        assert_eq!(names, ["loop", "lost", "shop", "team/blog"]);
        let stamps: Vec<_> = listing
            .files
            .values()
            .map(|found| found.stamp.is_some())
            .collect();
        assert_eq!(stamps, [false, false, true, true]);
        assert_eq!(
            listing.files[&SiteName::new("shop")]
                .stamp
                .map(|stamp| stamp.size),
            Some(1)
        );
        let ignored: Vec<_> = listing
            .ignored
            .iter()
            .map(|(_, reason)| reason.clone())
            .collect();
        assert_eq!(
            ignored,
            [
                Ignored::Hidden,
                Ignored::NotToml {
                    suggestion: Some("shop.toml".into())
                },
                Ignored::TooDeep
            ]
        );
        assert!(listing.unreadable.is_empty());
        assert!(list(&folder.0.join("none")).is_err());

        let name = SiteName::new("shop");
        let document = read(&folder.0.join("shop.toml"), &name).expect("document");
        assert_eq!(
            document.real,
            folder
                .0
                .canonicalize()
                .expect("real")
                .join("..2026_1/shop.toml")
        );
        assert!(matches!(
            read(&folder.0.join("lost.toml"), &name),
            Err(ReadError::Gone)
        ));
        assert!(matches!(
            read(&folder.0.join("loop.toml"), &name),
            Err(ReadError::Io(_))
        ));
        assert!(matches!(
            read(&folder.0.join("team"), &name),
            Err(ReadError::NotRegular)
        ));
    }

    #[test]
    fn a_fifo_or_a_device_hangs_nothing_and_a_large_file_is_refused() {
        let folder = Folder::new("fifo");
        let fifo = folder.0.join("fifo.toml");
        let made = std::process::Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .expect("mkfifo");
        assert!(made.success());
        let name = SiteName::new("x");
        assert!(matches!(read(&fifo, &name), Err(ReadError::NotRegular)));
        let writer = {
            let fifo = fifo.clone();
            // Goes on when somebody opens the other end.
            std::thread::spawn(move || fs::OpenOptions::new().write(true).open(fifo).map(drop))
        };
        for _ in 0..10 {
            assert!(matches!(read(&fifo, &name), Err(ReadError::NotRegular)));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!writer.is_finished(), "it is not even opened");
        drop(fs::File::open(&fifo).expect("the other end"));
        writer.join().expect("writer").expect("opened");
        symlink("/dev/zero", folder.0.join("zero.toml")).expect("link");
        assert!(matches!(
            read(&folder.0.join("zero.toml"), &name),
            Err(ReadError::NotRegular)
        ));
        let large = folder.write("large.toml", vec![b'#'; SITE_FILE_BYTES as usize + 1]);
        assert!(matches!(read(&large, &name), Err(ReadError::TooLarge)));
    }

    #[test]
    fn text_that_is_not_utf8_has_a_place() {
        let problem = decode(b"host = 'a'\nto = '\xff'".to_vec())
            .expect_err("error")
            .into_problem(Path::new("a.toml"));
        assert_eq!(
            problem.to_string(),
            "a.toml:2:7: not UTF-8 from here on, save the file as UTF-8"
        );
        assert!(matches!(
            decode(b"\xff\xfeh\0".to_vec()),
            Err(ReadError::Utf16)
        ));
    }

    #[test]
    fn permission_denied_names_owner_mode_user_and_command() {
        let folder = Folder::new("permission");
        let path = folder.write("shop.toml", "");
        let how = how_to_permit(&path, "r");
        assert!(
            how.contains("belongs to ")
                && how.contains("with mode 0")
                && how.contains("onedoor runs as "),
            "{how}"
        );
        assert!(
            how.contains("chmod o+r '") && how.contains("setfacl -m u:"),
            "{how}"
        );
    }

    #[test]
    fn ten_thousand_files_are_listed_quickly() {
        let folder = Folder::new("many");
        for number in 0..10_000 {
            fs::write(folder.0.join(format!("site-{number}.toml")), "").expect("file");
        }
        let start = std::time::Instant::now();
        assert_eq!(list(&folder.0).expect("listing").files.len(), 10_000);
        // Tens of milliseconds; the bound leaves room for a busy machine and a debug build.
        assert!(
            start.elapsed() < std::time::Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
    }
}
