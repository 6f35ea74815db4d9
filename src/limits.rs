//! Every bound on time and size, with its unit, its default and the reason for the default.
//!
//! What belongs to the door (no site is known yet) is in [`Limits`]; what a site file may set is in
//! [`SiteLimits`] and [`SiteTimeouts`]. Bounds that nobody can set stand here too, as constants.

use std::num::NonZero;
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
    /// The same while all `connections` are taken: who has waited for longer makes room, those first that have waited
    /// longest, also for the client's close; so does a client in the middle of a handshake when all of those are taken. 1 s: somebody between two
    /// requests of one page is not disturbed.
    pub idle_when_full: Duration,
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
    /// TLS handshakes at once on a worker. When all are waited for, the client that has let wait longest, and for at least
    /// [`Limits::idle_when_full`], makes room for the next; more wait within the time of the opening. 1024: each holds some
    /// 20 KiB, and whoever would take all places with clients that say hello and no more must send as many in each second.
    pub handshakes: usize,
    /// Client connections open at once, and requests beside another on those of HTTP/2. `None`: 40 % of the free file
    /// descriptors, because a proxied connection needs two; a tenth is for idle upstreams, and the rest is a reserve.
    pub connections: Option<usize>,
    /// Client connections open at once from one address (IPv6: one /64); loopback and trusted proxies are exempt.
    /// `None`: a quarter of `connections`, because of NAT and CDNs.
    pub per_client: Option<usize>,
    /// Requests of one connection; the last response says that it ends. 10,000: a client that stays for days is
    /// spread over the workers anew now and then, and no browser gets there (nginx: 1000).
    pub requests: u32,
    /// 1xx responses before the final one (CASES R-10: endless 1xx). 10.
    pub interim: u32,
    /// Bytes of chunk framing in excess of what sane chunks need, over a whole body (CVE-2023-39326: a byte of
    /// payload for kilobytes of extension). 16 KiB, and each chunk has its size line and some more for free.
    pub framing_bytes: u64,
    /// Idle upstreams kept per backend and worker. 256: with fewer than there are requests at once, the surplus would
    /// be closed and opened again all the time; the short idle time is what keeps the number down.
    pub pool: usize,
    /// Idle upstreams kept per worker over all backends. `None`: 2048, or as many as a tenth of the file descriptors
    /// allows, because a full pool must not keep clients out.
    pub pool_all: Option<usize>,
    /// How much is still read from a client that sends on after our last answer, so that it can read the answer
    /// (RFC 9112 9.6). 1 MiB.
    pub linger_bytes: u64,
    /// And for how long. 2 s.
    pub linger_time: Duration,
    /// How long open work may go on after SIGTERM. 30 s.
    pub drain_time: Duration,
    /// Requests that one HTTP/2 connection may have open. 100, which RFC 9113 6.5.2 recommends as the least.
    pub streams: u32,
    /// What a client may send of one request body before it is taken (HTTP/2). 256 KiB: more than a round trip brings
    /// over a usual line.
    pub stream_window: u32,
    /// The same for all requests of a connection together. 1 MiB: four bodies at full speed.
    pub connection_window: u32,
    /// What may be queued of the responses of one HTTP/2 connection, whatever its windows allow. 256 KiB: a client that
    /// does not read holds no more, and one that reads is never without work.
    pub stream_queue: usize,
    /// Streams of one HTTP/2 connection that either side resets in 30 s, beyond half of its requests (CVE-2023-44487,
    /// CVE-2025-8671). 200: a page that is left takes back a hundred at once.
    pub resets: u64,
    /// Frames of one HTTP/2 connection in 30 s that are neither a request nor data, beyond four for each of these
    /// (CVE-2019-9512 to 9518). 1000: a client that measures its line sends some ten pings a second.
    pub control_frames: u64,
    /// Pieces that the cookie of an HTTP/2 request may come in. 200: browsers keep at most 180 for a site.
    pub crumbs: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            opening_time: Duration::from_secs(10),
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            idle_when_full: Duration::from_secs(1),
            line_bytes: 8 << 10,
            field_bytes: 16 << 10,
            fields: 100,
            head_bytes: 32 << 10,
            hello_bytes: 16 << 10,
            handshakes: 1024,
            connections: None,
            per_client: None,
            requests: 10_000,
            interim: 10,
            framing_bytes: 16 << 10,
            pool: 256,
            pool_all: None,
            linger_bytes: 1 << 20,
            linger_time: Duration::from_secs(2),
            drain_time: Duration::from_secs(30),
            streams: 100,
            stream_window: 256 << 10,
            connection_window: 1 << 20,
            stream_queue: 256 << 10,
            resets: 200,
            control_frames: 1000,
            crumbs: 200,
        }
    }
}

/// `[limit]` of a site file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteLimits {
    /// Bytes of a request body, 413 beyond. `None` (default): the app decides; nothing is buffered here.
    pub body_bytes: Option<u64>,
    /// Bytes a second that a request body must bring on average, once [`SiteTimeouts::grace`] is over and as long as
    /// no response byte has come; and that a client must take of a response over [`SiteTimeouts::idle`], as long as
    /// something waits for it. 240, Kestrel's two: a slow client is not a stalled one. `None`: any.
    pub min_rate: Option<NonZero<u64>>,
    /// Client connections whose last request was for the site; 503 beyond. `None`: half of all that there may be, so
    /// that one site cannot starve the others.
    pub connections: Option<usize>,
    /// Requests that wait for an upstream to be opened; 503 beyond. 4096: as many as a listening socket lets wait
    /// (somaxconn); with a backend that does not accept, more would only hold descriptors and be refused later.
    pub connecting: usize,
    /// Requests that wait for a backend, because each is at its `max` or none is left; 503 beyond. 1024: each holds its
    /// head and its client, and who comes later would wait in vain.
    pub queue: usize,
}

impl Default for SiteLimits {
    fn default() -> SiteLimits {
        SiteLimits {
            body_bytes: None,
            min_rate: NonZero::new(240),
            connections: None,
            connecting: 4096,
            queue: 1024,
        }
    }
}

/// `[timeout]` of a site file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteTimeouts {
    /// Until a backend accepts. 5 s: a backend that needs longer is not there.
    pub connect: Duration,
    /// In line for a backend that is at its `max`. 10 s: who has waited for so long for nothing but a turn has left.
    pub queue: Duration,
    /// From the request sent to the first byte of the response. 120 s: slow apps are common, dead ones are found
    /// by connect and health.
    pub first_byte: Duration,
    /// Between two bytes of a body, either way. 60 s, which browsers that stop to read a film must come back within
    /// (nginx: the same).
    pub idle: Duration,
    /// How long a body may be slower than [`SiteLimits::min_rate`]. 5 s, Kestrel's.
    pub grace: Duration,
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
            queue: Duration::from_secs(10),
            first_byte: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            grace: Duration::from_secs(5),
            websocket_idle: None,
            passthrough_idle: Some(Duration::from_secs(3600)),
            total: None,
            pool_idle: Duration::from_secs(4),
        }
    }
}

/// The longest that an idle upstream is kept, whatever its backend's Keep-Alive says. 2 min: who comes less often can pay
/// for a connect, and a backend that is gone without a word is tried in vain no longer than that.
pub const LONGEST_KEPT: Duration = Duration::from_secs(120);
/// After how long without a word the kernel asks whether the other side of a connection is still there. 2 min: what waits
/// for a request is closed before, so that only tunnels and long answers are asked, and it keeps them in the memory of
/// most firewalls.
pub const PROBE_AFTER: Duration = Duration::from_secs(120);
/// And when there is no answer, how long until it asks again, how often. 30 s, four times: a line that is down for a
/// minute is not a machine that is gone.
pub const PROBE_AGAIN: Duration = Duration::from_secs(30);
pub const PROBES: u32 = 4;
/// The most header fields any setting allows: the size of the array a head is parsed into.
pub const MOST_FIELDS: usize = 128;
/// The largest head, and client hello, any setting allows: either must fit into one read buffer.
pub const MOST_HEAD_BYTES: usize = 60 << 10;
/// Records that one client hello may come in. Clients use one; those that hide the name from somebody in between, a few.
pub const HELLO_RECORDS: usize = 64;
/// Extensions of one client hello. Browsers send 20.
pub const HELLO_EXTENSIONS: usize = 100;
/// What is read of the body of a check's answer to find what it must contain: a health page has some lines.
pub const CHECK_BODY_BYTES: usize = 64 << 10;
/// A PROXY header, either way. Load balancers send 0.1 KiB, with a client certificate in it a few KiB.
pub const PROXY_HEADER_BYTES: usize = 4 << 10;
/// A site file: a thousand times what a plain site needs, and no `/dev/zero`.
pub const SITE_FILE_BYTES: u64 = 1 << 20;
/// A body file of `respond` and a `{ file = "..." }` value: answers from memory, so small ones only.
pub const RESPOND_FILE_BYTES: u64 = 4 << 20;
/// All body files of one site together, each counted once: a site has a few pages for bad days, and memory is everybody's.
pub const RESPOND_FILES_BYTES: u64 = 16 << 20;
/// A secret or header value read from a file: a field that no backend would take is an error here already.
pub const HEADER_FILE_BYTES: u64 = 8 << 10;
/// Names of one site, `host` and `redirect_from` together: a platform that gives each customer a name has thousands.
pub const SITE_HOSTS: usize = 10_000;
/// Backends of one site, all paths together: an edit compares each with those before it, and so does whoever asks for one
/// that is fit. A Kubernetes service is cut into slices of 100.
pub const SITE_BACKENDS: usize = 1_000;
/// `[[path]]` of one site: a request is compared with one after the other, 25 µs for the last of so many.
pub const SITE_PATHS: usize = 1_000;
/// Changes of headers of one site in one direction, each value of a list counted: a head has 100 fields, and each value
/// may come from a file.
pub const SITE_HEADERS: usize = 1_000;
/// Networks in one `allow`: a client is compared with one after the other. The lists of CDNs have some dozens.
pub const ALLOW_NETWORKS: usize = 10_000;
/// Pairs of `cert` and `key` of one site: one for each kind of key there is, twice.
pub const TLS_PAIRS: usize = 8;
/// Lists of revoked certificates of one site: one for each authority in a chain, of several partners.
pub const TLS_REVOKED: usize = 100;
