//! Watches backends off the way of requests: asks them, and looks up those that are names.
//!
//! One task on the control thread. `reload` tells it which sites serve; what it finds it writes into the state of each
//! backend that the finding is about, where requests read it. A check that several sites ask alike is asked once.

mod course;
mod judge;
mod names;
mod probe;
mod schedule;
mod watch;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::observe::panic::contain;
use crate::reload::{News, Reload};
use crate::site::backend::LinkLocal;
use crate::tls::Keyring;
use crate::upstream::States;
use names::Found;
use probe::Failure;
use watch::Watch;

/// What watching needs.
#[derive(Clone, Debug)]
pub struct Tools {
    pub states: Arc<States>,
    pub keyring: Arc<Keyring>,
    /// Told when a backend goes out or comes back.
    pub reload: Reload,
    /// Our name in Via.
    pub via: Box<str>,
    /// What visitors come to, for X-Forwarded-Port.
    pub port: u16,
    /// Backends that are asked at once, each with a descriptor.
    pub most: usize,
    /// Whether link-local addresses count, as the daemon file says it now.
    pub link_local: tokio::sync::watch::Receiver<LinkLocal>,
    pub seed: [u64; 2],
}

/// Before watching is begun anew: a panic that comes back must not keep a processor busy.
const BEGIN_ANEW: Duration = Duration::from_secs(1);
const WATCHING: &str = "the watching of backends, which begins anew";

/// Watches the backends of the sites that `news` tells of, until nobody tells any more. After a panic nothing that was
/// found out is believed any more: otherwise a backend that is out would stay so for good.
pub async fn watch(mut news: mpsc::UnboundedReceiver<News>, tools: Tools) {
    let mut live = BTreeMap::new();
    while contain(
        WATCHING,
        Watch::new(tools.clone()).follow(&mut news, &mut live),
    )
    .await
    .is_err()
    {
        sleep(BEGIN_ANEW).await;
    }
}

/// What comes of things that were begun.
#[derive(Debug)]
enum Event {
    Answered {
        number: u64,
        /// Whether it had failed the time before.
        is_failing: bool,
        answer: Result<(), Failure>,
    },
    Found(Found),
}

fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
