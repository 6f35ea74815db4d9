//! What a start would serve, without one: the same files read the same way into the same book, and nothing published,
//! written or removed.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::book::{Book, Moment, Step};
use super::contest::Contest;
use super::first::read_everything;
use super::last_good::Leftovers;
use crate::route::RouteTable;
use crate::settings::Settings;
use crate::site::file::Rules;
use crate::site::{Site, SiteName};
use crate::tls::{self, Keyring};
use crate::upstream::States;

/// See the module.
#[derive(Debug)]
pub struct Offline {
    book: Book,
    pub table: RouteTable,
    rules: Rules,
}

impl Offline {
    /// Reads the sites directory and what the state directory remembers. What cannot be read is not there.
    pub fn read(settings: &Settings) -> Offline {
        let sites = std::path::absolute(&settings.sites).unwrap_or_else(|_| settings.sites.clone());
        let rules = Rules {
            sites: sites.clone(),
            ..settings.rules()
        };
        let kept_in = settings.state.join("sites");
        let first = read_everything(&sites, &rules, &kept_in, Leftovers::Keep);
        let at = Moment {
            now: Instant::now(),
            wall: SystemTime::now(),
            generation: 1,
        };
        let mut book = Book::new(Arc::new(States::new(1, b"offline")));
        let mut step = Step::default();
        first.enter(&mut book, at, &mut step);
        Offline {
            table: RouteTable::empty().with(step.edits),
            book,
            rules,
        }
    }

    /// Gives `keyring` what the TLS of `site` needs.
    pub fn hold(&self, site: &Arc<Site>, keyring: &Keyring) {
        keyring.hold(site, tls::load_shown(site, &self.rules).as_ref());
    }

    /// As [`super::Reload::contest`].
    pub fn contest(&self, host: &str, winner: Option<&SiteName>) -> Contest {
        self.book.contest(host, winner)
    }

    /// Whether the sites directory is there at all.
    pub fn has_folder(&self) -> bool {
        Path::new(&self.rules.sites).is_dir()
    }
}
