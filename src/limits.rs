//! Every bound on time and size, with its unit, its default and the reason for the default.
//!
//! What belongs to the door (no site is known yet) is in [`Limits`]; what a site file may set is in
//! [`SiteLimits`] and [`SiteTimeouts`]. Bounds that nobody can set stand here too, as constants.

use std::time::Duration;

/// Bounds of the door: `[timeout]` and `[limit]` of the daemon file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From accept to the first bytes that tell the protocol. 10 s: no site is known yet, so no app needs more.
    pub opening_time: Duration,
    /// From the first byte of a request head to its end, however slowly it drips (slowloris). 10 s.
    pub head_time: Duration,
    /// Between two requests of a keep-alive connection. 75 s, nginx's default.
    pub idle_time: Duration,
    /// The request line: 8 KiB, Kestrel's and nginx's order of size.
    pub line_bytes: usize,
    /// One header field, name and value: 16 KiB.
    pub field_bytes: usize,
    /// Number of header fields: 100, and never more than [`MOST_FIELDS`].
    pub fields: usize,
    /// A whole head: 32 KiB, and never more than [`MOST_HEAD_BYTES`].
    pub head_bytes: usize,
    /// A TLS client hello, without the headers of its records: 16 KiB. Real ones have 0.3 to 2 KiB, a large ticket a few
    /// more; never more than [`MOST_HEAD_BYTES`].
    pub hello_bytes: usize,
    /// Client connections open at once. `None`: 40 % of the file descriptors, because a proxied connection needs
    /// two and the rest is a reserve.
    pub connections: Option<usize>,
    /// Client connections open at once from one address (IPv6: one /64); loopback and trusted proxies are exempt.
    /// `None`: a quarter of `connections`, because of NAT and CDNs.
    pub per_client: Option<usize>,
    /// How long open work may go on after SIGTERM. 30 s.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            opening_time: Duration::from_secs(10),
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            line_bytes: 8 << 10,
            field_bytes: 16 << 10,
            fields: 100,
            head_bytes: 32 << 10,
            hello_bytes: 16 << 10,
            connections: None,
            per_client: None,
            drain_time: Duration::from_secs(30),
        }
    }
}

/// `[limit]` of a site file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SiteLimits {
    /// Bytes of a request body, 413 beyond. `None` (default): the app decides; nothing is buffered here.
    pub body_bytes: Option<u64>,
}

/// `[timeout]` of a site file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteTimeouts {
    /// Until a backend accepts. 5 s: a backend that needs longer is not there.
    pub connect: Duration,
    /// From the request sent to the first byte of the response. 120 s: slow apps are common, dead ones are found
    /// by connect and health.
    pub first_byte: Duration,
    /// Between two bytes of a body, either way. 60 s.
    pub idle: Duration,
    /// Between two bytes of an upgraded connection, either way. `None` (default): never.
    pub websocket_idle: Option<Duration>,
    /// Between two bytes of TLS that is passed through, either way. 1 h: the app has a time of its own for clients that are
    /// there; this is for those that left without a word. `None`: never.
    pub passthrough_idle: Option<Duration>,
    /// A whole request. `None` (default): the app decides.
    pub total: Option<Duration>,
    /// How long an idle upstream is kept for the next request. 4 s: Node closes after 5 s, gunicorn after 2.
    pub pool_idle: Duration,
}

impl Default for SiteTimeouts {
    fn default() -> SiteTimeouts {
        SiteTimeouts {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            websocket_idle: None,
            passthrough_idle: Some(Duration::from_secs(3600)),
            total: None,
            pool_idle: Duration::from_secs(4),
        }
    }
}

/// The most header fields any setting allows: the size of the array a head is parsed into.
pub const MOST_FIELDS: usize = 128;
/// The largest head, and client hello, any setting allows: either must fit into one read buffer.
pub const MOST_HEAD_BYTES: usize = 60 << 10;
/// Records that one client hello may come in. Clients use one; those that hide the name from somebody in between, a few.
pub const HELLO_RECORDS: usize = 64;
/// Extensions of one client hello. Browsers send 20.
pub const HELLO_EXTENSIONS: usize = 100;
/// A site file: a thousand times what a plain site needs, and no `/dev/zero`.
pub const SITE_FILE_BYTES: u64 = 1 << 20;
/// A body file of `respond` and a `{ file = "..." }` value: answers from memory, so small ones only.
pub const RESPOND_FILE_BYTES: u64 = 4 << 20;
/// A secret or header value read from a file: a field that no backend would take is an error here already.
pub const HEADER_FILE_BYTES: u64 = 8 << 10;
/// 1xx responses before the final one (CASES R-10: endless 1xx).
pub const INTERIM_RESPONSES: u32 = 10;
/// Idle upstreams kept per endpoint and worker. With fewer than there are requests at once, the surplus would be
/// closed and opened again all the time; the short idle time is what keeps the number down.
pub const POOL_PER_ENDPOINT: usize = 256;
/// Idle upstreams kept per worker over all endpoints.
pub const POOL_PER_WORKER: usize = 2048;
/// The least a request body may bring on average, in bytes a second, once [`BODY_GRACE`] is over and as long as no
/// response byte has come: Kestrel's MinRequestBodyDataRate. A slow client is not a stalled one.
pub const BODY_RATE: u64 = 240;
/// How long a body may be slower than [`BODY_RATE`].
pub const BODY_GRACE: Duration = Duration::from_secs(5);
/// How much is still read from a client that sends on after our last answer, so that it can read the answer
/// (RFC 9112 9.6).
pub const LINGER_BYTES: usize = 1 << 20;
/// And for how long.
pub const LINGER_TIME: Duration = Duration::from_secs(2);
