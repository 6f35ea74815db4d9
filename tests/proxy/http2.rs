//! HTTP/2 clients: the same sites, the same rules, the same safety.

mod abuse; // CASES H-01 to H-08, H-26: work without use is ended, and nobody else notices
mod browser; // Chromium: many objects, two sites, a WebSocket
mod clients; // curl, nghttp, h2load, Python's h2
mod frames; // CASES H-20 to H-25, H-27, H-31, H-32: what is no HTTP/2
mod heads; // CASES H-04, H-09 to H-19: what is no request
mod requests; // what a backend gets, and what comes back
mod together; // flow, drain, edits: streams of one connection beside each other
mod tunnels; // WebSockets over HTTP/2
mod versions; // the same request in both versions

use crate::harness::{Backend, Plan, Proxy};

/// A onedoor with one site, `app.test`, in front of `app`.
fn in_front_of(app: &Backend) -> Plan {
    Proxy::plan().site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
}
