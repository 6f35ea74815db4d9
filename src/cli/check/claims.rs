//! Who claimed what so far, among the files of one check, and what their TLS would come to.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::Owners;
use crate::document::Problem;
use crate::settings::Settings;
use crate::site::file::{self, Rules};
use crate::site::tls::Mode;
use crate::site::{Claim, HostPattern, Site, SiteDocument};
use crate::tls::{self, Keyring, LoadError, Removals};

/// See the module.
#[derive(Default)]
pub(super) struct Claims<'q> {
    live: Option<&'q Owners>,
    owners: HashMap<HostPattern, Owner>,
    /// As a start would have it. `None`: it cannot be had here.
    keyring: Option<Keyring>,
    /// Whoever checks is not shown what the daemon sees: nothing is known of names and their certificates.
    is_hidden: bool,
    /// What fine files name as a file: bodies, certificates and the like.
    named: HashSet<PathBuf>,
    /// How many sites it has been given.
    sites: u32,
    /// Sites whose TLS is passed through, and the files that say so.
    passed: Vec<(PathBuf, Site)>,
}

struct Owner {
    origin: PathBuf,
    line: u32,
    column: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.origin.display(), self.line, self.column)
    }
}

impl<'q> Claims<'q> {
    /// The second is what is wrong with the folders of certificates.
    pub(super) fn of(live: Option<&'q Owners>, settings: &Settings) -> (Claims<'q>, Vec<String>) {
        let (folders, state) = (settings.certificates.clone(), settings.state.clone());
        let keyring = Keyring::only_to_look(folders, state).ok();
        let keyring = keyring.map(|keyring| keyring.listening_on(&settings.listen));
        let hidden = keyring.as_ref().map(Keyring::hidden).unwrap_or_default();
        let of_folders = keyring
            .as_ref()
            .filter(|_| hidden.is_empty())
            .map(|keyring| {
                // What is new to somebody who looks for the first time is all of it.
                drop(keyring.search(Removals::Doubted));
                keyring.adviser().of_folders()
            });
        let claims = Claims {
            live,
            keyring,
            is_hidden: !hidden.is_empty(),
            ..Claims::default()
        };
        let unknown = hidden.iter().map(|path| {
            let path = path.display();
            format!("{path} cannot be looked at as this user: which names have a certificate is not checked")
        });
        let lines = of_folders.into_iter().flatten().chain(unknown);
        (claims, lines.collect())
    }

    /// Reads a document and takes its claims, if it is fine; its problems, conflicts among them.
    pub(super) fn add(&mut self, document: &SiteDocument, rules: &Rules) -> Vec<Problem> {
        let accepted = match file::read(document, rules) {
            Ok(accepted) => accepted,
            Err(problems) => return problems,
        };
        let mut problems: Vec<Problem> = accepted
            .site
            .claims
            .iter()
            .filter_map(|claim| self.conflict(document, claim, rules))
            .collect();
        if problems.is_empty() {
            for claim in &accepted.site.claims {
                let owner = Owner {
                    origin: document.origin.clone(),
                    line: claim.line,
                    column: claim.column,
                };
                self.owners.insert(claim.pattern.clone(), owner);
            }
        }
        problems.extend(accepted.warnings);
        let real = |path| fs::canonicalize(path).ok();
        self.named.extend(accepted.files.iter().filter_map(real));
        problems.extend(self.certificates(document, accepted.site, rules));
        problems
    }

    /// Reads the files that the TLS of a site needs, and says what is wrong with them, or without them. One that is not there
    /// may be made later.
    fn certificates(
        &mut self,
        document: &SiteDocument,
        mut site: Site,
        rules: &Rules,
    ) -> Vec<Problem> {
        let origin = &document.origin;
        self.sites += 1;
        site.number = self.sites;
        match tls::load(&site, rules) {
            Ok(loaded) => {
                let mut warnings = loaded.warnings.clone();
                if let Some(keyring) = &self.keyring {
                    keyring.hold(&site, Ok(&loaded));
                    keyring.hold_backends(&site, Ok(&loaded));
                    // What the certificates of all others cover is known at the end.
                    match site.tls.mode {
                        Mode::Auto | Mode::Passthrough if self.is_hidden => {
                            warnings.extend(keyring.adviser().of_backends(&site));
                        }
                        Mode::Passthrough => self.passed.push((origin.clone(), site)),
                        _ => warnings.extend(keyring.adviser().of(&site)),
                    }
                }
                let warnings = warnings.into_iter();
                warnings
                    .map(|warning| Problem::warning_of_file(origin, warning))
                    .collect()
            }
            Err(error @ LoadError::Missing(_)) => {
                let message = format!("{error}; the site waits for it");
                vec![Problem::warning_of_file(origin, message)]
            }
            Err(error) => vec![Problem::of_file(origin, error.to_string())],
        }
    }

    /// Whether a site is made from what is at `path`.
    pub(super) fn has_named(&self, path: &Path) -> bool {
        !self.named.is_empty()
            && fs::canonicalize(path).is_ok_and(|real| self.named.contains(&real))
    }

    /// CASES T-22.
    pub(super) fn passed_and_shown(&self) -> Vec<Problem> {
        let Some(keyring) = &self.keyring else {
            return Vec::new();
        };
        let adviser = keyring.adviser();
        let advice = self.passed.iter().flat_map(|(origin, site)| {
            let lines = adviser.of(site).into_iter();
            lines.map(move |line| Problem::warning_of_file(origin, line))
        });
        advice.collect()
    }

    fn conflict(&self, document: &SiteDocument, claim: &Claim, rules: &Rules) -> Option<Problem> {
        let live = self.live.map(|live| live.0.get(&claim.pattern.to_string()));
        let owner = match live.flatten() {
            Some((name, _)) if name == document.name.as_str() => return None,
            Some((_, file)) => format!("{}, which serves it", file.display()),
            None => self.owners.get(&claim.pattern)?.to_string(),
        };
        let message = format!("\"{}\" is already claimed by {owner}", claim.pattern);
        Some(Problem {
            excerpt: file::excerpt(document, rules),
            ..Problem::of_file(&document.origin, message)
                .at(&document.text, claim.line, claim.column)
                .with_help("a name has one owner; take it out of one of the files")
        })
    }
}
