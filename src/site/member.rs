//! A backend with its place among those of its site: its share, and what is known of it.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;

use super::backend::Backend;
use super::fitness::BackendState;

/// An entry of `to`.
#[derive(Clone, Debug)]
pub struct Member {
    pub backend: Backend,
    /// Its share beside the others'. 0: drained, nobody new is sent there.
    pub weight: u32,
    /// Sent to only when no other is fit.
    pub backup: bool,
    /// Requests of this site that it sees at once, over all workers. `None`: as many as there are.
    pub max: Option<NonZero<u32>>,
    /// Tells it from others wherever values are hashed to backends: the same in every process.
    pub seed: u64,
    /// Where workers count its turns in this list; given by `reload`. Two lists of a site may have the same backend.
    pub turns: u32,
    /// What the cookie of `sticky` says for it; given by `reload`.
    pub token: Token,
    /// The same for all versions of the site; given on by `reload`.
    pub state: Arc<BackendState>,
}

/// Text that nobody can tell a backend from: safe in a cookie.
pub type Token = [u8; 16];

/// What no share may exceed, so that sums and products of them fit anywhere.
pub const MOST_WEIGHT: u32 = 65_535;

impl Member {
    /// Whether it may be sent requests at all, fit or not.
    pub fn is_drained(&self) -> bool {
        self.weight == 0
    }
}

impl From<Backend> for Member {
    fn from(backend: Backend) -> Member {
        Member {
            seed: seed(&backend),
            backend,
            weight: 1,
            backup: false,
            max: None,
            turns: 0,
            token: Token::default(),
            state: Arc::default(),
        }
    }
}

/// FNV-1a of the address as it is written everywhere.
fn seed(backend: &Backend) -> u64 {
    let text = backend.to_string();
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}

/// By what the file says.
impl PartialEq for Member {
    fn eq(&self, other: &Member) -> bool {
        self.backend == other.backend
            && self.weight == other.weight
            && self.backup == other.backup
            && self.max == other.max
    }
}

impl Eq for Member {}
