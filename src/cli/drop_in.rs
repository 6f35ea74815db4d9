//! Site files, written and removed the way that nobody ever sees half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::args::{Places, Serving};
use super::{FAILED, complain, daemon, run};
use crate::admin::client::{Client, ClientError};
use crate::site::SiteName;
use crate::site::directory;

/// Where site files are, and who serves them.
pub(super) struct Folder {
    pub(super) sites: PathBuf,
    /// `None`: nothing runs.
    pub(super) daemon: Option<Client>,
}

impl Folder {
    /// That of the daemon, or of the settings where none runs.
    ///
    /// # Errors
    /// The exit code, after the reason was printed.
    pub(super) fn find(places: &Places) -> Result<Folder, ExitCode> {
        let daemon = daemon::find(places)?;
        match daemon.status() {
            Ok(status) => Ok(Folder {
                sites: PathBuf::from(status["sites"].as_str().unwrap_or_default()),
                daemon: Some(daemon),
            }),
            Err(ClientError::NotRunning { .. }) if places.admin.is_none() => {
                let settings = run::settings(places, Serving::default())?;
                Ok(Folder {
                    sites: settings.sites,
                    daemon: None,
                })
            }
            Err(error) => Err(daemon::explain(&error)),
        }
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

pub(super) fn refuse(why: impl std::fmt::Display) -> ExitCode {
    complain(why);
    ExitCode::from(FAILED)
}

/// Beside, on disk, then renamed over `file`; with the rights of the file that was there.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    // A link stays one: what it points at gets the text.
    let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!(
        ".{}.{}.new",
        name.to_string_lossy(),
        std::process::id()
    ));
    let written = (|| {
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&beside)?;
        if let Ok(before) = fs::metadata(&real) {
            out.set_permissions(before.permissions())?;
        }
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&beside, &real)
    })();
    if written.is_err() {
        // Where it cannot be removed either, its name says that it is nothing.
        fs::remove_file(&beside).ok();
    }
    written?;
    // The name is as safe as the text only with its folder.
    File::open(folder).and_then(|folder| folder.sync_all()).ok();
    Ok(())
}
