//! Which files are site files, by their names, and why the others are not.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path};

use crate::document::problem::is_risky;
use crate::site::{Hostname, SiteName};

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

pub(super) fn classify_folder(name: &OsStr) -> Result<(), Ignored> {
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
    if name.chars().any(is_risky) {
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
        _ if Hostname::parse(name).is_ok() => name,
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
    /// A link that leads back to the sites directory.
    Itself,
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
            | Ignored::Itself
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
            Ignored::Control => f.write_str(
                "its name has control characters, or such that turn the direction of a text",
            ),
            Ignored::TooDeep => f.write_str("deeper than one folder"),
            Ignored::Folder => f.write_str("a folder with the name of a site file"),
            Ignored::Itself => {
                f.write_str("leads to the sites directory itself, whose sites are there already")
            }
            Ignored::Elsewhere => f.write_str("not in the sites directory"),
        }
    }
}
