//! Headers added, headers removed, bodies whole.

use std::fs;

use crate::harness::{Backend, Proxy, Request};

/// What the app behind `site` receives for these bytes.
fn received(site: &str, request: &str) -> Request {
    let app = Backend::recording();
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}\n{site}", app.port),
        )
        .start();
    let answer = proxy.ask(request);
    assert_eq!(answer.status, 200, "{}", answer.head);
    app.only_request()
}

/// What the client receives for these bytes of an app.
fn relayed(site: &str, response: &str) -> crate::harness::Response {
    let app = Backend::raw(response);
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}\n{site}", app.port),
        )
        .start();
    proxy.get("shop.test", "/")
}

#[test]
fn an_app_learns_who_asked_and_for_what() {
    let app = Backend::recording();
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", app.port),
        )
        .start();
    let port = proxy.address().port();
    proxy.get(&format!("shop.test:{port}"), "/");
    let request = app.only_request();
    assert_eq!(request.value("x-forwarded-for"), "127.0.0.1");
    assert_eq!(request.value("x-real-ip"), "127.0.0.1");
    assert_eq!(request.value("x-forwarded-proto"), "http");
    assert_eq!(request.value("x-forwarded-port"), port.to_string());
    assert!(request.value("x-forwarded-host").starts_with("shop.test"));
    assert!(request.value("x-request-id").len() >= 16);
    assert!(request.value("via").starts_with("1.1 "));
    assert!(request.value("host").starts_with("shop.test"));
    assert_eq!(request.version(), "HTTP/1.1");
}

#[test]
fn two_requests_have_different_ids() {
    let app = Backend::recording();
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", app.port),
        )
        .start();
    let mut client = proxy.client();
    client.get("shop.test", "/1");
    client.get("shop.test", "/2");
    let ids: Vec<String> = app
        .requests()
        .iter()
        .map(|request| request.value("x-request-id"))
        .collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn what_a_stranger_says_about_itself_is_removed() {
    let names = [
        "X-Forwarded-For",
        "x-forwarded-proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Real-IP",
        "Forwarded",
        "X-Forwarded-Prefix",
        "X-Forwarded-Ssl",
        "X-Forwarded-Server",
        "X-Original-URL",
        "X-Original-Host",
        "X-Rewrite-URL",
        "Proxy",
        "X-Request-Id",
        "X-Client-Cert",
        "X-SSL-Client-Cert",
        "X-Forwarded-Client-Cert",
        "X_Forwarded_For",
        "x_real_ip",
        "X-Forwarded_Proto",
    ];
    let lines: String = names
        .iter()
        .map(|name| format!("{name}: 6.6.6.6\r\n"))
        .collect();
    let request = received(
        "",
        &format!("GET / HTTP/1.1\r\nHost: shop.test\r\n{lines}X-Mine: kept\r\n\r\n"),
    );
    assert!(!request.head.contains("6.6.6.6"), "{}", request.head);
    assert_eq!(request.value("x-mine"), "kept");
}

#[test]
fn what_a_trusted_proxy_says_is_kept_and_added_to() {
    let app = Backend::recording();
    let proxy = Proxy::plan()
        .daemon_file("[trust]\nproxies = ['127.0.0.0/8']\n")
        .site(
            "shop.toml",
            format!("host = 'shop.example.com'\nto = {}", app.port),
        )
        .start();
    proxy.ask(
        "GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\
         X-Request-Id: abc\r\n\r\n",
    );
    let request = app.only_request();
    assert_eq!(
        request.value("x-forwarded-for"),
        "6.6.6.6, 203.0.113.7, 127.0.0.1"
    );
    assert_eq!(request.value("x-forwarded-proto"), "https");
    assert_eq!(request.value("x-real-ip"), "203.0.113.7");
    assert_eq!(request.value("x-request-id"), "abc");
}

/// Behind a trusted proxy on this machine.
fn behind_a_proxy(app: &Backend, more: &str) -> Proxy {
    Proxy::plan()
        .daemon_file("[trust]\nproxies = ['127.0.0.0/8']\n")
        .site(
            "shop.toml",
            format!("host = 'shop.example.com'\nto = {}\n{more}", app.port),
        )
        .start()
}

#[test]
fn whoever_a_trusted_proxy_cannot_name_is_not_taken_for_the_proxy() {
    let app = Backend::recording();
    let proxy = behind_a_proxy(
        &app,
        "allow = ['127.0.0.0/8', '10.0.0.0/8', '2001:db8::/32']\n",
    );
    let said = |by: &str| {
        let head = "GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-For: ";
        proxy.ask(format!("{head}{by}\r\n\r\n")).said()
    };
    for (by, answer) in [
        ("10.1.2.3", "200"),
        ("10.1.2.3:51234", "200"),
        ("[2001:db8::1]:443", "200"),
        ("203.0.113.7, 10.1.2.3:1", "200"),
        // The proxy itself has asked, as its own health checks do.
        ("127.0.0.9", "200"),
        (" , 127.0.0.9,", "200"),
        ("203.0.113.7", "403 not-allowed"),
        ("203.0.113.7:51234", "403 not-allowed"),
        ("[2001:dead::1]", "403 not-allowed"),
        ("unknown", "403 not-allowed"),
        ("\"10.1.2.3\"", "403 not-allowed"),
        ("10.1.2.3, unknown", "403 not-allowed"),
        ("10.1.2.3, unknown, 127.0.0.9", "403 not-allowed"),
    ] {
        assert_eq!(said(by), answer, "{by}");
    }
}

#[test]
fn the_address_that_asked_is_told_once_and_not_twice_in_two_ways() {
    let app = Backend::recording();
    let proxy = behind_a_proxy(&app, "");
    for (lines, real) in [
        (
            "X-Forwarded-For: 203.0.113.7:5\r\nX-Real-IP: 6.6.6.6",
            vec!["203.0.113.7"],
        ),
        ("X-Forwarded-For: 203.0.113.7", vec!["203.0.113.7"]),
        ("X-Real-IP: 203.0.113.8", vec!["203.0.113.8"]),
        (
            "X-Forwarded-For: unknown\r\nX-Real-IP: 203.0.113.9",
            vec!["203.0.113.9"],
        ),
        ("X-Forwarded-For: unknown", vec![]),
        ("X-Mine: 1", vec!["127.0.0.1"]),
    ] {
        app.forget();
        proxy.ask(format!(
            "GET / HTTP/1.1\r\nHost: shop.example.com\r\n{lines}\r\n\r\n"
        ));
        assert_eq!(app.only_request().values("x-real-ip"), real, "{lines}");
    }
}

#[test]
fn prefixes_that_several_proxies_took_away_are_told_as_one() {
    let app = Backend::recording();
    let proxy = behind_a_proxy(&app, "[[path]]\nmatch = '/api'\nstrip = true\n");
    for (lines, path, prefix) in [
        ("X-Forwarded-Prefix: /team/", "/api/x", vec!["/team/api"]),
        (
            "X-Forwarded-Prefix: /a, /b\r\nx-forwarded-prefix: /c",
            "/api/x",
            vec!["/a/b/c/api"],
        ),
        ("X-Forwarded-Prefix: /", "/api/x", vec!["/api"]),
        ("X-Mine: 1", "/api/x", vec!["/api"]),
        ("X-Forwarded-Prefix: /team", "/other", vec!["/team"]),
    ] {
        app.forget();
        proxy.ask(format!(
            "GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n{lines}\r\n\r\n"
        ));
        let request = app.only_request();
        assert_eq!(request.values("x-forwarded-prefix"), prefix, "{lines}");
    }
}

#[test]
fn hop_by_hop_headers_stay_on_their_hop() {
    let request = received(
        "",
        "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: keep-alive, X-Hop, X-Forwarded-For, Host\r\nX-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers, gzip\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAA\r\nProxy-Authorization: secret\r\nX-End: 2\r\n\r\n",
    );
    for name in [
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "http2-settings",
    ] {
        assert!(!request.has(name), "{name} in {}", request.head);
    }
    assert_eq!(request.value("x-forwarded-for"), "127.0.0.1");
    assert_eq!(request.value("host"), "shop.test");
    assert_eq!(request.value("x-end"), "2");
}

#[test]
fn responses_keep_their_headers_but_not_those_of_the_hop() {
    let answer = relayed(
        "",
        "HTTP/1.1 201 Made It\r\nServer: mine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: close, X-Hop\r\n\
         X-Hop: 1\r\nKeep-Alive: timeout=5\r\nLocation: http://127.0.0.1:5000/x\r\nOnedoor-Reason: lie\r\n\
         Content-Length: 2\r\n\r\nok",
    );
    assert_eq!(answer.status, 201);
    assert_eq!(answer.value("server"), "mine");
    assert_eq!(answer.values("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.value("location"), "http://127.0.0.1:5000/x");
    for name in ["x-hop", "keep-alive", "onedoor-reason"] {
        assert!(!answer.has(name), "{name} in {}", answer.head);
    }
    assert!(
        answer.has("date"),
        "RFC 9110 6.6.1: added where it is missing"
    );
    assert_eq!(answer.text(), "ok");
}

#[test]
fn a_date_of_the_app_is_kept() {
    let date = "Tue, 15 Nov 1994 08:12:31 GMT";
    let answer = relayed(
        "",
        &format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n"),
    );
    assert_eq!(answer.value("date"), date);
}

#[test]
fn the_operator_may_change_heads_in_both_directions() {
    let site = "[headers.request]\nset = { X-Team = 'red', User-Agent = 'door' }\nadd = { X-More = 'two' }\n\
                remove = ['Cookie']\n[headers.response]\nset = { Server = 'none' }\nadd = { Set-Cookie = 'c=3' }\n\
                remove = 'X-Powered-By'\n";
    let request = received(
        site,
        "GET / HTTP/1.1\r\nHost: shop.test\r\nCookie: a=1\r\nUser-Agent: x\r\nUser-Agent: y\r\nX-More: one\r\n\r\n",
    );
    assert_eq!(request.value("x-team"), "red");
    assert_eq!(request.value("user-agent"), "door");
    assert_eq!(request.values("x-more"), ["one", "two"]);
    assert!(!request.has("cookie"));
    let answer = relayed(
        site,
        "HTTP/1.1 200 OK\r\nServer: mine\r\nX-Powered-By: php\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(answer.value("server"), "none");
    assert_eq!(answer.values("set-cookie"), ["a=1", "c=3"]);
    assert!(!answer.has("x-powered-by"));
}

#[test]
fn a_header_value_may_come_from_a_file_beside() {
    let app = Backend::recording();
    let plan = Proxy::plan();
    fs::write(plan.sites().join("token.txt"), "Bearer secret\n").unwrap();
    let text = format!(
        "host = 'shop.test'\nto = {}\n[headers.request]\nset = {{ Authorization = {{ file = 'token.txt' }} }}\n",
        app.port
    );
    let proxy = plan.site("shop.toml", text).start();
    proxy.get("shop.test", "/");
    assert_eq!(app.only_request().value("authorization"), "Bearer secret");
    assert!(!proxy.log().contains("secret"));
}

#[test]
fn host_is_the_client_s_or_the_backend_s_or_a_name() {
    let ask = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    assert_eq!(received("", ask).value("host"), "shop.test");
    assert_eq!(
        received("send_host = 'keep'", ask).value("host"),
        "shop.test"
    );
    let own = received("send_host = 'backend'", ask).value("host");
    assert!(
        own.starts_with("127.0.0.1:") || own.starts_with("localhost:"),
        "{own}"
    );
    let named = received("send_host = 'inner.test'", ask);
    assert_eq!(named.value("host"), "inner.test");
    assert_eq!(named.value("x-forwarded-host"), "shop.test");
}

#[test]
fn via_is_added_to_what_is_there_and_can_be_turned_off() {
    let ask = "GET / HTTP/1.1\r\nHost: shop.test\r\nVia: 1.0 fred\r\n\r\n";
    let via = received("", ask).values("via").join(", ");
    assert!(via.starts_with("1.0 fred, 1.1 "), "{via}");
    let via = received(
        "[headers]\nvia = false\n",
        "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n",
    );
    assert!(!via.has("via"));
}

/// CASES F-11.
#[test]
fn via_names_the_door_by_a_word_of_its_own_that_stays_and_says_nothing() {
    let app = Backend::recording();
    let said = |proxy: &Proxy| {
        app.forget();
        proxy.get("shop.test", "/");
        app.only_request().value("via")
    };
    let start = || {
        let site = format!("host = 'shop.test'\nto = {}", app.port);
        Proxy::plan().site("shop.toml", site).start()
    };
    let (mut one, other) = (start(), start());
    let via = said(&one);
    assert_ne!(via, said(&other), "two doors in a row are no loop");
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_str().unwrap();
    assert!(!via.contains(machine), "{via} on {machine}");
    one.stop();
    one.start_again();
    assert_eq!(said(&one), via);
}

#[test]
fn a_site_that_leads_back_to_the_door_is_found_out() {
    let app = Backend::recording();
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", app.port),
        )
        .start();
    proxy.get("shop.test", "/");
    let via = app.only_request().value("via");
    app.forget();
    let answer = proxy.ask(format!(
        "GET / HTTP/1.1\r\nHost: shop.test\r\nVia: 1.0 fred, {via}\r\n\r\n"
    ));
    assert_eq!(answer.said(), "508 loop-detected");
    assert!(app.requests().is_empty());
}

#[test]
fn order_of_headers_of_one_name_is_kept() {
    let request = received(
        "",
        "GET / HTTP/1.1\r\nHost: shop.test\r\nX-A: 1\r\nX-B: x\r\nX-A: 2\r\nX-A: 3\r\n\r\n",
    );
    assert_eq!(request.values("x-a"), ["1", "2", "3"]);
}

#[test]
fn bytes_of_values_above_ascii_pass_unchanged() {
    let app = Backend::recording();
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", app.port),
        )
        .start();
    proxy.ask(b"GET / HTTP/1.1\r\nHost: shop.test\r\nX-Name: caf\xc3\xa9 \xff\r\n\r\n");
    assert_eq!(app.only_request().value("x-name"), "caf\u{c3}\u{a9} \u{ff}");
}

#[test]
fn an_upstream_is_used_again_and_never_for_two_at_once() {
    let app = Backend::saying("x");
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", app.port),
        )
        .start();
    for _ in 0..5 {
        proxy.get("shop.test", "/");
    }
    assert_eq!(
        app.accepted(),
        1,
        "five clients one after the other, one upstream"
    );
}

#[test]
fn an_upstream_that_was_authenticated_by_ntlm_belongs_to_its_client() {
    let app = Backend::doing(|conversation| {
        while conversation.request().is_some() {
            let number = conversation.number();
            conversation.send(format!(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM abc\r\nX-Upstream: {number}\r\nContent-Length: 0\r\n\r\n"
            ));
        }
    });
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", app.port),
        )
        .start();
    let mut one = proxy.client();
    let upstream = one.get("shop.test", "/").value("x-upstream");
    let mut two = proxy.client();
    let other = two.get("shop.test", "/").value("x-upstream");
    assert_ne!(upstream, other);
    for _ in 0..3 {
        assert_eq!(one.get("shop.test", "/").value("x-upstream"), upstream);
        assert_eq!(two.get("shop.test", "/").value("x-upstream"), other);
    }
    drop((one, two));
    let third = proxy.get("shop.test", "/").value("x-upstream");
    assert!(third != upstream && third != other, "{third}");
}

#[test]
fn what_the_operator_sets_or_removes_comes_in_no_other_spelling_and_in_no_trailer() {
    let site = "[headers.request]\nset = { X-Team = 'red' }\nremove = ['X-Debug']\n\
                [headers.response]\nremove = ['X-Trace']\n";
    let app = Backend::doing(|conversation| {
        conversation.request();
        conversation.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trace: 1\r\nX-Sum: 7\r\n\r\n",
        );
    });
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}\n{site}", app.port),
        )
        .start();
    let answer = proxy.ask(
        "POST / HTTP/1.1\r\nHost: shop.test\r\nX_Team: blue\r\nx.team: blue\r\nX_Debug: blue\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Team: blue\r\nx_team: blue\r\nX-Debug: blue\r\nX-Mine: 5\r\n\r\n",
    );
    let request = app.only_request();
    assert!(!request.head.contains("blue"), "{}", request.head);
    assert_eq!(request.value("x-team"), "red");
    assert_eq!(request.trailers, "X-Mine: 5\r\n");
    assert_eq!(answer.trailers, "X-Sum: 7\r\n");
}
