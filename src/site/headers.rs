//! `[headers]`: the operator's changes to heads, checked so that they can be applied without another look.

use std::collections::HashSet;
use std::path::PathBuf;

use super::fence::Fence;
use super::{HeaderEdit, HeaderEdits};
use crate::document::{Reader, Span, Table, Value, one_or_more};
use crate::limits::{HEADER_FILE_BYTES, SITE_HEADERS};

/// Which heads an edit changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

/// Reads `[headers]` in front of which `base` (the defaults) is applied. Files read are added to `files`.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    fence: &Fence<'_>,
    base: &HeaderEdits,
    files: &mut Vec<PathBuf>,
) -> HeaderEdits {
    let mut secret = base.secret.to_vec();
    let mut side = |name, side, base: &[HeaderEdit]| {
        let own = table.get(name).and_then(|value| value.get_ref().as_table());
        let own = own.map(|table| {
            Edits {
                side,
                reader,
                fence,
                files,
                seen: HashSet::new(),
                room: SITE_HEADERS,
                secret: &mut secret,
            }
            .read(table)
        });
        let own = own.unwrap_or_default();
        // What the site sets or removes takes the place of what the defaults set or add.
        let replaced: HashSet<String> = (own.iter())
            .filter(|own| own.replaces(own.name().as_bytes()))
            .map(|own| own.name().to_ascii_lowercase())
            .collect();
        let stays = |edit: &&HeaderEdit| !replaced.contains(&edit.name().to_ascii_lowercase());
        let base: Vec<_> = base.iter().filter(stays).cloned().collect();
        base.into_iter().chain(own).collect()
    };
    let request = side("request", Side::Request, &base.request);
    let response = side("response", Side::Response, &base.response);
    HeaderEdits {
        request,
        response,
        response_over_tls: None,
        secret: secret.into(),
        via: reader.flag(table, "via").unwrap_or(base.via),
    }
}

struct Edits<'r, 't> {
    side: Side,
    reader: &'r mut Reader<'t>,
    fence: &'r Fence<'r>,
    files: &'r mut Vec<PathBuf>,
    /// Names set or removed so far, in lower case.
    seen: HashSet<String>,
    /// How many more changes there may be.
    room: usize,
    /// Names whose values come from files.
    secret: &'r mut Vec<Box<str>>,
}

impl Edits<'_, '_> {
    /// Removals first, then what is set, then what is added, whatever the order in the file.
    fn read(&mut self, table: &Table<'_>) -> Vec<HeaderEdit> {
        let mut edits = Vec::new();
        for (name, span) in self.reader.texts(table, "remove").unwrap_or_default() {
            if !self.has_room(&span) {
                return edits;
            }
            if self.admits_once(name, &span) {
                edits.push(HeaderEdit::Remove { name: name.into() });
            }
        }
        for (name, span, value) in fields(table, "set") {
            if !self.admits_once(name, &span) {
                continue;
            }
            let Some(values) = self.values(name, value) else {
                return edits;
            };
            // A list replaces the field by several: the first sets, the others add.
            for (at, value) in values.into_iter().enumerate() {
                let name = name.into();
                edits.push(if at == 0 {
                    HeaderEdit::Set { name, value }
                } else {
                    HeaderEdit::Add { name, value }
                });
            }
        }
        for (name, span, value) in fields(table, "add") {
            if self.admits(name, &span) {
                let Some(values) = self.values(name, value) else {
                    return edits;
                };
                edits.extend(values.into_iter().map(|value| HeaderEdit::Add {
                    name: name.into(),
                    value,
                }));
            }
        }
        edits
    }

    fn admits_once(&mut self, name: &str, span: &Span) -> bool {
        if !self.seen.insert(name.to_ascii_lowercase()) {
            self.reader
                .error(span.clone(), format!("{name:?} is set or removed twice"));
            return false;
        }
        self.admits(name, span)
    }

    fn admits(&mut self, name: &str, span: &Span) -> bool {
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            self.reader
                .error(span.clone(), format!("{name:?} is not a header name"));
            return false;
        }
        if let Some(reason) = owned_by_us(name, self.side) {
            self.reader.error(
                span.clone(),
                format!("{name:?} cannot be changed here: {reason}"),
            );
            return false;
        }
        true
    }

    /// Whether one more change fits; the error about it is said once, because nothing is read behind it.
    fn has_room(&mut self, span: &Span) -> bool {
        let has_room = self.room > 0;
        if !has_room {
            let message =
                format!("a site changes at most {SITE_HEADERS} headers of requests or responses");
            self.reader.error(span.clone(), message);
        }
        self.room = self.room.saturating_sub(1);
        has_room
    }

    /// `None`: there is no room for them.
    fn values(&mut self, name: &str, value: &Value<'_>) -> Option<Vec<Box<[u8]>>> {
        let is_of_file = |value: &Value<'_>| value.get_ref().as_table().is_some();
        if one_or_more(value).any(is_of_file) {
            self.secret.push(name.into());
        }
        let mut values = Vec::new();
        for value in one_or_more(value) {
            if !self.has_room(&value.span()) {
                return None;
            }
            values.extend(self.value(value));
        }
        Some(values)
    }

    /// A text or `{ file = "..." }`. A message never quotes the value: it may be a secret.
    fn value(&mut self, value: &Value<'_>) -> Option<Box<[u8]>> {
        let span = value.span();
        let bytes = match (value.get_ref().as_str(), value.get_ref().as_table()) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (_, Some(table)) if table.len() == 1 && table.contains_key("file") => {
                let (path, span) = self.reader.text(table, "file")?;
                self.file(path, span)?
            }
            _ => {
                self.reader.error(
                    span,
                    "a header's value is a text, { file = \"...\" }, or a list of these",
                );
                return None;
            }
        };
        if bytes.len() as u64 > HEADER_FILE_BYTES {
            self.reader.error(
                span,
                format!("a header's value has at most {HEADER_FILE_BYTES} bytes"),
            );
            return None;
        }
        if !is_field_value(&bytes) {
            self.reader.error(
                span,
                "a header's value is one line without control characters and without spaces at its ends",
            );
            return None;
        }
        Some(bytes.into())
    }

    fn file(&mut self, text: &str, span: Span) -> Option<Vec<u8>> {
        if self
            .reader
            .refuse_home(text, &span, "/etc/onedoor/shop.token")
        {
            return None;
        }
        let path = self.fence.locate(text);
        match self.fence.read(&path, HEADER_FILE_BYTES) {
            Ok(mut bytes) => {
                self.files.push(path);
                if bytes.ends_with(b"\n") {
                    bytes.pop();
                    if bytes.ends_with(b"\r") {
                        bytes.pop();
                    }
                }
                Some(bytes)
            }
            Err(error) => {
                self.reader
                    .error_about(span, format!("{} {error}", path.display()), path);
                None
            }
        }
    }
}

/// The names below `set` or `add`, with the place of each.
fn fields<'a, 't>(
    table: &'a Table<'t>,
    name: &str,
) -> impl Iterator<Item = (&'a str, Span, &'a Value<'t>)> {
    let fields = table.get(name).and_then(|value| value.get_ref().as_table());
    fields
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.get_ref().as_ref(), name.span(), value))
}

/// Why an operator may not change a field, if so. `_` counts as `-`: backends that speak CGI cannot tell them apart.
fn owned_by_us(name: &str, side: Side) -> Option<&'static str> {
    let folded = name.to_ascii_lowercase().replace('_', "-");
    match (folded.as_str(), side) {
        ("host", Side::Request) => Some("send_host says which Host a backend is sent"),
        ("content-length" | "transfer-encoding", _) => {
            Some("onedoor writes the framing of every message itself")
        }
        (
            "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "upgrade"
            | "http2-settings",
            _,
        ) => Some("it is about one connection, and each side has its own"),
        ("onedoor-reason", _) => Some("it tells who answered, so only onedoor writes it"),
        ("via", _) => Some("[headers] via = false turns it off"),
        ("forwarded" | "x-real-ip" | "x-request-id", Side::Request) => Some(FORWARDED),
        (name, Side::Request) if name.starts_with("x-forwarded-") => Some(FORWARDED),
        _ => None,
    }
}

const FORWARDED: &str =
    "onedoor writes it; [trust] proxies in onedoor.toml says from whom it is believed";

/// RFC 9110 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 5.5.
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let inside = bytes
        .iter()
        .all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    inside && !blank(bytes.first()) && !blank(bytes.last())
}
