//! Whether the sites directory can be looked into, and if not, why and what mends it.
//!
//! Asked every glance and never remembered here: what a change of it means is decided by the loop.

use std::io;
use std::path::Path;

use super::watched::{self, Identity};
use crate::site::directory;

/// How the sites directory is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Open(Identity),
    /// It is there, and what is in it is unknown: the reason, with the command that mends it.
    Closed(String),
    Missing,
}

impl Access {
    /// Asks the disk.
    pub(super) fn of(sites: &Path) -> Access {
        match directory::admits(sites) {
            Ok(()) => watched::identity(sites).map_or(Access::Missing, Access::Open),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Access::Missing,
            Err(error) => Access::Closed(directory::why_closed(sites, &error)),
        }
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        match self {
            Access::Open(identity) => Some(*identity),
            Access::Closed(_) | Access::Missing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::tests::TempFolder;

    #[test]
    fn a_file_in_the_place_of_the_folder_is_closed_and_not_missing() {
        let folder = TempFolder::new();
        let place = folder.path().join("sites.d");
        assert_eq!(Access::of(&place), Access::Missing);
        std::fs::write(&place, "").expect("file");
        assert!(matches!(Access::of(&place), Access::Closed(_)));
        assert!(matches!(Access::of(folder.path()), Access::Open(_)));
    }
}
