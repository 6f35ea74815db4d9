//! The text of a site file, or why it cannot be had.

use std::fmt;
use std::io;
use std::path::Path;

use super::permit::how_to_permit_below;
use crate::document::Problem;
use crate::limits::SITE_FILE_BYTES;
use crate::site::fence::{FileError, read_regular};
use crate::site::{SiteDocument, SiteName};

/// Reads a site file.
///
/// # Errors
/// As [`ReadError`] says; it never waits for a writer and never reads more than a site file may have.
pub fn read(path: &Path, name: &SiteName) -> Result<SiteDocument, ReadError> {
    // Opened by its real path, so that a link that is switched in between cannot give text and folder of different
    // files.
    let real = path
        .canonicalize()
        .map_err(|error| ReadError::from_io(error, path, name))?;
    let bytes = read_regular(&real, SITE_FILE_BYTES).map_err(|error| match error {
        FileError::Io(error) => ReadError::from_io(error, path, name),
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
    fn from_io(error: io::Error, path: &Path, name: &SiteName) -> ReadError {
        match error.kind() {
            io::ErrorKind::NotFound => ReadError::Gone,
            io::ErrorKind::PermissionDenied => {
                let parts = name.as_str().split('/').count();
                let sites = path.ancestors().nth(parts).unwrap_or(path);
                ReadError::PermissionDenied(how_to_permit_below(sites, path, "r"))
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
