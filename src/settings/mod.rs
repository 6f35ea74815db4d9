//! onedoor.toml, environment and flags -> one [`Settings`].
//!
//! A flag beats a variable beats the file; the first two arrive together as [`Overrides`]. The file is read by the
//! same table of keys as site files, so its errors look the same. Opens no socket and makes no folder.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
mod renewed;

pub use renewed::Renewed;

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

/// `8080` and `:8080` (all IPv4 interfaces), `127.0.0.1:0`, `[::1]:80`, `localhost:8080` (127.0.0.1).
pub fn read_listen(text: &str) -> Result<SocketAddr, ListenError> {
    let wrong = || ListenError(text.into());
    let port = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse::<u16>().map_err(|_| wrong()),
        false => Err(wrong()),
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match text.rsplit_once(':') {
        None => Ok((Ipv4Addr::UNSPECIFIED, port(text)?).into()),
        Some(("" | "*", digits)) => Ok((Ipv4Addr::UNSPECIFIED, port(digits)?).into()),
        Some((host, digits)) if host.eq_ignore_ascii_case("localhost") => {
            Ok((Ipv4Addr::LOCALHOST, port(digits)?).into())
        }
        Some(_) => Err(wrong()),
    }
}

/// As [`read_listen`], and only on this machine: what is shown there is not for others.
///
/// # Errors
/// What to write instead.
pub fn read_admin_listen(text: &str) -> Result<SocketAddr, String> {
    // A port alone would be all interfaces.
    let text = match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("127.0.0.1:{text}"),
        false => text.to_owned(),
    };
    let address = read_listen(&text)?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err(format!(
            "{address} is not of this machine alone; write \"127.0.0.1:{}\"",
            address.port()
        )),
    }
}

/// The text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenError(Box<str>);

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no address to listen on, write 8080, \"127.0.0.1:8080\" or \"[::1]:8080\"",
            self.0
        )
    }
}

impl std::error::Error for ListenError {}

impl From<ListenError> for String {
    fn from(error: ListenError) -> String {
        error.to_string()
    }
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

/// `--state` or the file, else `$STATE_DIRECTORY` (systemd), else a folder of its own per sites directory.
fn state_directory(settings: &Settings, environment: Environment<'_>) -> Result<PathBuf, Problem> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let sites = real_path(&settings.sites);
    let state = if !settings.state.as_os_str().is_empty() {
        settings.state.clone()
    } else if let Some(given) = set("STATE_DIRECTORY") {
        // systemd separates several by colons; the first is ours.
        PathBuf::from(
            given
                .to_string_lossy()
                .split(':')
                .next()
                .unwrap_or_default(),
        )
    } else {
        let home = set("XDG_STATE_HOME")
            .map(PathBuf::from)
            .filter(|home| home.is_absolute());
        let home = home.or_else(|| set("HOME").map(|home| Path::new(&home).join(".local/state")));
        let none = || {
            Problem::of_file(
                Path::new("state"),
                "there is no place for the state directory: $HOME is not set",
            )
            .with_help("name one with --state, $ONEDOOR_STATE, or state = \"...\" in onedoor.toml")
        };
        home.ok_or_else(none)?.join("onedoor").join(hash(&sites))
    };
    if real_path(&state).starts_with(&sites) {
        let message = format!(
            "the state directory {} lies inside the sites directory",
            state.display()
        );
        return Err(Problem::of_file(Path::new("state"), message)
            .with_help("name another one with --state"));
    }
    Ok(state)
}

/// The absolute path with symlinks resolved as far as it exists.
fn real_path(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for existing in absolute.ancestors() {
        if let Ok(real) = existing.canonicalize() {
            let rest = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
            // Joining an empty rest would add a slash.
            return if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            };
        }
    }
    absolute
}

/// FNV-1a: short and the same in every version; it only has to tell folders apart.
fn hash(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::SendHost;

    fn environment(name: &str) -> Option<OsString> {
        (name == "HOME").then(|| "/home/ann".into())
    }

    /// Loads `text` as a daemon file.
    fn loaded(text: &str, overrides: Overrides) -> Result<Settings, Vec<String>> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = env::temp_dir().join(format!(
            "onedoor-settings-{}-{number}.toml",
            std::process::id()
        ));
        std::fs::write(&path, text).expect("file");
        let loaded = load_in(Some(&path), overrides, &environment);
        std::fs::remove_file(&path).expect("file");
        let shown = path.display().to_string();
        loaded.map_err(|problems| {
            problems
                .iter()
                .map(|p| p.to_string().replace(&shown, ""))
                .collect()
        })
    }

    #[test]
    fn no_file_is_needed() {
        let settings = load_in(None, Overrides::default(), &environment).expect("settings");
        assert_eq!(settings.listen, [SocketAddr::from(([127, 0, 0, 1], 8080))]);
        assert_eq!(settings.sites, Path::new("sites.d"));
        assert!(settings.state.starts_with("/home/ann/.local/state/onedoor"));
        assert!(settings.workers > 0);
        assert_eq!(
            (settings.watch, settings.log.level.as_str()),
            (Watch::Auto, "info")
        );
        assert_eq!(settings.limits, Limits::default());
    }

    #[test]
    fn every_key_of_the_daemon_file_has_its_effect() {
        let settings = loaded(
            r#"
            listen = [80, "[::1]:8080"]
            sites = "/etc/onedoor/sites.d"
            state = "/var/lib/onedoor"
            admin = "/run/onedoor.sock"
            workers = 3
            watch = "poll 5s"
            catch_all = "main"
            files_under = "/srv"
            sockets_under = ["/run"]
            allow_link_local = true
            [timeout]
            opening = "1s"
            head = "2s"
            idle = "3s"
            drain = "0s"
            linger = "4s"
            [limit]
            requests = 7
            interim = 1
            framing = "1kb"
            pool = 8
            pool_all = 9
            linger = "64kb"
            line = "1kb"
            field = "2kb"
            fields = 128
            head = "60kb"
            connections = 1000
            per_client = 10
            [trust]
            proxies = ["10.0.0.0/8", "127.0.0.1"]
            [log]
            level = "debug"
            format = "json"
            color = "never"
            [defaults]
            send_host = "backend"
            drain = "1s"
            timeout.connect = "1s"
            limit.body = "1mb"
            headers.via = false
            headers.response.set.Server = "x"
            "#,
            Overrides::default(),
        )
        .expect("settings");
        assert_eq!(settings.listen[0].to_string(), "0.0.0.0:80");
        assert_eq!(settings.listen[1].to_string(), "[::1]:8080");
        assert_eq!(settings.state, Path::new("/var/lib/onedoor"));
        assert_eq!(
            (settings.workers, settings.watch),
            (3, Watch::Poll(Duration::from_secs(5)))
        );
        assert_eq!(settings.sockets_under, Some(vec!["/run".into()]));
        assert_eq!(settings.limits.drain_time, Duration::ZERO);
        assert_eq!(
            (settings.limits.head_bytes, settings.limits.fields),
            (60 << 10, 128)
        );
        assert_eq!(
            (settings.limits.connections, settings.limits.per_client),
            (Some(1000), Some(10))
        );
        let limits = &settings.limits;
        assert_eq!(
            (limits.requests, limits.interim, limits.framing_bytes),
            (7, 1, 1 << 10)
        );
        assert_eq!((limits.pool, limits.pool_all), (8, Some(9)));
        assert_eq!(
            (limits.linger_bytes, limits.linger_time),
            (64 << 10, Duration::from_secs(4))
        );
        assert_eq!(settings.trust.proxies.len(), 2);
        assert_eq!(
            (settings.log.format, settings.log.color),
            (LogFormat::Json, Color::Never)
        );
        assert_eq!(settings.defaults.send_host, SendHost::Backend);
        assert_eq!(settings.defaults.limits.body_bytes, Some(1 << 20));
        assert!(!settings.defaults.headers.via && settings.defaults.headers.response.len() == 1);
        assert_eq!(settings.rules().catch_all, Some(SiteName::new("main")));
    }

    #[test]
    fn all_errors_come_at_once_with_places() {
        let text = "lisen = 1\nlisten = 'x'\nworkers = 0\nwatch = 'poll'\nhead = '1kb'\n[limit]\nhead = '1mb'\nfields = 200\n[log]\ncolor = 'red'\n";
        let errors = loaded(
            text,
            Overrides {
                watch: Some("never".into()),
                ..Overrides::default()
            },
        )
        .expect_err("errors");
        assert_eq!(errors.len(), 8, "{errors:#?}");
        assert_eq!(
            errors[0],
            ":1:1: unknown key \"lisen\", did you mean \"listen\"?"
        );
        assert!(
            errors[1].starts_with(":2:10: \"x\" is no address to listen on"),
            "{errors:#?}"
        );
        assert_eq!(errors[2], ":3:11: \"workers\" is 1 to 1024");
        assert!(
            errors[3].starts_with(":5:1: \"head\" belongs in [timeout]"),
            "{errors:#?}"
        );
        assert!(
            errors[4].starts_with(":7:8: \"head\" is 256b to 60kb"),
            "{errors:#?}"
        );
        assert_eq!(errors[5], ":8:10: \"fields\" is 1 to 128");
        assert!(
            errors[7].starts_with("--watch or $ONEDOOR_WATCH: "),
            "{errors:#?}"
        );
        assert!(
            load_in(
                Some(Path::new("/nowhere/onedoor.toml")),
                Overrides::default(),
                &environment
            )
            .is_err()
        );
    }

    #[test]
    fn a_flag_beats_the_file() {
        let overrides = Overrides {
            listen: vec![":81".into(), "127.0.0.1:0".into()],
            sites: Some("/other".into()),
            workers: Some(2),
            log_level: Some("warn".into()),
            ..Overrides::default()
        };
        let settings = loaded(
            "listen = 80\nworkers = 9\nsites = 'here'\ncatch_all = 'main'",
            overrides,
        )
        .expect("settings");
        assert_eq!(
            settings
                .listen
                .iter()
                .map(SocketAddr::to_string)
                .collect::<Vec<_>>(),
            ["0.0.0.0:81", "127.0.0.1:0"]
        );
        assert_eq!(
            (settings.workers, settings.sites.as_path()),
            (2, Path::new("/other"))
        );
        assert_eq!(
            (settings.log.level.as_str(), settings.catch_all),
            ("warn", Some(SiteName::new("main")))
        );
    }

    #[test]
    fn a_listening_address_has_several_spellings() {
        for (text, address) in [
            ("8080", "0.0.0.0:8080"),
            (":8080", "0.0.0.0:8080"),
            ("*:80", "0.0.0.0:80"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::]:80", "[::]:80"),
            ("localhost:80", "127.0.0.1:80"),
        ] {
            assert_eq!(
                read_listen(text).map(|a| a.to_string()),
                Ok(address.to_owned()),
                "{text}"
            );
        }
        for bad in [
            "",
            ":",
            "x",
            "65536",
            "a.test:80",
            "+80",
            "127.0.0.1",
            "::1:80:",
            "**80",
        ] {
            assert!(read_listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_state_directory_is_never_inside_the_sites_directory() {
        let text = "sites = '/tmp'\nstate = '/tmp/onedoor-state'";
        assert!(
            loaded(text, Overrides::default()).expect_err("error")[0]
                .contains("lies inside the sites directory")
        );
        let of = |sites: &str| {
            loaded(&format!("sites = '{sites}'"), Overrides::default())
                .expect("settings")
                .state
        };
        assert_eq!(of("/tmp/."), of("/tmp"));
        assert_ne!(of("/tmp"), of("/usr"));
        let systemd =
            |name: &str| (name == "STATE_DIRECTORY").then(|| "/var/lib/a:/var/lib/b".into());
        let settings = load_in(None, Overrides::default(), &systemd).expect("settings");
        assert_eq!(settings.state, Path::new("/var/lib/a"));
        assert!(load_in(None, Overrides::default(), &|_| None).is_err());
    }
}
