//! Who claimed what so far, among the files of one check.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Owners;
use crate::document::Problem;
use crate::site::file::{self, Rules};
use crate::site::tls::Mode;
use crate::site::{Claim, HostPattern, Site, SiteDocument};
use crate::tls::{self, Certificate, LoadError};

/// See the module.
#[derive(Default)]
pub(super) struct Claims<'q> {
    live: Option<&'q Owners>,
    owners: HashMap<HostPattern, Owner>,
    /// Names whose TLS is passed through, and whose file says so.
    passed: Vec<(PathBuf, HostPattern)>,
    /// What sites show.
    shown: Vec<Arc<Certificate>>,
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
    pub(super) fn of(live: Option<&'q Owners>) -> Claims<'q> {
        Claims {
            live,
            ..Claims::default()
        }
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
        problems.extend(self.certificates(document, &accepted.site, rules));
        problems
    }

    /// Reads the files that the TLS of a site needs, and says what is wrong with them. One that is not there may be made
    /// later.
    fn certificates(
        &mut self,
        document: &SiteDocument,
        site: &Site,
        rules: &Rules,
    ) -> Vec<Problem> {
        let origin = &document.origin;
        if site.tls.mode == Mode::Passthrough {
            let names = site.claims.iter().map(|claim| claim.pattern.clone());
            self.passed.extend(names.map(|name| (origin.clone(), name)));
        }
        match tls::load(site, rules) {
            Ok(loaded) => {
                self.shown.extend(loaded.certificates.iter().cloned());
                let warnings = loaded.warnings.into_iter();
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

    /// CASES T-22.
    pub(super) fn passed_and_shown(&self) -> Vec<Problem> {
        let is_shown =
            |name: &HostPattern| self.shown.iter().any(|shown| shown.covers_pattern(name));
        self.passed
            .iter()
            .filter(|(_, name)| is_shown(name))
            .map(|(origin, name)| Problem::warning_of_file(origin, tls::passed_and_shown(name)))
            .collect()
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
