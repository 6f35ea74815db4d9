//! What a site answers without a backend: redirects, fixed responses, who may not ask.

use std::fs;

use crate::harness::{Backend, Proxy};

#[test]
fn a_redirect_keeps_path_and_query_when_its_target_has_none() {
    let proxy = Proxy::plan()
        .site(
            "keeps.toml",
            "host = 'keeps.test'\nredirect = 'https://www.keeps.test'\n",
        )
        .site(
            "fixed.toml",
            "host = 'fixed.test'\nredirect = { to = 'https://x.test/start', status = 302 }\n",
        )
        .start();
    let answer = proxy.get("keeps.test", "/a/b?c=d");
    assert_eq!(
        (answer.status, answer.value("location").as_str()),
        (308, "https://www.keeps.test/a/b?c=d")
    );
    let answer = proxy.get("fixed.test", "/a/b?c=d");
    assert_eq!(
        (answer.status, answer.value("location").as_str()),
        (302, "https://x.test/start")
    );
}

#[test]
fn a_redirected_name_goes_to_the_first_host() {
    let shop = Backend::saying("shop");
    let text = format!(
        "host = ['shop.test', 'store.test']\nredirect_from = ['www.shop.test']\nto = {}",
        shop.port
    );
    let proxy = Proxy::plan().site("shop.toml", text).start();
    let answer = proxy.get("www.shop.test", "/a?b");
    assert_eq!(
        (answer.status, answer.value("location").as_str()),
        (308, "http://shop.test/a?b")
    );
    assert_eq!(proxy.get("store.test", "/").text(), "shop");
}

#[test]
fn a_target_cannot_smuggle_another_authority_into_a_redirect() {
    let proxy = Proxy::plan()
        .site(
            "keeps.toml",
            "host = 'keeps.test'\nredirect = 'https://www.keeps.test'\n",
        )
        .start();
    for path in ["//evil.test/", "/@evil.test", "/\\evil.test"] {
        let answer = proxy.get("keeps.test", path);
        let fine = answer.status == 400
            || answer
                .value("location")
                .starts_with("https://www.keeps.test/");
        assert!(fine, "{path}: {}", answer.head);
    }
}

#[test]
fn a_response_may_be_written_in_the_file_or_beside_it() {
    let plan = Proxy::plan();
    fs::write(plan.sites().join("page.html"), "<p>closed").unwrap();
    let proxy = plan
        .site("short.toml", "host = 'short.test'\nrespond = 'hello'\n")
        .site(
            "long.toml",
            "host = 'long.test'\nrespond = { status = 503, file = 'page.html', type = 'text/html; charset=utf-8' }\n",
        )
        .start();
    let answer = proxy.get("short.test", "/any");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    let answer = proxy.get("long.test", "/");
    assert_eq!((answer.status, answer.text().as_str()), (503, "<p>closed"));
    assert_eq!(answer.value("content-type"), "text/html; charset=utf-8");
}

#[test]
fn a_fixed_response_to_head_has_no_body_and_the_connection_goes_on() {
    let proxy = Proxy::plan()
        .site("short.toml", "host = 'short.test'\nrespond = 'hello'\n")
        .start();
    let mut client = proxy.client();
    client.send("HEAD / HTTP/1.1\r\nHost: short.test\r\n\r\n");
    let answer = client.response_to_head();
    assert_eq!(
        (answer.status, answer.value("content-length").as_str()),
        (200, "5")
    );
    assert_eq!(client.get("short.test", "/").text(), "hello");
}

#[test]
fn a_body_sent_to_a_fixed_response_does_not_become_the_next_request() {
    let proxy = Proxy::plan()
        .site("short.toml", "host = 'short.test'\nrespond = 'hello'\n")
        .start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: short.test\r\nContent-Length: 38\r\n\r\n");
    client.send("GET /smuggled HTTP/1.1\r\nHost: x.test\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
    client.finish_sending();
    client.expect_close();
}

#[test]
fn allow_lets_in_only_its_networks() {
    let shop = Backend::saying("shop");
    let port = shop.port;
    let proxy = Proxy::plan()
        .site("open.toml", format!("host = 'open.test'\nto = {port}\nallow = ['127.0.0.0/8']"))
        .site("shut.toml", format!("host = 'shut.test'\nto = {port}\nallow = ['10.0.0.0/8', '::1']"))
        .site(
            "part.toml",
            format!("host = 'part.test'\nto = {port}\n[[path]]\nmatch = '/admin'\nallow = '10.0.0.0/8'\n"),
        )
        .start();
    assert_eq!(proxy.get("open.test", "/").text(), "shop");
    assert_eq!(proxy.get("shut.test", "/").said(), "403 not-allowed");
    assert_eq!(proxy.get("part.test", "/").text(), "shop");
    assert_eq!(proxy.get("part.test", "/admin/x").said(), "403 not-allowed");
    assert_eq!(proxy.get("part.test", "/%61dmin").said(), "403 not-allowed");
}

#[test]
fn trace_and_connect_are_refused() {
    let shop = Backend::recording();
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", shop.port),
        )
        .start();
    for request in [
        "TRACE / HTTP/1.1\r\nHost: shop.test\r\n\r\n",
        "CONNECT shop.test:443 HTTP/1.1\r\nHost: shop.test:443\r\n\r\n",
    ] {
        assert_eq!(
            proxy.ask(request).said(),
            "405 method-not-allowed",
            "{request}"
        );
    }
    assert!(shop.requests().is_empty());
}

#[test]
fn refusals_of_the_door_name_their_reason() {
    let proxy = Proxy::start();
    for (request, said) in [
        ("GET / HTTP/1.1\r\n\r\n", "400 no-host"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 bad-host"),
        (
            "GET / HTTP/1.1\r\nHost: a.test\r\nX Y: z\r\n\r\n",
            "400 malformed-request",
        ),
        (
            "GET / HTTP/2.0\r\nHost: a.test\r\n\r\n",
            "505 version-not-supported",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "501 coding-not-supported",
        ),
    ] {
        let mut client = proxy.client();
        client.send(request);
        let answer = client.response();
        assert_eq!(answer.said(), said, "{request}");
        assert_eq!(answer.value("connection"), "close");
        client.expect_close();
    }
}

#[test]
fn only_somebody_on_this_machine_is_told_what_is_wrong_with_a_backend() {
    let shop = Backend::saying("shop");
    let port = shop.port;
    drop(shop);
    let proxy = Proxy::plan()
        .site("near.toml", format!("host = 'near.localhost'\nto = {port}"))
        .site("far.toml", format!("host = 'far.test'\nto = {port}"))
        .start();
    let near = proxy.get("near.localhost", "/");
    assert_eq!(near.said(), "502 backend-refused");
    assert!(near.text().contains(&port.to_string()), "{}", near.text());
    let far = proxy.get("far.test", "/");
    assert_eq!(far.said(), "502 backend-refused");
    assert!(!far.text().contains(&port.to_string()), "{}", far.text());
    let through =
        proxy.ask("GET / HTTP/1.1\r\nHost: near.localhost\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n");
    assert!(
        !through.text().contains(&port.to_string()),
        "{}",
        through.text()
    );
}

#[test]
fn a_server_as_a_whole_is_moved_to_the_root_of_its_new_name() {
    let proxy = Proxy::plan()
        .site(
            "old.toml",
            "host = 'old.test'\nredirect = 'http://new.test'\nredirect_from = 'older.test'\n",
        )
        .start();
    for (host, target) in [
        ("old.test", "http://new.test/"),
        ("older.test", "http://old.test/"),
    ] {
        let answer = proxy.ask(format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.value("location"), target);
    }
}
