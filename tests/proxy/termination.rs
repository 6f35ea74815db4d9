//! TLS that ends here: the certificate is the site's, and what a connection may ask for follows from it.

mod breaches;
mod certificates;
mod clients;
mod failures;
mod fallback;
mod folders;
mod local_names;
mod names;
mod records;
mod streams;
mod trust;

use rustls::version::{TLS12, TLS13};

use crate::harness::{Agreed, Authority, Backend, Client, Plan, Proxy, Request, Tls, is_same, put};

/// A site that answers `text` and has the certificate `NAME.pem` beside its file.
fn with_files(host: &str, name: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n[tls]\ncert = '{name}.pem'\nkey = '{name}.key'\n")
}

/// A onedoor with two sites that have certificates of one authority, and one in clear text.
fn two_and_one(authority: &Authority) -> Proxy {
    let plan = Proxy::plan();
    authority
        .pair(&["shop.example.com"])
        .write(plan.sites().path(), "shop");
    authority
        .pair(&["blog.example.com"])
        .write(plan.sites().path(), "blog");
    plan.site("shop.toml", with_files("shop.example.com", "shop", "shop"))
        .site("blog.toml", with_files("blog.example.com", "blog", "blog"))
        .site(
            "plain.toml",
            "host = 'plain.example.com'\nrespond = 'plain'\ntls = 'off'\n",
        )
        .start()
}

fn tls_to(proxy: &Proxy, tls: &Tls) -> Client {
    Client::over(tls.shake(proxy.address()).unwrap())
}

#[test]
fn every_site_has_its_own_certificate_on_the_one_port() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    for name in ["shop", "blog"] {
        let host = format!("{name}.example.com");
        let mut client = tls_to(&proxy, &Tls::to(&host).trusting(&authority.pem));
        assert_eq!(client.get(&host, "/").text(), name);
    }
    assert_eq!(proxy.get("plain.example.com", "/").text(), "plain");
}

#[test]
fn clear_text_is_sent_on_to_the_port_that_the_client_named() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    for (host, wanted) in [
        ("shop.example.com", "https://shop.example.com/a?b=c"),
        ("shop.example.com:80", "https://shop.example.com/a?b=c"),
        (
            "SHOP.example.com:8080",
            "https://shop.example.com:8080/a?b=c",
        ),
        ("shop.example.com:443", "https://shop.example.com/a?b=c"),
    ] {
        let response = proxy.get(host, "/a?b=c");
        assert_eq!(response.status, 308);
        assert_eq!(response.value("location"), wanted);
        assert_eq!(response.value("cache-control"), "max-age=3600");
        assert!(!response.has("strict-transport-security"));
    }
    let file = with_files("shop.example.com", "shop", "shop") + "https_port = 8443\n";
    proxy.site("shop.toml", file);
    assert_eq!(
        proxy.get("shop.example.com", "/").value("location"),
        "https://shop.example.com:8443/"
    );
}

#[test]
fn what_clear_text_gets_is_the_sites_choice() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    let file = with_files("shop.example.com", "shop", "shop");
    proxy.site("shop.toml", format!("{file}http = 'refuse'\n"));
    assert_eq!(proxy.get("shop.example.com", "/").said(), "421 tls-only");
    proxy.site("shop.toml", format!("{file}http = 'serve'\n"));
    assert_eq!(proxy.get("shop.example.com", "/").text(), "shop");
}

#[test]
fn a_trusted_proxy_that_ended_tls_is_not_sent_round_again() {
    let authority = Authority::new("test");
    let plan = Proxy::plan().daemon_file("[trust]\nproxies = '127.0.0.1'\n");
    authority
        .pair(&["shop.example.com"])
        .write(plan.sites().path(), "shop");
    let proxy = plan
        .site("shop.toml", with_files("shop.example.com", "shop", "shop"))
        .start();
    let ask = |proto: &str| {
        proxy.ask(format!(
            "GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-Proto: {proto}\r\n\r\n"
        ))
    };
    assert_eq!(ask("https").text(), "shop");
    assert_eq!(ask("http").status, 308);
}

#[test]
fn what_a_trusted_proxy_says_brings_no_clear_text_to_an_app_that_ends_tls_itself() {
    let app = Backend::recording();
    let proxy = Proxy::plan()
        .daemon_file("[trust]\nproxies = '127.0.0.1'\n")
        .site(
            "app.toml",
            format!(
                "host = 'app.example.com'\nto = {}\ntls = 'passthrough'\n",
                app.port
            ),
        )
        .start();
    for method in ["GET", "POST"] {
        let response = proxy.ask(format!(
            "{method} / HTTP/1.1\r\nHost: app.example.com\r\nX-Forwarded-Proto: https\r\nContent-Length: 0\r\n\r\n"
        ));
        // Sent on to https it would only come back.
        assert_eq!(response.said(), "421 tls-only", "{method}");
    }
    assert_eq!(proxy.get("app.example.com", "/").status, 308);
    assert_eq!(app.accepted(), 0);
}

#[test]
fn what_a_trusted_proxy_says_opens_no_site_that_asks_for_certificates_of_clients() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let plan = Proxy::plan().daemon_file("[trust]\nproxies = '127.0.0.1'\n");
    let folder = plan.sites().path().to_owned();
    for name in ["shop", "blog"] {
        authority
            .pair(&[&format!("{name}.example.com")])
            .write(&folder, name);
    }
    put(&folder, "partners.pem", &partners.pem);
    let shop = with_files("shop.example.com", "shop", "shop");
    let proxy = plan
        .site("shop.toml", shop + "[tls.client]\nca = 'partners.pem'\n")
        .site("blog.toml", with_files("blog.example.com", "blog", "blog"))
        .start();
    let request = "GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-Proto: https\r\n\r\n";
    // By the connection of another site, which it is good for.
    let mut blog = tls_to(&proxy, &Tls::to("blog.example.com"));
    blog.send(request);
    assert_eq!(blog.response().said(), "421 wrong-tls-connection");
    // And in clear text, where it is not sent round in circles either.
    assert_eq!(proxy.ask(request).said(), "421 tls-only");
    assert_eq!(proxy.get("shop.example.com", "/").status, 308);
}

#[test]
fn browsers_are_told_to_come_by_tls_only_where_they_did() {
    let authority = Authority::new("test");
    let app = Backend::saying("app");
    let plan = Proxy::plan();
    authority
        .pair(&["shop.example.com"])
        .write(plan.sites().path(), "shop");
    let proxy = plan
        .site(
            "shop.toml",
            format!(
                "host = 'shop.example.com'\nto = {}\n[[path]]\nmatch = '/own'\nrespond = 'own'\n\
                 [tls]\ncert = 'shop.pem'\nkey = 'shop.key'\nhttp = 'serve'\nhsts = '180d'\n",
                app.port
            ),
        )
        .start();
    let mut client = tls_to(&proxy, &Tls::to("shop.example.com"));
    for path in ["/", "/own"] {
        let response = client.get("shop.example.com", path);
        assert_eq!(
            response.value("strict-transport-security"),
            "max-age=15552000"
        );
        assert!(
            !proxy
                .get("shop.example.com", path)
                .has("strict-transport-security")
        );
    }
}

#[test]
fn the_app_is_told_that_the_client_came_by_tls() {
    let authority = Authority::new("test");
    let app = Backend::saying("app");
    let plan = Proxy::plan();
    authority
        .pair(&["shop.example.com"])
        .write(plan.sites().path(), "shop");
    let proxy = plan
        .site(
            "shop.toml",
            format!(
                "host = 'shop.example.com'\nto = {}\n[tls]\ncert = 'shop.pem'\nkey = 'shop.key'\n",
                app.port
            ),
        )
        .start();
    let mut client = tls_to(&proxy, &Tls::to("shop.example.com"));
    client.get("shop.example.com:8443", "/");
    let request = last(&app);
    assert_eq!(request.value("x-forwarded-proto"), "https");
    assert_eq!(request.value("x-forwarded-host"), "shop.example.com:8443");
    assert_eq!(
        request.value("x-forwarded-port"),
        proxy.address().port().to_string()
    );
}

#[test]
fn a_target_for_the_other_kind_of_connection_is_refused() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    let mut client = tls_to(&proxy, &Tls::to("shop.example.com"));
    client.send("GET https://shop.example.com/ HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.response().text(), "shop");
    client.send("GET http://shop.example.com/ HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
    assert_eq!(client.response().said(), "400 malformed-request");
    let clear =
        proxy.ask("GET https://plain.example.com/ HTTP/1.1\r\nHost: plain.example.com\r\n\r\n");
    assert_eq!(clear.said(), "400 malformed-request");
}

#[test]
fn the_oldest_version_is_the_sites_choice() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    let file = with_files("shop.example.com", "shop", "shop") + "min = '1.3'\n";
    proxy.site("shop.toml", file);
    let shop = Tls::to("shop.example.com");
    assert!(shop.clone().version(&TLS12).shake(proxy.address()).is_err());
    assert!(shop.version(&TLS13).shake(proxy.address()).is_ok());
    let blog = Tls::to("blog.example.com").version(&TLS12);
    let line = blog.shake(proxy.address()).unwrap();
    assert_eq!(line.version(), rustls::ProtocolVersion::TLSv1_2);
}

#[test]
fn only_a_protocol_that_is_spoken_is_agreed_on() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    let tls = Tls::to("shop.example.com");
    let line = tls
        .clone()
        .alpn(&["foo", "http/1.1"])
        .shake(proxy.address());
    assert_eq!(line.unwrap().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    let error = tls.alpn(&["foo"]).shake(proxy.address()).unwrap_err();
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
}

#[test]
fn a_session_is_resumed_by_the_same_site_and_by_no_other() {
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    authority
        .pair(&["*.example.com"])
        .write(plan.sites().path(), "all");
    let proxy = plan
        .site("shop.toml", with_files("shop.example.com", "all", "shop"))
        .site("blog.toml", with_files("blog.example.com", "all", "blog"))
        .start();
    for version in [&TLS13, &TLS12] {
        let tls = Tls::to("shop.example.com").resuming().version(version);
        let connect = |tls: &Tls| {
            let line = tls.shake(proxy.address()).unwrap();
            let was_resumed = line.was_resumed();
            // The ticket comes behind the handshake.
            let mut client = Client::over(line);
            client.get("shop.example.com", "/");
            was_resumed
        };
        assert!(!connect(&tls));
        assert!(connect(&tls), "{version:?}");
        // CVE-2025-23419: a session of one site offered to another.
        let mixed = Tls::to("shop.example.com")
            .mixing_sessions_up()
            .version(version);
        assert!(!connect(&mixed));
        assert!(!connect(&mixed.now_to("blog.example.com")), "{version:?}");
        assert!(connect(&mixed.now_to("blog.example.com")), "{version:?}");
    }
}

#[test]
fn a_session_from_before_a_policy_changed_is_not_resumed() {
    let authority = Authority::new("test");
    let partners = Authority::new("partners");
    let proxy = two_and_one(&authority);
    put(proxy.sites().path(), "partners.pem", &partners.pem);
    let tls = Tls::to("shop.example.com")
        .resuming()
        .showing(&partners.client("ann"));
    let connect = || {
        let line = tls.shake(proxy.address()).unwrap();
        let was_resumed = line.was_resumed();
        assert_eq!(
            Client::over(line).get("shop.example.com", "/").text(),
            "shop"
        );
        was_resumed
    };
    assert!(!connect());
    assert!(connect());
    let file = with_files("shop.example.com", "shop", "shop");
    proxy.site(
        "shop.toml",
        format!("{file}[tls.client]\nca = 'partners.pem'\n"),
    );
    assert!(
        !connect(),
        "the client was not asked for a certificate then"
    );
    assert!(connect());
    // A new certificate is no new policy.
    authority
        .pair(&["shop.example.com"])
        .write(proxy.sites().path(), "shop");
    proxy.command(["reload"]);
    assert!(connect());
}

#[test]
fn a_client_that_knows_rsa_only_is_shown_the_rsa_certificate() {
    if !crate::harness::found("openssl") {
        return;
    }
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    let (ecdsa, rsa) = (
        authority.pair(&["shop.example.com"]),
        authority.rsa_pair(&["shop.example.com"]),
    );
    ecdsa.write(plan.sites().path(), "ecdsa");
    rsa.write(plan.sites().path(), "rsa");
    let proxy = plan
        .site(
            "shop.toml",
            "host = 'shop.example.com'\nrespond = 'shop'\n\
             [tls]\ncert = ['rsa.pem', 'ecdsa.pem']\nkey = ['rsa.key', 'ecdsa.key']\n",
        )
        .start();
    let line = Tls::to("shop.example.com").shake(proxy.address()).unwrap();
    assert!(is_same(&ecdsa.cert, &line.shown()));
    let output = std::process::Command::new("openssl")
        .args(["s_client", "-connect", &proxy.address().to_string()])
        .args([
            "-servername",
            "shop.example.com",
            "-sigalgs",
            "RSA-PSS+SHA256",
        ])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(rsa.cert.lines().nth(1).unwrap()), "{said}");
}

/// The newest request.
fn last(app: &Backend) -> Request {
    app.requests().pop().unwrap()
}

/// A plan whose sites and certificates are the test's own, with the folder `live` for `auto`.
fn with_folder(file: &str) -> Plan {
    let plan = Proxy::plan();
    let live = plan.folder().join("live");
    std::fs::create_dir(&live).unwrap();
    plan.daemon_file(&format!("certificates = '{}'\n{file}", live.display()))
}
