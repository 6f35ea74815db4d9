//! A request ready to be sent to a backend, and what comes after a request.

use std::ops::Range;

use super::body::Body;
use super::h1::head::{Method, Version};
use super::obtain::Affinity;
use crate::block::{Block, Sheet};
use crate::observe::access;

/// A request ready to be sent to a backend.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) order: Order,
    pub(super) upload: Body,
}

/// A request but for its body.
#[derive(Debug)]
pub(super) struct Order {
    /// The head as the backend gets it; later with a small body.
    pub(super) out: Sheet,
    /// Where in `out` the value of Host stands.
    pub(super) host_at: Range<usize>,
    pub(super) asked: Asked,
    pub(super) rule: Option<usize>,
    pub(super) affinity: Affinity,
    /// Its line of the access log, where there is one.
    pub(super) log: Option<Box<access::Begun>>,
}

/// What of a request is needed when its head is gone.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    /// The client waits for 100 before it sends the body.
    pub(super) expects_continue: bool,
    /// The request may authenticate the upstream instead of itself (NTLM, Negotiate).
    pub(super) authenticates_connection: bool,
    pub(super) upgrade: Option<Box<[u8]>>,
    /// It is a call of gRPC, over HTTP/2: it has a deadline of its own, and may be silent for hours.
    pub(super) is_grpc: bool,
    pub(super) may_be_told_why: bool,
    /// What the backend knows it by; of a trusted proxy's longer one the beginning.
    pub(super) request_id: [u8; 32],
}

/// What comes after a request.
#[derive(Debug)]
pub(super) enum After {
    /// The next one, of which these bytes have come already.
    Next(Option<Block>),
    /// Nothing: the client has had everything.
    Close,
    /// Nothing, but the client may still be sending, and must be able to read our answer (RFC 9112 9.6).
    Linger,
    /// Nothing: what the client got is not whole, and it must notice.
    Abort,
}
