//! `tls`, as a word or as a table.

use std::path::PathBuf;
use std::time::Duration;

use super::{SiteFile, inner};
use crate::document::{Span, Table};
use crate::site::tls::{ClearText, ClientAuth, Http2, MinVersion, Mode, Need, PairFiles, Tls};
use crate::site::{Action, HeaderEdit};

impl<'t> SiteFile<'_, 't> {
    pub(super) fn tls(&mut self, table: &Table<'t>) -> Tls {
        let Some(tls) = inner(table, "tls") else {
            let mode = self.reader.text(table, "tls");
            let mode = self.tls_mode(mode, Vec::new());
            return Tls {
                mode,
                ..Tls::default()
            };
        };
        let pairs = self.pairs(tls);
        let mode = self.reader.text(tls, "mode");
        let mode = self.tls_mode(mode, pairs);
        let client = inner(tls, "client").and_then(|client| self.client_auth(tls, client));
        let read = Tls {
            clear_text: self.clear_text(tls, &mode),
            https_port: self
                .reader
                .count(tls, "https_port", 1..=65535)
                .and_then(|port| u16::try_from(port).ok()),
            hsts: self.reader.duration_or_off(tls, "hsts").flatten(),
            min: self.min_version(tls),
            http2: match self.reader.flag(tls, "http2") {
                Some(false) => Http2::Off,
                _ => Http2::Offered,
            },
            client,
            mode,
        };
        if read.client.is_some() && read.clear_text == Some(ClearText::Serve) {
            let place = tls.get("http").map_or(0..0, |value| value.span());
            self.reader.error(
                place,
                "http = \"serve\" beside [tls.client]: everybody could come in clear text, without a certificate",
            );
        }
        if !read.is_terminated() {
            self.has_no_effect(tls, ["hsts", "min", "http2", "client"]);
        }
        if read.mode == Mode::Off {
            self.has_no_effect(tls, ["http", "https_port"]);
        }
        read
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

    /// `pairs` imply files.
    fn tls_mode(&mut self, mode: Option<(&str, Span)>, pairs: Vec<PairFiles>) -> Mode {
        match mode {
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
    fn pairs(&mut self, tls: &Table<'t>) -> Vec<PairFiles> {
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
        let pairs = certs.into_iter().zip(keys);
        pairs
            .map(|((cert, _), (key, _))| PairFiles {
                cert: self.tls_file(cert),
                key: self.tls_file(key),
            })
            .collect()
    }

    /// A file that the site is made from, and changes with.
    pub(super) fn tls_file(&mut self, text: &str) -> PathBuf {
        let path = self.fence.locate(text);
        self.files.push(path.clone());
        path
    }

    fn client_auth(&mut self, tls: &Table<'t>, client: &Table<'t>) -> Option<ClientAuth> {
        let need = match self.reader.text(client, "mode") {
            None | Some(("require", _)) => Need::Require,
            Some(("optional", _)) => Need::Optional,
            Some((text, span)) => {
                let message = format!("{text:?} is neither \"require\" nor \"optional\"");
                self.reader.error(span, message);
                Need::Require
            }
        };
        let forward = self.reader.flag(client, "forward").unwrap_or(false);
        let Some((ca, _)) = self.reader.text(client, "ca") else {
            let place = tls.get("client").map_or(0..0, |value| value.span());
            self.reader.missing(
                place,
                "[tls.client] has no \"ca\", so nobody's certificate would be good",
                "write ca = \"partners.pem\"",
            );
            return None;
        };
        let ca = self.tls_file(ca);
        Some(ClientAuth { ca, need, forward })
    }

    fn clear_text(&mut self, tls: &Table<'t>, mode: &Mode) -> Option<ClearText> {
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

    fn min_version(&mut self, tls: &Table<'t>) -> MinVersion {
        match self.reader.text(tls, "min") {
            None | Some(("1.2", _)) => MinVersion::Tls12,
            Some(("1.3", _)) => MinVersion::Tls13,
            Some((text, span)) => {
                let message = format!(
                    "{text:?} is neither \"1.2\" nor \"1.3\"; older ones are not spoken (RFC 8996)"
                );
                self.reader.error(span, message);
                MinVersion::Tls12
            }
        }
    }

    fn has_no_effect<const N: usize>(&mut self, tls: &Table<'t>, names: [&str; N]) {
        for name in names {
            if let Some(value) = tls.get(name) {
                let message = format!("\"{name}\" has no effect where we do not end TLS");
                self.reader.warning(value.span(), message);
            }
        }
    }
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
