//! The cases of `tests/h1_cases.jsonl` and `tests/h1_cases_ours.jsonl` in memory: head, chunks and trailers put together
//! as a connection does it, but without a socket, whole and in pieces. `tests/proxy/framing.rs` has them over sockets.

use serde_json::Value;

use super::chunk::ChunkDecoder;
use super::head::{self, Framing, HeadLimits, Parsed, Room, trailers};
use crate::limits::{Limits, MOST_FIELDS};
use crate::site::Wire;
use crate::site::hostname::{HostBuffer, authority};

/// Refused behind the parsers: by what a request asks for, or while it is written for the next hop.
const DECIDED_LATER: [&str; 6] = [
    "our-abs-https",
    "our-options-mf0",
    "our-options-mf00",
    "our-options-mf-two",
    "hb-commas",
    "our-hb-many",
];

const LIMITS: HeadLimits = HeadLimits {
    line_bytes: 8 << 10,
    field_bytes: 16 << 10,
    fields: 100,
    head_bytes: 32 << 10,
};

#[test]
fn every_case_of_the_list_is_read_as_it_says() {
    every_case_of(include_str!("../../../tests/h1_cases.jsonl"));
}

#[test]
fn so_is_every_case_that_was_found_while_building() {
    every_case_of(include_str!("../../../tests/h1_cases_ours.jsonl"));
}

fn every_case_of(list: &str) {
    let mut wrong = Vec::new();
    for line in list.lines() {
        let case: Value = serde_json::from_str(line).expect("a case is JSON");
        let id = case["id"].as_str().expect("a case has an id");
        if DECIDED_LATER.contains(&id) {
            continue;
        }
        let raw = case["raw"].as_str().expect("a case has bytes");
        let bytes: Vec<u8> = raw.chars().map(|c| c as u32 as u8).collect();
        let read = Read::in_pieces(&bytes, bytes.len());
        // Each piece is another look at everything: the long ones are cut less often.
        let sizes = if bytes.len() < 1000 {
            [1, 2, 3, 13]
        } else {
            [199, 1021, 4099, 8191]
        };
        for size in sizes {
            let pieces = Read::in_pieces(&bytes, size);
            if pieces != read {
                wrong.push(format!(
                    "{id} in pieces of {size}: {pieces:?}, whole: {read:?}"
                ));
            }
        }
        if let Err(what) = judge(&case, &read) {
            wrong.push(format!("{id}: {what}\n    {}\n    {read:?}", case["why"]));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn judge(case: &Value, read: &Read) -> Result<(), String> {
    let check = &case["check"];
    let expect = case["expect"].as_str().unwrap_or_default();
    let smuggled = |request: &Request| request.target.starts_with("/smuggled");
    // Behind an upgrade that is refused, what follows is an ordinary request.
    if expect != "no-tunnel" && check["second_ok"] != true && read.requests.iter().any(smuggled) {
        return Err("a smuggled request is read".to_owned());
    }
    let first = read.requests.first();
    match expect {
        "reject-400"
        | "reject-any-4xx-5xx-or-close"
        | "reject-body-error"
        | "reject-unrouted"
        | "local-or-reject" => {
            match (first, read.refused) {
                (None, true) => Ok(()),
                // Nothing of it is HTTP, and nothing more comes: the time for a head ends it.
                (None, false) if case["group"] == "request-line" || case["group"] == "sniff" => {
                    Ok(())
                }
                (None, false) => Err("it waits for more instead of refusing".to_owned()),
                (Some(_), _) => Err("it is read as a request".to_owned()),
            }
        }
        "wait-then-timeout" | "never-forwarded" => match first {
            None => Ok(()),
            Some(_) => Err("it is read as a request".to_owned()),
        },
        "reject-400-or-sanitize" | "forward-or-reject" if first.is_none() && read.refused => Ok(()),
        "reject-400-or-sanitize"
        | "forward-or-reject"
        | "forward"
        | "forward-then-close"
        | "forward-each"
        | "forward-first-only"
        | "no-tunnel" => {
            let first = first.ok_or("it is no request")?;
            if expect == "forward-each"
                && check["count"].as_u64() != Some(read.requests.len() as u64)
            {
                return Err(format!("{} requests are read", read.requests.len()));
            }
            for (key, found) in [
                ("method", &first.method),
                ("target", &first.target),
                ("body", &first.body),
            ] {
                if check[key].as_str().is_some_and(|wanted| wanted != found) {
                    return Err(format!("{key} is {found:?}"));
                }
            }
            Ok(())
        }
        other => Err(format!("the list says {other:?}, which nobody here knows")),
    }
}

/// What is read of a connection's bytes.
#[derive(Debug, Default, PartialEq)]
struct Read {
    /// Those that are whole and for a site.
    requests: Vec<Request>,
    /// Whether the connection ends with a refusal.
    refused: bool,
}

#[derive(Debug, PartialEq)]
struct Request {
    method: String,
    target: String,
    body: String,
}

impl Read {
    /// Reads `bytes` as they would come in pieces of `size`.
    fn in_pieces(bytes: &[u8], size: usize) -> Read {
        let mut read = Read::default();
        let mut start = 0;
        let mut end = 0;
        while end < bytes.len() {
            end = (end + size.max(1)).min(bytes.len());
            loop {
                match request(&bytes[start..end], size) {
                    Ok(Some(Asked {
                        request,
                        bytes,
                        goes_on,
                    })) => {
                        start += bytes;
                        read.requests.push(request);
                        if !goes_on {
                            return read;
                        }
                    }
                    Ok(None) => break,
                    Err(()) => {
                        read.refused = true;
                        return read;
                    }
                }
            }
        }
        read
    }
}

/// The first request of some bytes.
struct Asked {
    request: Request,
    bytes: usize,
    /// Whether another request may follow.
    goes_on: bool,
}

/// `None`: more must come. `size` is that of the pieces a body comes in.
fn request(bytes: &[u8], size: usize) -> Result<Option<Asked>, ()> {
    let mut room = Room::new();
    let Parsed::Complete(head) = head::request(bytes, &LIMITS, &mut room).map_err(drop)? else {
        return Ok(None);
    };
    // The cases come in clear text.
    if head.scheme == Some(Wire::Tls) {
        return Err(());
    }
    let mut buffer = HostBuffer::new();
    let host = authority(head.authority.ok_or(())?, &mut buffer)
        .map_err(drop)?
        .host;
    // Refused here for simplicity: without a body the connection would go on with the next request.
    if !has_site(host) {
        return Err(());
    }
    let Some((body, end)) = body(&bytes[head.bytes..], head.framing, size)? else {
        return Ok(None);
    };
    Ok(Some(Asked {
        request: Request {
            method: head.method.to_owned(),
            target: format!("{}{}", head.target.path(), head.target.query),
            body,
        },
        bytes: head.bytes + end,
        goes_on: head.keep_alive,
    }))
}

fn has_site(host: &str) -> bool {
    let label = host.strip_suffix(".w.test");
    host == "a.test" || host == "b.test" || label.is_some_and(|label| !label.contains('.'))
}

/// The body at the start of `bytes`, and how long it is there.
fn body(bytes: &[u8], framing: Framing, size: usize) -> Result<Option<(String, usize)>, ()> {
    let text = |bytes: &[u8]| bytes.iter().map(|&byte| byte as char).collect::<String>();
    match framing {
        Framing::None | Framing::Close => Ok(Some((String::new(), 0))),
        Framing::Length(length) => Ok(usize::try_from(length)
            .ok()
            .and_then(|length| bytes.get(..length))
            .map(|body| (text(body), body.len()))),
        Framing::Chunked => {
            let mut decoder = ChunkDecoder::new(Limits::default().framing_bytes);
            let (mut body, mut used) = (Vec::new(), 0);
            for piece in bytes.chunks(size.max(1)) {
                let mut piece = piece.to_vec();
                let decoded = decoder.decode(&mut piece).map_err(drop)?;
                body.extend_from_slice(&piece[decoded.payload]);
                used += decoded.consumed;
                if decoded.last {
                    let mut room = [httparse::EMPTY_HEADER; MOST_FIELDS];
                    return match trailers(&bytes[used..], &LIMITS, &mut room).map_err(drop)? {
                        Parsed::Complete((_, end)) => Ok(Some((text(&body), used + end))),
                        Parsed::NeedMore => Ok(None),
                    };
                }
            }
            Ok(None)
        }
    }
}
