//! Keys that fit no certificate beside them, and which file should have had one.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;

use super::file::{Digest, File, sha256_of};

/// So many files are named for one key.
const FEW: usize = 3;

/// What there is to say of them in the folder at `path`, but for those that are `known`. Keys may be kept in a folder of
/// their own, and an old one beside a good pair: where there is no certificate, or something to show or to complain of
/// already, a key is said only if a file beside it should have had the certificate.
pub(super) fn lone_keys<'f>(
    path: &Path,
    files: impl Iterator<Item = (&'f Path, &'f File)> + Clone,
    known: &HashSet<&Path>,
    is_quiet: bool,
) -> Vec<String> {
    let kinds = files.clone().flat_map(|(_, file)| &file.certificates);
    let public: HashSet<Digest> = kinds.map(|kind| kind.public).collect();
    let is_lone = |file: &File| {
        let mut keys = file.keys.iter();
        file.certificates.is_empty() && keys.all(|key| !public.contains(&sha256_of(&key.public)))
    };
    let keys = files.clone().filter(|(_, file)| !file.keys.is_empty());
    let stems: HashSet<&OsStr> = keys
        .clone()
        .filter_map(|(path, _)| path.file_stem())
        .collect();
    let mut namesakes: HashMap<&OsStr, Vec<String>> = HashMap::new();
    let mut strangers = Vec::new();
    for (path, file) in files {
        let (Some(stem), Some(why)) = (path.file_stem(), why_none(file)) else {
            continue;
        };
        let name = path.file_name().unwrap_or_default().display();
        let said = format!("{name}: {why}");
        match stems.contains(stem) {
            true => namesakes.entry(stem).or_default().push(said),
            // A chain of authorities beside it is as it should be.
            false if file.lack.is_some() && strangers.len() < FEW => strangers.push(said),
            false => {}
        }
    }
    let lone = keys.filter(|(path, file)| is_lone(file) && !known.contains(path));
    let lone = lone.filter_map(|(key, _)| {
        let namesakes = key.file_stem().and_then(|stem| namesakes.get(stem));
        let meant = namesakes.unwrap_or(&strangers);
        if meant.is_empty() && (is_quiet || public.is_empty()) {
            return None;
        }
        let (key, path) = (key.display(), path.display());
        let line = format!("{key}: no certificate in {path} fits this key");
        let meant = meant.iter().take(FEW);
        Some(meant.fold(line, |line, said| line + "; " + said))
    });
    lone.collect()
}

/// Why no key beside `file` fits what is in it.
fn why_none(file: &File) -> Option<&'static str> {
    let first = file.certificates.first();
    let of_authority = first.filter(|first| first.is_authority && file.keys.is_empty());
    let of_authority = of_authority.map(|_| "its certificate is for another key");
    file.lack.or(of_authority)
}
