//! onedoor.toml, environment and flags -> one [`Settings`].
//!
//! A flag beats a variable beats the file; the first two arrive together as [`Overrides`]. The file is read by the
//! same table of keys as site files, so its errors look the same. Opens no socket and makes no folder.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use crate::document::keys::Place;
use crate::document::{Excerpt, Problem, Reader, units};
use crate::limits::Limits;
use crate::observe::access;
use crate::site::SiteName;
use crate::site::backend::LinkLocal;
use crate::site::directory::decode;
use crate::site::fence::read_regular;
use crate::site::file::{Defaults, Excerpts, Rules};
use daemon_file::DaemonFile;

mod daemon_file;
mod listen;
mod renewed;
mod state_directory;
#[cfg(test)]
mod tests;

pub use listen::{ListenError, read_admin_listen, read_listen};
pub use renewed::Renewed;
use state_directory::state_directory;

/// Everything one run needs to know before it opens a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The daemon file this came from, if there was one.
    pub config: Option<PathBuf>,
    /// What was put over it.
    pub overrides: Overrides,
    /// Never empty.
    pub listen: Vec<SocketAddr>,
    pub sites: PathBuf,
    /// Not inside `sites`; it may not exist yet.
    pub state: PathBuf,
    /// `None`: in the state directory.
    pub admin: Option<PathBuf>,
    /// A loopback address for the page and the metrics.
    pub admin_listen: Option<SocketAddr>,
    /// The demo: a site file may lead to the page.
    pub page_is_an_app: bool,
    /// Where the states of site files are written as files.
    pub status: Option<PathBuf>,
    /// Folders in which `tls = "auto"` finds a certificate by its names.
    pub certificates: Vec<PathBuf>,
    pub workers: usize,
    pub watch: Watch,
    pub catch_all: Option<SiteName>,
    pub files_under: Vec<PathBuf>,
    pub sockets_under: Option<Vec<PathBuf>>,
    pub allow_link_local: bool,
    pub trust: Trust,
    pub limits: Limits,
    pub log: Log,
    pub defaults: Defaults,
    /// What was odd and is in force all the same.
    pub warnings: Vec<Problem>,
}

/// Where commands find the daemon, in its state directory.
pub const ADMIN_SOCKET: &str = "admin.sock";

impl Settings {
    /// Where commands find the daemon.
    pub fn admin_socket(&self) -> PathBuf {
        match &self.admin {
            Some(socket) => socket.clone(),
            None => self.state.join(ADMIN_SOCKET),
        }
    }

    /// Whether backends may be where clouds keep credentials.
    pub fn link_local(&self) -> LinkLocal {
        match self.allow_link_local {
            true => LinkLocal::Allowed,
            false => LinkLocal::Refused,
        }
    }

    /// What these settings mean for site files. `listen` is what was asked for; the server puts in what it bound.
    pub fn rules(&self) -> Rules {
        Rules {
            sites: self.sites.clone(),
            catch_all: self.catch_all.clone(),
            files_under: self.files_under.clone(),
            sockets_under: self.sockets_under.clone(),
            allow_link_local: self.allow_link_local,
            logs_under: self.log.sites_under.clone(),
            listen: self.listen.clone(),
            admin: Some(self.admin_socket()),
            admin_listen: self.admin_listen.filter(|_| !self.page_is_an_app),
            defaults: self.defaults.clone(),
            excerpts: Excerpts::InsideSites,
            number: 0,
        }
    }
}

/// How changes of the sites directory are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Watch {
    /// By events where they arrive, else by looking every two seconds.
    #[default]
    Auto,
    Events,
    Poll(Duration),
}

impl Watch {
    const POLL: Duration = Duration::from_secs(2);

    fn parse(text: &str) -> Result<Watch, String> {
        match text.split_once(' ') {
            None if text == "auto" => Ok(Watch::Auto),
            None if text == "events" => Ok(Watch::Events),
            None if text == "poll" => Ok(Watch::Poll(Watch::POLL)),
            Some(("poll", every)) => match units::duration(every) {
                Ok(every) if every >= Duration::from_millis(100) => Ok(Watch::Poll(every)),
                Ok(_) => Err("polling more often than every 100ms is not useful".into()),
                Err(error) => Err(error.to_string()),
            },
            _ => Err("watch is \"auto\", \"events\" or \"poll 2s\"".into()),
        }
    }
}

/// Who is believed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Trust {
    /// Networks whose X-Forwarded-* are believed.
    pub proxies: Vec<IpNet>,
    pub proxy_protocol: ProxyProtocol,
}

/// `[trust] proxy_protocol`: whose connections begin with a PROXY header, which then says who the client is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProxyProtocol {
    pub from: Vec<IpNet>,
    /// Whether they may leave it out.
    pub optional: bool,
}

/// Whether a connection begins with a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFirst {
    Never,
    Perhaps,
    Always,
}

impl ProxyProtocol {
    /// What connections of `peer` begin with.
    pub fn of(&self, peer: IpAddr) -> HeaderFirst {
        let peer = peer.to_canonical();
        match self.from.iter().any(|net| net.contains(&peer)) {
            false => HeaderFirst::Never,
            true if self.optional => HeaderFirst::Perhaps,
            true => HeaderFirst::Always,
        }
    }
}

/// What is told to the operator, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level or a tracing filter.
    pub level: String,
    pub format: LogFormat,
    pub color: Color,
    /// A line for each request.
    pub access: access::Wanted,
    /// Folders in which sites may have access logs of their own.
    pub sites_under: Vec<PathBuf>,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            level: "info".into(),
            format: LogFormat::Text,
            color: Color::Auto,
            access: access::Wanted::default(),
            sites_under: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

fn read_level(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(
            "the level is \"error\", \"warn\", \"info\" or \"debug\", or a filter of these".into(),
        ),
    }
}

impl LogFormat {
    fn parse(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("the format is \"text\" or \"json\"".into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Where a terminal shows it.
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether something is shown in colours. In doubt what the terminal says, and NO_COLOR, where that is not empty
    /// (no-color.org).
    pub fn is_shown(self, output: &impl IsTerminal) -> bool {
        let has_words = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => output.is_terminal() && !has_words("NO_COLOR") && !is_dumb,
        }
    }

    fn parse(text: &str) -> Result<Color, String> {
        match text {
            "auto" => Ok(Color::Auto),
            "always" => Ok(Color::Always),
            "never" => Ok(Color::Never),
            _ => Err("color is \"auto\", \"always\" or \"never\"".into()),
        }
    }
}

/// What flags and `ONEDOOR_` variables say, as it was written. `None` and empty: nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Overrides {
    pub listen: Vec<String>,
    pub sites: Option<PathBuf>,
    pub state: Option<PathBuf>,
    pub admin: Option<PathBuf>,
    pub admin_listen: Option<String>,
    pub workers: Option<usize>,
    pub watch: Option<String>,
    pub catch_all: Option<String>,
    pub allow_link_local: Option<bool>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
    pub log_color: Option<String>,
    /// Open work may not go on for longer after SIGTERM, whatever the file says.
    pub drain_at_most: Option<Duration>,
}

/// Reads the daemon file (`./onedoor.toml` if there is one and no other is named) and puts `overrides` over it.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(config: Option<&Path>, overrides: Overrides) -> Result<Settings, Vec<Problem>> {
    load_in(config, overrides, &|name| env::var_os(name))
}

/// The admin socket of a daemon whose file cannot be used just now: commands find it by what the file still says.
/// `None`: that cannot be told, or nobody has put one there.
pub fn socket_all_the_same(config: Option<&Path>, overrides: Overrides) -> Option<PathBuf> {
    let path = config.unwrap_or(Path::new("onedoor.toml"));
    let text = read_text(path).ok()?;
    let (reader, table) = Reader::open(&text, path, Excerpt::Shown, Place::Daemon);
    // One that is written and was not read might lead elsewhere, and so to somebody else's daemon.
    let is_read = |key: &str| {
        let read = table.get(key).and_then(|value| value.get_ref().as_str());
        is_written(&text, key) == read.is_some()
    };
    const PLACES: [&str; 3] = ["admin", "state", "sites"];
    if !PLACES.into_iter().all(is_read) {
        return None;
    }
    let folder = folder_of(path);
    let mut file = DaemonFile {
        reader,
        folder: &folder,
    };
    let mut settings = file.settings(&table);
    // What is read of a line with an error in it may be less than was meant.
    let is_of_a_place = |problem: &Problem| {
        let line = text.lines().nth((problem.line as usize).wrapping_sub(1));
        line.is_some_and(|line| PLACES.iter().any(|key| is_written(line, key)))
    };
    if file.reader.finish().iter().any(is_of_a_place) {
        return None;
    }
    apply(&mut settings, overrides);
    settings.state = state_directory(&settings, &|name| env::var_os(name)).ok()?;
    Some(settings.admin_socket()).filter(|socket| socket.exists())
}

/// Whether some line of `text` looks as if it gave `key` a value.
fn is_written(text: &str, key: &str) -> bool {
    let quotes = ['"', '\''];
    text.lines().any(|line| {
        let line = line.trim_start().trim_start_matches(quotes);
        let behind = line.strip_prefix(key);
        behind.is_some_and(|rest| {
            rest.trim_start_matches(quotes)
                .trim_start()
                .starts_with('=')
        })
    })
}

type Environment<'e> = &'e dyn Fn(&str) -> Option<OsString>;

fn load_in(
    config: Option<&Path>,
    overrides: Overrides,
    environment: Environment<'_>,
) -> Result<Settings, Vec<Problem>> {
    let usual = Path::new("onedoor.toml");
    // A link that leads nowhere, or a file we may not see, was meant to say something.
    let is_none = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let config = config.or_else(|| match usual.symlink_metadata() {
        Err(error) if is_none(&error) => None,
        _ => Some(usual),
    });
    let text = match config {
        Some(path) => read_text(path).map_err(|problem| vec![problem])?,
        None => String::new(),
    };
    let origin = config.unwrap_or(usual);
    let (reader, table) = Reader::open(&text, origin, Excerpt::Shown, Place::Daemon);
    let folder = folder_of(origin);
    let mut file = DaemonFile {
        reader,
        folder: &folder,
    };
    let mut settings = file.settings(&table);
    let mut problems = file.reader.finish();
    settings.config = config.map(Path::to_owned);
    settings.overrides = overrides.clone();
    problems.extend(apply(&mut settings, overrides));
    match state_directory(&settings, environment) {
        Ok(state) => settings.state = state,
        Err(problem) => problems.push(problem),
    }
    if problems.iter().any(Problem::is_error) {
        return Err(problems);
    }
    settings.warnings = problems;
    Ok(settings)
}

fn read_text(path: &Path) -> Result<String, Problem> {
    const MOST_BYTES: u64 = 1 << 20;
    let bytes = read_regular(path, MOST_BYTES)
        .map_err(|error| Problem::of_file(path, error.to_string()))?;
    decode(bytes).map_err(|error| error.into_problem(path))
}

/// Where relative paths in a file start: the folder of the real file.
fn folder_of(file: &Path) -> PathBuf {
    let real = if file.is_symlink() {
        file.canonicalize().ok()
    } else {
        None
    };
    real.as_deref()
        .unwrap_or(file)
        .parent()
        .unwrap_or(Path::new(""))
        .to_owned()
}

/// Puts flags and variables over what the file said.
fn apply(settings: &mut Settings, overrides: Overrides) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |name: &str, error: String| {
        // Which of the two it was is known to the shell, not here.
        let variable = name
            .trim_start_matches("--")
            .replace('-', "_")
            .to_ascii_uppercase();
        problems.push(Problem::of_file(
            Path::new(&format!("{name} or $ONEDOOR_{variable}")),
            error,
        ));
    };
    if !overrides.listen.is_empty() {
        let read: Vec<_> = overrides
            .listen
            .iter()
            .map(|text| read_listen(text))
            .collect();
        settings.listen = Vec::new();
        for address in read {
            match address {
                Ok(address) => settings.listen.push(address),
                Err(error) => wrong("--listen", error.to_string()),
            }
        }
    }
    let Overrides {
        sites,
        state,
        admin,
        catch_all,
        allow_link_local,
        log_level,
        drain_at_most,
        ..
    } = overrides;
    if let Some(sites) = sites {
        settings.sites = sites;
    }
    if let Some(state) = state {
        settings.state = state;
    }
    settings.admin = admin.or(settings.admin.take());
    settings.catch_all = catch_all.map(SiteName::new).or(settings.catch_all.take());
    settings.allow_link_local = allow_link_local.unwrap_or(settings.allow_link_local);
    match log_level.as_deref().map(read_level) {
        None => {}
        Some(Ok(level)) => settings.log.level = level,
        Some(Err(error)) => wrong("--log-level", error),
    }
    if let Some(most) = drain_at_most {
        settings.limits.drain_time = settings.limits.drain_time.min(most);
    }
    match overrides.admin_listen.as_deref().map(read_admin_listen) {
        None => {}
        Some(Ok(address)) => settings.admin_listen = Some(address),
        Some(Err(error)) => wrong("--admin-listen", error),
    }
    match overrides.workers {
        None => {}
        Some(workers @ 1..=1024) => settings.workers = workers,
        Some(_) => wrong("--workers", "workers is 1 to 1024".into()),
    }
    match overrides.watch.as_deref().map(Watch::parse) {
        None => {}
        Some(Ok(watch)) => settings.watch = watch,
        Some(Err(error)) => wrong("--watch", error),
    }
    match overrides.log_format.as_deref().map(LogFormat::parse) {
        None => {}
        Some(Ok(format)) => settings.log.format = format,
        Some(Err(error)) => wrong("--log-format", error),
    }
    match overrides.log_color.as_deref().map(Color::parse) {
        None => {}
        Some(Ok(color)) => settings.log.color = color,
        Some(Err(error)) => wrong("--log-color", error),
    }
    problems
}
