//! Names as they are asked for and as they are claimed, normalised once: lower case, no port, no final dot.

use std::sync::Arc;

/// A normalised name: lower case, punycode, no port, no final dot, at most 253 bytes; or the canonical text of an
/// IP address (IPv6 without brackets).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Hostname(Arc<str>);

/// What a site claims.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum HostPattern {
    Exact(Hostname),
    /// `*.suffix`: exactly one label in front of the suffix.
    Wildcard(Hostname),
    /// `*`: every name nobody else claims.
    Any,
}

/// What the Host field or the target of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Normalised like a [`Hostname`].
    pub host: &'a str,
    pub port: Option<u16>,
}

/// Room for one normalised name.
#[derive(Debug)]
pub struct HostBuffer([u8; 256]);
