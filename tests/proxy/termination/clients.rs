//! Certificates of clients: asked for, checked, told to the app, and never taken from a header.

use super::{last, tls_to, two_and_one, with_files};
use crate::harness::{Authority, Backend, Client, Proxy, Tls, put, until};

const CLIENT: &str = "[tls.client]\nca = 'partners.pem'\n";

/// A handshake that the server refuses is noticed by the client, with 1.3, when it reads.
fn is_refused(proxy: &Proxy, tls: &Tls) -> bool {
    let Ok(line) = tls.shake(proxy.address()) else {
        return true;
    };
    let mut client = Client::over(line);
    client
        .try_send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
        .and_then(|()| client.try_response("GET").map_err(|cut| cut.error))
        .is_err()
}

#[test]
fn only_who_shows_a_certificate_of_a_partner_gets_in() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let proxy = two_and_one(&authority);
    put(proxy.sites().path(), "partners.pem", &partners.pem);
    proxy.site(
        "shop.toml",
        with_files("shop.example.com", "shop", "shop") + CLIENT,
    );
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tls = Tls::to("shop.example.com").version(version);
        assert!(is_refused(&proxy, &tls));
        assert!(is_refused(
            &proxy,
            &tls.clone().showing(&authority.client("mallory"))
        ));
        // A server's certificate is no client's (CASES T-47).
        assert!(is_refused(
            &proxy,
            &tls.clone().showing(&partners.pair(&["ann"]))
        ));
        let mut ann = tls_to(&proxy, &tls.showing(&partners.client("ann")));
        assert_eq!(ann.get("shop.example.com", "/").text(), "shop");
    }
    // Nor is there a way round by clear text, or by another site.
    assert_eq!(proxy.get("shop.example.com", "/").status, 308);
    let mut blog = tls_to(&proxy, &Tls::to("blog.example.com"));
    assert_eq!(
        blog.get("shop.example.com", "/").said(),
        "421 wrong-tls-connection"
    );
    assert_eq!(blog.get("blog.example.com", "/").text(), "blog");
}

/// With TLS 1.3 a client is through with its side of the handshake before it hears of ours, and sends.
#[test]
fn a_client_that_is_turned_away_hears_why_although_it_has_sent_a_request() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let proxy = two_and_one(&authority);
    put(proxy.sites().path(), "partners.pem", &partners.pem);
    proxy.site(
        "shop.toml",
        with_files("shop.example.com", "shop", "shop") + CLIENT,
    );
    let piece = "x".repeat(20_000);
    for (tls, alert, reason) in [
        (
            Tls::to("shop.example.com"),
            "CertificateRequired",
            "no-client-certificate",
        ),
        (
            Tls::to("shop.example.com").showing(&authority.client("mallory")),
            "UnknownCA",
            "client-certificate",
        ),
    ] {
        for refused in 1..=5 {
            let mut client = Client::over(tls.shake(proxy.address()).unwrap());
            client
                .send("POST / HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 40000\r\n\r\n");
            proxy.until_counted(reason, refused);
            // It goes on, as long as it has read nothing; a connection that was reset would take none of it.
            for _ in 0..2 {
                client.send(&piece);
            }
            let cut = client.try_response("POST").unwrap_err();
            assert!(cut.error.to_string().contains(alert), "{}", cut.error);
        }
    }
}

#[test]
fn why_a_client_was_turned_away_is_said_and_counted() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let (ann, bob) = (partners.client("ann"), partners.client("bob"));
    let proxy = two_and_one(&authority);
    put(proxy.sites().path(), "partners.pem", &partners.pem);
    put(
        proxy.sites().path(),
        "partners.crl",
        &partners.revoking(&[&bob], 7),
    );
    proxy.site(
        "shop.toml",
        with_files("shop.example.com", "shop", "shop") + CLIENT + "crl = 'partners.crl'\n",
    );
    let tls = Tls::to("shop.example.com");
    for (own, why) in [
        (None, "it showed none"),
        (
            Some(authority.client("mallory")),
            "it is by no authority in \"ca\"",
        ),
        (
            Some(partners.former_client("ann")),
            "it is over, or has not begun",
        ),
        (Some(bob), "its authority has taken it back"),
        (Some(partners.pair(&["ann"])), "it is none for clients"),
    ] {
        let tls = match own {
            Some(own) => tls.clone().showing(&own),
            None => tls.clone(),
        };
        for _ in 0..3 {
            assert!(is_refused(&proxy, &tls));
        }
        proxy.until_logged(why);
    }
    assert!(!is_refused(&proxy, &tls.showing(&ann)));
    proxy.until_counted("client-certificate", 12);
    let shop = proxy.status("shop").unwrap();
    assert_eq!(shop["refusals"]["client-certificate"], 12);
    assert_eq!(shop["refusals"]["no-client-certificate"], 3);
    // Somebody who wants something that nobody speaks is nobody's trouble.
    let odd = Tls::to("blog.example.com").alpn(&["foo"]);
    assert!(odd.shake(proxy.address()).is_err());
    proxy.until_counted("handshake-mismatch", 1);
    let log = proxy.log();
    let said = log.matches("a client's certificate is refused").count();
    assert!(said == 5 && !log.contains("handshake failed"), "{log}");
}

#[test]
fn an_optional_certificate_may_be_missing_but_not_bad() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let proxy = two_and_one(&authority);
    put(proxy.sites().path(), "partners.pem", &partners.pem);
    let file = with_files("shop.example.com", "shop", "shop") + CLIENT + "mode = 'optional'\n";
    proxy.site("shop.toml", file);
    let tls = Tls::to("shop.example.com");
    assert!(!is_refused(&proxy, &tls));
    assert!(!is_refused(
        &proxy,
        &tls.clone().showing(&partners.client("ann"))
    ));
    assert!(is_refused(
        &proxy,
        &tls.showing(&authority.client("mallory"))
    ));
}

#[test]
fn the_app_is_told_whose_certificate_it_was_and_clients_cannot_say_so() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let app = Backend::saying("app");
    let plan = Proxy::plan();
    authority
        .pair(&["shop.example.com"])
        .write(plan.sites().path(), "shop");
    put(plan.sites().path(), "partners.pem", &partners.pem);
    let proxy = plan
        .site(
            "shop.toml",
            format!(
                "host = 'shop.example.com'\nto = {}\n[tls]\ncert = 'shop.pem'\nkey = 'shop.key'\n\
                 [tls.client]\nca = 'partners.pem'\nmode = 'optional'\nforward = true\n",
                app.port
            ),
        )
        .start();
    let request = "GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Client-Cert: forged\r\n\
                   X-Client-Cert-Subject: CN=forged\r\n\r\n";
    let mut nobody = tls_to(&proxy, &Tls::to("shop.example.com"));
    nobody.send(request);
    assert_eq!(nobody.response().status, 200);
    let seen = last(&app);
    assert!(
        !seen.head.to_lowercase().contains("client-cert"),
        "{}",
        seen.head
    );

    let ann = partners.client("ann");
    let mut client = tls_to(&proxy, &Tls::to("shop.example.com").showing(&ann));
    client.send(request);
    assert_eq!(client.response().status, 200);
    let seen = last(&app);
    assert!(seen.value("x-client-cert-subject").contains("CN=ann"));
    let pem: String = ann
        .cert
        .lines()
        .filter(|line| !line.starts_with("---"))
        .collect();
    assert_eq!(seen.value("x-client-cert"), pem);
    assert_eq!(seen.value("x-client-cert-fingerprint").len(), 64);
    assert!(seen.has("x-client-cert-serial"));
}

#[test]
fn a_trusted_proxy_cannot_say_whose_certificate_it_was_where_onedoor_does() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let app = Backend::saying("app");
    let plan = Proxy::plan().daemon_file("[trust]\nproxies = '127.0.0.1'\n");
    authority
        .pair(&["shop.example.com"])
        .write(plan.sites().path(), "shop");
    put(plan.sites().path(), "partners.pem", &partners.pem);
    let file = |forward: bool| {
        format!(
            "host = 'shop.example.com'\nto = {}\n[tls]\ncert = 'shop.pem'\nkey = 'shop.key'\n\
             [tls.client]\nca = 'partners.pem'\nmode = 'optional'\nforward = {forward}\n",
            app.port
        )
    };
    let proxy = plan.site("shop.toml", file(true)).start();
    let ask = |tls: &Tls| {
        let mut client = tls_to(&proxy, tls);
        client.send(
            "GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Client-Cert: forged\r\n\
             X-Client-Cert-Subject: CN=forged\r\nClient-Cert: :forged:\r\n\
             X-Forwarded-Client-Cert: forged\r\nX-SSL-Client-S-DN: CN=forged\r\n\
             Forwarded: for=203.0.113.7\r\n\r\n",
        );
        assert_eq!(client.response().status, 200);
        last(&app)
    };
    let nobody = Tls::to("shop.example.com");
    let seen = ask(&nobody);
    assert!(!seen.head.contains("forged"), "{}", seen.head);
    assert!(!seen.has("x-client-cert"), "{}", seen.head);
    // The rest of what it says is believed.
    assert_eq!(seen.value("forwarded"), "for=203.0.113.7");
    let seen = ask(&nobody.clone().showing(&partners.client("ann")));
    assert!(!seen.head.contains("forged"), "{}", seen.head);
    assert_eq!(seen.values("x-client-cert-subject"), ["CN=ann"]);
    // Where the app is told nothing by us, the proxy's word is the only one.
    proxy.site("shop.toml", file(false));
    let seen = ask(&nobody);
    assert_eq!(seen.value("x-client-cert-subject"), "CN=forged");
}

#[test]
fn authorities_that_cannot_be_read_never_open_a_site() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let mut proxy = two_and_one(&authority);
    for text in ["", "nothing", &partners.pem[..partners.pem.len() / 2]] {
        put(proxy.sites().path(), "partners.pem", text);
        let file = with_files("new.example.com", "shop", "new") + CLIENT;
        proxy.sites().write("new.toml", file);
        proxy.until_state("new", "down");
        assert_eq!(
            proxy.get("new.example.com", "/").said(),
            "421 no-site-for-host"
        );
    }
    put(proxy.sites().path(), "partners.pem", &partners.pem);
    proxy.until_state("new", "live");
    // And not after a restart either, although the site had been live.
    put(proxy.sites().path(), "partners.pem", "nothing");
    proxy.stop();
    proxy.start_again();
    proxy.until_logged("partners.pem: there is no certificate in it");
    let ann = partners.client("ann");
    assert!(is_refused(
        &proxy,
        &Tls::to("new.example.com").showing(&ann)
    ));
    assert_eq!(
        proxy.get("new.example.com", "/").said(),
        "503 no-certificate"
    );
    assert_eq!(proxy.get("plain.example.com", "/").text(), "plain");
}

#[test]
fn a_policy_that_is_tightened_binds_connections_that_are_open() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let proxy = two_and_one(&authority);
    put(proxy.sites().path(), "partners.pem", &partners.pem);
    let mut client = tls_to(&proxy, &Tls::to("shop.example.com"));
    assert_eq!(client.get("shop.example.com", "/").text(), "shop");
    proxy.site(
        "shop.toml",
        with_files("shop.example.com", "shop", "shop") + CLIENT,
    );
    assert_eq!(
        client.get("shop.example.com", "/").said(),
        "421 wrong-tls-connection"
    );
    proxy.site("shop.toml", with_files("shop.example.com", "shop", "shop"));
    assert_eq!(client.get("shop.example.com", "/").text(), "shop");
}

#[test]
fn a_policy_that_is_tightened_ends_what_was_opened_without_a_certificate() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let app = Backend::upgrading();
    let proxy = two_and_one(&authority);
    put(proxy.sites().path(), "partners.pem", &partners.pem);
    let shop = |more: &str| {
        let to = format!("to = {}", app.port);
        with_files("shop.example.com", "shop", "shop").replace("respond = 'shop'", &to) + more
    };
    let open = |tls: &Tls| {
        let mut client = tls_to(&proxy, tls);
        client.send(
            "GET / HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        assert_eq!(client.response_head().status, 101);
        client
    };
    let is_there = |client: &mut Client| {
        client.send("hello");
        assert_eq!(client.bytes(5), b"hello");
    };
    let tls = Tls::to("shop.example.com");
    proxy.site("shop.toml", shop(""));
    let mut stranger = open(&tls);
    proxy.site("shop.toml", shop("# edited\n"));
    is_there(&mut stranger);
    proxy.site("shop.toml", shop(CLIENT));
    stranger.expect_close();
    until("the app is let go", || app.closed() == 1);
    proxy.until_counted("site-edited", 1);
    // Who has shown one stays, also over the next edit.
    let mut ann = open(&tls.clone().showing(&partners.client("ann")));
    proxy.site("shop.toml", shop(&format!("{CLIENT}# edited\n")));
    is_there(&mut ann);
    // And the oldest version that is spoken.
    proxy.site("shop.toml", shop(""));
    let mut old = open(&Tls::to("shop.example.com").version(&rustls::version::TLS12));
    let mut new = open(&tls);
    proxy.site("shop.toml", shop("min = '1.3'\n"));
    old.expect_close();
    is_there(&mut new);
    is_there(&mut ann);
    proxy.until_counted("site-edited", 2);
    proxy.command(["rm", "shop", "--now"]);
    new.expect_close();
    ann.expect_close();
    proxy.until_counted("site-gone", 2);
    assert_eq!(proxy.counted("site-edited"), 2);
}

#[test]
fn a_certificate_that_was_taken_back_is_refused_and_the_list_is_swapped_while_serving() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let (ann, bob) = (partners.client("ann"), partners.client("bob"));
    let proxy = two_and_one(&authority);
    let folder = proxy.sites().path();
    put(folder, "partners.pem", &partners.pem);
    put(folder, "partners.crl", &partners.revoking(&[&bob], 7));
    proxy.site(
        "shop.toml",
        with_files("shop.example.com", "shop", "shop") + CLIENT + "crl = 'partners.crl'\n",
    );
    let tls = Tls::to("shop.example.com");
    assert!(is_refused(&proxy, &tls.clone().showing(&bob)));
    let with_ann = tls.clone().showing(&ann);
    let mut open = tls_to(&proxy, &with_ann);
    assert_eq!(open.get("shop.example.com", "/").text(), "shop");
    // The next list has ann on it, and not bob.
    put(folder, "partners.crl", &partners.revoking(&[&ann], 7));
    until("bob is let in", || {
        !is_refused(&proxy, &tls.clone().showing(&bob))
    });
    assert!(is_refused(&proxy, &with_ann));
    assert_eq!(
        open.get("shop.example.com", "/").said(),
        "421 wrong-tls-connection"
    );
    // Half of a list is none: the old one stays in force, and it is said.
    let half = partners.revoking(&[], 7);
    put(folder, "partners.crl", &half[..half.len() / 2]);
    proxy.until_state("shop", "stale");
    proxy.until_logged("partners.crl: ");
    assert!(is_refused(&proxy, &with_ann));
    assert!(!is_refused(&proxy, &tls.showing(&bob)));
}

#[test]
fn a_list_that_is_broken_at_a_start_lets_nobody_in() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let mut proxy = two_and_one(&authority);
    put(proxy.sites().path(), "partners.pem", &partners.pem);
    put(
        proxy.sites().path(),
        "partners.crl",
        &partners.revoking(&[], 7),
    );
    proxy.site(
        "shop.toml",
        with_files("shop.example.com", "shop", "shop") + CLIENT + "crl = ['partners.crl']\n",
    );
    let tls = Tls::to("shop.example.com").showing(&partners.client("ann"));
    assert!(!is_refused(&proxy, &tls));
    proxy.stop();
    put(proxy.sites().path(), "partners.crl", "nothing of the kind");
    proxy.start_again();
    assert!(is_refused(&proxy, &tls));
    assert_eq!(proxy.get("shop.example.com", "/").status, 503);
    let blog = Tls::to("blog.example.com").trusting(&authority.pem);
    assert_eq!(
        tls_to(&proxy, &blog).get("blog.example.com", "/").text(),
        "blog"
    );
}

#[test]
fn a_list_that_has_ended_or_is_of_somebody_else_lets_nobody_in() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let proxy = two_and_one(&authority);
    let folder = proxy.sites().path();
    put(folder, "partners.pem", &partners.pem);
    put(folder, "partners.crl", &partners.revoking(&[], -1));
    proxy.site(
        "shop.toml",
        with_files("shop.example.com", "shop", "shop") + CLIENT + "crl = 'partners.crl'\n",
    );
    proxy.until_logged("a list of revoked certificates (crl) ended 24 hours ago");
    let tls = Tls::to("shop.example.com").showing(&partners.client("ann"));
    assert!(is_refused(&proxy, &tls));
    put(folder, "partners.crl", &authority.revoking(&[], 7));
    proxy.command(["reload"]);
    assert!(is_refused(&proxy, &tls));
    put(folder, "partners.crl", &partners.revoking(&[], 7));
    until("ann is let in", || !is_refused(&proxy, &tls));
}

#[test]
fn a_certificate_that_is_over_or_can_be_read_in_two_ways_is_refused() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let proxy = two_and_one(&authority);
    put(proxy.sites().path(), "partners.pem", &partners.pem);
    proxy.site(
        "shop.toml",
        with_files("shop.example.com", "shop", "shop") + CLIENT,
    );
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tls = Tls::to("shop.example.com").version(version);
        for bad in [
            partners.former_client("ann"),
            partners.client_of_two_readings("ann"),
            partners.client("ann\0bob"),
        ] {
            assert!(is_refused(&proxy, &tls.clone().showing(&bad)));
        }
        assert!(!is_refused(&proxy, &tls.showing(&partners.client("ann"))));
    }
}

#[test]
fn what_the_defaults_say_of_client_certificates_binds_every_site_that_does_not_say_otherwise() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let plan = Proxy::plan();
    put(plan.folder().path(), "partners.pem", &partners.pem);
    for name in ["shop", "blog"] {
        authority
            .pair(&[&format!("{name}.example.com")])
            .write(plan.sites().path(), name);
    }
    let open = with_files("blog.example.com", "blog", "blog") + "[tls.client]\nmode = 'off'\n";
    let proxy = plan
        .daemon_file(
            "[defaults.tls]\nmin = '1.3'\nhsts = '1d'\n[defaults.tls.client]\nca = 'partners.pem'\n",
        )
        .site("shop.toml", with_files("shop.example.com", "shop", "shop"))
        .site("blog.toml", open)
        .start();
    let shop = Tls::to("shop.example.com");
    assert!(is_refused(&proxy, &shop));
    let ann = shop.showing(&partners.client("ann"));
    assert!(is_refused(
        &proxy,
        &ann.clone().version(&rustls::version::TLS12)
    ));
    let answer = tls_to(&proxy, &ann).get("shop.example.com", "/");
    assert_eq!(answer.value("strict-transport-security"), "max-age=86400");
    assert!(!is_refused(&proxy, &Tls::to("blog.example.com")));
}
