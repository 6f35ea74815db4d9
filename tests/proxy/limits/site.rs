//! What one site may take, so that the others have theirs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::time::full_listener;
use crate::harness::{Backend, Client, Plan, Proxy, until, until_some};

/// Nobody who is idle makes room.
const STAYS: &str = "[timeout]\nidle_when_full = '1h'\n";

fn two_sites(app: &Backend, more: &str) -> Plan {
    let shop = format!(
        "host = ['shop.test', 'www.shop.test']\nto = {}\n{more}",
        app.port
    );
    Proxy::plan().site("shop.toml", shop).site(
        "blog.toml",
        format!("host = 'blog.test'\nto = {}", app.port),
    )
}

fn asked(proxy: &Proxy, host: &str) -> Client {
    let mut client = proxy.client();
    assert_eq!(client.get(host, "/").text(), "x");
    client
}

#[test]
fn more_connections_than_a_site_may_have_are_503_and_other_sites_do_not_notice() {
    let app = Backend::saying("x");
    let proxy = two_sites(&app, "limit.connections = 2\n").start();
    let mut first = asked(&proxy, "shop.test");
    let second = asked(&proxy, "www.shop.test");
    let mut third = proxy.client();
    let refused = third.get("shop.test", "/");
    assert_eq!(refused.said(), "503 site-full");
    assert_eq!(refused.value("retry-after"), "1");
    assert_eq!(refused.value("connection"), "close");
    third.expect_close();
    proxy.until_counted("site-full", 1);
    // Who is in stays in, by any of the site's names.
    assert_eq!(first.get("www.shop.test", "/").text(), "x");
    asked(&proxy, "blog.test");
    drop(second);
    proxy.until_answer("shop.test", "one has left", |response| {
        response.status == 200
    });
}

#[test]
fn a_connection_that_goes_to_another_site_leaves_its_place() {
    let app = Backend::saying("x");
    let proxy = two_sites(&app, "limit.connections = 1\n").start();
    let mut client = asked(&proxy, "shop.test");
    assert_eq!(proxy.get("shop.test", "/").said(), "503 site-full");
    assert_eq!(client.get("blog.test", "/").text(), "x");
    let other = asked(&proxy, "shop.test");
    assert_eq!(client.get("shop.test", "/").said(), "503 site-full");
    drop(other);
}

#[test]
fn connections_from_before_an_edit_count_after_it() {
    let app = Backend::saying("x");
    let proxy = two_sites(&app, "limit.connections = 2\n").start();
    let mut first = asked(&proxy, "shop.test");
    let second = asked(&proxy, "shop.test");
    let edited = format!(
        "host = 'shop.test'\nto = {}\nlimit.connections = 1\n",
        app.port
    );
    proxy.site("shop.toml", edited);
    assert_eq!(proxy.get("shop.test", "/").said(), "503 site-full");
    assert_eq!(
        first.get("shop.test", "/").text(),
        "x",
        "who is in stays in"
    );
    drop(second);
    assert_eq!(proxy.get("shop.test", "/").said(), "503 site-full");
    drop(first);
    proxy.until_answer("shop.test", "both have left", |response| {
        response.status == 200
    });
}

#[test]
fn a_site_has_half_of_all_connections_when_it_does_not_say() {
    let app = Backend::saying("x");
    let proxy = two_sites(&app, "")
        .daemon_file(&format!("{STAYS}[limit]\nconnections = 6\n"))
        .start();
    let open: Vec<Client> = (0..3).map(|_| asked(&proxy, "shop.test")).collect();
    assert_eq!(proxy.get("shop.test", "/").said(), "503 site-full");
    asked(&proxy, "blog.test");
    drop(open);
}

#[test]
fn what_every_site_may_have_stands_in_the_defaults() {
    let app = Backend::saying("x");
    let proxy = two_sites(&app, "")
        .daemon_file(&format!("{STAYS}[defaults]\nlimit.connections = 1\n"))
        .start();
    let open = asked(&proxy, "shop.test");
    assert_eq!(proxy.get("shop.test", "/").said(), "503 site-full");
    drop(open);
}

#[test]
fn more_requests_than_may_wait_for_an_app_to_accept_are_503_at_once() {
    let app = Backend::saying("x");
    let deaf = full_listener();
    let port = deaf.0.local_addr().unwrap().port();
    let proxy = two_sites(&app, "")
        .site(
            "deaf.toml",
            format!(
                "host = 'deaf.test'\nto = {port}\ntimeout.connect = '3s'\nlimit.connecting = 2\n"
            ),
        )
        .start();
    let at_once: Vec<_> = (0..3)
        .map(|_| {
            let mut client = proxy.client();
            thread::spawn(move || client.get("deaf.test", "/").said())
        })
        .collect();
    until("one is refused", || proxy.counted("site-busy") == 1);
    assert_eq!(proxy.counted("backend-timeout"), 0, "the others wait still");
    assert_eq!(proxy.get("blog.test", "/").text(), "x");
    let mut said: Vec<String> = at_once.into_iter().map(|one| one.join().unwrap()).collect();
    said.sort();
    assert_eq!(
        said,
        [
            "503 site-busy",
            "504 backend-timeout",
            "504 backend-timeout"
        ]
    );
    // They wait no more.
    assert_eq!(proxy.get("deaf.test", "/").said(), "504 backend-timeout");
}

#[test]
fn idle_connections_of_a_full_site_make_room_for_its_new_ones_and_only_they() {
    let app = Backend::saying("x");
    let proxy = two_sites(&app, "limit.connections = 2\n")
        .daemon_file("[timeout]\nidle_when_full = '100ms'\n")
        .start();
    let mut blog = asked(&proxy, "blog.test");
    // The idle ones may be with another worker, which makes room a moment after the first was refused.
    let open: Vec<Client> = (0..10)
        .map(|_| {
            until_some("somebody makes room", || {
                let mut client = proxy.client();
                (client.get("shop.test", "/").status == 200).then_some(client)
            })
        })
        .collect();
    assert!(proxy.counted("made-room") >= 8);
    assert_eq!(blog.get("blog.test", "/").text(), "x");
    drop(open);
}

#[test]
fn a_connection_that_was_idle_elsewhere_is_no_room_for_itself() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            match request.target() {
                "/busy" => conversation.send("HTTP/1.1 200 OK\r\n\r\nx"),
                _ => conversation.answer("x"),
            }
        }
    });
    let proxy = two_sites(&app, "limit.connections = 1\n")
        .daemon_file("workers = 1\n[timeout]\nidle_when_full = '100ms'\n")
        .start();
    let mut busy = proxy.client();
    busy.send("GET /busy HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    assert_eq!(busy.response_head().status, 200);
    let mut idle: Vec<Client> = (0..3).map(|_| asked(&proxy, "blog.test")).collect();
    thread::sleep(Duration::from_millis(500));
    for client in &mut idle {
        assert_eq!(client.get("shop.test", "/").said(), "503 site-full");
    }
}

#[test]
fn a_full_site_that_is_hammered_does_not_keep_another_from_making_room() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            match request.target() {
                "/busy" => conversation.send("HTTP/1.1 200 OK\r\n\r\nx"),
                _ => conversation.answer("x"),
            }
        }
    });
    let proxy = two_sites(&app, "limit.connections = 1\n")
        .site(
            "small.toml",
            format!(
                "host = 'small.test'\nto = {}\nlimit.connections = 2\n",
                app.port
            ),
        )
        .daemon_file("workers = 1\n[timeout]\nidle_when_full = '100ms'\n")
        .start();
    let mut busy = proxy.client();
    busy.send("GET /busy HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    assert_eq!(busy.response_head().status, 200);
    let _idle = [asked(&proxy, "small.test"), asked(&proxy, "small.test")];
    thread::sleep(Duration::from_millis(500));
    let is_over = AtomicBool::new(false);
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(proxy.get("shop.test", "/").said(), "503 site-full");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        until("it is hammered", || refused.load(Ordering::Relaxed) > 20);
        let statuses: Vec<String> = (0..2)
            .map(|_| proxy.get("small.test", "/").said())
            .collect();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(statuses, ["200", "200"]);
    });
}

/// What `ls --json` says that was refused for a site.
fn refusals(proxy: &Proxy, site: &str) -> serde_json::Value {
    let mut sites = proxy.list().into_iter();
    let site = sites.find(|entry| entry["name"] == site);
    site.map(|site| site["refusals"].clone())
        .unwrap_or_default()
}

#[test]
fn what_was_refused_is_counted_for_its_site_alone_and_over_its_edits() {
    let app = Backend::saying("x");
    let limits = "[limit]\nconnections = 2\nbody = '1kb'\n";
    let proxy = two_sites(&app, limits).start();
    let mut first = asked(&proxy, "shop.test");
    assert_eq!(refusals(&proxy, "shop"), serde_json::json!({}));
    let large = "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2000\r\n\r\n";
    assert_eq!(proxy.ask(large).said(), "413 body-too-large");
    let chunks = "POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\nz";
    // Who is told to go has left its place once it is gone.
    let alone = || until("the first is alone", || proxy.counters()["open"] == 1);
    alone();
    assert_eq!(proxy.ask(chunks).said(), "400 malformed-body");
    alone();
    let second = asked(&proxy, "shop.test");
    assert_eq!(proxy.get("shop.test", "/").said(), "503 site-full");
    let counted = serde_json::json!({ "malformed-body": 1, "body-too-large": 1, "site-full": 1 });
    until("all three are counted", || {
        refusals(&proxy, "shop") == counted
    });
    proxy.site(
        "shop.toml",
        format!("host = 'shop.test'\nto = {}\n{limits}# edited\n", app.port),
    );
    assert_eq!(first.get("shop.test", "/").text(), "x");
    assert_eq!(refusals(&proxy, "shop"), counted);
    assert_eq!(refusals(&proxy, "blog"), serde_json::json!({}));
    drop(second);
}
