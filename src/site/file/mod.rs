//! The text of a site file -> a [`Site`], or every reason why not, each with its place.
//!
//! Shape and spelling of keys are checked by [`crate::document`]; here is what the values mean. Knows no other site:
//! who owns a name is decided where all files are known.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use self::action::Bodies;
use self::tls::with_hsts;
#[cfg(feature = "serve")]
use super::fence::LogRefusal;
use super::fence::{Around, Fence};
use super::headers;
use super::tls::Mode;
use super::{
    Allow, Balancing, DrainPolicy, HeaderEdits, Health, Retry, SendHost, SendProxy, Site,
    SiteDocument, SiteName, Tls,
};
use crate::document::keys::Place;
use crate::document::{Excerpt, Problem, Reader, Span, Table};
use crate::limits::{SiteLimits, SiteTimeouts};
#[cfg(feature = "serve")]
use crate::observe::access::{Destination, OfSite};

mod action;
mod backends;
mod balance;
mod health;
mod names;
mod paths;
mod shared_keys;
mod tls;

pub(crate) use balance::{read_balancing, read_retry};
pub(crate) use health::read_health;
pub(crate) use shared_keys::{
    read_allow, read_drain, read_limits, read_send_host, read_send_proxy, read_timeouts,
};
#[cfg(feature = "serve")]
pub(crate) use tls::read_default_tls;

/// What the daemon file says about all site files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub sites: PathBuf,
    /// The one site that may claim `*`.
    pub catch_all: Option<SiteName>,
    /// Folders, besides `sites`, whose files a site file may point at.
    pub files_under: Vec<PathBuf>,
    /// `None`: sockets may be anywhere.
    pub sockets_under: Option<Vec<PathBuf>>,
    pub allow_link_local: bool,
    /// Folders that a site's access log may lie in.
    pub logs_under: Vec<PathBuf>,
    /// Our own addresses, which are no backends.
    pub listen: Vec<SocketAddr>,
    /// The socket by which we are told what to do, which is none either.
    pub admin: Option<PathBuf>,
    /// The address of the page and the metrics, the same.
    pub admin_listen: Option<SocketAddr>,
    pub defaults: Defaults,
    /// Whose text may be shown in errors.
    pub excerpts: Excerpts,
    /// Another one for other rules, while onedoor runs: a file is read anew under them. 0 at the start.
    pub number: u64,
}

impl Rules {
    /// That the site which may claim `*` is none of those that are there: then nobody does, and nothing else would say so.
    pub fn missing_catch_all(&self, is_there: impl Fn(&SiteName) -> bool) -> Option<String> {
        let named = self.catch_all.as_ref().filter(|named| !is_there(named))?;
        Some(format!(
            "catch_all names the site \"{named}\", and there is no {}: names that no site claims get 421",
            self.sites.join(format!("{named}.toml")).display()
        ))
    }
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            sites: "sites.d".into(),
            catch_all: None,
            files_under: Vec::new(),
            sockets_under: None,
            allow_link_local: false,
            logs_under: Vec::new(),
            listen: Vec::new(),
            admin: None,
            admin_listen: None,
            defaults: Defaults::default(),
            excerpts: Excerpts::InsideSites,
            number: 0,
        }
    }
}

/// Which files are quoted in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excerpts {
    /// Those that really are in the sites directory: a link must not make onedoor read others aloud.
    InsideSites,
    /// All: the person who asks could read the file himself (`check PATH`).
    Always,
}

/// What sites have that do not say otherwise: `[defaults]`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Defaults {
    pub limits: SiteLimits,
    pub timeouts: SiteTimeouts,
    /// Applied in front of a site's own.
    pub headers: HeaderEdits,
    pub drain: DrainPolicy,
    pub send_host: SendHost,
    pub send_proxy: Option<SendProxy>,
    pub allow: Option<Allow>,
    pub tls: Tls,
    pub balancing: Balancing,
    pub retry: Retry,
    pub health: Health,
}

/// A site that can go live.
#[derive(Debug)]
pub struct Accepted {
    pub site: Site,
    pub warnings: Vec<Problem>,
    /// Other files it was made from: bodies of `respond`, values of headers. It changes when they do.
    pub files: Vec<PathBuf>,
}

/// Reads a site file. `Site::number` and `Site::version` are left 0 for `reload` to give.
///
/// # Errors
/// Everything that is wrong with the file, at least one error among it.
pub fn read(document: &SiteDocument, rules: &Rules) -> Result<Accepted, Vec<Problem>> {
    let excerpt = excerpt(document, rules);
    let (reader, table) = Reader::open(&document.text, &document.origin, excerpt, Place::Site);
    let fence = Fence {
        folder: document.real.parent().unwrap_or(Path::new("")),
        around: Around::own(&document.origin, &document.real, &rules.sites),
        files_under: &rules.files_under,
        sockets_under: rules.sockets_under.as_deref(),
    };
    let mut file = SiteFile {
        reader,
        name: &document.name,
        rules,
        fence,
        bodies: Bodies::default(),
        backends: 0,
        files: Vec::new(),
    };
    let site = file.site(&table);
    let SiteFile { reader, files, .. } = file;
    match (site, reader.has_errors()) {
        (Some(site), false) => Ok(Accepted {
            site,
            warnings: reader.finish(),
            files,
        }),
        _ => Err(reader.finish()),
    }
}

/// Whether problems of a document may show its text.
pub fn excerpt(document: &SiteDocument, rules: &Rules) -> Excerpt {
    let inside = || {
        document.real.starts_with(&rules.sites)
            || rules
                .sites
                .canonicalize()
                .is_ok_and(|sites| document.real.starts_with(sites))
    };
    match rules.excerpts {
        Excerpts::Always => Excerpt::Shown,
        Excerpts::InsideSites if inside() => Excerpt::Shown,
        Excerpts::InsideSites => Excerpt::Hidden,
    }
}

/// One site file while it is read.
struct SiteFile<'a, 't> {
    reader: Reader<'t>,
    name: &'a SiteName,
    rules: &'a Rules,
    fence: Fence<'a>,
    bodies: Bodies,
    /// How many have been read so far.
    backends: usize,
    files: Vec<PathBuf>,
}

impl<'t> SiteFile<'_, 't> {
    /// `None` when there is nothing a site could be made of; then there are errors.
    fn site(&mut self, table: &Table<'t>) -> Option<Site> {
        let claims = self.claims(table);
        let action = self.action(table);
        let paths = self.paths(table);
        if action.is_none()
            && !paths.iter().any(|rule| rule.action.is_some())
            && !action::has_action(table)
        {
            self.reader.missing(
                0..0,
                "the site has no \"to\", no \"redirect\" and no \"respond\"",
                "write to = 5000",
            );
        }
        let tls = self.tls(table);
        match tls.mode {
            Mode::Passthrough => self.passes_through(table, action.as_ref()),
            Mode::Local => self.vouches_for(table, &claims),
            Mode::Auto | Mode::Files(_) | Mode::Off => {}
        }
        let defaults = &self.rules.defaults;
        let mut headers = match inner(table, "headers") {
            Some(table) => headers::read(
                &mut self.reader,
                table,
                &self.fence,
                &defaults.headers,
                &mut self.files,
            ),
            None => defaults.headers.clone(),
        };
        headers.response_over_tls = tls.hsts.map(|age| with_hsts(&headers.response, age));
        let mut site = Site {
            name: self.name.clone(),
            number: 0,
            version: 0,
            slots: Default::default(),
            waiting: Default::default(),
            before: None,
            balancing: Balancing {
                sticky: self.sticky(table),
                ..read_balancing(&mut self.reader, table, &defaults.balancing)
            },
            retry: read_retry(&mut self.reader, table, &defaults.retry),
            action,
            allow: read_allow(&mut self.reader, table).or_else(|| defaults.allow.clone()),
            paths: paths.into(),
            send_host: read_send_host(&mut self.reader, table, &defaults.send_host),
            send_proxy: read_send_proxy(&mut self.reader, table, defaults.send_proxy),
            health: read_health(&mut self.reader, table, &defaults.health),
            headers,
            limits: read_limits(&mut self.reader, table, &defaults.limits),
            timeouts: read_timeouts(&mut self.reader, table, &defaults.timeouts),
            drain: read_drain(&mut self.reader, table, &defaults.drain),
            note: self.note(table),
            tls,
            #[cfg(feature = "serve")]
            access_log: self.access_log(table),
            claims: claims.into(),
        };
        self.can_be_checked(table, &mut site);
        (!site.claims.is_empty()).then_some(site)
    }

    /// A file that onedoor writes for somebody must lie where the daemon's operator lets it.
    #[cfg(feature = "serve")]
    fn access_log(&mut self, table: &Table<'t>) -> OfSite {
        let Some((text, span)) = self.reader.text(table, "access_log") else {
            return OfSite::Inherited;
        };
        match text {
            "off" => OfSite::Off,
            "stdout" => OfSite::To(Destination::Stdout),
            text if self
                .reader
                .refuse_home(text, &span, "/var/log/onedoor/shop.log") =>
            {
                OfSite::Inherited
            }
            text if text.contains('/') => {
                let path = self.fence.locate(text);
                match self.fence.admit_log(&path, &self.rules.logs_under) {
                    Ok(()) => {}
                    Err(LogRefusal::Outside) => {
                        let message = format!(
                            "{} may not be written: it lies in none of [log] sites_under of onedoor.toml",
                            path.display()
                        );
                        self.reader.error(span, message);
                    }
                    Err(LogRefusal::NoFolder(folder)) => {
                        let shown = folder.display();
                        let message =
                            format!("the folder {shown} is not there; mkdir -p '{shown}'");
                        self.reader.error_about(span, message, folder);
                    }
                }
                OfSite::To(Destination::OfSite(path.into()))
            }
            _ => {
                let message = format!(
                    "{text:?} is neither \"off\" nor \"stdout\" nor a path such as \"/var/log/onedoor/shop.log\""
                );
                self.reader.error(span, message);
                OfSite::Inherited
            }
        }
    }

    fn note(&mut self, table: &Table<'t>) -> Option<Box<str>> {
        let (text, span) = self.reader.text(table, "note")?;
        if text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
            self.reader.error(span, "a note has no control characters");
        }
        Some(text.into())
    }
}

fn inner<'a, 't>(table: &'a Table<'t>, name: &str) -> Option<&'a Table<'t>> {
    table.get(name)?.get_ref().as_table()
}

/// An IP address or a network, read as what it can only mean.
pub(crate) fn read_network(reader: &mut Reader<'_>, text: &str, span: Span) -> Option<IpNet> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(IpNet::from(ip.to_canonical()));
    }
    let Ok(network) = text.parse::<IpNet>() else {
        reader.error(
            span,
            format!("{text:?} is neither an IP address nor a network such as \"10.0.0.0/8\""),
        );
        return None;
    };
    if network.trunc() != network {
        reader.warning(
            span,
            format!(
                "\"{network}\" has bits behind its prefix, it is taken as \"{}\"",
                network.trunc()
            ),
        );
    }
    Some(network.trunc())
}

#[cfg(test)]
mod tests;
