//! Names of the local authority: whose they are, who may ask for them, and what becomes of an authority that is broken.

use super::{tls_to, with_folder};
use crate::harness::{Authority, Client, Tls, in_a_network_of_its_own, words_of};

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
        let proxy = plan
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
