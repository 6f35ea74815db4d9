//! Backends that are names: looked up here from a hosts file that the test writes.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::harness::{found, may_mount};
use crate::limits::time::full_listener_at;

/// A onedoor that resolves names by a file of its own and by nothing else.
fn with_own_names(names: &str) -> Option<(Plan, PathBuf)> {
    if !(found("unshare") && may_mount()) {
        return None;
    }
    let plan = Proxy::plan();
    let hosts = plan.folder().join("hosts");
    fs::write(&hosts, names).unwrap();
    fs::write(plan.folder().join("nsswitch.conf"), "hosts: files\n").unwrap();
    let place = plan.folder().path().to_path_buf();
    let line = "mount --bind \"$0/hosts\" /etc/hosts && mount --bind \"$0/nsswitch.conf\" /etc/nsswitch.conf";
    Some((plan.after_mounting(line, &place), hosts))
}

fn site(host: &str, to: &str) -> String {
    format!("host = '{host}'\nto = '{to}'\n")
}

#[test]
fn a_name_that_does_not_resolve_is_its_own_trouble_and_delays_nobody() {
    let Some((plan, hosts)) = with_own_names("127.0.0.1 localhost\n") else {
        return;
    };
    let app = Backend::saying("hello");
    let lost = site("lost.test", &format!("app.internal:{}", app.port));
    let fine = site("fine.test", &format!("127.0.0.1:{}", app.port));
    let proxy = plan
        .site("lost.toml", lost + "hold = 'off'\n")
        .site("fine.toml", fine)
        .start();
    assert_eq!(proxy.get("fine.test", "/").text(), "hello");
    proxy.until_logged("the name does not resolve");
    assert_eq!(proxy.get("lost.test", "/").said(), "502 backend-unresolved");
    assert_eq!(proxy.state_of("lost"), "live", "its file is right");
    let status = proxy.status("lost").unwrap();
    assert_eq!(status["backends"][0]["fit"], false, "{status}");
    let reason = status["backends"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("app.internal does not resolve"), "{reason}");
    fs::write(&hosts, "127.0.0.1 localhost app.internal\n").unwrap();
    proxy.until_answer("lost.test", "the name that resolves by now", |answer| {
        answer.text() == "hello"
    });
    assert_eq!(
        times(&proxy, "the name does not resolve"),
        1,
        "{}",
        proxy.log()
    );
    proxy.until_logged("the name resolves again: 127.0.0.1");
}

/// The others are well meanwhile.
#[test]
fn an_address_that_is_tried_again_and_says_nothing_holds_up_nobody_for_long() {
    let Some((plan, _)) = with_own_names("127.0.0.2 app.internal\n127.0.0.3 app.internal\n") else {
        return;
    };
    // Each connection is for one request.
    let two = Backend::at("127.0.0.2:0", |conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\ntwo");
    });
    let text = site("app.test", &format!("app.internal:{}", two.port));
    let proxy = plan
        .flag("--workers=1")
        .site("app.toml", text + "[timeout]\nconnect = '25s'\n")
        .start();
    proxy.until_answer("app.test", "the name that resolves", |answer| {
        answer.text() == "two"
    });
    // Nobody was there: it is out from its first connect on. As many as it takes until chance has chosen it.
    for _ in 0..40 {
        assert_eq!(proxy.get("app.test", "/").text(), "two");
    }
    // From here on somebody takes no connections: openings are dropped.
    let _deaf = full_listener_at(([127, 0, 0, 3], two.port).into());
    // A second after it was out it is tried again.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        assert_eq!(proxy.get("app.test", "/").text(), "two");
        assert!(asked.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn all_addresses_of_a_name_are_used_and_not_only_the_first_that_answers() {
    let Some((plan, _)) = with_own_names("127.0.0.2 app.internal\n127.0.0.3 app.internal\n") else {
        return;
    };
    let two = Backend::saying_at("127.0.0.2:0", "two");
    let three = Backend::saying_at(&format!("127.0.0.3:{}", two.port), "three");
    let text = site("app.test", &format!("app.internal:{}", two.port));
    let proxy = plan.site("app.toml", text).start();
    let asked = || proxy.get("app.test", "/").text();
    until(
        "the name resolves",
        || matches!(asked(), text if text == "two" || text == "three"),
    );
    const ASKED: usize = 200;
    let count = (0..ASKED).filter(|_| asked() == "two").count();
    // Half of them, give or take five standard deviations.
    assert!((65..=135).contains(&count), "{count} of {ASKED}");
    // One that is gone is passed over.
    drop(three);
    for _ in 0..20 {
        assert_eq!(asked(), "two");
    }
}

#[test]
fn a_name_that_leads_elsewhere_is_followed_when_a_connect_fails() {
    let Some((plan, hosts)) = with_own_names("127.0.0.2 app.internal\n") else {
        return;
    };
    let old = Backend::saying_at("127.0.0.2:0", "old");
    let port = old.port;
    let text = site("app.test", &format!("app.internal:{port}"));
    let proxy = plan.site("app.toml", text).start();
    proxy.until_answer("app.test", "the old one", |answer| answer.text() == "old");
    let _new = Backend::saying_at(&format!("127.0.0.3:{port}"), "new");
    fs::write(&hosts, "127.0.0.3 app.internal\n").unwrap();
    drop(old);
    proxy.until_answer("app.test", "the new one", |answer| answer.text() == "new");
    proxy.until_logged("the name leads elsewhere: 127.0.0.3");
}

/// As where a container has got another address: nobody refuses at the old one. By itself a name is not looked up before
/// half of thirty seconds.
#[test]
fn a_name_is_looked_up_at_once_when_nobody_accepts_in_time() {
    let Some((plan, hosts)) = with_own_names("127.0.0.2 app.internal\n") else {
        return;
    };
    let new = Backend::saying_at("127.0.0.3:0", "new");
    let _deaf = full_listener_at(([127, 0, 0, 2], new.port).into());
    let text = site("app.test", &format!("app.internal:{}", new.port));
    let proxy = plan
        .site("app.toml", text + "[timeout]\nconnect = '100ms'\n")
        .start();
    proxy.until_answer("app.test", "a name that resolves", |answer| {
        answer.said() == "504 backend-timeout"
    });
    fs::write(&hosts, "127.0.0.3 app.internal\n").unwrap();
    let began = Instant::now();
    proxy.until_answer("app.test", "the new one", |answer| answer.text() == "new");
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

/// Also where the old one still answers, and has idle upstreams: within some thirty seconds.
#[test]
fn a_name_that_leads_elsewhere_is_followed_without_a_failure_too() {
    let Some((plan, hosts)) = with_own_names("127.0.0.2 app.internal\n") else {
        return;
    };
    let old = Backend::saying_at("127.0.0.2:0", "old");
    let new = Backend::saying_at(&format!("127.0.0.3:{}", old.port), "new");
    let text = site("app.test", &format!("app.internal:{}", old.port));
    let proxy = plan.site("app.toml", text).start();
    proxy.until_answer("app.test", "the old one", |answer| answer.text() == "old");
    fs::write(&hosts, "127.0.0.3 app.internal\n").unwrap();
    let deadline = Instant::now() + Duration::from_secs(90);
    let mut client = proxy.client();
    while client.get("app.test", "/").text() != "new" {
        assert!(Instant::now() < deadline, "{}", proxy.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..10 {
        assert_eq!(client.get("app.test", "/").text(), "new");
    }
    assert!(new.accepted() > 0);
}

/// By themselves not before half of their thirty seconds.
#[test]
fn names_are_looked_up_at_once_on_a_reload() {
    let Some((plan, hosts)) = with_own_names("127.0.0.2 app.internal\n") else {
        return;
    };
    let old = Backend::saying_at("127.0.0.2:0", "old");
    let _new = Backend::saying_at(&format!("127.0.0.3:{}", old.port), "new");
    let text = site("app.test", &format!("app.internal:{}", old.port));
    let proxy = plan.site("app.toml", text).start();
    proxy.until_answer("app.test", "the old one", |answer| answer.text() == "old");
    fs::write(&hosts, "127.0.0.3 app.internal\n").unwrap();
    let began = Instant::now();
    assert!(proxy.command(["reload"]).status.success());
    proxy.until_answer("app.test", "the new one", |answer| answer.text() == "new");
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn the_last_good_answer_is_kept_when_the_resolver_fails() {
    let Some((plan, hosts)) = with_own_names("127.0.0.2 app.internal\n") else {
        return;
    };
    let app = Backend::saying_at("127.0.0.2:0", "hello");
    let port = app.port;
    let text = site("app.test", &format!("app.internal:{port}"));
    let proxy = plan.site("app.toml", text).start();
    proxy.until_answer("app.test", "the app", |answer| answer.text() == "hello");
    fs::write(&hosts, "\n").unwrap();
    drop(app);
    // The refused connect makes it look again, in vain.
    proxy.get("app.test", "/");
    proxy.until_logged("the name does not resolve, its last addresses are used");
    let _app = Backend::saying_at(&format!("127.0.0.2:{port}"), "again");
    proxy.until_answer("app.test", "the app at its last address", |answer| {
        answer.text() == "again"
    });
}

#[test]
fn each_address_of_a_name_is_checked_by_itself() {
    let Some((plan, _)) = with_own_names("127.0.0.2 app.internal\n127.0.0.3 app.internal\n") else {
        return;
    };
    let is_good = Arc::new(AtomicBool::new(true));
    let switch = is_good.clone();
    let two = Backend::at("127.0.0.2:0", move |conversation| {
        while let Some(request) = conversation.request() {
            if request.target() == "/health" && !switch.load(Ordering::SeqCst) {
                conversation.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
            } else {
                conversation.answer("two");
            }
        }
    });
    let three = Backend::saying_at(&format!("127.0.0.3:{}", two.port), "three");
    let text = site("app.test", &format!("app.internal:{}", two.port));
    let proxy = plan.site("app.toml", text + OFTEN + "fall = 1\n").start();
    two.until_requests(2);
    three.until_requests(2);
    is_good.store(false, Ordering::SeqCst);
    proxy.until_logged("backend out: GET /health on 127.0.0.2");
    for _ in 0..20 {
        assert_eq!(proxy.get("app.test", "/").text(), "three");
    }
    let status = proxy.status("app").unwrap();
    assert_eq!(
        status["backends"][0]["fit"], true,
        "one of two is: {status}"
    );
}
