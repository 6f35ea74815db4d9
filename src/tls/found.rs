//! Certificates that lie in the daemon's `certificates` folders, found by the names inside.
//!
//! Whatever the layout: certbot's `live/NAME/fullchain.pem` and `privkey.pem`, a folder of wildcards, pairs with any
//! other names. A chain and a key belong together when they fit, and they must lie in one folder. Blocks on the disk.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::certificate::Certificate;
use super::pair::match_up;
use crate::site::HostPattern;
use crate::site::directory::{Stamp, stamp};
use crate::site::fence::read_regular;

/// As for the files of a site.
const PEM_BYTES: u64 = 1 << 20;
/// `certificates`, a folder for each name in it, and one more for whoever sorts them by customer.
const DEPTH: usize = 3;

/// All pairs, by the names they are for.
#[derive(Debug, Default)]
pub(super) struct Found {
    by_name: HashMap<HostPattern, Arc<Certificate>>,
    folders: HashMap<PathBuf, Folder>,
}

/// One folder with files, and what tells whether they are still the same.
#[derive(Clone, Debug)]
struct Folder {
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    certificates: Vec<Arc<Certificate>>,
}

impl Found {
    /// The certificate for `host` (normalised): one for the very name before one with a wildcard.
    pub(super) fn find(&self, host: &str) -> Option<&Arc<Certificate>> {
        let exact = HostPattern::parse(host).ok()?;
        self.by_name.get(&exact).or_else(|| {
            let (_, rest) = host.split_once('.')?;
            let wildcard = HostPattern::parse(&format!("*.{rest}")).ok()?;
            self.by_name.get(&wildcard)
        })
    }

    /// The certificate for all that `pattern` may stand for.
    pub(super) fn covering(&self, pattern: &HostPattern) -> Option<&Arc<Certificate>> {
        match pattern {
            HostPattern::Exact(name) => self.find(name.as_str()),
            HostPattern::Wildcard(_) => self.by_name.get(pattern),
            HostPattern::Any => None,
        }
    }

    /// What is there now, reading only what has changed since `self`. `None`: nothing has. The second value says
    /// what could not be used, each once.
    pub(super) fn again(&self, roots: &[PathBuf]) -> Option<(Found, Vec<String>)> {
        let mut seen = HashMap::new();
        for root in roots {
            list(root, DEPTH, &mut seen);
        }
        let is_same = seen.len() == self.folders.len()
            && seen.iter().all(|(path, stamps)| {
                self.folders
                    .get(path)
                    .is_some_and(|folder| folder.stamps == *stamps)
            });
        if is_same {
            return None;
        }
        let mut problems = Vec::new();
        let mut folders = HashMap::new();
        for (path, stamps) in seen {
            let folder = match self.folders.get(&path) {
                Some(folder) if folder.stamps == stamps => folder.clone(),
                before => {
                    let (mut certificates, problem) = pairs(&stamps);
                    // Caught between the chain and the key: what was good goes on until it is whole.
                    if certificates.is_empty()
                        && let Some(before) = before
                    {
                        certificates.clone_from(&before.certificates);
                    }
                    problems.extend(problem.map(|why| format!("{}: {why}", path.display())));
                    Folder {
                        stamps,
                        certificates,
                    }
                }
            };
            folders.insert(path, folder);
        }
        let mut found = Found {
            by_name: HashMap::new(),
            folders,
        };
        found.index();
        Some((found, problems))
    }

    pub(super) fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        let folders = self.folders.values();
        folders.flat_map(|folder| &folder.certificates)
    }

    /// Of two for one name the one that is good for longer.
    fn index(&mut self) {
        let now = SystemTime::now();
        for certificate in self
            .folders
            .values()
            .flat_map(|folder| &folder.certificates)
        {
            for name in certificate.names() {
                let better = |old: &Arc<Certificate>| {
                    (certificate.not_before <= now, certificate.not_after)
                        > (old.not_before <= now, old.not_after)
                };
                if self.by_name.get(name).is_none_or(better) {
                    self.by_name.insert(name.clone(), Arc::clone(certificate));
                }
            }
        }
    }
}

/// The folders with PEM files below `folder`, and the files' stamps, behind links: certbot's names stay, and what they
/// point at changes.
fn list(folder: &Path, depth: usize, seen: &mut HashMap<PathBuf, Vec<(PathBuf, Option<Stamp>)>>) {
    // A folder that is not there, or closed, has nothing for anybody.
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut stamps = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        if matches!(ending, "pem" | "crt" | "cer" | "key") {
            let stamp = stamp(&path).ok();
            stamps.push((path, stamp));
        } else if depth > 1 && path.is_dir() {
            list(&path, depth - 1, seen);
        }
    }
    if !stamps.is_empty() {
        stamps.sort_by(|a, b| a.0.cmp(&b.0));
        seen.insert(folder.to_owned(), stamps);
    }
}

/// The pairs among the files of one folder, and why there is none.
fn pairs(files: &[(PathBuf, Option<Stamp>)]) -> (Vec<Arc<Certificate>>, Option<String>) {
    let mut chains: Vec<(Vec<u8>, usize)> = Vec::new();
    let mut keys = Vec::new();
    let mut problem = None;
    for (path, _) in files {
        match read_regular(path, PEM_BYTES) {
            Ok(text) => {
                let certificates = count(&text, b"BEGIN CERTIFICATE");
                if count(&text, b"PRIVATE KEY") > 0 {
                    keys.push(text.clone());
                }
                if certificates > 0 {
                    chains.push((text, certificates));
                }
            }
            Err(error) => problem = Some(format!("{} {error}", path.display())),
        }
    }
    // certbot has the same certificate alone (cert.pem) and with what clients need to check it (fullchain.pem).
    chains.sort_by_key(|(_, certificates)| std::cmp::Reverse(*certificates));
    let mut found: Vec<Arc<Certificate>> = Vec::new();
    for (chain, _) in &chains {
        for key in &keys {
            if let Ok(certificate) = match_up(chain, key)
                && !found.iter().any(|other| other.leaf() == certificate.leaf())
            {
                found.push(Arc::new(certificate));
            }
        }
    }
    if found.is_empty() && problem.is_none() && !chains.is_empty() {
        problem = Some("no certificate in it has its key beside it".to_owned());
    }
    if !found.is_empty() {
        problem = None;
    }
    (found, problem)
}

fn count(text: &[u8], word: &[u8]) -> usize {
    memchr::memmem::find_iter(text, word).count()
}
