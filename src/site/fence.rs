//! Other files and sockets that a site file points at: which ones it may, and reading them without ever hanging.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// `O_NONBLOCK` on Linux: opening a FIFO must not wait for its writer. The parsers build without a crate that
/// would name it.
const O_NONBLOCK: i32 = 0o4000;

/// What one site file may point at.
#[derive(Clone, Copy, Debug)]
pub struct Fence<'a> {
    /// Where relative paths start: the folder of the real site file.
    pub folder: &'a Path,
    pub around: Around<'a>,
    /// Folders besides that.
    pub files_under: &'a [PathBuf],
    /// `None`: sockets may be anywhere.
    pub sockets_under: Option<&'a [PathBuf]>,
}

/// The folder whose files may be read without a word in the daemon file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Around<'a> {
    /// That of the site file: for what is shown to others, because each team has a folder of its own.
    Own(&'a Path),
    /// That of all site files: for what never leaves us.
    Sites(&'a Path),
}

impl<'a> Around<'a> {
    /// The folder of a site file: of the real one where it is below `sites`, else of the link to it.
    pub fn own(origin: &'a Path, real: &'a Path, sites: &Path) -> Around<'a> {
        let folder = |file: &'a Path| file.parent().unwrap_or(Path::new(""));
        match is_under(folder(real), std::iter::once(sites)) {
            true => Around::Own(folder(real)),
            false => Around::Own(folder(origin)),
        }
    }
}

impl Fence<'_> {
    /// Where `text` points, before symlinks.
    pub fn locate(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    /// Reads a file of at most `cap` bytes, if it lies, symlinks resolved, where it may.
    ///
    /// # Errors
    /// As [`Fence::admit`], before anything is opened; else as [`read_regular`].
    pub fn read(&self, path: &Path, cap: u64) -> Result<Vec<u8>, FileError> {
        self.find(path, cap).map(|(_, bytes)| bytes)
    }

    /// The same, and where the file really is.
    ///
    /// # Errors
    /// As [`Fence::read`].
    pub fn find(&self, path: &Path, cap: u64) -> Result<(PathBuf, Vec<u8>), FileError> {
        const ATTEMPTS: usize = 3;
        for _ in 0..ATTEMPTS {
            let real = self.admit(path)?;
            let file = open_regular(&real, cap)?;
            // A folder on the way may have been switched for a link since it was looked at.
            if is_opened_at(&file, &real) {
                return Ok((real, read_capped(file, cap)?));
            }
        }
        Err(FileError::Io(io::Error::other("it moves while it is read")))
    }

    /// Where a file really is, if that is where it may be.
    ///
    /// # Errors
    /// `Outside` or `OutsideOwn`, and `Io` when it is nowhere.
    pub fn admit(&self, path: &Path) -> Result<PathBuf, FileError> {
        let real = path.canonicalize().map_err(FileError::Io)?;
        let (Around::Own(folder) | Around::Sites(folder)) = self.around;
        let allowed = std::iter::once(folder).chain(self.files_under.iter().map(PathBuf::as_path));
        match is_under(&real, allowed) {
            true => Ok(real),
            false => Err(match self.around {
                Around::Own(_) => FileError::OutsideOwn,
                Around::Sites(_) => FileError::Outside,
            }),
        }
    }

    /// Whether an access log may be written to `file`, which need not be there yet: in one of `folders`, symlinks resolved,
    /// and not through a link.
    ///
    /// # Errors
    /// Why not.
    pub fn admit_log(&self, file: &Path, folders: &[PathBuf]) -> Result<(), LogRefusal> {
        let folder = file.parent().ok_or(LogRefusal::Outside)?;
        let is_there = folder.canonicalize().is_ok();
        let real = real_or_to_be(folder).ok_or(LogRefusal::Outside)?;
        if file.is_symlink() || !is_under(&real, folders.iter().map(PathBuf::as_path)) {
            return Err(LogRefusal::Outside);
        }
        match is_there {
            true => Ok(()),
            false => Err(LogRefusal::NoFolder(folder.to_owned())),
        }
    }

    /// Whether a socket may be a backend. It need not be there yet; its folder counts, symlinks resolved.
    pub fn admits_socket(&self, socket: &Path) -> bool {
        let Some(folders) = self.sockets_under else {
            return true;
        };
        real_socket(socket)
            .is_some_and(|real| is_under(&real, folders.iter().map(PathBuf::as_path)))
    }
}

/// Whether two paths lead to one socket, there or not yet.
pub fn is_same_socket(one: &Path, other: &Path) -> bool {
    one == other || real_socket(one).is_some_and(|one| real_socket(other) == Some(one))
}

/// Why no access log may be written to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRefusal {
    Outside,
    /// It may lie there, but this folder has to be made.
    NoFolder(PathBuf),
}

/// Where a socket really is, or will be. `None`: nobody can tell.
fn real_socket(socket: &Path) -> Option<PathBuf> {
    socket.file_name()?;
    real_or_to_be(socket)
}

/// Where `path` leads, symlinks resolved as far as it is there; what is not there yet stands as written, if it does not
/// climb.
fn real_or_to_be(path: &Path) -> Option<PathBuf> {
    let is_there = |part: &'_ Path| part.canonicalize().ok();
    let mut ancestors = path.ancestors();
    let (there, real) = ancestors.find_map(|part| Some((part, is_there(part)?)))?;
    let rest = path.strip_prefix(there).ok()?;
    let is_climbing = rest.components().any(|part| part.as_os_str() == "..");
    // A link that leads nowhere today leads somewhere tomorrow.
    let is_open = rest
        .components()
        .next()
        .is_some_and(|next| real.join(next).is_symlink());
    (!is_climbing && !is_open).then(|| real.join(rest))
}

fn is_under<'p>(real: &Path, mut folders: impl Iterator<Item = &'p Path>) -> bool {
    folders.any(|folder| {
        real.starts_with(folder)
            || real_or_to_be(folder).is_some_and(|folder| real.starts_with(folder))
    })
}

/// Reads a regular file of at most `cap` bytes.
///
/// # Errors
/// `NotRegular` for a FIFO, socket, device or folder, without waiting for it; `TooLarge` also when the file grows
/// while it is read.
pub fn read_regular(path: &Path, cap: u64) -> Result<Vec<u8>, FileError> {
    read_capped(open_regular(path, cap)?, cap)
}

fn open_regular(path: &Path, cap: u64) -> Result<File, FileError> {
    // Asked before it is opened: opening alone does something with a watchdog, a tape or a FIFO.
    if !path.metadata().map_err(FileError::Io)?.is_file() {
        return Err(FileError::NotRegular);
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .map_err(FileError::Io)?;
    // And of what was opened, because names can be switched.
    let metadata = file.metadata().map_err(FileError::Io)?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular);
    }
    if metadata.len() > cap {
        return Err(FileError::TooLarge { cap });
    }
    Ok(file)
}

/// Whether an open file is the one at `real`. Where the system does not tell, which is without /proc, it is believed.
fn is_opened_at(file: &File, real: &Path) -> bool {
    let told = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    told.map_or(true, |told| told == real)
}

fn read_capped(file: File, cap: u64) -> Result<Vec<u8>, FileError> {
    let expected = file.metadata().map_err(FileError::Io)?.len().min(cap);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
    file.take(cap + 1)
        .read_to_end(&mut bytes)
        .map_err(FileError::Io)?;
    if bytes.len() as u64 > cap {
        return Err(FileError::TooLarge { cap });
    }
    Ok(bytes)
}

/// Why a file cannot be used.
#[derive(Debug)]
pub enum FileError {
    Outside,
    OutsideOwn,
    NotRegular,
    TooLarge { cap: u64 },
    Io(io::Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Outside => {
                f.write_str("lies outside the sites directory and of files_under in onedoor.toml")
            }
            FileError::OutsideOwn => f.write_str(
                "lies outside the folder of the site file and of files_under in onedoor.toml",
            ),
            FileError::NotRegular => f.write_str("is not a regular file"),
            FileError::TooLarge { cap } => write!(f, "is larger than {} KiB", cap >> 10),
            FileError::Io(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

impl std::error::Error for FileError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_switched_while_it_was_looked_for_is_told_by_where_it_was_opened() {
        let folder = std::env::temp_dir().join(format!("onedoor-opened-{}", std::process::id()));
        fs::create_dir_all(folder.join("in")).expect("folder");
        fs::create_dir_all(folder.join("out")).expect("folder");
        let folder = folder.canonicalize().expect("there");
        for file in ["in/a", "out/a"] {
            fs::write(folder.join(file), "x").expect("file");
        }
        let real = folder.join("in/a");
        assert!(is_opened_at(&open_regular(&real, 10).expect("open"), &real));
        fs::rename(folder.join("in"), folder.join("away")).expect("renamed");
        std::os::unix::fs::symlink("out", folder.join("in")).expect("link");
        assert!(!is_opened_at(
            &open_regular(&real, 10).expect("open"),
            &real
        ));
        fs::remove_dir_all(&folder).expect("gone");
    }
}
