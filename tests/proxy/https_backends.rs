//! TLS with the app: who is believed, who shares an upstream, and what a cut means.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::{HandshakeKind, ServerConfig, version};

use crate::harness::{
    Authority, Backend, Pair, Plan, Proxy, Server, Tls, found, free_port, onedoor, put, until,
    until_late, words_of,
};

/// A site `app.localhost`, whose clients from this machine are told why; `more` goes behind the address of its backend.
fn site(port: u16, more: &str) -> String {
    named_site("app.localhost", port, more)
}

fn named_site(host: &str, port: u16, more: &str) -> String {
    format!("host = '{host}'\nto = {{ at = 'https://localhost:{port}'{more} }}\n")
}

/// A onedoor with `ca.pem` of this authority, and one site.
fn believing(authority: &Authority, file: &str) -> Proxy {
    plan(authority).site("app.toml", file).start()
}

fn plan(authority: &Authority) -> Plan {
    let plan = Proxy::plan();
    put(plan.sites().path(), "ca.pem", &authority.pem);
    plan
}

/// What a request comes to, and why, in one line.
#[track_caller]
fn said(proxy: &Proxy) -> String {
    let response = proxy.get("app.localhost", "/");
    format!("{}: {}", response.said(), response.text())
}

#[track_caller]
fn refuses(proxy: &Proxy, why: &str) {
    let said = said(proxy);
    assert!(
        said.starts_with("502 backend-tls: ") && said.contains(why),
        "{said}"
    );
}

fn shows(authority: &Authority, names: &[&str]) -> Arc<ServerConfig> {
    authority.pair(names).server()
}

#[test]
fn an_app_behind_tls_is_believed_by_the_authority_that_the_file_names() {
    let authority = Authority::new("internal");
    let app = Backend::saying_over_tls(&shows(&authority, &["localhost"]), "hello");
    let proxy = believing(&authority, &site(app.port, ", ca = 'ca.pem'"));
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.get("app.localhost", "/").text(), "hello");
    }
    assert_eq!(app.accepted(), 1, "one upstream, used again");
    let request = &app.requests()[0];
    assert_eq!(request.value("host"), "app.localhost");
    assert_eq!(request.value("x-forwarded-proto"), "http");
    let ls = proxy.status("app").unwrap()["to"].to_string();
    assert!(
        ls.contains(&format!("https://localhost:{}", app.port)),
        "{ls}"
    );
}

#[test]
fn it_is_believed_by_the_authorities_of_the_system_and_no_others() {
    let authority = Authority::new("of the system");
    let app = Backend::saying_over_tls(&shows(&authority, &["localhost"]), "hello");
    let stranger = Authority::new("somebody");
    let other = Backend::saying_over_tls(&shows(&stranger, &["localhost"]), "wrong");
    let plan = plan(&authority);
    let store = plan.sites().join("ca.pem");
    let proxy = plan
        .environment("SSL_CERT_FILE", store)
        .site(
            "app.toml",
            format!(
                "host = 'app.localhost'\nto = 'https://localhost:{}'\n",
                app.port
            ),
        )
        .start();
    assert_eq!(said(&proxy), "200: hello");
    proxy.site("app.toml", site(other.port, ""));
    refuses(
        &proxy,
        &format!(
            "the certificate of localhost:{} is by no authority that is trusted",
            other.port
        ),
    );
    assert_eq!(other.requests().len(), 0, "nothing is sent to a stranger");
    // What the file names takes the place of the system's.
    put(proxy.sites().path(), "other.pem", &stranger.pem);
    proxy.site("app.toml", site(app.port, ", ca = 'other.pem'"));
    refuses(&proxy, "is by no authority that is trusted");
}

#[test]
fn without_a_store_of_the_system_a_site_that_needs_it_says_so() {
    let plan = Proxy::plan();
    let nothing = plan.folder().join("nothing.pem");
    fs::write(&nothing, "").unwrap();
    let proxy = plan.environment("SSL_CERT_FILE", nothing).start();
    proxy.sites().write("app.toml", site(9, ""));
    proxy.until_state("app", "down");
    proxy.until_logged("this system trusts no certificate authority");
}

#[test]
fn a_certificate_for_another_name_is_refused_unless_the_file_expects_that_name() {
    let authority = Authority::new("internal");
    let app = Backend::saying_over_tls(&shows(&authority, &["other.internal"]), "hello");
    let proxy = believing(&authority, &site(app.port, ", ca = 'ca.pem'"));
    refuses(
        &proxy,
        &format!(
            "the certificate of localhost:{} is for other.internal, not localhost",
            app.port
        ),
    );
    assert_eq!(app.requests().len(), 0);
    proxy.until_counted("backend-tls", 1);
    proxy.site(
        "app.toml",
        site(app.port, ", ca = 'ca.pem', server_name = 'other.internal'"),
    );
    assert_eq!(said(&proxy), "200: hello");
}

#[test]
fn the_name_that_is_expected_is_the_one_that_is_asked_for() {
    let authority = Authority::new("internal");
    let mut config = (*shows(&authority, &["app.internal"])).clone();
    // One that knows HTTP/2 is spoken to in that: `http2_backends`.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let app = Backend::over_tls(&Arc::new(config), |conversation| {
        while conversation.request().is_some() {
            let name = conversation.agreed(|tls| tls.server_name().map(str::to_owned));
            let alpn = conversation.agreed(|tls| tls.alpn_protocol().map(<[u8]>::to_vec));
            conversation.answer(format!("{name:?} {:?}", alpn.map(String::from_utf8)));
        }
    });
    let more = ", ca = 'ca.pem', server_name = 'App.Internal.'";
    let proxy = believing(&authority, &site(app.port, more));
    assert_eq!(
        said(&proxy),
        "200: Some(\"app.internal\") Some(Ok(\"http/1.1\"))"
    );
}

#[test]
fn an_address_is_verified_as_an_address() {
    let authority = Authority::new("internal");
    let app = Backend::saying_over_tls(&shows(&authority, &["127.0.0.1"]), "hello");
    let named = Backend::saying_over_tls(&shows(&authority, &["localhost"]), "wrong");
    let at = |port| {
        format!("host = 'app.localhost'\nto = {{ at = 'https://127.0.0.1:{port}', ca = 'ca.pem' }}")
    };
    let proxy = believing(&authority, &at(app.port));
    assert_eq!(said(&proxy), "200: hello");
    proxy.site("app.toml", at(named.port));
    refuses(&proxy, "is for localhost, not 127.0.0.1");
}

#[test]
fn a_certificate_that_has_ended_is_refused() {
    let authority = Authority::new("internal");
    let ended = authority.pair_for_days(&["localhost"], -3);
    let app = Backend::saying_over_tls(&ended.server(), "hello");
    let proxy = believing(&authority, &site(app.port, ", ca = 'ca.pem'"));
    refuses(
        &proxy,
        &format!("the certificate of localhost:{} ended 3 days ago", app.port),
    );
}

#[test]
fn an_authority_that_stands_as_a_server_is_told_from_a_stranger() {
    let authority = Authority::new("internal");
    let app = Backend::saying_over_tls(&authority.own_pair().server(), "hello");
    let proxy = believing(&authority, &site(app.port, ", ca = 'ca.pem'"));
    refuses(&proxy, "is an authority's own (CA:TRUE) and not a server's");
}

#[test]
fn who_asks_from_elsewhere_is_not_told_why() {
    let authority = Authority::new("internal");
    let app = Backend::saying_over_tls(&shows(&authority, &["other.internal"]), "hello");
    let proxy = believing(
        &authority,
        &named_site("app.test", app.port, ", ca = 'ca.pem'"),
    );
    let response = proxy.get("app.test", "/");
    assert_eq!(response.said(), "502 backend-tls");
    assert!(!response.text().contains("other.internal"), "{response:?}");
}

#[test]
fn a_client_certificate_is_shown_to_an_app_that_demands_one() {
    let (authority, ours) = (Authority::new("internal"), Authority::new("ours"));
    for version in [&version::TLS12, &version::TLS13] {
        let config = authority
            .pair(&["localhost"])
            .server_demanding(&ours, version);
        let app = Backend::saying_over_tls(&config, "hello, door");
        let plan = plan(&authority);
        ours.client("door").write(plan.sites().path(), "me");
        let with = site(app.port, ", ca = 'ca.pem', cert = 'me.pem', key = 'me.key'");
        let proxy = plan.site("app.toml", &with).start();
        assert_eq!(said(&proxy), "200: hello, door");
        proxy.site("app.toml", site(app.port, ", ca = 'ca.pem'"));
        refuses(
            &proxy,
            "if it asks for a client certificate, \"cert\" and \"key\" name it",
        );
        assert_eq!(app.requests().len(), 1);
    }
}

/// What was true when it was read is not what is said a week later.
#[test]
fn the_end_of_a_client_certificate_is_said_as_it_is_now() {
    let authority = Authority::new("internal");
    let plan = plan(&authority);
    let span = time::Duration::seconds(6);
    authority
        .pair_for(&["door.test"], span)
        .write(plan.sites().path(), "me");
    let with = site(1, ", ca = 'ca.pem', cert = 'me.pem', key = 'me.key'");
    let proxy = plan.site("app.toml", &with).start();
    proxy.until_logged("me.pem: the certificate end");
    let ls = || proxy.status("app").unwrap()["problems"].to_string();
    until("it has ended", || {
        ls().contains(
            "me.pem: the certificate ended less than an hour ago; the backend will refuse it",
        )
    });
    assert!(!ls().contains("ends in"), "{}", ls());
    let check = words_of(&onedoor(proxy.folder(), ["check"]));
    assert_eq!(
        check.matches("me.pem: the certificate ended").count(),
        1,
        "{check}"
    );
    until_late("it is said once a day", || {
        let log = proxy.log();
        let mut lines = log.lines();
        lines.any(|line| {
            line.contains("it has ended; backends refuse it") && line.contains("me.pem")
        })
    });
}

#[test]
fn verification_is_off_only_in_so_many_words_and_that_is_said() {
    let authority = Authority::new("of nobody");
    let app = Backend::saying_over_tls(&shows(&authority, &["other.internal"]), "hello");
    let proxy = Proxy::plan()
        .site("app.toml", site(app.port, ", verify = 'off'"))
        .start();
    assert_eq!(said(&proxy), "200: hello");
    let warning = format!(
        "the certificate of localhost:{} is not verified: whoever answers there is believed",
        app.port
    );
    proxy.until_logged(&warning);
    let ls = proxy.status("app").unwrap()["problems"].to_string();
    assert!(ls.contains(&warning), "{ls}");
    let check = words_of(&onedoor(proxy.folder(), ["check", "sites.d"]));
    assert!(check.contains(&warning), "{check}");
    for wrong in ["'false'", "'no'", "'OFF'", "'true'", "false", "0"] {
        proxy.sites().write(
            "bad.toml",
            named_site("bad.test", app.port, &format!(", verify = {wrong}")),
        );
        let check = words_of(&onedoor(proxy.folder(), ["check", "sites.d"]));
        assert!(
            check.contains("1 with errors") && check.contains("verify = \"off\""),
            "{wrong}: {check}"
        );
    }
}

#[test]
fn keys_that_nothing_would_come_of_are_errors() {
    let plan = Proxy::plan();
    for (entry, message) in [
        (
            "at = '10.0.0.9:1', ca = 'ca.pem'",
            "\"ca\" is about TLS, and 10.0.0.9:1 is spoken to in clear text",
        ),
        (
            "at = '10.0.0.9:1', server_name = 'a.test'",
            "write at = \"https://10.0.0.9:1\"",
        ),
        (
            "at = 'unix:/run/a', verify = 'off'",
            "\"verify\" is about TLS",
        ),
        (
            "at = 'https://a.test', cert = 'me.pem'",
            "\"cert\" without \"key\"",
        ),
        (
            "at = 'https://a.test', key = 'me.key'",
            "\"key\" without \"cert\"",
        ),
        (
            "at = 'https://a.test', ca = 'ca.pem', verify = 'off'",
            "\"ca\" beside verify = \"off\"",
        ),
        (
            "at = 'https://a.test', server_name = 'a b'",
            "' ' is not allowed in a hostname",
        ),
        (
            "at = 'https://a.test', insecure_skip_verify = true",
            "did you mean \"verify\"?",
        ),
        (
            "at = 'https://a.test', ca = '/etc/passwd'",
            "there is no certificate in it",
        ),
    ] {
        plan.sites()
            .write("app.toml", format!("host = 'a.test'\nto = {{ {entry} }}\n"));
        let check = onedoor(plan.folder(), ["check", "sites.d"]);
        let words = words_of(&check);
        assert_eq!(check.status.code(), Some(1), "{entry}: {words}");
        assert!(words.contains(message), "{entry}: {words}");
    }
}

#[test]
fn files_lie_where_the_daemon_file_says() {
    let plan = Proxy::plan().daemon_file("files_under = 'certificates'\n");
    plan.sites().write(
        "app.toml",
        "host = 'a.test'\nto = { at = 'https://a.test', ca = '/etc/passwd' }\n",
    );
    let check = onedoor(plan.folder(), ["check", "--config", "onedoor.toml"]);
    let words = words_of(&check);
    assert!(
        check.status.code() == Some(1) && words.contains("/etc/passwd: it lies outside"),
        "{words}"
    );
}

#[test]
fn what_the_app_ends_itself_is_not_wrapped_once_more() {
    let plan = Proxy::plan();
    plan.sites().write(
        "app.toml",
        "host = 'a.test'\nto = 'https://10.0.0.9'\ntls = 'passthrough'\n",
    );
    let check = onedoor(plan.folder(), ["check", "sites.d"]);
    let words = words_of(&check);
    assert_eq!(check.status.code(), Some(1), "{words}");
    assert!(
        words.contains("it would be TLS within the client's TLS"),
        "{words}"
    );
}

#[test]
fn a_server_that_speaks_no_tls_is_told_from_one_that_is_gone() {
    let chatty = Backend::doing(|conversation| {
        conversation.bytes(5);
        conversation.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        conversation.rest();
    });
    let proxy = Proxy::plan()
        .site("app.toml", site(chatty.port, ", verify = 'off'"))
        .start();
    refuses(
        &proxy,
        &format!(
            "localhost:{} does not speak TLS; is it http://?",
            chatty.port
        ),
    );
    let closing = Backend::doing(|conversation| drop(conversation.bytes(5)));
    proxy.site("app.toml", site(closing.port, ", verify = 'off'"));
    refuses(&proxy, "closed the connection during the TLS handshake");
    proxy.site("app.toml", site(free_port(), ", verify = 'off'"));
    assert!(said(&proxy).starts_with("502 backend-refused"));
}

#[test]
fn a_request_in_clear_text_that_meets_tls_says_so() {
    let authority = Authority::new("internal");
    let app = Backend::saying_over_tls(&shows(&authority, &["localhost"]), "hello");
    let file = format!("host = 'app.localhost'\nto = {}\n", app.port);
    let proxy = believing(&authority, &file);
    refuses(
        &proxy,
        &format!(
            "localhost:{0} speaks TLS; write \"https://localhost:{0}\"",
            app.port
        ),
    );
}

#[test]
fn a_handshake_that_does_not_end_crosses_the_connect_timeout() {
    let silent = Backend::doing(|conversation| drop(conversation.rest()));
    let file = site(silent.port, ", verify = 'off'") + "[timeout]\nconnect = '200ms'\n";
    let proxy = Proxy::plan().site("app.toml", file).start();
    let said = said(&proxy);
    assert!(
        said.starts_with("504 backend-timeout")
            && said.contains("did not finish the TLS handshake within 200ms"),
        "{said}"
    );
    until("it is given up", || silent.closed() == 1);
}

#[test]
fn the_next_backend_is_asked_when_the_tls_of_one_fails() {
    let authority = Authority::new("internal");
    let bad = Backend::saying_over_tls(&shows(&authority, &["other.internal"]), "wrong");
    let good = Backend::saying_over_tls(&shows(&authority, &["localhost"]), "hello");
    let entry = |port| format!("{{ at = 'https://localhost:{port}', ca = 'ca.pem' }}");
    let file = format!(
        "host = 'app.localhost'\nto = [{}, {}]\nbalance = 'round-robin'\n",
        entry(bad.port),
        entry(good.port)
    );
    let proxy = believing(&authority, &file);
    for _ in 0..4 {
        assert_eq!(said(&proxy), "200: hello");
    }
    assert!(bad.accepted() > 0);
}

#[test]
fn sites_share_an_idle_upstream_only_under_the_same_identity() {
    let authority = Authority::new("internal");
    let pair = authority.pair(&["localhost", "other.internal"]);
    let app = Backend::saying_over_tls(&pair.server(), "hello");
    let plan = plan(&authority);
    // The same authority in another file is the same.
    put(
        plan.sites().path(),
        "again.pem",
        &format!("a copy\n{}", authority.pem),
    );
    let both = format!("{}{}", authority.pem, Authority::new("more").pem);
    put(plan.sites().path(), "more.pem", &both);
    authority.client("door").write(plan.sites().path(), "me");
    let long = "[timeout]\npool_idle = '60s'\n";
    let mut plan = plan.flag("--workers").flag("1");
    for (host, more) in [
        ("a.test", ", ca = 'ca.pem'"),
        ("b.test", ", ca = 'again.pem'"),
        ("more.test", ", ca = 'more.pem'"),
        (
            "named.test",
            ", ca = 'ca.pem', server_name = 'other.internal'",
        ),
        ("off.test", ", verify = 'off'"),
        (
            "own.test",
            ", ca = 'ca.pem', cert = 'me.pem', key = 'me.key'",
        ),
    ] {
        let file = named_site(host, app.port, more) + long;
        plan = plan.site(&format!("{host}.toml"), file);
    }
    let proxy = plan.start();
    let mut client = proxy.client();
    let mut opened = |host: &str| {
        let before = app.accepted();
        assert_eq!(client.get(host, "/").text(), "hello", "{host}");
        app.accepted() - before
    };
    assert_eq!(opened("a.test"), 1);
    assert_eq!(opened("b.test"), 0, "the same identity, the same upstream");
    for host in ["more.test", "named.test", "off.test", "own.test"] {
        assert_eq!(opened(host), 1, "{host} is another identity");
    }
    for host in [
        "a.test",
        "b.test",
        "more.test",
        "named.test",
        "off.test",
        "own.test",
    ] {
        assert_eq!(opened(host), 0, "{host} has its own");
    }
}

#[test]
fn a_new_connection_resumes_the_session_of_the_one_before() {
    let authority = Authority::new("internal");
    let app = Backend::over_tls(&shows(&authority, &["localhost"]), |conversation| {
        if conversation.request().is_some() {
            let kind = conversation.agreed(|tls| tls.handshake_kind());
            let resumed = kind == Some(HandshakeKind::Resumed);
            conversation.send(format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{resumed}",
                resumed.to_string().len()
            ));
        }
    });
    let proxy = believing(&authority, &site(app.port, ", ca = 'ca.pem'"));
    assert_eq!(said(&proxy), "200: false");
    for _ in 0..3 {
        assert_eq!(said(&proxy), "200: true");
    }
    assert_eq!(app.accepted(), 4);
}

#[test]
fn an_authority_that_is_renewed_on_disk_counts_at_once() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let app = Backend::saying_over_tls(&shows(&new, &["localhost"]), "hello");
    let proxy = believing(&old, &site(app.port, ", ca = 'ca.pem'"));
    refuses(&proxy, "is by no authority that is trusted");
    put(proxy.sites().path(), "ca.pem", &new.pem);
    until("the new authority is believed", || {
        said(&proxy) == "200: hello"
    });
    // And an old one is so no more, although an upstream was idle.
    put(proxy.sites().path(), "ca.pem", &old.pem);
    until("the old one is not", || {
        said(&proxy).starts_with("502 backend-tls")
    });
    // One that is broken changes nothing.
    put(proxy.sites().path(), "ca.pem", &new.pem);
    until("the new one is back", || said(&proxy) == "200: hello");
    put(proxy.sites().path(), "ca.pem", "nothing");
    proxy.until_state("app", "stale");
    proxy.until_logged("ca.pem: there is no certificate in it");
    assert_eq!(said(&proxy), "200: hello");
}

#[test]
fn a_site_waits_for_an_authority_that_is_not_there_yet() {
    let authority = Authority::new("internal");
    let app = Backend::saying_over_tls(&shows(&authority, &["localhost"]), "hello");
    let proxy = Proxy::start();
    proxy
        .sites()
        .write("app.toml", site(app.port, ", ca = 'ca.pem'"));
    proxy.until_state("app", "waiting");
    let reason = proxy.status("app").unwrap()["reason"].to_string();
    assert!(reason.contains("ca.pem is not there yet"), "{reason}");
    assert_eq!(said(&proxy).split(':').next(), Some("421 no-site-for-host"));
    put(proxy.sites().path(), "ca.pem", &authority.pem);
    proxy.wait_for("app.toml");
    assert_eq!(said(&proxy), "200: hello");
}

#[test]
fn an_authority_that_is_broken_at_a_restart_closes_those_backends_and_nothing_else() {
    let authority = Authority::new("internal");
    let app = Backend::saying_over_tls(&shows(&authority, &["localhost"]), "hello");
    let file = site(app.port, ", ca = 'ca.pem'") + "[[path]]\nmatch = '/here'\nrespond = 'here'\n";
    let mut proxy = believing(&authority, &file);
    assert_eq!(said(&proxy), "200: hello");
    put(proxy.sites().path(), "ca.pem", "nothing");
    proxy.stop();
    proxy.start_again();
    refuses(&proxy, "ca.pem: there is no certificate in it");
    assert_eq!(proxy.get("app.localhost", "/here").text(), "here");
    proxy.until_logged("are answered 502 until that is mended");
    put(proxy.sites().path(), "ca.pem", &authority.pem);
    until("it is mended", || said(&proxy) == "200: hello");
}

#[test]
fn bodies_are_whole_both_ways() {
    let authority = Authority::new("internal");
    let app = Backend::over_tls(&shows(&authority, &["localhost"]), |conversation| {
        while let Some(request) = conversation.request() {
            if request.target() == "/chunked" {
                conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for piece in request.body.chunks(100_000) {
                    conversation.send(format!("{:x}\r\n", piece.len()));
                    conversation.send(piece);
                    conversation.send("\r\n");
                }
                conversation.send("0\r\n\r\n");
            } else {
                conversation.answer(request.body);
            }
        }
    });
    let proxy = believing(&authority, &site(app.port, ", ca = 'ca.pem'"));
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut client = proxy.client();
    for path in ["/length", "/chunked"] {
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(&body);
        assert!(client.response().body == body, "{path}");
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        for piece in body.chunks(70_000) {
            client.send(format!("{:x}\r\n", piece.len()));
            client.send(piece);
            client.send("\r\n");
        }
        client.send("0\r\n\r\n");
        assert!(client.response().body == body, "{path} in chunks");
    }
    assert_eq!(app.accepted(), 1);
}

#[test]
fn a_response_that_ends_by_the_close_is_whole_only_after_a_goodbye() {
    let authority = Authority::new("internal");
    let app = Backend::over_tls(&shows(&authority, &["localhost"]), |conversation| {
        let Some(request) = conversation.request() else {
            return;
        };
        match request.target() {
            "/length" => conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole"),
            "/chunked" => conversation.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
            ),
            _ => conversation.send("HTTP/1.1 200 OK\r\n\r\nwhole"),
        }
        if request.target() != "/goodbye" {
            conversation.cut();
        }
    });
    let proxy = believing(&authority, &site(app.port, ", ca = 'ca.pem'"));
    for path in ["/goodbye", "/length", "/chunked"] {
        assert_eq!(proxy.get("app.localhost", path).text(), "whole", "{path}");
    }
    for version in ["1.1", "1.0"] {
        let mut client = proxy.client();
        client.send(format!(
            "GET /cut HTTP/{version}\r\nHost: app.localhost\r\n\r\n"
        ));
        let answer = client.try_response("GET");
        assert!(
            answer.is_err(),
            "HTTP/{version}: a cut must not look like an end: {answer:?}"
        );
    }
}

#[test]
fn what_is_dropped_is_said_goodbye_to() {
    let authority = Authority::new("internal");
    let app = Backend::over_tls(&shows(&authority, &["localhost"]), |conversation| {
        conversation.request();
        conversation.answer("hello");
        // An end without a close_notify would be an error here.
        let ended = conversation.ends_cleanly();
        assert!(ended, "no close_notify");
    });
    let file = site(app.port, ", ca = 'ca.pem'") + "[timeout]\npool_idle = '100ms'\n";
    let proxy = believing(&authority, &file);
    assert_eq!(said(&proxy), "200: hello");
    until("the app has seen the end", || app.closed() == 1);
}

#[test]
fn a_websocket_passes_through_tls() {
    let authority = Authority::new("internal");
    let app = Backend::over_tls(&shows(&authority, &["localhost"]), |conversation| {
        conversation.request();
        conversation.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        conversation.echo();
    });
    let proxy = believing(&authority, &site(app.port, ", ca = 'ca.pem'"));
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.response_head().status, 101);
    let long = "x".repeat(1 << 20);
    for text in ["hello", "\0\u{1}binary", &long] {
        client.send(text);
        assert!(client.bytes(text.len()) == text.as_bytes());
    }
    client.finish_sending();
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_websocket_that_ends_without_a_goodbye_ends_for_the_client() {
    let authority = Authority::new("internal");
    let app = Backend::over_tls(&shows(&authority, &["localhost"]), |conversation| {
        conversation.request();
        conversation.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbye",
        );
        conversation.cut();
    });
    let proxy = believing(&authority, &site(app.port, ", ca = 'ca.pem'"));
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.response_head().status, 101);
    assert_eq!(client.bytes(3), b"bye");
    // An end and no reset, which could have overtaken what came before.
    assert_eq!(client.stream().read(&mut [0]).unwrap(), 0);
}

/// Whoever is at the end of a tunnel through two TLS connections can tell a meant end from a cut (RFC 8446 6.1).
#[test]
fn a_tunnel_that_breaks_off_ends_without_a_goodbye_on_the_other_side_too() {
    let authority = Authority::new("internal");
    let app = Backend::over_tls(&shows(&authority, &["localhost"]), |conversation| {
        let Some(request) = conversation.request() else {
            return;
        };
        conversation.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nbye",
        );
        match request.target() {
            "/cut" => conversation.cut(),
            "/listens" => {
                let is_meant = conversation.ends_cleanly();
                assert!(!is_meant, "a client that was cut off has said goodbye");
            }
            _ => {}
        }
    });
    let plan = plan(&authority);
    authority
        .pair(&["app.localhost"])
        .write(plan.sites().path(), "app");
    let file = site(app.port, ", ca = 'ca.pem'") + "[tls]\ncert = 'app.pem'\nkey = 'app.key'\n";
    let proxy = plan.site("app.toml", file).start();
    let open = |path: &str| {
        let mut line = Tls::to("app.localhost").shake(proxy.address()).unwrap();
        let head = "Host: app.localhost\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
        line.write_all(format!("GET {path} HTTP/1.1\r\n{head}").as_bytes())
            .unwrap();
        line
    };
    for (path, is_meant) in [("/goodbye", true), ("/cut", false)] {
        let mut text = Vec::new();
        let end = open(path).read_to_end(&mut text);
        assert!(text.ends_with(b"\r\n\r\nbye"), "{path}: nothing is lost");
        assert_eq!(end.is_ok(), is_meant, "{path}: {end:?}");
    }
    let mut line = open("/listens");
    let mut text = Vec::new();
    while !text.ends_with(b"bye") {
        let mut byte = [0];
        line.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    line.sock.shutdown(Shutdown::Write).unwrap();
    // Until the app has judged it.
    until("the app has seen the end", || app.closed() == 3);
}

#[test]
fn an_app_behind_tls_can_be_sent_its_own_host() {
    let authority = Authority::new("internal");
    let app = Backend::saying_over_tls(&shows(&authority, &["localhost"]), "hello");
    let file = format!(
        "send_host = 'backend'\n{}",
        site(app.port, ", ca = 'ca.pem'")
    );
    let proxy = believing(&authority, &file);
    assert_eq!(said(&proxy), "200: hello");
    assert_eq!(
        app.only_request().value("host"),
        format!("127.0.0.1:{}", app.port)
    );
}

#[test]
fn nginx_with_tls_behind_the_door() {
    if !found("nginx") {
        return;
    }
    let authority = Authority::new("internal");
    let plan = plan(&authority);
    let pair: Pair = authority.rsa_pair(&["localhost"]);
    let folder = plan.folder().path();
    pair.write(folder, "nginx");
    fs::write(folder.join("big.bin"), vec![b'x'; 5 << 20]).unwrap();
    let (port, behind_proxy) = (free_port(), free_port());
    let server = Server::start(&mut nginx(folder, port, behind_proxy), port);
    let introduced = named_site("introduced.test", behind_proxy, ", ca = 'ca.pem'");
    let proxy = plan
        .site("app.toml", site(server.port, ", ca = 'ca.pem'"))
        .site(
            "introduced.toml",
            format!("send_proxy = 'v2'\n{introduced}"),
        )
        .start();
    let mut client = proxy.client();
    for _ in 0..10 {
        let seen = client.get("app.localhost", "/seen").text();
        let (count, rest) = seen.split_once(' ').unwrap();
        assert_eq!(rest, "TLSv1.3 localhost https", "{seen}");
        // The same upstream each time, whatever tickets came behind the handshake.
        assert!(count.parse::<u32>().unwrap() <= 10, "{seen}");
    }
    let last = client.get("app.localhost", "/seen").text();
    assert!(last.starts_with("11 "), "{last}");
    assert_eq!(client.get("app.localhost", "/big.bin").body.len(), 5 << 20);
    // The PROXY header goes in front of the handshake.
    let own = client.stream().local_addr().unwrap();
    assert_eq!(
        client.get("introduced.test", "/").text(),
        format!("{} {}", own.ip(), own.port())
    );
}

fn nginx(folder: &Path, port: u16, behind_proxy: u16) -> Command {
    let text = format!(
        "daemon off; master_process off; pid {0}/nginx.pid; error_log {0}/error.log;\n\
         events {{}}\n\
         http {{ access_log off; default_type text/plain; client_body_temp_path {0}/body; proxy_temp_path {0}/p;\n\
         fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
         server {{ listen 127.0.0.1:{port} ssl; root {0}; ssl_certificate {0}/nginx.pem; ssl_certificate_key {0}/nginx.key; ssl_protocols TLSv1.2 TLSv1.3;\n\
         location = /seen {{ return 200 \"$connection_requests $ssl_protocol $ssl_server_name $scheme\"; }} }}\n\
         server {{ listen 127.0.0.1:{behind_proxy} ssl proxy_protocol; ssl_certificate {0}/nginx.pem; ssl_certificate_key {0}/nginx.key;\n\
         return 200 \"$proxy_protocol_addr $proxy_protocol_port\"; }} }}\n",
        folder.display()
    );
    fs::write(folder.join("nginx.conf"), text).unwrap();
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"));
    command
}
