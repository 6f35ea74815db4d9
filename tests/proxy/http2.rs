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

use crate::harness::http2::Http2;
use crate::harness::{Authority, Backend, Plan, Proxy, put};

/// A onedoor with one site, `app.test`, in front of `app`.
fn in_front_of(app: &Backend) -> Plan {
    in_front_of_with(app, "")
}

/// The same, with more in its site file.
fn in_front_of_with(app: &Backend, more: &str) -> Plan {
    let text = format!("host = 'app.test'\nto = {}\n{more}", app.port);
    Proxy::plan().site("app.toml", text)
}

/// Runs it, and begins to speak HTTP/2 with it.
fn client_of(plan: Plan) -> (Proxy, Http2) {
    let proxy = plan.start();
    let client = Http2::to(&proxy);
    (proxy, client)
}

/// Two sites that share a certificate, in front of `app`: `one.test` and `two.test`. Who signed it stands in `ca.pem`.
fn over_tls(app: &Backend) -> (Plan, Authority) {
    let plan = Proxy::plan();
    let authority = Authority::new("test");
    let both = authority.pair(&["one.test", "two.test"]);
    both.write(plan.sites().path(), "both");
    put(plan.folder().path(), "ca.pem", &authority.pem);
    let site = |name| {
        let port = app.port;
        format!("host = '{name}.test'\nto = {port}\n[tls]\ncert = 'both.pem'\nkey = 'both.key'")
    };
    let plan = plan.site("one.toml", site("one"));
    (plan.site("two.toml", site("two")), authority)
}
