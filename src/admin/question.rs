//! The bytes of an admin request -> what is asked. No I/O.

use std::net::IpAddr;
use std::time::Duration;

use crate::document::units;
use crate::http::explain;
use crate::reload::Until;
use crate::site::hostname::{HostBuffer, authority};

/// What somebody wants to know or have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Status,
    Sites,
    Counters,
    Metrics,
    Health,
    Ready,
    Page,
    Events,
    Explain(explain::Question),
    History {
        name: String,
        /// Secrets and all.
        whole: bool,
    },
    Gone {
        name: String,
        now: bool,
    },
    Drain {
        /// Answered when nothing is open any more, or is cut.
        wait: bool,
    },
    Reload {
        accept_removals: bool,
    },
    Wait {
        name: Option<String>,
        until: Until,
        time: Duration,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Complete(Question),
    NeedMore,
}

/// Why there is no answer. Each says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Malformed,
    TooLong,
    TooSlow,
    NoSuchPath(String),
    WrongMethod(&'static str),
    BadParameter(String),
    NotAllowed,
    NotOurHost,
    FromElsewhere,
    TooManyWait,
    NotDone(String),
}

impl Question {
    /// Whether it is for those alone who could as well end the process: it changes something, or shows secrets.
    pub(super) fn is_privileged(&self) -> bool {
        match self {
            Question::Reload { .. } | Question::Gone { .. } | Question::Drain { .. } => true,
            Question::History { whole, .. } => *whole,
            Question::Status
            | Question::Metrics
            | Question::Health
            | Question::Page
            | Question::Events
            | Question::Ready
            | Question::Sites
            | Question::Counters
            | Question::Explain(_)
            | Question::Wait { .. } => false,
        }
    }

    /// Whether it costs in proportion to the sites, or keeps somebody who answers: for nobody who has gone.
    pub(super) fn takes_work(&self) -> bool {
        match self {
            Question::Sites
            | Question::Metrics
            | Question::Explain(_)
            | Question::History { .. }
            | Question::Wait { .. } => true,
            Question::Status
            | Question::Counters
            | Question::Health
            | Question::Ready
            | Question::Page
            | Question::Events
            | Question::Gone { .. }
            | Question::Drain { .. }
            | Question::Reload { .. } => false,
        }
    }
}

/// How long `wait` waits when nothing is said.
const USUAL_WAIT: Duration = Duration::from_secs(30);
/// Longer than any deployment, and no overflow of a deadline.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Reads a request as far as it is there.
///
/// # Errors
/// What is wrong with it; nothing more is read then.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    let complete = request
        .parse(bytes)
        .map_err(|_| Refusal::Malformed)?
        .is_complete();
    let (true, Some(method), Some(target)) = (complete, request.method, request.path) else {
        return Ok(Parsed::NeedMore);
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let wanted = match path {
        "/" | "/v1/events" | "/metrics" | "/healthz" | "/readyz" | "/v1/status" | "/v1/sites"
        | "/v1/counters" | "/v1/wait" | "/v1/explain" | "/v1/history" => "GET",
        "/v1/reload" | "/v1/gone" | "/v1/drain" => "POST",
        _ => return Err(Refusal::NoSuchPath(path.to_string())),
    };
    // What HEAD asks for is what GET would get, without the body (RFC 9110 9.3.2); whoever answers leaves it out.
    if method != wanted && (method, wanted) != ("HEAD", "GET") {
        return Err(Refusal::WrongMethod(wanted));
    }
    let question = match path {
        "/v1/status" => Question::Status,
        "/v1/sites" => Question::Sites,
        "/v1/counters" => Question::Counters,
        "/" => Question::Page,
        "/v1/events" => Question::Events,
        "/metrics" => Question::Metrics,
        "/healthz" => Question::Health,
        "/readyz" => Question::Ready,
        "/v1/history" => Question::History {
            name: named(query)?,
            whole: flag(query, "whole"),
        },
        "/v1/gone" => Question::Gone {
            name: named(query)?,
            now: flag(query, "now"),
        },
        "/v1/drain" => Question::Drain {
            wait: flag(query, "wait"),
        },
        "/v1/explain" => Question::Explain(to_explain(query)?),
        "/v1/reload" => Question::Reload {
            accept_removals: flag(query, "accept-removals"),
        },
        _ => Question::Wait {
            name: value(query, "name")?,
            until: match (flag(query, "gone"), flag(query, "drained")) {
                (true, _) => Until::Gone,
                (_, true) => Until::Drained,
                _ => Until::Serving,
            },
            time: time(query)?,
        },
    };
    Ok(Parsed::Complete(question))
}

/// Whether nobody wants a body.
pub(super) fn is_head(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HEAD ")
}

/// Whether a whole request was asked on this machine, for a name of this machine.
///
/// # Errors
/// Another Host: a page from elsewhere whose name was made to point here (DNS rebinding). Or a proxy, perhaps our own,
/// passes on what somebody from elsewhere asks.
pub(super) fn is_of_this_machine(bytes: &[u8]) -> Result<(), Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    if !request
        .parse(bytes)
        .is_ok_and(|status| status.is_complete())
    {
        return Err(Refusal::NotOurHost);
    }
    let values = |name: &'static str| {
        let fields = request.headers.iter();
        let fields = fields.filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value)
    };
    let mut hosts = values("host");
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refusal::NotOurHost);
    };
    let mut buffer = HostBuffer::new();
    let is_our_name = authority(host, &mut buffer).is_ok_and(|asked| {
        asked.host == "localhost" || asked.host.ends_with(".localhost") || is_loopback(asked.host)
    });
    if !is_our_name {
        return Err(Refusal::NotOurHost);
    }
    let mut askers = values("x-forwarded-for").flat_map(|value| value.split(|&byte| byte == b','));
    let is_loopback =
        |asker: &[u8]| std::str::from_utf8(asker).is_ok_and(|ip| is_loopback(ip.trim()));
    match askers.all(is_loopback) {
        true => Ok(()),
        false => Err(Refusal::FromElsewhere),
    }
}

fn is_loopback(ip: &str) -> bool {
    ip.parse::<IpAddr>()
        .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn named(query: &str) -> Result<String, Refusal> {
    let missing = || Refusal::BadParameter("name: which site?".to_owned());
    value(query, "name")?.ok_or_else(missing)
}

fn to_explain(query: &str) -> Result<explain::Question, Refusal> {
    let wrong = |what: &str| Refusal::BadParameter(what.to_owned());
    let url = value(query, "url")?.ok_or_else(|| wrong("url: which one is to be explained?"))?;
    let client = value(query, "client")?.unwrap_or_else(|| "127.0.0.1".into());
    let mut headers = Vec::new();
    for (_, text) in parameters(query).filter(|(name, _)| *name == "header") {
        let text = decode(text).ok_or_else(|| wrong("header: not valid percent-encoding"))?;
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| wrong("header: write Name: value"))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(explain::Question {
        url,
        method: value(query, "method")?.unwrap_or_else(|| "GET".into()),
        headers,
        client: client
            .parse()
            .map_err(|_| wrong("client: not an IP address"))?,
    })
}

fn time(query: &str) -> Result<Duration, Refusal> {
    let Some(text) = value(query, "timeout")? else {
        return Ok(USUAL_WAIT);
    };
    let time = units::duration(&text)
        .map_err(|error| Refusal::BadParameter(format!("timeout: {error}")))?;
    Ok(time.min(LONGEST_WAIT))
}

/// `?gone` and `?gone=true` are yes.
fn flag(query: &str, name: &str) -> bool {
    parameters(query).any(|(given, value)| given == name && matches!(value, "" | "true" | "1"))
}

fn value(query: &str, name: &str) -> Result<Option<String>, Refusal> {
    let Some((_, value)) = parameters(query).find(|(given, _)| *given == name) else {
        return Ok(None);
    };
    let decoded = decode(value)
        .ok_or_else(|| Refusal::BadParameter(format!("{name}: not valid percent-encoding")))?;
    Ok((!decoded.is_empty()).then_some(decoded))
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let [high, low, after @ ..] = tail else {
                    return None;
                };
                rest = after;
                (digit(*high)? << 4) | digit(*low)?
            }
            plain => *plain,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// The way back, for the client: everything but unreserved characters is encoded.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_a_question_needs_more_until_it_is_whole() {
        let bytes = b"GET /v1/wait?name=team%2Fb%C3%BCcher&timeout=5s&gone HTTP/1.1\r\nHost: onedoor\r\n\r\n";
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(Parsed::NeedMore), "{end}");
        }
        let name = Some("team/bücher".to_string());
        let question = Question::Wait {
            name,
            until: Until::Gone,
            time: Duration::from_secs(5),
        };
        assert_eq!(parse(bytes), Ok(Parsed::Complete(question)));
    }

    #[test]
    fn what_cannot_be_answered_says_why() {
        let refusal = |line: &str| parse(format!("{line} HTTP/1.1\r\n\r\n").as_bytes());
        assert_eq!(refusal("GET /v1/reload"), Err(Refusal::WrongMethod("POST")));
        assert_eq!(refusal("GET /v2"), Err(Refusal::NoSuchPath("/v2".into())));
        assert!(matches!(
            refusal("GET /v1/wait?timeout=5"),
            Err(Refusal::BadParameter(_))
        ));
        assert!(matches!(
            refusal("GET /v1/wait?name=%zz"),
            Err(Refusal::BadParameter(_))
        ));
        assert_eq!(parse(b"\x16\x03\x01"), Err(Refusal::Malformed));
    }

    #[test]
    fn what_is_encoded_is_decoded_the_same() {
        for text in ["shop", "team/shop", "a b&c=d", "bücher", "100%"] {
            assert_eq!(decode(&encode(text)).as_deref(), Some(text));
        }
    }
}
