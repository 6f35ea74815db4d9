//! The start: what is on disk, what served before, and the first table made of both.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tracing::warn;

use super::book::{Book, Ground, Moment, Step};
use super::last_good::{self, LastGood, Leftovers};
use super::look::{self, Absence, Certificates, Found, Look, Question};
use super::search::is_in_any;
use super::{Follower, parallel};
use crate::site::directory::{self, Listing};
use crate::site::file::{self, Rules};
use crate::site::{Site, SiteName};

/// What there is on disk at the start.
#[derive(Default)]
pub(super) struct First {
    listing: Option<Listing>,
    looks: Vec<Look>,
    /// What served before, and the site where its file does not give the same.
    records: Vec<(LastGood, Option<Site>)>,
}

pub(super) fn read_everything(
    sites: &Path,
    rules: &Rules,
    kept_in: &Path,
    leftovers: Leftovers,
) -> First {
    let listing = match directory::list(sites) {
        Ok(listing) => Some(listing),
        Err(error) => {
            let path = sites.display();
            let why = directory::why_closed(sites, &error);
            warn!(%path, "cannot read the sites directory, waiting for it: {why}");
            None
        }
    };
    let found = listing.iter().flat_map(|listing| listing.files.values());
    let question = |found: &directory::Found| Question {
        name: found.name.clone(),
        path: found.path.clone(),
        before: None,
    };
    let looks = look::look_at_all(found.map(question).collect(), rules, Certificates::Later);
    let records = last_good::read_all(kept_in, leftovers);
    let records: Vec<LastGood> = records
        .into_iter()
        .map(|record| at_home(record, sites))
        .collect();
    let seen: HashMap<&SiteName, u64> = looks
        .iter()
        .filter_map(|look| match &look.found {
            Found::Site(print, _) => Some((&look.name, print.digest)),
            _ => None,
        })
        .collect();
    let records = parallel::map(records, |record| {
        let is_same = seen.get(&record.document.name)
            == Some(&look::digest_under(rules, &record.document.text));
        let site = if is_same {
            None
        } else {
            // What panics cannot serve any more either; the hook has told.
            catch_unwind(AssertUnwindSafe(|| revive(&record, rules))).unwrap_or_default()
        };
        (record, site)
    });
    First {
        listing,
        looks,
        records,
    }
}

/// With the place of its file in today's sites directory: that may have moved since, and what is where it was then is
/// none of our business.
fn at_home(mut record: LastGood, sites: &Path) -> LastGood {
    let document = &mut record.document;
    let origin = directory::path_of(sites, &document.name);
    if document.origin != origin {
        // Behind a link it is where it was, for all that is known.
        if document.real == document.origin {
            document.real = origin.clone();
        }
        document.origin = origin;
    }
    record
}

/// The site as it last served, or nothing when today's rules no longer admit it.
fn revive(record: &LastGood, rules: &Rules) -> Option<Site> {
    match file::read(&record.document, rules) {
        Ok(accepted) => Some(accepted.site),
        Err(problems) => {
            let reason = problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            warn!(site = %record.document.name, "what served before cannot serve any more: {reason}");
            None
        }
    }
}

impl First {
    /// Puts it into an empty book. Returns what served before.
    pub(super) fn enter(
        self,
        book: &mut Book,
        at: Moment,
        step: &mut Step,
    ) -> HashMap<SiteName, LastGood> {
        let mut looks = self.looks;
        let mut stored = HashMap::new();
        let mut lost = Vec::new();
        for (record, site) in self.records {
            let name = record.document.name.clone();
            book.restore(&record, site, at, step);
            let is_listed = self
                .listing
                .as_ref()
                .is_some_and(|listing| listing.files.contains_key(&name));
            if !is_listed {
                lost.push(name.clone());
            }
            stored.insert(name, record);
        }
        if let Some(listing) = self.listing {
            for name in lost {
                let path = book.path(&name).cloned().unwrap_or_default();
                if !is_in_any(&path, &listing.unreadable) {
                    let absence = match path.parent().is_some_and(Path::is_dir) {
                        true => Absence::Gone,
                        false => Absence::WithFolder,
                    };
                    let found = Found::Nothing(absence);
                    looks.push(Look { name, path, found });
                }
            }
        }
        book.apply(looks, at, step);
        book.hurry(at.now);
        // Nothing was known of an empty folder but from the state: it may be a mount that is still to come.
        let ground = if book.has_files() {
            Ground::Same
        } else {
            Ground::Other
        };
        book.tick(ground, at, step);
        stored
    }
}

impl Follower {
    /// The first table.
    pub(super) fn begin(&mut self, first: First) {
        let at = self.moment();
        self.was_away = first.listing.is_none();
        if let Some(listing) = &first.listing {
            self.take_listing_notes(listing);
        }
        let mut step = Step::default();
        let stored = first.enter(&mut self.book, at, &mut step);
        if self.book.has_files() {
            self.last_filled = self.access.identity();
        }
        self.book.tell_conflicts(|_| false);
        step.keep.retain(|version| {
            let before = stored.get(&version.document.name);
            before.is_none_or(|before| {
                before.document.text != version.document.text || before.claims != version.claims
            })
        });
        self.publish(step, at);
        self.arm_elsewhere();
    }
}
