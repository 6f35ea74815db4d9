//! The pairs among the files of one folder, and what stays of those that were there before.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::file::{Digest, File, Kind, PEM_BYTES, sha256_of};
use super::listing::Stamps;
use super::lone::lone_keys;
use super::served::Served;
use crate::site::directory::Stamp;
use crate::site::fence::read_regular;
use crate::tls::certificate::Certificate;
use crate::tls::pair::{Chain, Key};

/// As they were at the last look.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    stamps: Box<[(PathBuf, Option<Stamp>)]>,
    /// What they hold. Of a few none: these are soon read again, and a hundred thousand folders have a few each.
    files: Files,
    pub(super) pairs: Box<[Arc<Pair>]>,
    /// It was another one a look ago, or has only just been written.
    pub(super) is_restless: bool,
    /// What is of no use in it.
    pub(super) problems: Vec<String>,
    /// What was to be said of it so far.
    said: BTreeSet<String>,
}

/// How much may be half done in a folder.
#[derive(Clone, Copy)]
struct Moment {
    is_restless: bool,
    /// A look ago it was, and nobody knew what is in it.
    was_away: bool,
}

/// A certificate, and where its key lies.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certificate: Arc<Certificate>,
    key: PathBuf,
    /// What there is to say of its permissions.
    pub(super) of_key: Option<String>,
    /// One half has changed or gone, and it is none of the moments of a renewal.
    pub(super) half: Option<Half>,
}

/// What of a pair is not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// Both are there, and do not fit.
    NoPair,
    KeyGone,
    /// And the chain is another one, or of no use.
    KeyGoneAndChainChanged,
    ChainGone,
    /// Its folder was empty or away, and it is not whole again since.
    Missing,
}

/// What was not said of a folder so far.
#[derive(Debug)]
pub(super) struct News {
    pub(super) line: String,
    /// Why clients refuse this one, or soon will: of interest where they are shown it.
    pub(super) of: Option<Arc<Certificate>>,
}

impl Folder {
    /// Looks at the files of `path`, and reads those that are not as they were `before`, when it could be looked into, or
    /// `was_away`. The second is what is new to say.
    pub(super) fn look(
        path: &Path,
        stamps: Stamps,
        before: Option<&Folder>,
        was_away: bool,
        now: SystemTime,
    ) -> (Folder, Vec<News>) {
        let mut chains = HashMap::new();
        let files = stamps.iter().map(|(path, stamp)| {
            let known = before.and_then(|before| before.files.get(path));
            let file = match known {
                Some(file) if file.is_as(*stamp) => file.clone(),
                _ => {
                    let (file, chain) = File::read(path, *stamp, now);
                    chains.extend(chain.map(|chain| (path.clone(), chain)));
                    file
                }
            };
            (path.clone(), file)
        });
        let files = Files(files.collect());
        let stamps: Box<[_]> = stamps.into_iter().collect();
        let mut pairs = pair_up(&files, chains, before);
        let is_restless = before.is_some_and(|before| before.stamps != stamps)
            || files.0.iter().any(|(_, file)| file.is_young);
        let moment = Moment {
            is_restless,
            was_away,
        };
        let kept = before.map_or_else(Vec::new, |before| {
            interrupted(before, &files, &pairs, moment)
        });
        let problems = problems(path, &files, &pairs, &kept);
        let mut said = before.map_or_else(BTreeSet::new, |before| before.said.clone());
        let mut news = Vec::new();
        // Half of a renewal is nothing to tell of: it is whole a moment later.
        if !is_restless {
            let refused = pairs.iter().flat_map(|pair| {
                let lines = pair.of_certificate(now);
                lines.map(|line| (line, &pair.certificate))
            });
            let refused: BTreeMap<String, &Arc<Certificate>> = refused.collect();
            let of_keys = pairs.iter().filter_map(|pair| pair.of_key.clone());
            let all = problems.iter().chain(refused.keys()).cloned();
            let all: BTreeSet<String> = all.chain(of_keys).collect();
            news.extend(all.difference(&said).map(|line| News {
                line: line.clone(),
                of: refused.get(line).copied().cloned(),
            }));
            said = all;
        }
        pairs.extend(kept);
        let folder = Folder {
            files: files.unless_few(),
            pairs: pairs.into(),
            stamps,
            is_restless,
            problems,
            said,
        };
        (folder, news)
    }

    fn stamp(&self, path: &Path) -> Option<Stamp> {
        self.stamps[place_of(path, &self.stamps)?].1
    }

    /// Whether another look is worth while.
    pub(super) fn is_another(&self, stamps: &Stamps) -> bool {
        let known = self.stamps.iter().map(|(path, stamp)| (path, stamp));
        self.is_restless || !known.eq(stamps)
    }

    /// How many pairs are [`Half::Missing`].
    pub(super) fn missing(&self) -> usize {
        self.pairs.iter().filter(|pair| pair.is_missing()).count()
    }

    /// Lets go of those that are not `kept`.
    pub(super) fn retain(&mut self, kept: impl Fn(&Pair) -> bool) {
        let pairs = self.pairs.iter().filter(|pair| kept(pair));
        self.pairs = pairs.cloned().collect();
    }

    /// Neither is anything in it, nor is anything kept.
    pub(super) fn is_hollow(&self) -> bool {
        self.stamps.is_empty() && self.pairs.is_empty()
    }
}

/// What is of no use in the folder at `path`, and what is kept though it is half of something.
fn problems(path: &Path, files: &Files, pairs: &[Arc<Pair>], kept: &[Arc<Pair>]) -> Vec<String> {
    let of_no_use = files.0.iter().filter_map(|(_, file)| file.problem.clone());
    let of_no_use: Vec<String> = of_no_use.collect();
    // Of those that are missing it is said how many.
    let halves = kept.iter().filter(|pair| !pair.is_missing());
    let halves = halves.map(|pair| pair.with(pair.half_in(files)));
    let leaf = |pair: &Arc<Pair>| pair.certificate.leaf().map(sha256_of);
    let in_pairs: HashSet<Digest> = pairs.iter().filter_map(leaf).collect();
    let halved: HashSet<&Path> = kept.iter().map(|pair| pair.file()).collect();
    let is_alone = |kind: &Kind| !kind.is_authority && !in_pairs.contains(&kind.digest);
    // A key that nobody may read may be the one that fits.
    let is_closed = files.0.iter().any(|(_, file)| file.is_closed);
    let alone = files.0.iter().filter(|(path, file)| {
        !is_closed
            && file.certificates.first().is_some_and(is_alone)
            && !halved.contains(path.as_path())
    });
    let alone = alone.map(|(file, _)| {
        let (file, path) = (file.display(), path.display());
        format!("{file}: no key in {path} fits the certificate")
    });
    let alone: Vec<String> = alone.collect();
    let known: HashSet<&Path> = kept.iter().map(|pair| &*pair.key).collect();
    let is_told = !(of_no_use.is_empty() && alone.is_empty());
    let has_pairs = !(pairs.is_empty() && kept.is_empty());
    let lone = match is_closed {
        true => Vec::new(),
        false => lone_keys(path, files.each(), &known, is_told || has_pairs),
    };
    let told = of_no_use.into_iter().chain(halves);
    told.chain(alone).chain(lone).collect()
}

/// In the order of their paths.
#[derive(Clone, Debug)]
struct Files(Box<[(PathBuf, File)]>);

impl Files {
    fn get(&self, path: &Path) -> Option<&File> {
        place_of(path, &self.0).map(|at| &self.0[at].1)
    }

    fn each(&self) -> impl Iterator<Item = (&Path, &File)> + Clone {
        self.0.iter().map(|(path, file)| (path.as_path(), file))
    }

    fn unless_few(self) -> Files {
        const FEW: usize = 16;
        match self.0.len() <= FEW {
            true => Files(Box::default()),
            false => self,
        }
    }
}

fn place_of<T>(path: &Path, sorted: &[(PathBuf, T)]) -> Option<usize> {
    let place = sorted.binary_search_by(|(other, _)| other.as_path().cmp(path));
    place.ok()
}

impl File {
    fn has_key_of(&self, pair: &Pair) -> bool {
        let public = pair.certificate.certified.key.public_key();
        let own = public.as_ref().map(AsRef::as_ref);
        self.keys.iter().any(|key| Some(&*key.public) == own)
    }

    fn has_certificate_of(&self, pair: &Pair) -> bool {
        let own = pair.certificate.leaf().map(sha256_of);
        let mut certificates = self.certificates.iter();
        certificates.any(|kind| Some(kind.digest) == own)
    }

    fn is_as(&self, stamp: Option<Stamp>) -> bool {
        !self.is_young && stamp.is_some() && self.stamp == stamp
    }
}

impl Pair {
    /// Where the chain lies.
    pub(super) fn file(&self) -> &Path {
        &self.certificate.file
    }

    pub(super) fn has_intermediates(&self) -> bool {
        self.certificate.certified.cert.len() > 1
    }

    pub(super) fn is_half(&self) -> bool {
        self.half.is_some()
    }

    pub(super) fn is_missing(&self) -> bool {
        self.half == Some(Half::Missing)
    }

    /// What there is to say where it is kept with no more than this of it.
    pub(super) fn with(&self, half: Half) -> String {
        const GOES_ON: &str =
            "the certificate that they were goes on being shown, but not after a restart";
        let (file, key) = (self.file().display(), self.key.display());
        match half {
            Half::NoPair => format!("{file} and {key} are no pair; {GOES_ON}"),
            Half::KeyGone => format!("{key} is gone, and {file} is not; {GOES_ON}"),
            Half::KeyGoneAndChainChanged => format!(
                "{file} is not what it was, no key beside it fits, and {key} is gone; {GOES_ON}"
            ),
            Half::ChainGone => format!("{file} is gone, and {key} is not; {GOES_ON}"),
            Half::Missing => format!(
                "{file} and {key} are no pair again since their folder was empty or away; {GOES_ON}"
            ),
        }
    }

    /// What has become of it, of which something is still there.
    fn half_in(&self, files: &Files) -> Half {
        match (files.get(self.file()), files.get(&self.key)) {
            (Some(_), Some(_)) => Half::NoPair,
            (Some(chain), None) if chain.has_certificate_of(self) => Half::KeyGone,
            (Some(_), None) => Half::KeyGoneAndChainChanged,
            (None, _) => Half::ChainGone,
        }
    }

    fn as_half(&self, half: Half) -> Pair {
        Pair {
            certificate: Arc::clone(&self.certificate),
            key: self.key.clone(),
            of_key: self.of_key.clone(),
            half: Some(half),
        }
    }
}

/// Every certificate whose key lies in the folder. certbot has the same one alone (cert.pem) and with what clients need to
/// check it (fullchain.pem), of which the longer counts.
fn pair_up(
    files: &Files,
    mut read: HashMap<PathBuf, Chain>,
    before: Option<&Folder>,
) -> Vec<Arc<Pair>> {
    let mut keys: HashMap<Digest, (&Path, &File, &Key)> = HashMap::new();
    for (path, file) in &files.0 {
        for key in &file.keys {
            keys.entry(sha256_of(&key.public))
                .or_insert((path, file, key));
        }
    }
    let known = before.map_or(&[][..], |before| &before.pairs);
    let known: HashMap<&Path, &Arc<Pair>> = known.iter().map(|pair| (pair.file(), pair)).collect();
    let mut chains: Vec<&(PathBuf, File)> = files.0.iter().collect();
    chains.sort_by_key(|(_, file)| Reverse(file.certificates.len()));
    let mut pairs = Vec::new();
    let mut taken = HashSet::new();
    for (path, file) in chains {
        let kinds = file.certificates.iter().enumerate();
        let fit = |(at, kind): (usize, &Kind)| Some((at, kind.digest, *keys.get(&kind.public)?));
        let Some((at, digest, (key_path, key_file, key))) = kinds.into_iter().find_map(fit) else {
            continue;
        };
        if !taken.insert(digest) {
            continue;
        }
        let is_as_before = |pair: &&&Arc<Pair>| {
            let is_same = |path: &Path, file: &File| {
                let was = before.and_then(|before| before.stamp(path));
                file.is_as(was)
            };
            let leaf = pair.certificate.leaf().map(sha256_of);
            leaf == Some(digest)
                && !pair.is_half()
                && pair.key == key_path
                && is_same(path, file)
                && is_same(key_path, key_file)
        };
        if let Some(pair) = known.get(path.as_path()).filter(is_as_before) {
            pairs.push(Arc::clone(pair));
            continue;
        }
        let chain = read.remove(path).or_else(|| read_again(path, at, digest));
        let certificate = chain.and_then(|chain| chain.certify(at, key).ok());
        let pair = |certificate: Certificate| Pair {
            certificate: Arc::new(certificate.of_file(path)),
            key: key_path.to_owned(),
            of_key: key_file.of_key.clone(),
            half: None,
        };
        pairs.extend(certificate.map(pair).map(Arc::new));
    }
    pairs
}

/// The chain of a file that has not changed, and whose key is another one now. One that has changed meanwhile is looked at
/// again soon.
fn read_again(path: &Path, at: usize, digest: Digest) -> Option<Chain> {
    let chain = Chain::read(&read_regular(path, PEM_BYTES).ok()?).ok()?;
    let is_same = |der: &CertificateDer<'static>| sha256_of(der) == digest;
    chain
        .certificates
        .get(at)
        .is_some_and(is_same)
        .then_some(chain)
}

/// Pairs of before of which one half has changed or gone, while the other is still there and belongs to nothing: somebody
/// renews them just now, or has broken them. They stay, unless a new pair in the folder does for all their names what they
/// did. While the folder is restless more is taken for a moment of a renewal: a new chain that has lost those who vouch for
/// it, and a new key where the chain is gone. What has not come back yet of a folder that was away is on its way, too,
/// however long that takes.
fn interrupted(
    before: &Folder,
    files: &Files,
    pairs: &[Arc<Pair>],
    moment: Moment,
) -> Vec<Arc<Pair>> {
    let Moment {
        is_restless,
        was_away,
    } = moment;
    let renewed: HashSet<&Path> = pairs.iter().map(|pair| pair.file()).collect();
    let gone = before.pairs.iter();
    let gone: Vec<&Arc<Pair>> = gone.filter(|old| !renewed.contains(old.file())).collect();
    if gone.is_empty() {
        return Vec::new();
    }
    let in_use: HashSet<&Path> = pairs
        .iter()
        .flat_map(|pair| [pair.file(), &pair.key])
        .collect();
    let served = Served::by(pairs, is_restless);
    let is_missing = |old: &Pair| old.is_missing() || was_away && !old.is_half();
    // certbot takes a link away before it makes the new one. A key that others use may be left by whoever took a
    // certificate away for good, and whoever replaces the key as well has taken both halves.
    let has_half = |old: &Pair| match (files.get(old.file()), files.get(&old.key)) {
        (Some(_), _) => !in_use.contains(old.file()),
        (None, Some(file)) if file.has_key_of(old) => !in_use.contains(&*old.key),
        (None, Some(_)) => is_restless,
        (None, None) => false,
    };
    let stays = |old: &&Arc<Pair>| (is_missing(old) || has_half(old)) && !served.has_all_of(old);
    let stay = gone.into_iter().filter(stays);
    let stay = stay.map(|old| {
        let half = match is_missing(old) {
            true => Half::Missing,
            false => old.half_in(files),
        };
        // What is missing is that at once: half of a renewal may be whole again before it is said.
        match old.half == Some(half) || is_restless && half != Half::Missing {
            true => Arc::clone(old),
            false => Arc::new(old.as_half(half)),
        }
    });
    stay.collect()
}
