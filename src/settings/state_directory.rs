//! Where what has to outlive a run is kept: one folder for each sites directory, and never inside it.

use std::path::{Path, PathBuf};

use super::{Environment, Settings};
use crate::document::Problem;

/// `--state` or the file, else `$STATE_DIRECTORY` (systemd), else a folder of its own per sites directory.
pub(super) fn state_directory(
    settings: &Settings,
    environment: Environment<'_>,
) -> Result<PathBuf, Problem> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let sites = real_path(&settings.sites);
    let state = if !settings.state.as_os_str().is_empty() {
        settings.state.clone()
    } else if let Some(given) = set("STATE_DIRECTORY") {
        // systemd separates several by colons; the first is ours.
        PathBuf::from(
            given
                .to_string_lossy()
                .split(':')
                .next()
                .unwrap_or_default(),
        )
    } else {
        let home = set("XDG_STATE_HOME")
            .map(PathBuf::from)
            .filter(|home| home.is_absolute());
        let home = home.or_else(|| set("HOME").map(|home| Path::new(&home).join(".local/state")));
        let none = || {
            Problem::of_file(
                Path::new("state"),
                "there is no place for the state directory: $HOME is not set",
            )
            .with_help("name one with --state, $ONEDOOR_STATE, or state = \"...\" in onedoor.toml")
        };
        home.ok_or_else(none)?.join("onedoor").join(hash(&sites))
    };
    if real_path(&state).starts_with(&sites) {
        let message = format!(
            "the state directory {} lies inside the sites directory",
            state.display()
        );
        return Err(Problem::of_file(Path::new("state"), message)
            .with_help("name another one with --state"));
    }
    Ok(state)
}

/// The absolute path with symlinks resolved as far as it exists.
fn real_path(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for existing in absolute.ancestors() {
        if let Ok(real) = existing.canonicalize() {
            let rest = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
            // Joining an empty rest would add a slash.
            return if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            };
        }
    }
    absolute
}

/// FNV-1a: short and the same in every version; it only has to tell folders apart.
fn hash(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}")
}
