//! Names of the local authority: whose they are, who may ask for them, and what becomes of an authority that is broken.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use super::{tls_to, with_files, with_folder};
use crate::harness::{
    Authority, Backend, Client, Proxy, Tls, found, in_a_network_of_its_own, put, words_of,
};

/// An address of the documentation's (RFC 5737): nobody's neighbour.
const FAR: &str = "203.0.113.9";

#[test]
fn a_client_from_far_away_gets_no_local_name() {
    let name = "termination::local_names::a_client_from_far_away_gets_no_local_name";
    in_a_network_of_its_own(name, &["203.0.113.9/32"], || {
        let authority = Authority::new("test");
        let plan = with_folder("");
        let live = plan.folder().join("live");
        authority.pair(&["found.internal"]).write(&live, "found");
        let both = authority.pair(&["shop.example.com", "green.test"]);
        both.write(plan.sites().path(), "shop");
        let proxy = plan
            .site("shop.toml", with_files("shop.example.com", "shop", "shop"))
            .no_listen()
            .flag("--listen")
            .flag("0.0.0.0:0")
            .site("blue.localhost.toml", "respond = 'blue'")
            .site("green.test.toml", "respond = 'green'\ntls = 'local'")
            .site("found.internal.toml", "respond = 'found'")
            .start();
        let port = proxy.address().port();
        let ask = |from: &str, to: &str, host: &str| {
            let to = format!("{to}:{port}").parse().unwrap();
            let mut client = Client::connect_from(from.parse().unwrap(), to);
            client.get(host, "/")
        };
        for host in ["blue.localhost", "green.test"] {
            assert_eq!(ask("127.0.0.1", "127.0.0.1", host).status, 200, "{host}");
            assert_eq!(ask(FAR, FAR, host).said(), "421 no-site-for-host", "{host}");
        }
        // Nor a certificate: who connects to an address of this machine comes from it.
        let at_far = format!("{FAR}:{port}").parse().unwrap();
        let refused = Tls::to("blue.localhost").shake(at_far).unwrap_err();
        assert!(
            refused.to_string().contains("UnrecognisedName"),
            "{refused}"
        );
        assert!(Tls::to("found.internal").shake(at_far).is_ok());
        // Nor over a connection that another site's certificate has let it make.
        for (at, said) in [(at_far, "421 no-site-for-host"), (proxy.address(), "200")] {
            let mut client = Client::over(Tls::to("shop.example.com").shake(at).unwrap());
            assert_eq!(client.get("shop.example.com", "/").status, 200);
            assert_eq!(client.get("green.test", "/").said(), said);
        }
        // With a certificate of its owner's it is a name like others.
        assert_eq!(ask(FAR, FAR, "found.internal").status, 308);
    });
}

#[test]
fn a_trusted_proxy_brings_nobody_from_far_away_to_a_local_name() {
    let authority = Authority::new("test");
    let plan = with_folder("[trust]\nproxies = '127.0.0.1'\n");
    let live = plan.folder().join("live");
    authority.pair(&["found.internal"]).write(&live, "found");
    let proxy = plan
        .site("blue.internal.toml", "respond = 'blue'")
        .site("green.test.toml", "respond = 'green'\ntls = 'local'")
        .site("off.test.toml", "respond = 'off'\ntls = 'off'")
        .site("found.internal.toml", "respond = 'found'")
        .start();
    let request = |host: &str, fields: &str| {
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\n{fields}\r\n")
    };
    for host in ["blue.internal", "green.test"] {
        let mut secure = tls_to(&proxy, &Tls::to(host));
        for (asker, said) in [
            (
                format!("X-Forwarded-For: {FAR}\r\n"),
                "421 no-site-for-host",
            ),
            (
                "X-Forwarded-For: unknown\r\n".into(),
                "421 no-site-for-host",
            ),
            (
                format!("X-Forwarded-For: 10.0.0.7, {FAR}\r\n"),
                "421 no-site-for-host",
            ),
            (format!("X-Forwarded-For: {FAR}, 10.0.0.7\r\n"), "200"),
            (String::new(), "200"),
        ] {
            let request = request(host, &asker);
            assert_eq!(proxy.ask(&request).said(), said, "{host} {asker}");
            secure.send(&request);
            assert_eq!(secure.response().said(), said, "{host} {asker} over TLS");
        }
    }
    let told = words_of(&proxy.command([
        "explain",
        "http://blue.internal/",
        "--client",
        "127.0.0.1",
        "-H",
        &format!("X-Forwarded-For: {FAR}"),
    ]));
    assert!(told.contains("421 its certificate would be"), "{told}");
    let far = format!("X-Forwarded-For: {FAR}\r\n");
    for host in ["off.test", "found.internal"] {
        assert_eq!(proxy.ask(request(host, &far)).status, 200, "{host}");
    }
}

/// Whoever trusts the root trusts it with nothing else.
#[test]
fn whoever_has_the_root_can_still_not_vouch_for_names_of_others() {
    let proxy = Proxy::plan()
        .site("blue.localhost.toml", "respond = 'blue'")
        .start();
    tls_to(&proxy, &Tls::to("blue.localhost"));
    let read = |name: &str| fs::read_to_string(proxy.state().join("authority").join(name)).unwrap();
    let root = Authority::of(&read("root.pem"), &read("root.key"));
    for (name, is_good) in [
        ("blue.localhost", true),
        ("a.b.test", true),
        ("x.internal", true),
        ("nas.home.arpa", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("shop.example.com", false),
        ("localhost.example.com", false),
        ("10.0.0.1", false),
        ("::2", false),
    ] {
        let pair = root.pair(&[name]);
        let thief = Backend::saying_over_tls(&pair.server(), name);
        let shaken = Tls::to(name)
            .trusting(&root.pem)
            .shake(([127, 0, 0, 1], thief.port).into());
        match shaken {
            Ok(_) => assert!(is_good, "{name}"),
            Err(error) => assert!(!is_good, "{name}: {error}"),
        }
        // Of an address it takes the common name for one of DNS.
        if name.parse::<IpAddr>().is_ok() || !found("openssl") {
            continue;
        }
        put(proxy.folder().path(), "root.pem", &root.pem);
        put(proxy.folder().path(), "thief.pem", &pair.cert);
        let verified = Command::new("openssl")
            .args(["verify", "-CAfile", "root.pem", "thief.pem"])
            .current_dir(proxy.folder().path())
            .output()
            .unwrap();
        let said = words_of(&verified);
        assert_eq!(verified.status.success(), is_good, "{name}: {said}");
    }
}

#[test]
fn an_authority_that_cannot_be_made_is_told_and_clear_text_goes_on() {
    let plan = Proxy::plan();
    let state = plan.folder().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("authority"), "a file").unwrap();
    let proxy = plan.site("blue.localhost.toml", "respond = 'blue'").start();
    for _ in 0..2 {
        let error = Tls::to("blue.localhost").shake(proxy.address());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("InternalError"), "{error}");
    }
    proxy.until_counted("no-certificate", 2);
    assert_eq!(proxy.get("blue.localhost", "/").text(), "blue");
    let why = "no certificates for local names: cannot make";
    proxy.until_logged(why);
    assert_eq!(proxy.log().matches(why).count(), 1, "{}", proxy.log());
    let ls = proxy.status("blue.localhost").unwrap()["problems"].to_string();
    assert!(ls.contains(why), "{ls}");
}

#[test]
fn an_authority_that_is_over_is_told() {
    let plan = Proxy::plan();
    let folder = plan.folder().join("state/authority");
    fs::create_dir_all(&folder).unwrap();
    let pair = Authority::former("onedoor local authority").own_pair();
    put(&folder, "root.pem", &pair.cert);
    put(&folder, "root.key", &pair.key);
    let proxy = plan.site("blue.localhost.toml", "respond = 'blue'").start();
    tls_to(&proxy, &Tls::to("blue.localhost"));
    let said = "the certificate of the local authority ended 1 day ago; remove ";
    proxy.until_logged(said);
    let ls = proxy.status("blue.localhost").unwrap()["problems"].to_string();
    assert!(ls.contains(said), "{ls}");
}
