//! Backends that are watched: asked as a visitor would, out and back by counting, and nobody else's trouble.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Authority, Backend, Plan, Proxy, put, until};

mod edits;
mod http2;
mod names;
mod passive;
mod spread;

/// An app whose health page answers what a test says, one answer at a time, and which says its name to visitors.
struct Watched {
    app: Backend,
    answers: Sender<u16>,
    /// How many have asked its health page.
    asked: Arc<AtomicUsize>,
}

impl Watched {
    fn saying(text: &str) -> Watched {
        let (answers, given) = channel();
        let given: Arc<Mutex<Receiver<u16>>> = Arc::new(Mutex::new(given));
        let asked = Arc::new(AtomicUsize::new(0));
        let (text, count) = (text.to_string(), asked.clone());
        let app = Backend::doing(move |conversation| {
            while let Some(request) = conversation.request() {
                if request.target() != "/health" {
                    conversation.answer(&text);
                    continue;
                }
                count.fetch_add(1, Ordering::SeqCst);
                // The test is over.
                let Ok(status) = given.lock().unwrap().recv() else {
                    return;
                };
                conversation.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
            }
        });
        Watched {
            app,
            answers,
            asked,
        }
    }

    /// Answers the one who asks, and returns when somebody asks again: by then the answer has counted.
    #[track_caller]
    fn answer(&self, status: u16) {
        let before = self.asked.load(Ordering::SeqCst);
        self.answers.send(status).unwrap();
        until("it is asked again", || {
            self.asked.load(Ordering::SeqCst) > before
        });
    }
}

/// An app whose health page is good or bad as its switch says.
fn switched(text: &str) -> (Backend, Arc<AtomicBool>) {
    let is_good = Arc::new(AtomicBool::new(true));
    let (text, switch) = (text.to_string(), is_good.clone());
    let app = Backend::doing(move |conversation| {
        while let Some(request) = conversation.request() {
            if request.target().starts_with("/health") && !switch.load(Ordering::SeqCst) {
                conversation.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
            } else {
                conversation.answer(&text);
            }
        }
    });
    (app, is_good)
}

const OFTEN: &str = "[health]\npath = '/health'\nevery = '50ms'\ntimeout = '20s'\n";

/// How `ls` tells of a backend of a site.
fn backend(proxy: &Proxy, site: &str, port: u16) -> serde_json::Value {
    let status = proxy.status(site).unwrap();
    let at = format!("localhost:{port}");
    let backends = status["backends"].as_array().cloned().unwrap_or_default();
    let found = backends.into_iter().find(|backend| backend["at"] == *at);
    found.unwrap_or_else(|| panic!("no {at} in {status}"))
}

fn is_fit(proxy: &Proxy, site: &str, app: &Backend) -> bool {
    backend(proxy, site, app.port)["fit"] == true
}

#[track_caller]
fn until_fit(proxy: &Proxy, site: &str, app: &Backend, fit: bool) {
    until(&format!("localhost:{} fit: {fit}", app.port), || {
        is_fit(proxy, site, app) == fit
    });
}

fn times(proxy: &Proxy, text: &str) -> usize {
    proxy.log().matches(text).count()
}

#[track_caller]
fn is_told_once(proxy: &Proxy, text: &str) {
    proxy.until_logged(text);
    assert_eq!(times(proxy, text), 1, "{}", proxy.log());
}

#[test]
fn a_backend_is_out_after_as_many_failures_in_a_row_and_back_after_as_many_passes() {
    let (watched, other) = (Watched::saying("watched"), Backend::saying("other"));
    let site = format!(
        "host = 'app.test'\nto = [{}, {}]\n{OFTEN}fall = 3\nrise = 2\n",
        watched.app.port, other.port
    );
    let proxy = Proxy::plan().site("app.toml", site).start();
    let is_fit = || is_fit(&proxy, "app", &watched.app);
    for (status, fit) in [
        (200, true),
        (500, true),
        (500, true),
        (200, true),
        (404, true),
        (500, true),
        (503, false),
        (200, false),
        (500, false),
        (204, false),
        (302, true),
    ] {
        watched.answer(status);
        assert_eq!(is_fit(), fit, "after {status}\n{}", proxy.log());
        if !fit {
            for _ in 0..8 {
                assert_eq!(proxy.get("app.test", "/").text(), "other");
            }
        }
    }
    let out = format!(
        "backend out: GET /health on localhost:{} answers 503",
        watched.app.port
    );
    is_told_once(&proxy, &out);
    is_told_once(&proxy, "backend out");
    is_told_once(&proxy, "backend back");
    proxy.until_answer("app.test", "the one that is back", |answer| {
        answer.text() == "watched"
    });
}

#[test]
fn ls_tells_how_many_are_fit_and_what_is_wrong_with_the_others() {
    let ((a, a_is_good), b) = (switched("a"), Backend::saying("b"));
    let site = format!(
        "host = 'app.test'\nto = [{}, {}]\n{OFTEN}fall = 1\n",
        a.port, b.port
    );
    let proxy = Proxy::plan().site("app.toml", site).start();
    until_fit(&proxy, "app", &a, true);
    until("the first check of it", || a.requests().len() > 1);
    a_is_good.store(false, Ordering::SeqCst);
    until_fit(&proxy, "app", &a, false);
    let told = backend(&proxy, "app", a.port);
    let why = format!("GET /health on localhost:{} answers 503", a.port);
    assert_eq!(told["reason"], why.as_str());
    let ls = proxy.command(["ls"]);
    let ls = String::from_utf8_lossy(&ls.stdout).into_owned();
    let line = ls.lines().find(|line| line.starts_with("app ")).unwrap();
    assert!(line.contains("live 1/2"), "{ls}");
    assert!(ls.contains(&why), "{ls}");
}

#[test]
fn a_check_looks_like_a_visitor_byte_by_byte() {
    let app = Backend::recording();
    let site = format!(
        "host = ['*.shop.test', 'Shop.Test', 'other.test']\nto = {}\n\
         [headers.request]\nset = {{ X-Team = 'red' }}\n\
         [health]\npath = '/healthz?deep=1'\nevery = '100ms'\n",
        app.port
    );
    let proxy = Proxy::plan().site("app.toml", site).start();
    app.until_requests(2);
    let port = proxy.address().port();
    let requests = app.requests();
    let (first, second) = (&requests[0].head, &requests[1].head);
    assert_eq!(first, second, "every time the same");
    let mut lines: Vec<&str> = first.split("\r\n").collect();
    let id = lines
        .iter()
        .position(|line| line.starts_with("X-Request-Id: "));
    let id = lines.remove(id.unwrap());
    assert_eq!(id.len(), "X-Request-Id: ".len() + 32, "{id}");
    let via = lines
        .iter()
        .position(|line| line.starts_with("Via: 1.1 onedoor-"));
    lines.remove(via.unwrap());
    let version = env!("CARGO_PKG_VERSION");
    let wanted = [
        "GET /healthz?deep=1 HTTP/1.1",
        "Host: shop.test",
        &format!("User-Agent: onedoor/{version} (health check)"),
        "Accept: */*",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: shop.test",
        &format!("X-Forwarded-Port: {port}"),
        "X-Real-IP: 127.0.0.1",
        "X-Team: red",
        "Connection: close",
        "",
        "",
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn send_host_says_another_name_to_ask_for() {
    let app = Backend::recording();
    let asked_for = |keys: &str| {
        app.forget();
        let site = format!("host = 'shop.test'\nto = {}\n{keys}", app.port);
        let _proxy = Proxy::plan().site("app.toml", site).start();
        app.until_requests(1);
        app.requests()[0].values("host")
    };
    let check = "[health]\npath = '/'\n";
    assert_eq!(
        asked_for(&format!("{check}send_host = 'inner.test:81'\n")),
        ["inner.test:81"]
    );
    assert_eq!(
        asked_for(&format!("send_host = 'real.test'\n{check}")),
        ["real.test"]
    );
    let own = format!("127.0.0.1:{}", app.port);
    assert_eq!(
        asked_for(&format!("send_host = 'backend'\n{check}")),
        [own.as_str()]
    );
}

#[test]
fn a_check_that_never_passed_takes_nothing_out_and_says_so_once() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            match request.target() {
                "/health" => conversation.send("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
                _ => conversation.answer("hello"),
            }
        }
    });
    let site = format!("host = 'app.test'\nto = {}\n{OFTEN}", app.port);
    let proxy = Proxy::plan().site("app.toml", site).start();
    let said = format!(
        "GET /health on localhost:{} answers 404; check not in force",
        app.port
    );
    proxy.until_logged(&said);
    let before = app.requests().len();
    app.until_requests(before + 10);
    assert!(is_fit(&proxy, "app", &app));
    assert_eq!(proxy.get("app.test", "/").text(), "hello");
    is_told_once(&proxy, "check not in force");
    assert_eq!(times(&proxy, "backend out"), 0, "{}", proxy.log());
    let ls = proxy.command(["ls"]);
    let ls = String::from_utf8_lossy(&ls.stdout).into_owned();
    assert!(ls.contains(&said), "{ls}");
    assert!(!proxy.command(["ls", "--errors"]).status.success());
}

#[test]
fn the_failing_check_of_one_site_takes_no_backend_from_its_neighbours() {
    let (app, is_good) = switched("hello");
    let spare = Backend::saying("spare");
    let strict = format!(
        "host = 'strict.test'\nto = [{}, {}]\n{OFTEN}fall = 1\nsend_host = 'any.test'\n",
        app.port, spare.port
    );
    let other_check = strict
        .replace("strict.test", "other.test")
        .replace("/health", "/")
        .replace("fall = 1", "fall = 2");
    let none = format!("host = 'none.test'\nto = {}\n", app.port);
    let proxy = Proxy::plan()
        .site("strict.toml", strict)
        .site("other.toml", other_check)
        .site("none.toml", none)
        .start();
    until("both checks have begun", || {
        let targets: Vec<String> = app
            .requests()
            .iter()
            .map(|r| r.target().to_string())
            .collect();
        targets.iter().any(|t| t == "/") && targets.iter().filter(|t| *t == "/health").count() > 1
    });
    is_good.store(false, Ordering::SeqCst);
    until_fit(&proxy, "strict", &app, false);
    assert!(is_fit(&proxy, "other", &app));
    for _ in 0..8 {
        assert_eq!(proxy.get("strict.test", "/").text(), "spare");
        assert_eq!(proxy.get("none.test", "/").text(), "hello");
    }
    proxy.until_answer(
        "other.test",
        "the app that its neighbour does not use",
        |answer| answer.text() == "hello",
    );
}

#[test]
fn what_two_sites_ask_alike_is_asked_once_and_counts_for_both() {
    let watched = Watched::saying("hello");
    let site = |host: &str| {
        format!(
            "host = '{host}'\nto = {}\n{OFTEN}fall = 1\nrise = 1\nsend_host = 'any.test'\n",
            watched.app.port
        )
    };
    let proxy = Proxy::plan()
        .site("a.toml", site("a.test"))
        .site("b.toml", site("b.test"))
        .start();
    watched.answer(200);
    watched.answer(500);
    let fit = |site: &str| is_fit(&proxy, site, &watched.app);
    assert!(!fit("a") && !fit("b"));
    // It is asked by one connection at a time; another check would hold another, as long as nothing is answered.
    until("one asks it", || {
        watched.app.accepted() - watched.app.closed() == 1
    });
    watched.answer(200);
    assert!(fit("a") && fit("b"));
    is_told_once(&proxy, "backend out");
}

#[test]
fn without_a_path_a_connect_is_enough() {
    let app = Backend::silent();
    let spare = Backend::saying("spare");
    let (port, accepted) = (app.port, |app: &Backend| app.accepted() > 2);
    let site = format!(
        "host = 'app.test'\nto = [{port}, {}]\n[health]\nevery = '50ms'\nfall = 2\n",
        spare.port
    );
    let proxy = Proxy::plan().site("app.toml", site).start();
    until("it is asked", || accepted(&app));
    assert_eq!(app.raw_bytes(), "", "nothing is said on a connect");
    drop(app);
    proxy.until_logged(&format!(
        "backend out: localhost:{port} does not accept connections"
    ));
    let _back = Backend::saying_on_port(port, "back");
    proxy.until_logged(&format!(
        "backend back: localhost:{port} accepts connections"
    ));
}

#[test]
fn a_backend_that_accepts_and_says_nothing_is_out_after_the_timeout() {
    let (app, spare) = (Backend::saying("x"), Backend::saying("spare"));
    let port = app.port;
    let site = format!(
        "host = 'app.test'\nto = [{port}, {}]\n[health]\npath = '/'\nevery = '50ms'\ntimeout = '200ms'\nfall = 1\n",
        spare.port
    );
    let proxy = Proxy::plan().site("app.toml", site).start();
    app.until_requests(1);
    drop(app);
    let silent = Backend::on_port(port, |conversation| {
        conversation.rest();
    });
    proxy.until_logged("backend out");
    proxy.until_logged(&format!("localhost:{port} "));
    until("a check is given up", || silent.closed() > 1);
}

#[test]
fn what_the_body_must_contain_is_looked_for() {
    let is_ready = Arc::new(AtomicBool::new(true));
    let switch = is_ready.clone();
    let app = Backend::doing(move |conversation| {
        while conversation.request().is_some() {
            let text = if switch.load(Ordering::SeqCst) {
                "ready"
            } else {
                "starting"
            };
            conversation.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnow \r\n{:x}\r\n{text}\r\n0\r\n\r\n",
                text.len()
            ));
        }
    });
    let spare = Backend::saying("spare");
    let site = format!(
        "host = 'app.test'\nto = [{}, {}]\n{OFTEN}contains = 'now ready'\nfall = 1\n",
        app.port, spare.port
    );
    let proxy = Proxy::plan().site("app.toml", site).start();
    app.until_requests(2);
    assert!(is_fit(&proxy, "app", &app));
    is_ready.store(false, Ordering::SeqCst);
    proxy.until_logged("answers without what its body must contain");
    until_fit(&proxy, "app", &app, false);
}

#[test]
fn when_none_passes_all_are_tried_or_nobody_is() {
    let (app, is_good) = switched("hello");
    let site = |host: &str, keys: &str| {
        format!(
            "host = '{host}'\nto = {}\nhold = 'off'\n{OFTEN}fall = 1\n{keys}",
            app.port
        )
    };
    let proxy = Proxy::plan()
        .site("try.toml", site("try.test", ""))
        .site("refuse.toml", site("refuse.test", "when_none = 'refuse'\n"))
        .start();
    app.until_requests(4);
    is_good.store(false, Ordering::SeqCst);
    until_fit(&proxy, "try", &app, false);
    until_fit(&proxy, "refuse", &app, false);
    assert_eq!(proxy.get("try.test", "/").text(), "hello");
    let refused = proxy.get("refuse.test", "/");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.has("retry-after"), "{refused:?}");
    is_good.store(true, Ordering::SeqCst);
    until_fit(&proxy, "refuse", &app, true);
    assert_eq!(proxy.get("refuse.test", "/").text(), "hello");
}

#[test]
fn a_backend_behind_tls_is_asked_over_tls_and_must_show_its_certificate() {
    let authority = Authority::new("internal");
    let app = Backend::saying_over_tls(&authority.pair(&["localhost"]).server(), "hello");
    let other = Backend::saying_over_tls(&authority.pair(&["other.test"]).server(), "x");
    let site = |host: &str, port: u16, check: &str| {
        format!(
            "host = '{host}'\nto = {{ at = 'https://localhost:{port}', ca = 'ca.pem' }}\n[health]\nevery = '50ms'\n{check}"
        )
    };
    let plan = Proxy::plan();
    put(plan.sites().path(), "ca.pem", &authority.pem);
    let proxy = plan
        .site("app.toml", site("app.test", app.port, "path = '/health'\n"))
        .site("other.toml", site("other.test", other.port, ""))
        .start();
    app.until_requests(2);
    let asked = app.requests()[0].clone();
    assert_eq!(
        (asked.target(), asked.value("host")),
        ("/health", "app.test".to_string())
    );
    // Without a path a handshake is enough, and must be a good one.
    proxy.until_logged("is for other.test, not localhost; check not in force");
}

#[test]
fn a_site_served_over_tls_is_asked_for_as_its_visitors_come() {
    let app = Backend::recording();
    let site = format!(
        "host = 'app.test'\nto = {}\n[tls]\nmode = 'local'\nhttp = 'redirect'\n{OFTEN}",
        app.port
    );
    let _proxy = Proxy::plan().site("app.toml", site).start();
    app.until_requests(1);
    assert_eq!(app.requests()[0].value("x-forwarded-proto"), "https");
}

#[test]
fn a_backend_on_a_unix_socket_is_asked_too() {
    let plan = Proxy::plan();
    let socket = plan.folder().join("app.sock");
    let app = Backend::saying_on_socket(&socket, "hello");
    let site = format!(
        "host = 'app.test'\nto = 'unix:{}'\n{OFTEN}",
        socket.display()
    );
    let proxy = plan.site("app.toml", site).start();
    app.until_requests(2);
    assert_eq!(app.requests()[0].target(), "/health");
    drop(app);
    // The file is still there, and nobody listens behind it.
    proxy.until_logged("app.sock does not accept connections");
}

#[test]
fn a_check_is_introduced_as_our_own_where_backends_want_to_know() {
    for (version, introduction) in [
        ("v1", "PROXY UNKNOWN\r\n"),
        ("v2", "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
    ] {
        let app = Backend::doing(|conversation| {
            conversation.rest();
        });
        let site = format!(
            "host = 'app.test'\nto = {}\nsend_proxy = '{version}'\n{OFTEN}",
            app.port
        );
        let _proxy = Proxy::plan().site("app.toml", site).start();
        let wanted = format!("{introduction}GET /health HTTP/1.1\r\n");
        until("a check has come", || {
            app.raw_bytes().contains("\r\n\r\nGET")
                || app.raw_bytes().contains("GET /health HTTP/1.1\r\n")
        });
        assert!(
            app.raw_bytes().starts_with(&wanted),
            "{:?}",
            app.raw_bytes()
        );
    }
}
