//! `tls`, as a word or as a table.

use std::path::PathBuf;
use std::time::Duration;

use super::{SiteFile, inner};
use crate::document::{Reader, Span, Table};
use crate::limits::{TLS_PAIRS, TLS_REVOKED};
use crate::site::fence::Fence;
use crate::site::local::{SUFFIXES, may_be_local};
use crate::site::tls::{ClearText, ClientAuth, Http2, MinVersion, Mode, Need, PairFiles, Tls};
use crate::site::{Action, Claim, HeaderEdit};

impl<'t> SiteFile<'_, 't> {
    pub(super) fn tls(&mut self, table: &Table<'t>) -> Tls {
        let base = &self.rules.defaults.tls;
        let mut keys = TlsKeys {
            reader: &mut self.reader,
            fence: &self.fence,
            files: &mut self.files,
        };
        let tls = keys.read(table, base);
        // Also where the site says nothing of it, it is made from these.
        let inherited = tls.client.iter().flat_map(ClientAuth::files);
        for file in inherited {
            if !self.files.iter().any(|known| known == file) {
                self.files.push(file.to_owned());
            }
        }
        tls
    }

    /// See [`tls_file`].
    pub(super) fn tls_file(&mut self, named: (&str, Span)) -> PathBuf {
        tls_file(&mut self.reader, &self.fence, &mut self.files, named)
    }

    /// The local authority gives certificates for names that nobody owns; of others no client would take one.
    pub(super) fn vouches_for(&mut self, table: &Table<'t>, claims: &[Claim]) {
        let patterns = claims.iter().map(|claim| &claim.pattern);
        let foreign = patterns.filter(|pattern| !may_be_local(pattern));
        let foreign: Vec<String> = foreign.map(ToString::to_string).collect();
        if foreign.is_empty() {
            return;
        }
        let own = inner(table, "tls").map_or_else(|| table.get("tls"), |tls| tls.get("mode"));
        let (says, place) = match own {
            Some(own) => ("tls = \"local\"", Some(own)),
            None => (
                "tls = \"local\", as [defaults] in onedoor.toml say,",
                table.get("host"),
            ),
        };
        self.reader.error_with_help(
            place.map_or(0..0, |value| value.span()),
            format!(
                "{says} cannot be for {}: the local authority vouches for loopback addresses and names under {} only",
                foreign.join(", "),
                SUFFIXES.join(", "),
            ),
            Some("write tls = \"auto\", by which a certificate is found, or name one with cert and key".into()),
        );
    }

    /// What only somebody who reads the requests could do.
    pub(super) fn passes_through(&mut self, table: &Table<'t>, action: Option<&Action>) {
        if let Some(Action::Proxy(backends)) = action
            && backends
                .list
                .iter()
                .any(|member| member.backend.tls.is_some())
            && let Some(to) = table.get("to")
        {
            self.reader.error_with_help(
                to.span(),
                "https:// beside tls = \"passthrough\": it would be TLS within the client's TLS",
                Some("leave https:// out; the app ends the TLS of the client".into()),
            );
        }
        for name in [
            "path",
            "redirect",
            "respond",
            "redirect_from",
            "headers",
            "send_host",
        ] {
            let Some(value) = table.get(name) else {
                continue;
            };
            let message = format!(
                "\"{name}\" cannot be done with tls = \"passthrough\": the requests are not read here"
            );
            self.reader.error(value.span(), message);
        }
    }
}

/// `tls` of the daemon file's `[defaults]`: all of it but pairs, for which there are folders of certificates.
#[cfg(feature = "serve")]
pub(crate) fn read_default_tls(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    fence: &Fence<'_>,
) -> Tls {
    let pairs = inner(table, "tls").and_then(|tls| tls.get("cert").or_else(|| tls.get("key")));
    if let Some(value) = pairs {
        reader.error_with_help(
            value.span(),
            "\"cert\" and \"key\" belong to one site",
            Some(
                "certificates = \"FOLDER\" at the top of this file finds a pair for each name"
                    .into(),
            ),
        );
    }
    let mut keys = TlsKeys {
        reader,
        fence,
        files: &mut Vec::new(),
    };
    keys.read(table, &Tls::default())
}

/// The keys of `tls` while they are read.
struct TlsKeys<'k, 't> {
    reader: &'k mut Reader<'t>,
    fence: &'k Fence<'k>,
    files: &'k mut Vec<PathBuf>,
}

impl TlsKeys<'_, '_> {
    /// What is not said is as in `base`.
    fn read(&mut self, table: &Table<'_>, base: &Tls) -> Tls {
        let Some(tls) = inner(table, "tls") else {
            let mode = self.reader.text(table, "tls");
            let mode = self.tls_mode(mode, Vec::new(), base);
            return self.fitting(
                table,
                Tls {
                    mode,
                    ..base.clone()
                },
            );
        };
        let pairs = self.pairs(tls);
        let mode = self.reader.text(tls, "mode");
        let mode = self.tls_mode(mode, pairs, base);
        let client = match inner(tls, "client") {
            Some(client) => self.client_auth(tls, client, base.client.as_ref()),
            None => base.client.clone(),
        };
        let read = Tls {
            clear_text: self.clear_text(tls, &mode).or(base.clear_text),
            https_port: self
                .reader
                .count(tls, "https_port", 1..=65535)
                .and_then(|port| u16::try_from(port).ok())
                .or(base.https_port),
            hsts: self
                .reader
                .duration_or_off(tls, "hsts")
                .unwrap_or(base.hsts),
            min: self.min_version(tls).unwrap_or(base.min),
            http2: match self.reader.flag(tls, "http2") {
                Some(true) => Http2::Offered,
                Some(false) => Http2::Off,
                None => base.http2,
            },
            client,
            mode,
        };
        let read = self.fitting(tls, read);
        if !read.is_terminated() {
            self.has_no_effect(tls, ["hsts", "min", "http2", "client"]);
        }
        if read.mode == Mode::Off {
            self.has_no_effect(tls, ["http", "https_port"]);
        }
        read
    }

    /// Without what does not go together: what a site says itself is an error then, what it inherits is left out.
    fn fitting(&mut self, tls: &Table<'_>, mut read: Tls) -> Tls {
        if read.clear_text != Some(ClearText::Serve) {
            return read;
        }
        if read.mode == Mode::Passthrough {
            read.clear_text = None;
        }
        if read.client.is_some() && read.is_terminated() {
            read.clear_text = None;
            if let Some(place) = tls.get("http") {
                self.reader.error(
                    place.span(),
                    "http = \"serve\" beside [tls.client]: everybody could come in clear text, without a certificate",
                );
            }
        }
        read
    }

    /// `pairs` imply files.
    fn tls_mode(&mut self, mode: Option<(&str, Span)>, pairs: Vec<PairFiles>, base: &Tls) -> Mode {
        match mode {
            None if pairs.is_empty() => base.mode.clone(),
            None | Some(("files", _)) if !pairs.is_empty() => Mode::Files(pairs.into()),
            None | Some(("auto", _)) if pairs.is_empty() => Mode::Auto,
            Some(("files", span)) => {
                self.reader.missing(
                    span,
                    "tls = \"files\" has no \"cert\" and no \"key\"",
                    "write cert = \"shop.pem\" and key = \"shop.key\" in [tls]",
                );
                Mode::Auto
            }
            Some((text @ ("auto" | "local" | "passthrough" | "off"), span))
                if !pairs.is_empty() =>
            {
                self.reader.error(
                    span,
                    format!(
                        "mode = {text:?} has no use for \"cert\" and \"key\"; leave it out, or them"
                    ),
                );
                Mode::Auto
            }
            Some(("local", _)) => Mode::Local,
            Some(("passthrough", _)) => Mode::Passthrough,
            Some(("off", _)) => Mode::Off,
            Some((text, span)) => {
                self.reader.error(
                    span,
                    format!(
                        "{text:?} is no way of TLS, write \"auto\", \"local\", \"files\", \"passthrough\" or \"off\""
                    ),
                );
                Mode::Auto
            }
            None => Mode::Auto,
        }
    }

    /// `cert` and `key`: as many of the one as of the other.
    fn pairs(&mut self, tls: &Table<'_>) -> Vec<PairFiles> {
        let certs = self.reader.texts(tls, "cert").unwrap_or_default();
        let keys = self.reader.texts(tls, "key").unwrap_or_default();
        if certs.len() != keys.len() {
            let there = tls.get("cert").or_else(|| tls.get("key"));
            if let Some(there) = there {
                let message = format!(
                    "{} \"cert\" and {} \"key\": each certificate needs its key",
                    certs.len(),
                    keys.len()
                );
                self.reader.error(there.span(), message);
            }
            return Vec::new();
        }
        let pairs: Vec<_> = certs.into_iter().zip(keys).collect();
        let most = (TLS_PAIRS, "pairs of cert and key");
        let pairs = (self.reader).at_most(pairs, 0, most, |pair| pair.0.1.clone());
        pairs
            .into_iter()
            .map(|(cert, key)| PairFiles {
                cert: self.tls_file(cert),
                key: self.tls_file(key),
            })
            .collect()
    }

    fn tls_file(&mut self, named: (&str, Span)) -> PathBuf {
        tls_file(self.reader, self.fence, self.files, named)
    }

    fn client_auth(
        &mut self,
        tls: &Table<'_>,
        client: &Table<'_>,
        base: Option<&ClientAuth>,
    ) -> Option<ClientAuth> {
        let need = match self.reader.text(client, "mode") {
            None => base.map_or(Need::Require, |base| base.need),
            Some(("require", _)) => Need::Require,
            Some(("optional", _)) => Need::Optional,
            Some(("off", _)) => {
                self.has_no_effect_beside_off(client, ["ca", "crl", "forward"]);
                return None;
            }
            Some((text, span)) => {
                let message = format!("{text:?} is none of \"require\", \"optional\" and \"off\"");
                self.reader.error(span, message);
                Need::Require
            }
        };
        let forward = self.reader.flag(client, "forward");
        let forward = forward.unwrap_or(base.is_some_and(|base| base.forward));
        let ca = self.reader.text(client, "ca");
        let crls = self.reader.texts(client, "crl").map(|crls| {
            let most = (TLS_REVOKED, "lists in crl");
            (self.reader).at_most(crls, 0, most, |(_, span)| span.clone())
        });
        let ca = match (ca, base) {
            (Some(ca), _) => self.tls_file(ca),
            (None, Some(base)) => base.ca.clone(),
            (None, None) => {
                let place = tls.get("client").map_or(0..0, |value| value.span());
                self.reader.missing(
                    place,
                    "[tls.client] has no \"ca\", so nobody's certificate would be good",
                    "write ca = \"partners.pem\"",
                );
                return None;
            }
        };
        let crls = match (crls, base) {
            (Some(crls), _) => crls.into_iter().map(|crl| self.tls_file(crl)).collect(),
            // Those of other authorities would be of no use.
            (None, Some(base)) if base.ca == ca => base.crls.clone(),
            (None, _) => Box::default(),
        };
        Some(ClientAuth {
            ca,
            crls,
            need,
            forward,
        })
    }

    fn clear_text(&mut self, tls: &Table<'_>, mode: &Mode) -> Option<ClearText> {
        let (text, span) = self.reader.text(tls, "http")?;
        match text {
            "redirect" => Some(ClearText::Redirect),
            "refuse" => Some(ClearText::Refuse),
            "serve" if *mode == Mode::Passthrough => {
                self.reader.error(
                    span,
                    "http = \"serve\": the app behind passthrough speaks TLS, so clear text cannot be served",
                );
                None
            }
            "serve" => Some(ClearText::Serve),
            _ => {
                let message = format!("{text:?} is none of \"redirect\", \"serve\" and \"refuse\"");
                self.reader.error(span, message);
                None
            }
        }
    }

    fn min_version(&mut self, tls: &Table<'_>) -> Option<MinVersion> {
        match self.reader.text(tls, "min")? {
            ("1.2", _) => Some(MinVersion::Tls12),
            ("1.3", _) => Some(MinVersion::Tls13),
            (text, span) => {
                let message = format!(
                    "{text:?} is neither \"1.2\" nor \"1.3\"; older ones are not spoken (RFC 8996)"
                );
                self.reader.error(span, message);
                None
            }
        }
    }

    fn has_no_effect<const N: usize>(&mut self, tls: &Table<'_>, names: [&str; N]) {
        for name in names {
            if let Some(value) = tls.get(name) {
                let message = format!("\"{name}\" has no effect where we do not end TLS");
                self.reader.warning(value.span(), message);
            }
        }
    }

    fn has_no_effect_beside_off<const N: usize>(&mut self, client: &Table<'_>, names: [&str; N]) {
        for name in names {
            if let Some(value) = client.get(name) {
                let message = format!("\"{name}\" has no effect beside mode = \"off\"");
                self.reader.warning(value.span(), message);
            }
        }
    }
}

/// A file that the site is made from, and changes with.
fn tls_file(
    reader: &mut Reader<'_>,
    fence: &Fence<'_>,
    files: &mut Vec<PathBuf>,
    (text, span): (&str, Span),
) -> PathBuf {
    reader.refuse_home(text, &span, "/etc/ssl/shop.pem");
    let path = fence.locate(text);
    files.push(path.clone());
    path
}

/// The operator's own words about it go before ours.
pub(super) fn with_hsts(response: &[HeaderEdit], age: Duration) -> Box<[HeaderEdit]> {
    let name = "Strict-Transport-Security";
    let own = response
        .iter()
        .any(|edit| edit.name().eq_ignore_ascii_case(name));
    let hsts = HeaderEdit::Set {
        name: name.into(),
        value: format!("max-age={}", age.as_secs()).into_bytes().into(),
    };
    response
        .iter()
        .cloned()
        .chain((!own).then_some(hsts))
        .collect()
}
