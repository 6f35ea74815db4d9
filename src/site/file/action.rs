//! What answers: the one of `to`, `redirect` and `respond` that is there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memmem;

use super::SiteFile;
use crate::document::keys::{self, Place};
use crate::document::{Span, Table, Value, integer};
use crate::limits::{RESPOND_FILE_BYTES, RESPOND_FILES_BYTES};
use crate::site::fence::{Fence, FileError};
use crate::site::headers::is_field_value;
use crate::site::hostname::{HostBuffer, authority};
use crate::site::{Action, Redirect, Respond};

const ACTIONS: [&str; 3] = ["to", "redirect", "respond"];
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

impl<'t> SiteFile<'_, 't> {
    /// The one of `to`, `redirect` and `respond` that is there.
    pub(super) fn action(&mut self, table: &Table<'t>) -> Option<Action> {
        let mut there: Vec<(&str, Span)> = table
            .iter()
            .filter(|(name, _)| ACTIONS.contains(&name.get_ref().as_ref()))
            .map(|(name, _)| (name.get_ref().as_ref(), name.span()))
            .collect();
        there.sort_by_key(|(_, span)| span.start);
        if let [(first, first_span), (second, span), ..] = &there[..] {
            let line = self.reader.line_of(first_span);
            let message = format!(
                "{second:?} beside {first:?} in line {line}: only one of to, redirect, respond can answer"
            );
            self.reader.error(span.clone(), message);
        }
        let (name, _) = there.first()?;
        let value = table.get(*name)?;
        match *name {
            "to" => self.backends(value).map(Action::Proxy),
            "redirect" => self.redirect(value).map(Action::Redirect),
            _ => self.respond(value).map(Action::Respond),
        }
    }

    fn redirect(&mut self, value: &Value<'t>) -> Option<Redirect> {
        let (to, span, status) = match value.get_ref().as_table() {
            None => (value.get_ref().as_str()?, value.span(), None),
            Some(table) => {
                let status = table.get("status");
                let Some((to, span)) = self.reader.text(table, "to") else {
                    self.reader.missing(
                        value.span(),
                        "the redirect has no \"to\"",
                        "write to = \"https://www.example.com\"",
                    );
                    return None;
                };
                (to, span, status)
            }
        };
        let status = match status {
            None => 308,
            Some(value) => match integer(value.get_ref())? {
                status @ (301 | 302 | 303 | 307 | 308) => status as u16,
                _ => {
                    self.reader.error(
                        value.span(),
                        "a redirect's status is 301, 302, 303, 307 or 308",
                    );
                    return None;
                }
            },
        };
        match read_location(to) {
            Ok(keep_path) => Some(Redirect {
                location: to.into(),
                keep_path,
                status,
            }),
            Err(message) => {
                self.reader.error(span, format!("{to:?}: {message}"));
                None
            }
        }
    }

    fn respond(&mut self, value: &Value<'t>) -> Option<Respond> {
        let plain = |status, body: &str| Respond {
            status,
            content_type: PLAIN_TEXT.into(),
            body: body.as_bytes().into(),
        };
        if let Some(body) = value.get_ref().as_str() {
            return Some(plain(200, body));
        }
        let Some(table) = value.get_ref().as_table() else {
            return Some(plain(self.status(value)?, ""));
        };
        let status = match table.get("status") {
            Some(status) => self.status(status)?,
            None => 200,
        };
        let (content_type, body) = match (
            self.reader.text(table, "body"),
            self.reader.text(table, "file"),
        ) {
            (Some(_), Some((_, span))) => {
                self.reader.error(
                    span,
                    "\"file\" beside \"body\": only one of them can be sent",
                );
                return None;
            }
            (None, Some((path, span))) => self.body_file(path, span)?,
            (body, None) => (
                PLAIN_TEXT,
                body.map(|(text, _)| text.as_bytes().into())
                    .unwrap_or_default(),
            ),
        };
        if matches!(status, 204 | 205 | 304) && !body.is_empty() {
            self.reader.error(
                value.span(),
                format!("an answer with status {status} has no body"),
            );
            return None;
        }
        let content_type = match self.reader.text(table, "type") {
            Some((text, span)) if text.is_empty() || !is_field_value(text.as_bytes()) => {
                self.reader
                    .error(span, format!("{text:?} is not a content type"));
                return None;
            }
            Some((text, _)) => text,
            None => content_type,
        };
        Some(Respond {
            status,
            content_type: content_type.into(),
            body,
        })
    }

    fn status(&mut self, value: &Value<'t>) -> Option<u16> {
        let number = integer(value.get_ref())?;
        let status = u16::try_from(number)
            .ok()
            .filter(|status| (200..=599).contains(status));
        if status.is_none() {
            self.reader
                .error(value.span(), "a status is a number from 200 to 599");
        }
        status
    }

    fn body_file(&mut self, text: &str, span: Span) -> Option<(&'static str, Arc<[u8]>)> {
        if self.bodies.are_too_many() {
            // Said once, and what is not kept need not be read.
            return None;
        }
        if self.reader.refuse_home(text, &span, "/srv/shop/sorry.html") {
            return None;
        }
        let path = self.fence.locate(text);
        let shown = path.display();
        let why_not = match self.bodies.read(&self.fence, &path) {
            Err(error) => format!("{shown} {error}"),
            Ok(body) if body.has_key => {
                format!("{shown} holds a private key, which everybody who asks would get")
            }
            Ok(_) if self.bodies.are_too_many() => format!(
                "with {shown} the files that this site responds with are larger than {} MiB together",
                RESPOND_FILES_BYTES >> 20
            ),
            Ok(body) => {
                let content_type = content_type(&path, body.is_text);
                self.files.push(path);
                return Some((content_type, body.bytes));
            }
        };
        self.reader.error_about(span, why_not, path);
        None
    }
}

/// The files that one site responds with: each is read, judged and held once, however many paths send it.
#[derive(Default)]
pub(super) struct Bodies {
    by_file: HashMap<PathBuf, Body>,
    bytes: u64,
}

#[derive(Clone)]
struct Body {
    bytes: Arc<[u8]>,
    is_text: bool,
    has_key: bool,
}

impl Bodies {
    fn read(&mut self, fence: &Fence<'_>, path: &Path) -> Result<Body, FileError> {
        let real = fence.admit(path)?;
        if let Some(body) = self.by_file.get(&real) {
            return Ok(body.clone());
        }
        let (real, bytes) = fence.find(path, RESPOND_FILE_BYTES)?;
        self.bytes += bytes.len() as u64;
        let body = Body {
            is_text: std::str::from_utf8(&bytes).is_ok(),
            has_key: memmem::find(&bytes, b"PRIVATE KEY-----").is_some(),
            bytes: bytes.into(),
        };
        self.by_file.insert(real, body.clone());
        Ok(body)
    }

    fn are_too_many(&self) -> bool {
        self.bytes > RESPOND_FILES_BYTES
    }
}

/// Also when it is misspelt: that is told where it stands, and once.
pub(super) fn has_action(table: &Table<'_>) -> bool {
    table.keys().any(|name| {
        let meant = keys::guess(Place::Site, name.get_ref());
        ACTIONS.iter().any(|action| {
            name.get_ref() == action || meant.is_some_and(|meant| meant.is_instead(action))
        })
    })
}

/// Whether path and query of the request go behind `target`: it is a URL without a path of its own.
fn read_location(target: &str) -> Result<bool, String> {
    const NEITHER: &str = "a redirect goes to https://, http:// or a path";
    if let Some(bad) = target.chars().find(|c| {
        !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
    }) {
        return Err(format!("{bad:?} must be percent-encoded in a URL"));
    }
    if target.starts_with('/') && !target.starts_with("//") {
        return Ok(false);
    }
    let lower = target.to_ascii_lowercase();
    let rest = lower
        .strip_prefix("https://")
        .or_else(|| lower.strip_prefix("http://"))
        .ok_or(NEITHER)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let mut buffer = HostBuffer::new();
    authority(&rest.as_bytes()[..end], &mut buffer)
        .map_err(|_| "the URL has no valid host".to_owned())?;
    Ok(end == rest.len())
}

/// By the file's extension; what has none that we know is text if it is UTF-8.
fn content_type(path: &Path, is_text: bool) -> &'static str {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "xml" => "application/xml",
        "csv" => "text/csv; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        _ if is_text => PLAIN_TEXT,
        _ => "application/octet-stream",
    }
}
