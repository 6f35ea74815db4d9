//! `balance`, `sticky`, `hold`, `fallback`, `slow_start` and `[retry]`.

use std::time::Duration;

use super::{SiteFile, inner};
use crate::document::{Reader, Span, Table, units};
use crate::site::balance::{Balance, Balancing, HashBy, Retry, RetryOn, Sticky};

/// What the cookie of `sticky = true` is called.
const COOKIE: &str = "onedoor";
/// Further attempts that `times` may ask for: with more, one request could be the death of every backend.
const MOST_TIMES: u64 = 10;

impl<'t> SiteFile<'_, 't> {
    pub(super) fn sticky(&mut self, table: &Table<'t>) -> Option<Sticky> {
        let value = table.get("sticky")?;
        if let Some(is_on) = value.get_ref().as_bool() {
            return is_on.then(|| Sticky {
                cookie: COOKIE.into(),
            });
        }
        if let Some(text) = value.get_ref().as_str() {
            let help = match text {
                "ip" | "source" | "client" | "ip_hash" | "ip-hash" => {
                    "by the client's address is balance = \"hash:ip\""
                }
                _ => {
                    "write sticky = true or sticky = { cookie = \"name\" }; by the client's address is balance = \"hash:ip\""
                }
            };
            let message = format!("{text:?} says nothing: \"sticky\" is true, false or a table");
            self.reader
                .error_with_help(value.span(), message, Some(help.into()));
            return None;
        }
        let cookie = match self.reader.text(value.get_ref().as_table()?, "cookie") {
            None => COOKIE,
            Some((name, span)) => {
                if !is_token(name) {
                    self.reader
                        .error(span, format!("{name:?} is not the name of a cookie"));
                }
                name
            }
        };
        Some(Sticky {
            cookie: cookie.into(),
        })
    }
}

/// Reads what `[defaults]` may have too; `sticky` stays what it is in `base`.
pub(crate) fn read_balancing(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    base: &Balancing,
) -> Balancing {
    Balancing {
        by: read_balance(reader, table).unwrap_or_else(|| base.by.clone()),
        sticky: base.sticky.clone(),
        hold: perhaps_none(reader, table, "hold").unwrap_or(base.hold),
        fallback: reader.flag(table, "fallback").unwrap_or(base.fallback),
        slow_start: perhaps_none(reader, table, "slow_start").unwrap_or(base.slow_start),
    }
}

fn read_balance(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Balance> {
    let (text, span) = reader.text(table, "balance")?;
    let balance = match text {
        "least-requests" => Balance::LeastRequests,
        "round-robin" => Balance::RoundRobin,
        "random" => Balance::Random,
        _ => match text.strip_prefix("hash:") {
            Some(by) => Balance::Hash(read_hash_by(reader, by, span)?),
            None => {
                let help = nearest(text).map(|meant| format!("write balance = {meant:?}"));
                let message = format!(
                    "{text:?} is no way to balance: \"least-requests\", \"round-robin\", \"random\", \"hash:ip\", \"hash:header:NAME\", \"hash:cookie:NAME\" or \"hash:path\""
                );
                reader.error_with_help(span, message, help);
                return None;
            }
        },
    };
    Some(balance)
}

/// What other programs call ours.
fn nearest(text: &str) -> Option<&'static str> {
    let folded = text.to_ascii_lowercase().replace('_', "-");
    Some(match folded.as_str() {
        "leastconn" | "least-conn" | "least-connections" | "least-request" | "least-time" => {
            "least-requests"
        }
        "roundrobin" | "rr" | "round-robin" | "static-rr" | "wrr" => "round-robin",
        "ip-hash" | "iphash" | "source" | "hash" | "sticky" => "hash:ip",
        "uri" | "uri-hash" | "path" => "hash:path",
        "first" | "random-choose" => "random",
        _ => return None,
    })
}

fn read_hash_by(reader: &mut Reader<'_>, by: &str, span: Span) -> Option<HashBy> {
    let (what, name) = match by.split_once(':') {
        Some((what, name)) => (what, Some(name)),
        None => (by, None),
    };
    match (what, name) {
        ("ip", None) => Some(HashBy::Ip),
        ("path", None) => Some(HashBy::Path),
        ("header", Some(name)) if is_token(name) => Some(HashBy::Header(name.into())),
        ("cookie", Some(name)) if is_token(name) => Some(HashBy::Cookie(name.into())),
        ("header" | "cookie", Some(name)) => {
            reader.error(span, format!("{name:?} is not the name of a {what}"));
            None
        }
        ("header" | "cookie", None) => {
            let example = format!("write balance = \"hash:{what}:NAME\"");
            reader.error_with_help(span, format!("which {what}?"), Some(example));
            None
        }
        _ => {
            reader.error(
                span,
                format!("\"hash:{by}\" is none of \"hash:ip\", \"hash:header:NAME\", \"hash:cookie:NAME\", \"hash:path\""),
            );
            None
        }
    }
}

/// A duration that may be zero, or "off", which is zero.
fn perhaps_none(reader: &mut Reader<'_>, table: &Table<'_>, name: &str) -> Option<Duration> {
    match reader.text(table, name)? {
        ("off", _) => Some(Duration::ZERO),
        (text, span) => reader.unit(text, &span, units::duration),
    }
}

pub(crate) fn read_retry(reader: &mut Reader<'_>, table: &Table<'_>, base: &Retry) -> Retry {
    let Some(retry) = inner(table, "retry") else {
        return *base;
    };
    let times = reader.count(retry, "times", 0..=MOST_TIMES);
    Retry {
        times: times
            .and_then(|times| u32::try_from(times).ok())
            .unwrap_or(base.times),
        on: read_on(reader, retry).unwrap_or(base.on),
        budget: read_percent(reader, retry).unwrap_or(base.budget),
    }
}

fn read_on(reader: &mut Reader<'_>, retry: &Table<'_>) -> Option<RetryOn> {
    let mut on = RetryOn::NOTHING;
    for (text, span) in reader.texts(retry, "on")? {
        match text {
            "connect" => on.connect = true,
            "reset-before-response" => on.reset = true,
            "502" => on.bad_gateway = true,
            "503" => on.unavailable = true,
            "504" => on.gateway_timeout = true,
            _ => reader.error(
                span,
                format!("{text:?} is none of \"connect\", \"reset-before-response\", \"502\", \"503\", \"504\""),
            ),
        }
    }
    Some(on)
}

fn read_percent(reader: &mut Reader<'_>, retry: &Table<'_>) -> Option<u32> {
    let (text, span) = reader.text(retry, "budget")?;
    let digits = text.strip_suffix('%').map(str::trim_end);
    let number = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let percent = number.and_then(|digits| digits.parse::<u32>().ok());
    match percent.filter(|percent| *percent <= 100) {
        Some(percent) => Some(percent),
        None => {
            reader.error(
                span,
                format!("{text:?} is no share of requests such as \"20%\""),
            );
            None
        }
    }
}

/// RFC 9110 5.6.2; the names of fields, and of cookies (RFC 6265 4.1.1).
fn is_token(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}
