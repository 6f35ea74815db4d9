//! What requests themselves meet with: out after so many in a row, tried by one at a time, and never the last one.

use super::*;
use crate::harness::words_of;

/// A site whose two backends are taken in turn, without a check.
fn in_turn(bad: u16, good: u16, passive: &str) -> String {
    format!(
        "host = 'app.test'\nto = [{bad}, {good}]\nbalance = 'round-robin'\nslow_start = 'off'\n\
         [retry]\ntimes = 0\n[health]\nevery = 'off'\npassive = {passive}\n"
    )
}

/// An app that answers this status, and remembers when it was asked.
fn answering(status: u16) -> (Backend, Arc<Mutex<Vec<Instant>>>) {
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let all = times.clone();
    let app = Backend::doing(move |conversation| {
        while conversation.request().is_some() {
            all.lock().unwrap().push(Instant::now());
            conversation.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    (app, times)
}

#[test]
fn a_backend_that_refuses_is_out_after_three_connects_and_back_when_it_accepts() {
    let (gone, good) = (Backend::saying("gone"), Backend::saying("good"));
    let port = gone.port;
    drop(gone);
    let site = format!(
        "host = 'app.test'\nto = [{port}, {}]\nbalance = 'round-robin'\n",
        good.port
    );
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", site)
        .start();
    for _ in 0..20 {
        assert_eq!(proxy.get("app.test", "/").text(), "good");
    }
    let said = "backend out for 1000 ms: 3 connects in a row failed";
    is_told_once(&proxy, said);
    assert_eq!(backend(&proxy, "app", port)["fit"], false);
    let _back = Backend::saying_on_port(port, "back");
    proxy.until_answer("app.test", "the one that is back", |answer| {
        answer.text() == "back"
    });
    proxy.until_logged("backend back");
    assert_eq!(backend(&proxy, "app", port)["fit"], true);
}

#[test]
fn a_client_that_waits_for_100_and_sends_nothing_takes_no_backend_out() {
    // It reads the body, and says nothing before, as it may (RFC 9110 10.1.1).
    let app = || {
        Backend::doing(|conversation| {
            while conversation.request().is_some() {
                conversation.answer("app");
            }
        })
    };
    let (one, other) = (app(), app());
    let site = in_turn(one.port, other.port, "['connect', 'reset']");
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site(
            "app.toml",
            format!("{site}[timeout]\nfirst_byte = '200ms'\n"),
        )
        .start();
    let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    }
    for client in &mut clients {
        let answer = client.response();
        assert_eq!(
            (answer.status, answer.value("onedoor-reason")),
            (504, "backend-timeout".to_owned())
        );
    }
    assert!(!proxy.log().contains("backend out"), "{}", proxy.log());
    for port in [one.port, other.port] {
        assert_eq!(backend(&proxy, "app", port)["fit"], true);
    }
}

/// What breaks off there is lost; a GET is sent again.
#[test]
fn no_post_is_risked_on_a_backend_that_was_out_while_another_is_fit() {
    let bad = Backend::closing();
    let good = Backend::saying("good");
    let site = format!(
        "host = 'app.test'\nto = [{}, {}]\nbalance = 'round-robin'\n[health]\nevery = 'off'\npassive = {{ reset = 1 }}\n",
        bad.port, good.port
    );
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", site)
        .start();
    let out = "backend out for 1000 ms";
    proxy.until_answer("app.test", "it is out", |_| proxy.log().contains(out));
    let asked = bad.accepted();
    // Its trial is due in the middle.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        let answer = proxy.ask("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nab");
        assert_eq!(answer.text(), "good");
    }
    assert_eq!(bad.accepted(), asked);
    assert_eq!(proxy.get("app.test", "/").text(), "good");
    assert_eq!(bad.accepted(), asked + 1);
}

#[test]
fn answers_from_500_on_take_a_backend_out_at_the_threshold_of_the_site() {
    let ((bad, _), good) = (answering(503), Backend::saying("good"));
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", in_turn(bad.port, good.port, "{ 5xx = 4 }"))
        .start();
    for _ in 0..20 {
        proxy.get("app.test", "/");
    }
    assert_eq!(bad.requests().len(), 4);
    is_told_once(
        &proxy,
        "backend out for 1000 ms: 4 answers in a row from 500 on",
    );
}

#[test]
fn one_good_answer_ends_a_row() {
    let count = AtomicUsize::new(0);
    let app = Backend::doing(move |conversation| {
        while conversation.request().is_some() {
            let status = if count.fetch_add(1, Ordering::SeqCst) % 3 == 2 {
                404
            } else {
                500
            };
            conversation.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let good = Backend::saying("good");
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", in_turn(app.port, good.port, "{ 5xx = 3 }"))
        .start();
    for _ in 0..40 {
        proxy.get("app.test", "/");
    }
    assert_eq!(app.requests().len(), 20);
    assert_eq!(times(&proxy, "backend out"), 0, "{}", proxy.log());
}

#[test]
fn answers_from_500_on_are_no_reason_unless_the_site_says_so() {
    let ((bad, _), good) = (answering(500), Backend::saying("good"));
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site(
            "app.toml",
            in_turn(bad.port, good.port, "['connect', 'reset']"),
        )
        .start();
    for _ in 0..40 {
        proxy.get("app.test", "/");
    }
    assert_eq!(bad.requests().len(), 20);
}

#[test]
fn a_backend_that_breaks_off_is_out_at_its_threshold() {
    let (bad, good) = (Backend::closing(), Backend::saying("good"));
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", in_turn(bad.port, good.port, "{ reset = 2 }"))
        .start();
    for _ in 0..20 {
        proxy.ask("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi");
    }
    assert_eq!(bad.requests().len(), 2);
    proxy.until_logged("backend out for 1000 ms: 2 requests in a row got no answer");
}

#[test]
fn a_backend_that_accepts_and_never_answers_is_out_after_as_many() {
    let (bad, good) = (Backend::silent(), Backend::saying("good"));
    let site = in_turn(bad.port, good.port, "{ reset = 2 }");
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", site + "[timeout]\nfirst_byte = '200ms'\n")
        .start();
    until("it is out", || {
        proxy.get("app.test", "/");
        times(
            &proxy,
            "backend out for 1000 ms: 2 requests in a row got no answer",
        ) == 1
    });
}

#[test]
fn a_backend_that_is_out_is_tried_again_after_a_while_that_grows() {
    let ((bad, asked), good) = (answering(500), Backend::saying("good"));
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", in_turn(bad.port, good.port, "{ 5xx = 1 }"))
        .start();
    let mut client = proxy.client();
    until("it was tried three times", || {
        client.get("app.test", "/");
        asked.lock().unwrap().len() >= 4
    });
    let asked = asked.lock().unwrap();
    let between: Vec<Duration> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    for (between, seconds) in between.iter().zip([1, 2, 4]) {
        // The clock that it is measured by has milliseconds.
        let least = Duration::from_millis(seconds * 1000 - 5);
        assert!(*between >= least, "{between:?} instead of {seconds} s");
    }
    assert_eq!(
        times(&proxy, "backend out"),
        1,
        "said once:\n{}",
        proxy.log()
    );
}

#[test]
fn one_request_at_a_time_tries_a_backend_that_was_out() {
    let is_slow = Arc::new(AtomicBool::new(false));
    let (slow, waiting) = (is_slow.clone(), Arc::new(AtomicUsize::new(0)));
    let (release, gate) = channel::<()>();
    let (gate, inside) = (Mutex::new(gate), waiting.clone());
    let bad = Backend::doing(move |conversation| {
        while conversation.request().is_some() {
            if slow.load(Ordering::SeqCst) {
                inside.fetch_add(1, Ordering::SeqCst);
                gate.lock().unwrap().recv().ok();
                conversation.answer("well again");
            } else {
                conversation.send("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    let good = Backend::saying("good");
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", in_turn(bad.port, good.port, "{ 5xx = 1 }"))
        .start();
    until("it is out", || {
        proxy.get("app.test", "/");
        times(&proxy, "backend out") == 1
    });
    is_slow.store(true, Ordering::SeqCst);
    let address = proxy.address();
    let trying = std::thread::spawn(move || {
        // Whichever request finds that the time has come.
        loop {
            let answer = crate::harness::Client::connect(address).get("app.test", "/");
            if answer.text() != "good" {
                return answer.text().to_string();
            }
        }
    });
    until("one tries it", || waiting.load(Ordering::SeqCst) == 1);
    for _ in 0..40 {
        assert_eq!(proxy.get("app.test", "/").text(), "good");
    }
    assert_eq!(waiting.load(Ordering::SeqCst), 1);
    release.send(()).unwrap();
    assert_eq!(trying.join().unwrap(), "well again");
    proxy.until_logged("backend back");
    // All that it gets from now on is answered at once.
    drop(release);
    until("it has its share again", || {
        proxy.get("app.test", "/").text() == "well again"
    });
}

#[test]
fn a_stream_that_showed_a_backend_to_be_well_leaves_the_next_trial_to_others() {
    let status = Arc::new(AtomicUsize::new(500));
    let (says, (release, gate)) = (status.clone(), channel::<()>());
    let gate = Mutex::new(gate);
    let app = Backend::doing(move |conversation| {
        while let Some(request) = conversation.request() {
            match says.load(Ordering::SeqCst) {
                200 if request.target() == "/stream" => {
                    let head =
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
                    conversation.send(head);
                    gate.lock().unwrap().recv().ok();
                    return;
                }
                200 => conversation.answer("well"),
                bad => conversation.send(format!("HTTP/1.1 {bad} X\r\nContent-Length: 0\r\n\r\n")),
            }
        }
    });
    let good = Backend::saying("good");
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", in_turn(app.port, good.port, "{ 5xx = 1 }"))
        .start();
    until("it is out", || {
        proxy.get("app.test", "/");
        times(&proxy, "backend out") == 1
    });
    status.store(200, Ordering::SeqCst);
    // The trial becomes a stream that stays open.
    let mut streams = Vec::new();
    until("a stream has tried it", || {
        let mut client = proxy.client();
        client.send("GET /stream HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let head = client.response_head();
        streams.push(client);
        head.has("transfer-encoding")
    });
    proxy.until_logged("backend back");
    status.store(500, Ordering::SeqCst);
    until("it is out again", || {
        proxy.get("app.test", "/");
        times(&proxy, "backend out") == 2
    });
    status.store(200, Ordering::SeqCst);
    until("it is back, and the stream is still open", || {
        proxy.get("app.test", "/").text() == "well"
    });
    drop(release);
}

#[test]
fn the_last_backend_is_never_taken_out() {
    let ((only, _), (other, _)) = (answering(500), answering(502));
    let alone = format!(
        "host = 'alone.test'\nto = {}\n[health]\nevery = 'off'\npassive = {{ 5xx = 1, connect = 1 }}\n",
        only.port
    );
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("alone.toml", alone)
        .site("app.toml", in_turn(only.port, other.port, "{ 5xx = 1 }"))
        .start();
    for _ in 0..10 {
        assert_eq!(proxy.get("alone.test", "/").status, 500);
    }
    assert_eq!(only.requests().len(), 10);
    assert_eq!(times(&proxy, "backend out"), 0, "{}", proxy.log());
    for _ in 0..20 {
        assert!(
            proxy.get("app.test", "/").status >= 500,
            "the backend's own answer"
        );
    }
    // One of two.
    is_told_once(&proxy, "backend out");
}

#[test]
fn the_failures_of_one_site_are_no_other_s() {
    let ((bad, _), good) = (answering(500), Backend::saying("good"));
    let strict = in_turn(bad.port, good.port, "{ 5xx = 1 }");
    let patient = strict
        .replace("app.test", "patient.test")
        .replace("5xx = 1", "5xx = 999");
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("strict.toml", strict)
        .site("patient.toml", patient)
        .start();
    for _ in 0..20 {
        proxy.get("app.test", "/");
    }
    assert_eq!(backend(&proxy, "strict", bad.port)["fit"], false);
    assert_eq!(backend(&proxy, "patient", bad.port)["fit"], true);
    let answers: Vec<u16> = (0..20)
        .map(|_| proxy.get("patient.test", "/").status)
        .collect();
    assert_eq!(answers.iter().filter(|status| **status == 500).count(), 10);
}

#[test]
fn a_site_asks_its_last_backend_whatever_another_site_met_with_there() {
    let (gone, good) = (Backend::saying("gone"), Backend::saying("good"));
    let port = gone.port;
    drop(gone);
    let many = in_turn(port, good.port, "{ connect = 3 }").replace("app.test", "many.test");
    let alone = |host: &str, when_none: &str| {
        format!(
            "host = '{host}'\nto = {port}\nhold = 'off'\n[health]\nevery = 'off'\nwhen_none = '{when_none}'\n"
        )
    };
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("many.toml", many)
        .site("try.toml", alone("try.test", "try"))
        .site("refuse.toml", alone("refuse.test", "refuse"))
        .start();
    until("it is out", || {
        proxy.get("many.test", "/");
        times(&proxy, "backend out") == 1
    });
    for host in ["try.test", "refuse.test"] {
        let answer = proxy.get(host, "/");
        assert_eq!(answer.value("onedoor-reason"), "backend-refused", "{host}");
    }
    assert_eq!(backend(&proxy, "refuse", port)["fit"], false);
    let explained = words_of(&proxy.command(["explain", "refuse.test"]));
    assert!(
        explained.contains("one whose check does not fail is tried all the same"),
        "{explained}"
    );
    let _back = Backend::saying_on_port(port, "back");
    assert_eq!(proxy.get("refuse.test", "/").text(), "back");
    assert_eq!(backend(&proxy, "refuse", port)["fit"], true);
}
