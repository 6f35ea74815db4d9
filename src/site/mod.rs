//! A site: the names it answers for and what it does with a request.
//!
//! Values of these types are usable as they are: whoever holds a [`Site`] checks nothing again. They are made
//! by [`file::read`] from the text of a site file. No sockets, no clock.

pub mod absence;
#[cfg(feature = "serve")]
pub mod addresses;
pub mod backend;
pub mod backend_tls;
pub mod balance;
pub mod before;
#[cfg(feature = "serve")]
pub mod client_faults;
#[cfg(feature = "serve")]
pub mod counts;
pub mod directory;
#[cfg(feature = "serve")]
pub mod faults;
pub mod fence;
pub mod file;
pub mod fitness;
pub(crate) mod headers;
pub mod health;
pub mod hostname;
pub mod local;
pub mod member;
pub mod path;
#[cfg(feature = "serve")]
pub mod said;
pub mod slots;
pub mod tls;
#[cfg(feature = "serve")]
pub mod trouble;
pub mod waiting;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use backend::{Address, Backend};
pub use balance::{Balance, Balancing, Retry};
pub use before::Before;
pub use fitness::{BackendState, EndpointState};
pub use health::Health;
pub use hostname::{HostPattern, Hostname};
pub use member::Member;
pub use path::{PathPattern, PathRefusal, Place};
pub use slots::{SiteSlot, SiteSlots};
pub use tls::Tls;
pub use waiting::{Line, Waiting};

use crate::document::is_login;
use crate::limits::{SiteLimits, SiteTimeouts};
#[cfg(feature = "serve")]
use crate::observe::access::OfSite;

/// The name of a site: the stem of its file, or `TEAM/NAME` one folder deep. Never empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteName(Arc<str>);

impl SiteName {
    /// Takes the name as it is; [`directory`] makes it from a path.
    pub fn new(name: impl Into<Arc<str>>) -> SiteName {
        SiteName(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder in the sites directory that its file is in.
    pub fn team(&self) -> Option<&str> {
        self.0.split_once('/').map(|(team, _)| team)
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// One operator's entry: who may ask, and where it goes.
#[derive(Debug)]
pub struct Site {
    pub name: SiteName,
    /// Place in per-worker tables (counters, turns). Given by `reload` when the site first goes live; the same for
    /// all versions of a site, free again when it is gone.
    pub number: u32,
    /// Larger for every version published, so that a worker can tell which of its connections a change is about. Given by `reload` together with `number`.
    pub version: u64,
    /// What is open of it. The same for all versions of a site; given on by `reload`.
    pub slots: Arc<SiteSlots>,
    /// Requests that wait for a backend. The same for all versions of a site.
    pub waiting: Arc<Waiting>,
    /// What the site claims, in the order of the file; the hosts first. Never empty.
    pub claims: Box<[Claim]>,
    /// What happens to a request that no path rule matches. `None`: 404.
    pub action: Option<Action>,
    /// Who may ask. `None`: everybody.
    pub allow: Option<Allow>,
    /// In matching order: exact paths first, then prefixes, longest first (see [`path`]).
    pub paths: Box<[PathRule]>,
    /// What answers while new backends do not. `None`: no edit brought any, or nobody has to be fallen back to. Given by
    /// `reload`.
    pub before: Option<Before>,
    pub balancing: Balancing,
    pub retry: Retry,
    pub send_host: SendHost,
    /// `None`: backends are not told by a PROXY header.
    pub send_proxy: Option<SendProxy>,
    pub headers: HeaderEdits,
    pub health: Health,
    pub limits: SiteLimits,
    pub timeouts: SiteTimeouts,
    pub drain: DrainPolicy,
    pub tls: Tls,
    /// Where its requests are logged.
    #[cfg(feature = "serve")]
    pub access_log: OfSite,
    /// The operator's own words, shown by `ls`.
    pub note: Option<Box<str>>,
}

impl Site {
    /// What answers, anywhere on the site.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        let paths = self.paths.iter().filter_map(|rule| rule.action.as_ref());
        self.action.iter().chain(paths)
    }

    /// All backends, in the order of the file; some may be there twice.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.members().map(|member| &member.backend)
    }

    /// The same with their shares and what is known of them.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.actions().flat_map(|action| match action {
            Action::Proxy(backends) => &*backends.list,
            Action::Redirect(_) | Action::Respond(_) => &[],
        })
    }

    /// Whether its check has passed nowhere yet.
    pub fn awaits_a_first_pass(&self) -> bool {
        self.awaits(BackendState::has_passed)
    }

    /// Whether none of its backends has passed its check and is fit. A site without a check awaits nothing.
    pub fn awaits_a_fit_backend(&self) -> bool {
        self.awaits(|state| state.has_passed() && state.is_fit())
    }

    fn awaits(&self, is_there: impl Fn(&BackendState) -> bool) -> bool {
        let mut members = self
            .members()
            .filter(|member| !member.is_drained())
            .peekable();
        self.health.check.is_some()
            && members.peek().is_some()
            && !members.any(|member| is_there(&member.state))
    }

    /// The same to be given their states, before the site is published.
    pub fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        let paths = self.paths.iter_mut();
        let paths = paths.filter_map(|rule| rule.action.as_mut());
        let actions = self.action.iter_mut().chain(paths);
        actions.flat_map(|action| match action {
            Action::Proxy(backends) => &mut *backends.list,
            Action::Redirect(_) | Action::Respond(_) => &mut [],
        })
    }
}

/// One name a site claims, and where its file says so (for "already claimed by").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub pattern: HostPattern,
    pub role: ClaimRole,
    /// 1-based line and column of the value in the file; 1:1 when the file name is the host.
    pub line: u32,
    pub column: u32,
}

/// What a site does for a name it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimRole {
    /// From `host`: requests are answered.
    Serve,
    /// From `redirect_from`: requests are sent to the first host with 308.
    RedirectToFirst,
}

/// What answers a request.
#[derive(Debug)]
pub enum Action {
    Proxy(Backends),
    Redirect(Redirect),
    Respond(Respond),
}

/// The backends of a site or path, in the order of the file. Never empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Backends {
    pub list: Box<[Member]>,
    /// Whether all are alike: no backup, nobody drained, one share each.
    pub is_even: bool,
    /// Whether any has a `max`.
    pub has_max: bool,
}

impl Backends {
    /// `list` is not empty.
    pub fn new(list: Vec<Member>) -> Backends {
        Backends {
            is_even: list
                .iter()
                .all(|member| member.weight == 1 && !member.backup),
            has_max: list.iter().any(|member| member.max.is_some()),
            list: list.into(),
        }
    }

    /// Where requests wait for it.
    pub fn line(&self) -> Line {
        Line(self.list.first().map_or(0, |first| first.state.number))
    }
}

/// Sends the client elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `https://www.x` or `https://www.x/a/path`; visible ASCII only, safe in a header.
    pub location: Box<str>,
    /// Whether the request's path and query are appended: the target had no path of its own.
    pub keep_path: bool,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// An answer from memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    pub content_type: Box<str>,
    pub body: Arc<[u8]>,
}

/// A `[[path]]` entry.
#[derive(Debug)]
pub struct PathRule {
    pub pattern: PathPattern,
    /// 1-based line of `match` in the file.
    pub line: u32,
    /// Remove the prefix before forwarding and send it as X-Forwarded-Prefix.
    pub strip: bool,
    /// `None`: the site's.
    pub action: Option<Action>,
    /// Takes the place of the site's. `None`: the site's.
    pub allow: Option<Allow>,
}

/// Client networks that may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow(pub Box<[IpNet]>);

impl Allow {
    /// Whether `client` is in one of the networks. An IPv4 client of a dual-stack socket counts as IPv4.
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.0.iter().any(|net| net.contains(&client))
    }
}

/// The version of the PROXY protocol in which backends are told who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendProxy {
    V1,
    V2,
}

/// Which Host a backend is sent.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum SendHost {
    /// The client's, as it was routed by.
    #[default]
    Keep,
    /// The backend's own address.
    Backend,
    /// Always this name.
    Name(Box<str>),
}

/// `[headers]`: what the operator changes in heads, after the forwarding rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Shared, because bodies whose trailers are barred by it outlive a look at the site.
    pub request: Arc<[HeaderEdit]>,
    pub response: Arc<[HeaderEdit]>,
    /// The same with what only TLS can carry (RFC 6797 7.2). `None`: nothing more.
    pub response_over_tls: Option<Box<[HeaderEdit]>>,
    /// Whether requests carry our Via (RFC 9110 7.6.3). On unless `via = false`.
    pub via: bool,
    /// Names of fields whose values were read from files: never shown to anybody.
    pub secret: Box<[Box<str>]>,
}

impl Default for HeaderEdits {
    fn default() -> HeaderEdits {
        HeaderEdits {
            request: Arc::default(),
            response: Arc::default(),
            response_over_tls: None,
            via: true,
            secret: Box::default(),
        }
    }
}

impl HeaderEdits {
    /// Whether the value of this field may be shown: it was not read from a file, and is not what people log in with.
    pub fn may_show(&self, name: &str) -> bool {
        !is_login(name)
            && !self
                .secret
                .iter()
                .any(|secret| name.eq_ignore_ascii_case(secret))
    }

    pub fn of_response(&self, wire: Wire) -> &[HeaderEdit] {
        match (&self.response_over_tls, wire) {
            (Some(edits), Wire::Tls) => edits,
            _ => &self.response,
        }
    }
}

/// What a client's bytes come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    ClearText,
    Tls,
}

/// One change to a head. Names are valid tokens, values valid field values; framing, Host and hop-by-hop fields
/// are refused when the file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    /// One field of this name remains, with this value.
    Set { name: Box<str>, value: Box<[u8]> },
    /// One more field.
    Add { name: Box<str>, value: Box<[u8]> },
    /// No field of this name remains.
    Remove { name: Box<str> },
}

impl HeaderEdit {
    pub fn name(&self) -> &str {
        match self {
            HeaderEdit::Set { name, .. }
            | HeaderEdit::Add { name, .. }
            | HeaderEdit::Remove { name } => name,
        }
    }

    /// Whether fields of this name do not stay as they were.
    pub fn replaces(&self, name: &[u8]) -> bool {
        !matches!(self, HeaderEdit::Add { .. }) && self.name().as_bytes().eq_ignore_ascii_case(name)
    }
}

/// What becomes of open connections of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPolicy {
    /// When the site is edited: how long open exchanges may go on. `None` (default): as long as they like.
    pub edit: Option<Duration>,
    /// When it is removed. 30 s; zero cuts at once.
    pub remove: Duration,
}

impl Default for DrainPolicy {
    fn default() -> DrainPolicy {
        DrainPolicy {
            edit: None,
            remove: Duration::from_secs(30),
        }
    }
}

/// The text of a site file and where it came from.
#[derive(Clone, Debug)]
pub struct SiteDocument {
    pub name: SiteName,
    pub text: String,
    /// The path as it was dropped, for messages.
    pub origin: PathBuf,
    /// The file behind symlinks: relative paths in the text start at its folder.
    pub real: PathBuf,
}
