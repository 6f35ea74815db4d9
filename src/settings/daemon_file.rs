//! The text of onedoor.toml -> settings, or errors that point at the place.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;

use super::{
    Color, Log, LogFormat, Overrides, ProxyProtocol, Settings, Trust, Watch, read_level,
    read_listen,
};
use crate::document::{Reader, Span, Table, integer, one_or_more, units};
use crate::limits::{Limits, MOST_FIELDS, MOST_HEAD_BYTES};
use crate::observe::access::{self, Destination};
use crate::site::fence::{Around, Fence};
use crate::site::file::{
    Defaults, read_allow, read_balancing, read_default_tls, read_drain, read_health, read_limits,
    read_network, read_retry, read_send_host, read_send_proxy, read_timeouts,
};
use crate::site::{SiteName, headers};

/// The daemon file while it is read.
pub(super) struct DaemonFile<'f, 't> {
    pub(super) reader: Reader<'t>,
    pub(super) folder: &'f Path,
}

/// A path that is written whole.
const EXAMPLE: &str = "/srv/onedoor";

impl DaemonFile<'_, '_> {
    /// `state` is left empty when the file does not say.
    pub(super) fn settings(&mut self, table: &Table<'_>) -> Settings {
        let workers = self
            .reader
            .count(table, "workers", 1..=1024)
            .map(|count| count as usize);
        Settings {
            config: None,
            overrides: Overrides::default(),
            listen: self.listen(table),
            sites: self
                .path(table, "sites")
                .unwrap_or_else(|| "sites.d".into()),
            state: self.path(table, "state").unwrap_or_default(),
            admin: self.path(table, "admin"),
            status: self.path(table, "status"),
            admin_listen: self.parsed(table, "admin_listen", super::read_admin_listen),
            page_is_an_app: false,
            workers: workers
                .unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get)),
            watch: self
                .parsed(table, "watch", Watch::parse)
                .unwrap_or_default(),
            catch_all: self
                .reader
                .text(table, "catch_all")
                .map(|(name, _)| SiteName::new(name)),
            certificates: self.paths(table, "certificates").unwrap_or_default(),
            files_under: self.paths(table, "files_under").unwrap_or_default(),
            sockets_under: self.paths(table, "sockets_under"),
            allow_link_local: self.reader.flag(table, "allow_link_local").unwrap_or(false),
            trust: self.trust(table),
            limits: self.limits(table),
            log: self.log(table),
            defaults: self.defaults(table),
            warnings: Vec::new(),
        }
    }

    fn listen(&mut self, table: &Table<'_>) -> Vec<SocketAddr> {
        let mut listen = Vec::new();
        let entries: Vec<(String, Span)> = table
            .get("listen")
            .into_iter()
            .flat_map(one_or_more)
            .filter_map(|entry| {
                let value = entry.get_ref();
                let text = value
                    .as_str()
                    .map(str::to_owned)
                    .or_else(|| integer(value).map(|port| port.to_string()));
                Some((text?, entry.span()))
            })
            .collect();
        for (text, span) in entries {
            match read_listen(&text) {
                Ok(address) if listen.contains(&address) && address.port() != 0 => {
                    self.reader
                        .error(span, format!("{address} is listed twice"));
                }
                Ok(address) => listen.push(address),
                Err(error) => self.reader.error(span, error),
            }
        }
        if listen.is_empty() {
            vec![SocketAddr::from(([127, 0, 0, 1], 8080))]
        } else {
            listen
        }
    }

    fn path(&mut self, table: &Table<'_>, name: &str) -> Option<PathBuf> {
        let (text, span) = self.reader.text(table, name)?;
        if text.is_empty() {
            self.reader.error(span, format!("{name:?} is empty"));
            return None;
        }
        self.reader.refuse_home(text, &span, EXAMPLE);
        Some(self.folder.join(text))
    }

    fn paths(&mut self, table: &Table<'_>, name: &str) -> Option<Vec<PathBuf>> {
        let texts = self.reader.texts(table, name)?;
        let path = |(text, span): (&str, Span)| {
            self.reader.refuse_home(text, &span, EXAMPLE);
            self.folder.join(text)
        };
        Some(texts.into_iter().map(path).collect())
    }

    fn parsed<T>(
        &mut self,
        table: &Table<'_>,
        name: &str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, span) = self.reader.text(table, name)?;
        parse(text)
            .map_err(|error| self.reader.error(span, format!("{text:?}: {error}")))
            .ok()
    }

    fn trust(&mut self, table: &Table<'_>) -> Trust {
        let Some(trust) = inner(table, "trust") else {
            return Trust::default();
        };
        Trust {
            proxies: self.networks(trust, "proxies"),
            proxy_protocol: self.proxy_protocol(trust),
        }
    }

    /// A list of networks, or a table that has one and says more.
    fn proxy_protocol(&mut self, trust: &Table<'_>) -> ProxyProtocol {
        match inner(trust, "proxy_protocol") {
            None => ProxyProtocol {
                from: self.networks(trust, "proxy_protocol"),
                optional: false,
            },
            Some(table) => ProxyProtocol {
                from: self.networks(table, "from"),
                optional: self.reader.flag(table, "optional").unwrap_or(false),
            },
        }
    }

    fn networks(&mut self, table: &Table<'_>, name: &str) -> Vec<IpNet> {
        let networks = self.reader.texts(table, name).unwrap_or_default();
        let read = networks
            .into_iter()
            .filter_map(|(text, span)| read_network(&mut self.reader, text, span));
        read.collect()
    }

    fn limits(&mut self, table: &Table<'_>) -> Limits {
        let mut limits = Limits::default();
        if let Some(timeout) = inner(table, "timeout") {
            let mut time = |name, default| self.reader.duration(timeout, name).unwrap_or(default);
            limits.opening_time = time("opening", limits.opening_time);
            limits.head_time = time("head", limits.head_time);
            limits.idle_time = time("idle", limits.idle_time);
            limits.idle_when_full = time("idle_when_full", limits.idle_when_full);
            limits.linger_time = time("linger", limits.linger_time);
            limits.drain_time = self.drain_time(timeout).unwrap_or(limits.drain_time);
        }
        if let Some(limit) = inner(table, "limit") {
            limits.line_bytes = self.head_part(limit, "line").unwrap_or(limits.line_bytes);
            limits.field_bytes = self.head_part(limit, "field").unwrap_or(limits.field_bytes);
            limits.head_bytes = self.head_part(limit, "head").unwrap_or(limits.head_bytes);
            limits.hello_bytes = self.head_part(limit, "hello").unwrap_or(limits.hello_bytes);
            let mut count = |name, most| {
                self.reader
                    .count(limit, name, 1..=most)
                    .map(|count| count as usize)
            };
            limits.fields = count("fields", MOST_FIELDS as u64).unwrap_or(limits.fields);
            limits.handshakes = count("handshakes", u64::MAX).unwrap_or(limits.handshakes);
            limits.connections = count("connections", u64::MAX).or(limits.connections);
            limits.per_client = count("per_client", u64::MAX).or(limits.per_client);
            limits.requests = count("requests", u64::from(u32::MAX))
                .map_or(limits.requests, |requests| requests as u32);
            limits.interim =
                count("interim", 1000).map_or(limits.interim, |interim| interim as u32);
            limits.streams =
                count("streams", 10_000).map_or(limits.streams, |streams| streams as u32);
            limits.resets = count("resets", 1 << 40).map_or(limits.resets, |most| most as u64);
            limits.control_frames =
                count("control_frames", 1 << 40).map_or(limits.control_frames, |most| most as u64);
            limits.crumbs = count("crumbs", u64::MAX).unwrap_or(limits.crumbs);
            limits.pool = count("pool", u64::MAX).unwrap_or(limits.pool);
            limits.pool_all = count("pool_all", u64::MAX).or(limits.pool_all);
            let mut size = |name, usual| {
                self.reader
                    .size(limit, name)
                    .map_or(usual, |(bytes, _)| bytes)
            };
            limits.framing_bytes = size("framing", limits.framing_bytes);
            limits.linger_bytes = size("linger", limits.linger_bytes);
            let usual = limits.stream_window;
            limits.stream_window = self.window(limit, "stream_window").unwrap_or(usual);
            let usual = limits.connection_window;
            limits.connection_window = self.window(limit, "connection_window").unwrap_or(usual);
            let queue = self.window(limit, "stream_queue");
            limits.stream_queue = queue.map_or(limits.stream_queue, |bytes| bytes as usize);
        }
        limits
    }

    /// A size that HTTP/2 has a place for (RFC 9113 6.9.1), and that a frame fits into.
    fn window(&mut self, limit: &Table<'_>, name: &str) -> Option<u32> {
        const LEAST_BYTES: u64 = 16 << 10;
        const MOST_BYTES: u64 = (1 << 31) - 1;
        let (bytes, span) = self.reader.size(limit, name)?;
        if (LEAST_BYTES..=MOST_BYTES).contains(&bytes) {
            return u32::try_from(bytes).ok();
        }
        let message = format!("{name:?} is 16kb to 2gb less a byte, as windows of HTTP/2 are");
        self.reader.error(span, message);
        None
    }

    /// Unlike the other times this may be zero.
    fn drain_time(&mut self, timeout: &Table<'_>) -> Option<Duration> {
        let (text, span) = self.reader.text(timeout, "drain")?;
        self.reader.unit(text, &span, units::duration)
    }

    /// A size that has to fit into the buffer a head is read into.
    fn head_part(&mut self, limit: &Table<'_>, name: &str) -> Option<usize> {
        const LEAST_BYTES: u64 = 256;
        let (bytes, span) = self.reader.size(limit, name)?;
        match usize::try_from(bytes)
            .ok()
            .filter(|&size| bytes >= LEAST_BYTES && size <= MOST_HEAD_BYTES)
        {
            Some(size) => Some(size),
            None => {
                let most = MOST_HEAD_BYTES >> 10;
                self.reader.error(
                    span,
                    format!("{name:?} is {LEAST_BYTES}b to {most}kb, it is read into one buffer"),
                );
                None
            }
        }
    }

    fn log(&mut self, table: &Table<'_>) -> Log {
        let usual = Log::default();
        let Some(log) = inner(table, "log") else {
            return usual;
        };
        Log {
            level: self.parsed(log, "level", read_level).unwrap_or(usual.level),
            format: self
                .parsed(log, "format", LogFormat::parse)
                .unwrap_or(usual.format),
            color: self
                .parsed(log, "color", Color::parse)
                .unwrap_or(usual.color),
            access: self.access(log),
            sites_under: self.paths(log, "sites_under").unwrap_or_default(),
        }
    }

    fn access(&mut self, log: &Table<'_>) -> access::Wanted {
        let usual = access::Wanted::default();
        let to = self
            .reader
            .text(log, "access")
            .map(|(text, span)| (text.to_owned(), span));
        access::Wanted {
            to: match to.as_ref().map(|(text, span)| (text.as_str(), span)) {
                None | Some(("off", _)) => None,
                Some(("stdout", _)) => Some(Destination::Stdout),
                Some((path, span)) => {
                    self.reader
                        .refuse_home(path, span, "/var/log/onedoor/access.log");
                    let path = self.folder.join(path);
                    self.has_folder(&path, span);
                    Some(Destination::File(path.into()))
                }
            },
            format: self
                .parsed(log, "access_format", |text| match text {
                    "json" => Ok(access::Format::Json),
                    "combined" => Ok(access::Format::Combined),
                    _ => Err("the format is \"json\" or \"combined\"".to_owned()),
                })
                .unwrap_or(usual.format),
            query: self.reader.flag(log, "access_query").unwrap_or(usual.query),
        }
    }

    /// A warning: whoever cannot be logged is served all the same, and the folder may come later.
    fn has_folder(&mut self, log: &Path, span: &Span) {
        let folder = log.parent().filter(|folder| *folder != Path::new(""));
        let Some(folder) = folder.filter(|folder| !folder.is_dir()) else {
            return;
        };
        let shown = folder.display();
        let message = format!(
            "the folder {shown} is not there, and until it is the lines of the access log are lost; mkdir -p '{shown}'"
        );
        self.reader.warning(span.clone(), message);
    }

    fn defaults(&mut self, table: &Table<'_>) -> Defaults {
        let usual = Defaults::default();
        let Some(defaults) = inner(table, "defaults") else {
            return usual;
        };
        // The daemon file is the operator's own: no fence around it.
        let fence = Fence {
            folder: self.folder,
            around: Around::Sites(Path::new("/")),
            files_under: &[],
            sockets_under: None,
        };
        let reader = &mut self.reader;
        Defaults {
            limits: read_limits(reader, defaults, &usual.limits),
            timeouts: read_timeouts(reader, defaults, &usual.timeouts),
            headers: match inner(defaults, "headers") {
                Some(table) => {
                    headers::read(reader, table, &fence, &usual.headers, &mut Vec::new())
                }
                None => usual.headers,
            },
            drain: read_drain(reader, defaults, &usual.drain),
            send_host: read_send_host(reader, defaults, &usual.send_host),
            send_proxy: read_send_proxy(reader, defaults, usual.send_proxy),
            allow: read_allow(reader, defaults),
            tls: read_default_tls(reader, defaults, &fence),
            balancing: read_balancing(reader, defaults, &usual.balancing),
            retry: read_retry(reader, defaults, &usual.retry),
            health: read_health(reader, defaults, &usual.health),
        }
    }
}

fn inner<'a, 't>(table: &'a Table<'t>, name: &str) -> Option<&'a Table<'t>> {
    table.get(name)?.get_ref().as_table()
}
