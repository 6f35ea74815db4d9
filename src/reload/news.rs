//! What whoever watches backends is told: which sites serve, and which do no more.

use std::collections::HashSet;
use std::sync::Arc;

use super::Follower;
use crate::route::SiteChange;
use crate::site::{Address, Site};

/// About one site.
#[derive(Clone, Debug)]
pub enum News {
    /// This version serves from now on.
    Live(Arc<Site>),
    /// The site of this number is gone.
    Gone(u32),
    /// Somebody has changed what names lead to, perhaps: all are to be looked up.
    LookUp,
}

impl Follower {
    /// `live` are about to serve. Most sites have nothing to watch, and nobody hears of them.
    pub(super) fn tell_news(&self, live: Vec<Arc<Site>>, changes: &[SiteChange]) {
        let edited = changes.iter().filter_map(|change| match change {
            SiteChange::Edited { old, .. } => is_watched(old).then_some(old.number),
            SiteChange::Removed { .. } => None,
        });
        let were_watched: HashSet<u32> = edited.collect();
        for site in live {
            if is_watched(&site) || were_watched.contains(&site.number) {
                // Who watches may have ended, with the process.
                self.news.send(News::Live(site)).ok();
            }
        }
    }
}

fn is_watched(site: &Site) -> bool {
    site.health.check.is_some()
        || site
            .backends()
            .any(|backend| matches!(backend.address, Address::Name { .. }))
}
