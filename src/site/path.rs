//! Which part of a site answers for a path: exact, then the longest prefix, then the site itself.

use super::{Action, Allow};

/// What `match` says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PathPattern {
    Exact(Box<str>),
    /// Ends at a segment boundary: `/api` covers `/api` and `/api/x`, not `/apix`. Never ends in `/` except as `/`.
    Prefix(Box<str>),
}

/// What answers for a path.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub action: &'a Action,
    pub allow: Option<&'a Allow>,
    /// Index into `Site::paths`, or `None` for the site itself.
    pub rule: Option<usize>,
    /// How many bytes of the path, as it was sent, `strip` takes away. 0: none.
    pub strip: usize,
}

/// Why no part of the site answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathRefusal {
    /// No rule matches and the site itself has no action: 404.
    NoPath,
    /// Dot segments (also encoded) or `%5c` on a site with path rules: 400.
    Ambiguous,
}
