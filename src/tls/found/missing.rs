//! What has not come back of folders that were empty or away, as where a volume is restored file by file.
//!
//! Each pair of them goes on being shown until it is whole again, or others in the folders are for all its names, or an
//! operator says that it may go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::{Folder, Pair};
use super::listing::Stamps;
use super::served::Served;
use super::{Folders, Found, GOES_ON, LET_GO, Removals};

/// What one of `certificates` lacks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lack {
    pairs: usize,
    is_said: bool,
    pub(super) line: String,
}

impl Found {
    /// Folders below `roots` that are not among those `seen`, and of which something is still to come.
    pub(super) fn awaited(&self, roots: &[PathBuf], seen: &Folders) -> BTreeMap<PathBuf, Stamps> {
        let is_ours = |path: &Path| roots.iter().any(|root| path.starts_with(root));
        // Of what is gone together with all that was away nothing has come back.
        let is_back = |away: &&PathBuf| seen.keys().any(|path| path.starts_with(away));
        let back: Vec<&PathBuf> = self.closed.keys().filter(is_back).collect();
        // What is gone for the first time may be about to be swapped, with what is whole in it.
        let is_leaving = |path: &Path, folder: &Folder| {
            let has_whole = folder.missing() < folder.pairs.len();
            has_whole && !self.leaving.contains(path) && !path.exists()
        };
        let is_awaited = |path: &Path, folder: &Folder| {
            back.iter().any(|away| path.starts_with(away))
                || folder.missing() > 0 && !is_leaving(path, folder)
        };
        let unseen = (self.folders.iter()).filter(|(path, _)| !seen.contains_key(*path));
        let awaited = unseen.filter(|(path, folder)| is_ours(path) && is_awaited(path, folder));
        awaited
            .map(|(path, _)| (path.clone(), Stamps::new()))
            .collect()
    }

    /// What each of `roots` lacks, but for those that are `away`. It is said once, when no more comes back for the moment.
    pub(super) fn lacks(
        &self,
        roots: &[PathBuf],
        folders: &Folders,
        away: &BTreeMap<PathBuf, String>,
        news: &mut Vec<String>,
    ) -> BTreeMap<PathBuf, Lack> {
        let mut lacks = BTreeMap::new();
        for root in roots.iter().filter(|root| !away.contains_key(*root)) {
            let below = || {
                let folders = folders.iter().filter(|(path, _)| path.starts_with(root));
                folders.map(|(_, folder)| folder)
            };
            let pairs: usize = below().map(|folder| folder.missing()).sum();
            if pairs == 0 {
                continue;
            }
            let line = format!(
                "{} still lacks {pairs} of the certificates that it had before it was empty or away; {GOES_ON}, also if that \
                 is meant: {LET_GO}",
                root.display()
            );
            let before = self.lacks.get(root);
            let was_said = before.is_some_and(|before| before.is_said && before.pairs >= pairs);
            let is_said = was_said || !below().any(|folder| folder.is_restless);
            if is_said && !was_said {
                news.push(line.clone());
            }
            let lack = Lack {
                pairs,
                is_said,
                line,
            };
            lacks.insert(root.clone(), lack);
        }
        lacks
    }
}

/// Lets go of what is missing and not missed any more.
pub(super) fn let_go(folders: &mut Folders, removals: Removals) {
    folders.retain(|_, folder| !folder.is_hollow());
    if folders.values().all(|folder| folder.missing() == 0) {
        return;
    }
    let is_restless = folders.values().any(|folder| folder.is_restless);
    let all = folders.values().flat_map(|folder| &folder.pairs);
    let whole: Vec<Arc<Pair>> = all.filter(|pair| !pair.is_half()).cloned().collect();
    let served = Served::by(&whole, is_restless);
    let goes =
        |pair: &Pair| pair.is_missing() && (removals == Removals::Meant || served.has_all_of(pair));
    for folder in folders.values_mut() {
        if folder.pairs.iter().any(|pair| goes(pair)) {
            Arc::make_mut(folder).retain(|pair| !goes(pair));
        }
    }
    folders.retain(|_, folder| !folder.is_hollow());
}
