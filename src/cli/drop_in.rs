//! Site files, written and removed the way that nobody ever sees half of one.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, fchmod, fchown, fstat,
    fsync, linkat, mkdirat, openat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::args::{Places, Serving};
use super::{FAILED, complain, daemon, run};
use crate::admin::client::{Client, ClientError};
use crate::document::mask;
use crate::limits::SITE_FILE_BYTES;
use crate::site::SiteName;
use crate::site::directory;

/// Where site files are, and who serves them.
pub(super) struct Folder {
    pub(super) sites: PathBuf,
    /// The daemon file that is in force. `None`: there is none, or nobody answers.
    pub(super) config: Option<PathBuf>,
    /// `None`: nobody answers.
    pub(super) daemon: Option<Client>,
    /// Where one was asked.
    socket: PathBuf,
}

impl Folder {
    /// That of the daemon, or of the settings where none runs.
    ///
    /// # Errors
    /// The exit code, after the reason was printed.
    pub(super) fn find(places: &Places) -> Result<Folder, ExitCode> {
        let daemon = daemon::find(places)?;
        let socket = daemon.socket().to_owned();
        match daemon.status() {
            Ok(status) => Ok(Folder {
                sites: PathBuf::from(status["sites"].as_str().unwrap_or_default()),
                config: status["config"].as_str().map(PathBuf::from),
                daemon: Some(daemon),
                socket,
            }),
            Err(ClientError::NotRunning { .. }) if places.admin.is_none() => {
                let settings = run::settings(places, Serving::default())?;
                Ok(Folder {
                    sites: settings.sites,
                    config: None,
                    daemon: None,
                    socket,
                })
            }
            Err(error) => Err(daemon::explain(&error)),
        }
    }

    /// What is to be said where nobody answers: that need not mean that nobody serves the folder.
    pub(super) fn nobody_answers(&self, what_a_start_does: &str) -> String {
        format!(
            "nobody answers at {}; a start will {what_a_start_does}, and so does a onedoor on this folder whose socket is \
             elsewhere: name that with --admin, or its state directory with --state",
            self.socket.display()
        )
    }

    /// Writes the file of a site; see [`write`].
    pub(super) fn write(&self, file: &Path, text: &str, before: Before) -> Result<(), ExitCode> {
        let socket = self.daemon.as_ref().map(Client::socket);
        let reader = socket.and_then(|socket| Some(socket.metadata().ok()?.gid()));
        write(&self.sites, file, text, reader, before)
            .map_err(|error| refuse(format_args!("cannot write {}: {error}", file.display())))
    }

    /// The text of a site file; `None`: there is none. Never through a link out of the folder, never waiting for a writer.
    pub(super) fn read(&self, file: &Path) -> Result<Option<String>, DropInError> {
        match read(&self.sites, file) {
            Err(DropInError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Gives the file of a site a name beside its own that is no site's, and returns it.
    pub(super) fn set_aside(&self, file: &Path) -> Result<PathBuf, DropInError> {
        let (root, relative) = place(&self.sites, file)?;
        let Some(name) = relative.file_name().map(|name| name.to_string_lossy()) else {
            return Err(DropInError::NotRegular);
        };
        let team = relative.parent().unwrap_or(Path::new(""));
        let folder = open_below(&root, team, Missing::IsAnError)?;
        for number in 1..=MOST_ASIDE {
            let aside = match number {
                1 => format!("{name}.off"),
                number => format!("{name}.{number}.off"),
            };
            match rename_to_free(&folder, &name, &aside) {
                Err(Errno::EXIST) => {}
                renamed => return Ok(renamed.map(|()| file.with_file_name(aside))?),
            }
        }
        Err(DropInError::Exists)
    }

    /// The file of a site, by the name that somebody typed.
    pub(super) fn file_of(&self, name: &str) -> Result<(SiteName, PathBuf), ExitCode> {
        // People type what they see in the folder.
        let name = name.strip_suffix(".toml").unwrap_or(name);
        let relative = PathBuf::from(format!("{name}.toml"));
        match directory::classify(&relative) {
            Ok(site) if site.as_str() == name => Ok((site, self.sites.join(relative))),
            Ok(_) => Err(refuse(format!("{name:?} is no name of a site"))),
            Err(reason) => Err(refuse(format!("{name:?} is no name of a site: {reason}"))),
        }
    }
}

/// Beyond so many somebody has not looked at for long.
const MOST_ASIDE: usize = 100;

/// What may be where a file is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// A file, whose place is taken.
    Anything,
}

pub(super) fn refuse(why: impl std::fmt::Display) -> ExitCode {
    complain(why);
    ExitCode::from(FAILED)
}

/// Beside, on disk, then renamed over `file`, which is below `sites`; with the owner and rights of the file that was there.
/// `login` is who reads a text with secrets that everybody may not: the group of the daemon.
///
/// A link inside the folder stays one, and what it points at gets the text. No link leads out of the folder: whoever may
/// drop a file there must not choose what root writes.
fn write(
    sites: &Path,
    file: &Path,
    text: &str,
    login: Option<u32>,
    may_replace: Before,
) -> Result<(), DropInError> {
    // As the daemon told it, where bytes that are no UTF-8 cannot be told.
    if sites.to_string_lossy().contains('\u{fffd}') && !sites.exists() {
        return Err(DropInError::NotUtf8);
    }
    fs::create_dir_all(sites)?;
    let (root, relative) = place(sites, file)?;
    let Some(name) = relative.file_name() else {
        return Err(DropInError::NotRegular);
    };
    let team = relative.parent().unwrap_or(Path::new(""));
    let folder = open_below(&root, team, Missing::IsMade)?;
    let before = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if !is_regular(&stat) => return Err(DropInError::NotRegular),
        Ok(_) if may_replace == Before::Nothing => return Err(DropInError::Exists),
        Ok(stat) => Some(stat),
        Err(Errno::NOENT) => None,
        Err(error) => return Err(error.into()),
    };
    let rights = match &before {
        Some(before) => Rights::of(before),
        None => Rights::of_new(&fstat(&folder)?, login.filter(|_| mask(text) != text)),
    };
    let beside = format!(".{}.{}.new", name.to_string_lossy(), std::process::id());
    let written = (|| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let only_ours = Mode::RUSR | Mode::WUSR;
        let mut out = File::from(openat(
            &folder,
            &beside,
            flags | OFlags::CLOEXEC,
            only_ours,
        )?);
        rights.give(&out)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        match before {
            Some(_) => renameat(&folder, &beside, &folder, name).map_err(DropInError::from),
            None => rename_to_free(&folder, &beside, &name.to_string_lossy()).map_err(|error| {
                match error {
                    Errno::EXIST => DropInError::Exists,
                    error => error.into(),
                }
            }),
        }
    })();
    if written.is_err() {
        // Where it cannot be removed either, its name says that it is nothing.
        unlinkat(&folder, &beside, AtFlags::empty()).ok();
    }
    written?;
    // The name is as safe as the text only with its folder.
    fsync(&folder).ok();
    Ok(())
}

/// Renames within a folder, and takes nobody's place.
fn rename_to_free(folder: &OwnedFd, from: &str, to: &str) -> Result<(), Errno> {
    match renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        // Not every filesystem can. A second name fails as well where the first is taken.
        Err(Errno::INVAL | Errno::NOSYS) => {
            linkat(folder, from, folder, to, AtFlags::empty())?;
            unlinkat(folder, from, AtFlags::empty())
        }
        renamed => renamed,
    }
}

fn read(sites: &Path, file: &Path) -> Result<String, DropInError> {
    let (root, relative) = place(sites, file)?;
    let Some(name) = relative.file_name() else {
        return Err(DropInError::NotRegular);
    };
    let team = relative.parent().unwrap_or(Path::new(""));
    let folder = open_below(&root, team, Missing::IsAnError)?;
    // Asked first: opening alone does something to a device. And again of what was opened: names can be switched.
    if !is_regular(&statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?) {
        return Err(DropInError::NotRegular);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = File::from(openat(&folder, name, flags, Mode::empty())?);
    if !is_regular(&fstat(&opened)?) {
        return Err(DropInError::NotRegular);
    }
    let mut bytes = Vec::new();
    opened.take(SITE_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > SITE_FILE_BYTES {
        true => Err(DropInError::TooLarge),
        false => String::from_utf8(bytes).map_err(|_| DropInError::NoText),
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Where the sites folder really is, and the place in it that a file has or leads to.
fn place(sites: &Path, file: &Path) -> Result<(PathBuf, PathBuf), DropInError> {
    let root = sites.canonicalize()?;
    let real = match (file.parent(), file.file_name()) {
        _ if file.is_symlink() => file.canonicalize()?,
        (Some(folder), Some(name)) if folder.exists() => folder.canonicalize()?.join(name),
        _ => root.join(file.strip_prefix(sites).unwrap_or(file)),
    };
    match real.strip_prefix(&root) {
        Ok(relative) => Ok((root.clone(), relative.to_owned())),
        Err(_) => Err(DropInError::Outside { real }),
    }
}

/// What is to be done about a folder that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    IsMade,
    IsAnError,
}

/// Step by step and through no link: names can be switched between the look at them and their use.
fn open_below(root: &Path, relative: &Path, missing: Missing) -> Result<OwnedFd, DropInError> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = openat(CWD, root, flags, Mode::empty())?;
    for step in relative.components() {
        let step = step.as_os_str();
        folder = match openat(&folder, step, flags, Mode::empty()) {
            Err(Errno::NOENT) if missing == Missing::IsMade => {
                mkdirat(&folder, step, Mode::RWXU)?;
                let made = openat(&folder, step, flags, Mode::empty())?;
                // Whoever reads the one reads the other.
                Rights::of(&fstat(&folder)?).give(&made)?;
                made
            }
            opened => opened?,
        };
    }
    Ok(folder)
}

/// Whose a file is, and who may read and write it.
struct Rights {
    owner: u32,
    group: u32,
    mode: u32,
}

impl Rights {
    fn of(stat: &Stat) -> Rights {
        Rights {
            owner: stat.st_uid,
            group: stat.st_gid,
            // With the bit by which a folder gives its group on.
            mode: stat.st_mode & 0o2777,
        }
    }

    /// Of a file that was not there: whoever may list its folder may read it, whatever the umask. `login`: it has secrets,
    /// and this group reads them for the daemon.
    fn of_new(folder: &Stat, login: Option<u32>) -> Rights {
        const OTHERS_READ: u32 = 0o004;
        let is_root = rustix::process::geteuid().is_root();
        let others = folder.st_mode & OTHERS_READ;
        let (group, others) = match login.filter(|_| is_root && others != 0) {
            Some(group) => (group, 0),
            None => (folder.st_gid, others),
        };
        Rights {
            owner: match is_root {
                true => folder.st_uid,
                false => rustix::process::geteuid().as_raw(),
            },
            group,
            mode: 0o640 | others,
        }
    }

    /// # Errors
    /// `Rights` when somebody who reads the file today could not afterwards.
    fn give(&self, file: impl AsFd) -> Result<(), DropInError> {
        let (owner, group) = (Uid::from_raw(self.owner), Gid::from_raw(self.group));
        let has = fstat(&file)?;
        if (has.st_uid, has.st_gid) != (self.owner, self.group)
            && fchown(&file, Some(owner), Some(group)).is_err()
        {
            // Only root gives files away; to a group of ours everybody may. Whether that is enough is asked below.
            fchown(&file, None, Some(group)).ok();
        }
        fchmod(&file, Mode::from_raw_mode(self.mode))?;
        let has = fstat(&file)?;
        let read_by = self.mode & 0o044;
        let lost_group = has.st_gid != self.group && read_by == 0o040;
        let lost_owner = has.st_uid != self.owner && read_by == 0;
        match lost_group || lost_owner {
            true => Err(DropInError::Rights {
                owner: self.owner,
                group: self.group,
            }),
            false => Ok(()),
        }
    }
}

/// Why a site file could not be written, or read; what was there is still there.
#[derive(Debug)]
pub(super) enum DropInError {
    /// A link leads out of the sites folder.
    Outside {
        real: PathBuf,
    },
    NotRegular,
    /// Somebody else has written it meanwhile.
    Exists,
    /// No site file is.
    TooLarge,
    /// It is no UTF-8.
    NoText,
    /// The name of the folder is none.
    NotUtf8,
    /// The new file could not be whose the old one is.
    Rights {
        owner: u32,
        group: u32,
    },
    Io(io::Error),
}

impl fmt::Display for DropInError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DropInError::Outside { real } => write!(
                f,
                "it leads to {}, outside of the sites folder; change it there",
                real.display()
            ),
            DropInError::NotRegular => f.write_str("something that is no file has its name"),
            DropInError::Exists => f.write_str("it is there already"),
            DropInError::TooLarge => write!(f, "it is larger than {} KiB", SITE_FILE_BYTES >> 10),
            DropInError::NoText => f.write_str("it is not UTF-8"),
            DropInError::NotUtf8 => f.write_str(
                "the name of its folder is not UTF-8, and the daemon could not say it; write the file yourself",
            ),
            DropInError::Rights { owner, group } => write!(
                f,
                "it would no longer be read by user {owner} and group {group}; run this as root or as that user"
            ),
            DropInError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DropInError {}

impl From<io::Error> for DropInError {
    fn from(error: io::Error) -> DropInError {
        DropInError::Io(error)
    }
}

impl From<Errno> for DropInError {
    fn from(error: Errno) -> DropInError {
        DropInError::Io(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_whose_name_nobody_could_say_is_not_made() {
        let sites = std::env::temp_dir().join("onedoor\u{fffd}/sites.d");
        let written = write(&sites, &sites.join("a.toml"), "", None, Before::Nothing);
        assert!(matches!(written, Err(DropInError::NotUtf8)), "{written:?}");
        assert!(!sites.exists());
    }
}
