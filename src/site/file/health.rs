//! `[health]`: what backends are asked, and what of their doings counts.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::shared_keys::read_host_field;
use super::{SiteFile, inner};
use crate::document::{Reader, Span, Table, Value, integer, one_or_more};
use crate::limits::CHECK_BODY_BYTES;
use crate::site::Site;
use crate::site::health::{Ask, Check, Get, Health, Passive, Statuses, WhenNone};
use crate::site::tls::Mode;

/// Keys that only a GET has a use for.
const OF_A_GET: [&str; 3] = ["expect", "contains", "send_host"];

impl<'t> SiteFile<'_, 't> {
    /// Refuses checks that nobody could answer.
    pub(super) fn can_be_checked(&mut self, table: &Table<'t>, site: &mut Site) {
        let health = inner(table, "health");
        if let Some(value) = table.get("health")
            && site.action.is_some()
            && site.backends().next().is_none()
        {
            self.reader.error(
                value.span(),
                "[health] has nobody to ask: the site has no backends",
            );
        }
        if site.tls.mode != Mode::Passthrough {
            return;
        }
        if let Some(path) = health.and_then(|health| health.get("path")) {
            let message = "\"path\" cannot be asked for with tls = \"passthrough\": the app speaks TLS, and with its clients alone";
            let help = "without it a connect is made";
            self.reader
                .error_with_help(path.span(), message, Some(help.into()));
        }
        // What `[defaults]` ask of others.
        if let Some(check) = &mut site.health.check {
            *check = Arc::new(Check {
                ask: Ask::Connect,
                ..(**check).clone()
            });
        }
    }
}

/// Reads `[health]` over `base`; the table as such turns checks on.
pub(crate) fn read_health(reader: &mut Reader<'_>, table: &Table<'_>, base: &Health) -> Health {
    let Some(health) = inner(table, "health") else {
        return base.clone();
    };
    Health {
        check: read_check(reader, health, base.check.as_deref()),
        passive: read_passive(reader, health).unwrap_or_else(|| base.passive.clone()),
        when_none: match reader.text(health, "when_none") {
            None => base.when_none,
            Some(("try", _)) => WhenNone::Try,
            Some(("refuse", _)) => WhenNone::Refuse,
            Some((text, span)) => {
                reader.error(
                    span,
                    format!("{text:?} is neither \"try\" (all of them) nor \"refuse\" (503)"),
                );
                base.when_none
            }
        },
    }
}

fn read_check(
    reader: &mut Reader<'_>,
    health: &Table<'_>,
    base: Option<&Check>,
) -> Option<Arc<Check>> {
    let usual = base.cloned().unwrap_or_default();
    let every = reader.duration_or_off(health, "every");
    let timeout = reader.duration(health, "timeout");
    let mut count = |name| {
        let count = reader.count(health, name, 1..=100)?;
        u32::try_from(count).ok()
    };
    let (rise, fall) = (count("rise"), count("fall"));
    let ask = read_ask(reader, health, &usual.ask);
    if let Some(None) = every {
        for name in OF_A_GET.iter().chain(&["path", "timeout", "rise", "fall"]) {
            has_no_effect(reader, health, name, "every = \"off\": nobody is asked");
        }
        return None;
    }
    Some(Arc::new(Check {
        ask,
        every: every.flatten().unwrap_or(usual.every),
        timeout: timeout.unwrap_or(usual.timeout),
        rise: rise.unwrap_or(usual.rise),
        fall: fall.unwrap_or(usual.fall),
    }))
}

fn read_ask(reader: &mut Reader<'_>, health: &Table<'_>, base: &Ask) -> Ask {
    let usual = match base {
        Ask::Get(get) => Some(get),
        Ask::Connect => None,
    };
    let path = match reader.text(health, "path") {
        Some((text, span)) => match path_error(text) {
            None => Some(Box::from(text)),
            Some(error) => {
                reader.error(span, format!("{text:?}: {error}"));
                return Ask::Connect;
            }
        },
        None => usual.map(|get| get.path.clone()),
    };
    let Some(path) = path else {
        for name in OF_A_GET {
            has_no_effect(
                reader,
                health,
                name,
                "without a \"path\": only a connect is made",
            );
        }
        return Ask::Connect;
    };
    let usual = usual.cloned();
    let contains = match reader.text(health, "contains") {
        Some(("", span)) => {
            reader.error(span, "\"contains\" is empty, which every answer contains");
            None
        }
        Some((text, span)) if text.len() > CHECK_BODY_BYTES => {
            let message = format!(
                "\"contains\" is longer than the {CHECK_BODY_BYTES} bytes that are looked at"
            );
            reader.error(span, message);
            None
        }
        Some((text, _)) => Some(text.into()),
        None => usual.as_ref().and_then(|get| get.contains.clone()),
    };
    let send_host = match reader.text(health, "send_host") {
        Some((text, span)) => read_host_field(text)
            .map_err(|error| reader.error(span, format!("{text:?} is no name: {error}")))
            .ok(),
        None => usual.as_ref().and_then(|get| get.send_host.clone()),
    };
    let expect = health
        .get("expect")
        .and_then(|value| read_statuses(reader, value));
    Ask::Get(Get {
        path,
        send_host,
        expect: expect.or(usual.map(|get| get.expect)).unwrap_or_default(),
        contains,
    })
}

/// A key that would change nothing is a key that somebody believes in.
fn has_no_effect(reader: &mut Reader<'_>, health: &Table<'_>, name: &str, why: &str) {
    if let Some(value) = health.get(name) {
        reader.error(value.span(), format!("{name:?} has no effect {why}"));
    }
}

fn path_error(text: &str) -> Option<String> {
    if !text.starts_with('/') {
        return Some("a path begins with \"/\"".into());
    }
    if text.len() > 2048 {
        return Some("a path to ask for has at most 2048 bytes".into());
    }
    let bad = text.chars().find(|c| {
        !c.is_ascii_graphic()
            || matches!(
                c,
                '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' | '#'
            )
    });
    bad.map(|bad| format!("{bad:?} must be percent-encoded in a path"))
}

/// `"200-399"`, `204`, or a list of these.
fn read_statuses(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Statuses> {
    let mut ranges = Vec::new();
    for entry in one_or_more(value) {
        let range = match integer(entry.get_ref()) {
            Some(number) => status(number).map(|status| status..=status),
            None => read_range(entry.get_ref().as_str()?),
        };
        match range {
            Some(range) => ranges.push(range),
            None => reader.error(
                entry.span(),
                "a status is 100 to 999, several are a range such as \"200-399\" or a list",
            ),
        }
    }
    if value
        .get_ref()
        .as_array()
        .is_some_and(|list| list.is_empty())
    {
        reader.error(
            value.span(),
            "\"expect\" is an empty list, which no answer would pass",
        );
    }
    (!ranges.is_empty()).then(|| Statuses(ranges.into()))
}

fn read_range(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| {
        let text = text.trim();
        let is_plain = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| status(text.parse().ok()?)).flatten()
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    (first <= last).then_some(first..=last)
}

fn status(number: i64) -> Option<u16> {
    let status = u16::try_from(number).ok()?;
    (100..=999).contains(&status).then_some(status)
}

/// `["connect", "5xx"]`, or a table with how many of each. `None`: the file does not say.
fn read_passive(reader: &mut Reader<'_>, health: &Table<'_>) -> Option<Passive> {
    let Some(table) = inner(health, "passive") else {
        let words = reader.texts(health, "passive")?;
        return Some(words_of_passive(reader, words));
    };
    let mut count = |name| {
        let count = reader.count(table, name, 1..=1000)?;
        NonZeroU32::new(u32::try_from(count).ok()?)
    };
    Some(Passive {
        connect: count("connect"),
        reset: count("reset"),
        server_error: count("5xx"),
    })
}

fn words_of_passive(reader: &mut Reader<'_>, words: Vec<(&str, Span)>) -> Passive {
    let mut passive = Passive::NOTHING;
    let is_alone = words.len() == 1;
    for (word, span) in words {
        match word {
            "connect" => passive.connect = Some(Passive::CONNECTS),
            "reset" => passive.reset = Some(Passive::RESETS),
            "5xx" => passive.server_error = Some(Passive::SERVER_ERRORS),
            "off" if is_alone => {}
            _ => reader.error(
                span,
                format!(
                    "{word:?} is none of \"connect\", \"reset\", \"5xx\", and \"off\" stands alone"
                ),
            ),
        }
    }
    passive
}
