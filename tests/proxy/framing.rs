//! Requests that are refused, and why: every case of `tests/h1_cases.jsonl`, and of `tests/h1_cases_ours.jsonl`, which
//! holds what was found while building, byte for byte.
//!
//! A case has an `id`, the bytes sent (`raw`, one character is one byte), what must come of it (`expect`), why and
//! by which rule. `check` is what a backend must or must not have seen; `split` how the bytes are cut into segments;
//! `phase: "body"` that the head may have been forwarded already, and only the end must never be; `close_after` that
//! the client may also finish sending instead of staying. A request for `/smuggled` must reach nobody.

use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Backend, Client, Proxy, Request, from_latin1, latin1};

/// What the fuzz target `response` asks of the head of a response.
#[path = "../../fuzz/checks/response.rs"]
mod response;

#[test]
fn every_case_of_the_list_is_framed_or_refused_as_it_says() {
    every_case_of(include_str!("../h1_cases.jsonl"));
}

#[test]
fn so_is_every_case_that_was_found_while_building() {
    every_case_of(include_str!("../h1_cases_ours.jsonl"));
}

/// Over sockets a sample is enough: in memory (`http::h1::cases`) every case is cut in many ways.
#[test]
fn a_case_is_judged_alike_when_its_bytes_come_one_by_one() {
    let cases: Vec<Value> = [
        include_str!("../h1_cases.jsonl"),
        include_str!("../h1_cases_ours.jsonl"),
    ]
    .into_iter()
    .flat_map(str::lines)
    .map(|line| serde_json::from_str::<Value>(line).unwrap())
    .filter(|case| case["raw"].as_str().unwrap().len() < 200 && case["split"].is_null())
    .step_by(7)
    .map(|mut case| {
        case["split"] = "each-byte".into();
        // What never becomes whole may now end by the time for a head instead of by its first bad byte.
        if case["expect"] == "reject-400" && !case["raw"].as_str().unwrap().contains("\n\r\n") {
            case["expect"] = "never-forwarded".into();
        }
        case
    })
    .collect();
    assert!(cases.len() > 60, "{}", cases.len());
    all_pass(&cases);
}

#[test]
fn the_fuzz_corpus_of_responses_is_read_as_lines_and_colons_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/response");
    let mut taken = 0;
    let files: Vec<_> = fs::read_dir(folder).unwrap().collect();
    for file in &files {
        let bytes = fs::read(file.as_ref().unwrap().path()).unwrap();
        taken += usize::from(response::check(&bytes));
    }
    assert!(
        taken >= 5 && files.len() >= taken + 5,
        "{taken} of {}",
        files.len()
    );
}

fn every_case_of(list: &str) {
    let cases: Vec<Value> = list
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    all_pass(&cases);
}

fn all_pass(cases: &[Value]) {
    let failed = run_all(cases);
    // Waiting cases have short times; on a busy machine one may fail for that alone. Alone it must pass.
    let stage = Stage::build();
    let failed: Vec<String> = failed
        .into_iter()
        .filter_map(|case| stage.run(case).err())
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} cases:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}

fn run_all(cases: &[Value]) -> Vec<&Value> {
    const STAGES: usize = 8;
    let waiting = Mutex::new(cases.iter());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..STAGES {
            scope.spawn(|| {
                let stage = Stage::build();
                loop {
                    let Some(case) = waiting.lock().unwrap().next() else {
                        return;
                    };
                    if stage.run(case).is_err() {
                        failed.lock().unwrap().push(case);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

/// A onedoor with three recording backends, for one case at a time.
struct Stage {
    a: Backend,
    b: Backend,
    w: Backend,
    proxy: Proxy,
}

/// What came of a case.
struct Seen {
    /// Everything the client received until the close.
    answer: String,
    closed: bool,
    /// The requests that reached a backend, in order, with the backend's name.
    requests: Vec<(&'static str, Request)>,
    raw_at_a: String,
}

impl Stage {
    fn build() -> Stage {
        let (a, b, w) = (
            Backend::recording(),
            Backend::recording(),
            Backend::recording(),
        );
        let site = |host: &str, backend: &Backend| {
            format!(
                "host = '{host}'\nto = {}\n[timeout]\nidle = '600ms'\nfirst_byte = '600ms'\n",
                backend.port
            )
        };
        let proxy = Proxy::plan()
            .daemon_file("[timeout]\nopening = '600ms'\nhead = '600ms'\nidle = '400ms'\n")
            .site("a.toml", site("a.test", &a))
            .site("b.toml", site("b.test", &b))
            .site("w.toml", site("*.w.test", &w))
            .start();
        Stage { a, b, w, proxy }
    }

    fn run(&self, case: &Value) -> Result<(), String> {
        let ways: &[Leaving] = if case["close_after"] == true {
            &[Leaving::Stays, Leaving::FinishesSending]
        } else {
            &[Leaving::Stays]
        };
        for leaving in ways {
            let seen = self.play(case, *leaving);
            judge(case, &seen).map_err(|wrong| report(case, *leaving, &wrong, &seen))?;
        }
        Ok(())
    }

    fn play(&self, case: &Value, leaving: Leaving) -> Seen {
        for backend in [&self.a, &self.b, &self.w] {
            backend.forget();
        }
        let mut client = self.proxy.client();
        send(
            &mut client,
            &from_latin1(case["raw"].as_str().unwrap()),
            case["split"].as_str(),
        );
        if let Leaving::FinishesSending = leaving {
            client.finish_sending();
        }
        // The keep-alive idle time of the daemon file makes every connection end.
        let (answer, closed) = client.rest_if_closed();
        let named = [("a", &self.a), ("b", &self.b), ("w", &self.w)];
        Seen {
            answer: latin1(&answer),
            closed,
            requests: named
                .into_iter()
                .flat_map(|(name, backend)| {
                    backend
                        .requests()
                        .into_iter()
                        .map(move |request| (name, request))
                })
                .collect(),
            raw_at_a: self.a.raw_bytes(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Leaving {
    Stays,
    FinishesSending,
}

fn send(client: &mut Client, bytes: &[u8], split: Option<&str>) {
    let pieces: Vec<&[u8]> = match split {
        Some("each-byte") => bytes.chunks(1).collect(),
        Some("after-cr") => bytes.split_inclusive(|&byte| byte == b'\r').collect(),
        Some(other) => panic!("an unknown split {other:?}"),
        None => vec![bytes],
    };
    let many = pieces.len() > 1;
    for piece in pieces {
        // A refusal may come, and close, before the last byte is sent.
        if client.try_send(piece).is_err() {
            return;
        }
        if many {
            // Not a wait for anything: it makes segments of the pieces.
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn judge(case: &Value, seen: &Seen) -> Result<(), String> {
    let check = &case["check"];
    let expect = case["expect"].as_str().unwrap();
    let body_phase = case["phase"] == "body";
    let statuses = seen.statuses();
    let first = statuses.first().copied();
    let complete = seen
        .requests
        .iter()
        .filter(|(_, request)| request.complete)
        .count();
    let untouched = || {
        let reached = if body_phase || expect == "wait-then-timeout" {
            complete
        } else {
            seen.requests.len()
        };
        (reached == 0)
            .then_some(())
            .ok_or_else(|| format!("{reached} requests reached a backend"))
    };
    let status = |allowed: &[u16]| match first {
        Some(status) if allowed.contains(&status) => Ok(()),
        _ => Err(format!("status {first:?}, not one of {allowed:?}")),
    };
    let refused = || match first {
        Some(status) if status < 400 => Err(format!("status {status} for what must be refused")),
        _ => untouched(),
    };
    if case["must_not_reach_backend"] == true {
        untouched()?;
    }
    smuggled(check, expect, seen)?;
    match expect {
        "reject-400" => status(&[400]).and_then(|()| untouched()),
        "reject-any-4xx-5xx-or-close" => refused(),
        "reject-unrouted" => status(&[400, 404, 421]).and_then(|()| untouched()),
        "reject-400-or-sanitize" if first == Some(400) => untouched(),
        "reject-400-or-sanitize" => status(&[200]).and_then(|()| checked(check, seen)),
        "reject-body-error" => match first {
            // RFC 9112 8: a response that has begun may only be cut.
            None | Some(400) => untouched(),
            Some(other) => Err(format!("status {other} for a broken body")),
        },
        "forward" => status(&[200]).and_then(|()| checked(check, seen)),
        "forward-then-close" => {
            status(&[200]).and_then(|()| checked(check, seen))?;
            let says_so = seen
                .answer
                .to_ascii_lowercase()
                .contains("\r\nconnection: close\r\n");
            says_so
                .then_some(())
                .ok_or_else(|| "the answer does not announce the close".into())
        }
        "forward-or-reject" if first == Some(200) => checked(check, seen),
        "forward-or-reject" => refused(),
        "forward-each" => {
            let count = check["count"].as_u64().unwrap() as usize;
            let good = statuses.iter().filter(|status| **status == 200).count();
            if good != count {
                return Err(format!("{good} answers to {count} requests"));
            }
            checked(check, seen)
        }
        "forward-first-only" => status(&[200]).and_then(|()| checked(check, seen)),
        "no-tunnel" => {
            if statuses.contains(&101) {
                return Err("it became a tunnel".into());
            }
            checked(check, seen)
        }
        "local-or-reject" | "never-forwarded" => untouched(),
        "wait-then-timeout" => match first {
            None | Some(408) => untouched(),
            // The client said that nothing more comes: that is malformed already, not only late.
            Some(400) => untouched(),
            Some(other) => Err(format!("status {other} for half a request")),
        },
        other => Err(format!("the list says {other:?}, which nobody here knows")),
    }?;
    seen.closed
        .then_some(())
        .ok_or_else(|| "the connection stays open".into())
}

/// The body of one request must never become another.
fn smuggled(check: &Value, expect: &str, seen: &Seen) -> Result<(), String> {
    if check["second_ok"] == true {
        return Ok(());
    }
    for (name, request) in &seen.requests {
        if !request.target().starts_with("/smuggled") {
            continue;
        }
        // After a refused upgrade what follows is an ordinary request; ours is then written on it. A tunnel is not.
        if expect == "no-tunnel" && request.has("x-forwarded-for") {
            continue;
        }
        return Err(format!("a smuggled request reached {name}"));
    }
    Ok(())
}

fn checked(check: &Value, seen: &Seen) -> Result<(), String> {
    let Some(check) = check.as_object() else {
        return Ok(());
    };
    let Some((backend, first)) = seen.requests.first() else {
        return Err("nothing reached a backend".into());
    };
    for (key, wanted) in check {
        let text = wanted.as_str().unwrap_or_default();
        let pair = |index: usize| wanted[index].as_str().unwrap();
        let (right, found) = match key.as_str() {
            "count" => {
                let count = seen.requests.len() as u64;
                (wanted.as_u64() == Some(count), count.to_string())
            }
            "target" => (first.target() == text, first.target().to_string()),
            "target_in" => {
                let among = wanted
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|target| target == first.target());
                (among, first.target().to_string())
            }
            "body" => {
                let body: String = first.body.iter().map(|&byte| byte as char).collect();
                (
                    first.complete && body == text,
                    format!("{body:?}, complete: {}", first.complete),
                )
            }
            "method" => (first.method() == text, first.method().to_string()),
            "version" => (first.version() == text, first.version().to_string()),
            "backend" => (*backend == text, backend.to_string()),
            "cl" => {
                let lengths = first.values("content-length");
                (lengths == [text], format!("{lengths:?}"))
            }
            "has_header" => (first.has(text), "none".into()),
            "no_header" => (!first.has(text), format!("{:?}", first.values(text))),
            "no_header_value" => {
                let values = first.values(pair(0));
                (
                    !values.iter().any(|value| value.contains(pair(1))),
                    format!("{values:?}"),
                )
            }
            "header" => {
                let values = first.values(pair(0));
                (
                    values.iter().any(|value| value == pair(1)),
                    format!("{values:?}"),
                )
            }
            "order" => {
                let values = first.values(pair(0)).join(", ");
                let wanted: Vec<&str> = wanted.as_array().unwrap()[1..]
                    .iter()
                    .filter_map(Value::as_str)
                    .collect();
                (values == wanted.join(", "), values)
            }
            "no_1xx" => (!seen.answer.starts_with("HTTP/1.1 1"), seen.answer.clone()),
            "no_trailer" => {
                let among = first
                    .trailers
                    .to_ascii_lowercase()
                    .lines()
                    .any(|line| line.starts_with(&format!("{text}:")));
                (!among, first.trailers.clone())
            }
            "te_only_trailers" => {
                let values = first.values("te");
                (
                    values
                        .iter()
                        .all(|value| value.eq_ignore_ascii_case("trailers")),
                    format!("{values:?}"),
                )
            }
            "first_is_upgrade" => (
                first.has("upgrade") && seen.requests.len() == 2,
                first.head.clone(),
            ),
            "backend_a_not_contains" => (!seen.raw_at_a.contains(text), seen.raw_at_a.clone()),
            "upgrade_not" => {
                let values = first.values("upgrade");
                (
                    !values.iter().any(|value| value.contains(text)),
                    format!("{values:?}"),
                )
            }
            "xff_last_is_peer" => {
                let values = first.values("x-forwarded-for").join(",");
                (
                    values
                        .rsplit(',')
                        .next()
                        .is_some_and(|last| last.trim() == "127.0.0.1"),
                    values,
                )
            }
            "via_appended" => {
                let values = first.values("via").join(", ");
                let members: Vec<&str> = values.split(',').map(str::trim).collect();
                (members.len() == 2 && members[0] == "1.0 fred", values)
            }
            "second_ok" => (true, String::new()),
            other => (false, format!("a check nobody here knows: {other}")),
        };
        if !right {
            return Err(format!("{key} should be {wanted}, is {found}"));
        }
    }
    Ok(())
}

impl Seen {
    /// The statuses of all final answers. Backends here say "ok", ours are text, so a line start is an answer.
    fn statuses(&self) -> Vec<u16> {
        self.answer
            .split("HTTP/1.1 ")
            .skip(1)
            .filter_map(|answer| answer.get(..3)?.parse().ok())
            .filter(|status| *status >= 200 || *status == 101)
            .collect()
    }
}

fn report(case: &Value, leaving: Leaving, wrong: &str, seen: &Seen) -> String {
    let requests: Vec<String> = seen
        .requests
        .iter()
        .map(|(name, request)| {
            format!(
                "    at {name}, complete {}: {}",
                request.complete,
                shortened(&request.head)
            )
        })
        .collect();
    format!(
        "- {} ({}, {}, client {leaving:?}): {wrong}\n    {}\n    sent: {}\n    got: {}\n{}",
        case["id"].as_str().unwrap_or_default(),
        case["expect"].as_str().unwrap_or_default(),
        case["level"].as_str().unwrap_or_default(),
        case["why"].as_str().unwrap_or_default(),
        shortened(case["raw"].as_str().unwrap_or_default()),
        shortened(&seen.answer),
        requests.join("\n"),
    )
}

fn shortened(text: &str) -> String {
    let start: String = text.chars().take(240).collect();
    if start.len() < text.len() {
        format!("{start:?}... ({} bytes)", text.len())
    } else {
        format!("{start:?}")
    }
}
