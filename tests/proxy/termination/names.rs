//! SNI and Host that disagree: a connection is for the names its certificate is for, under the rules it came in by.

use super::{tls_to, two_and_one, with_files};
use crate::harness::{Authority, Proxy, Tls, onedoor, until, words_of};

#[test]
fn a_host_that_the_certificate_is_not_for_is_sent_away() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    let mut client = tls_to(&proxy, &Tls::to("shop.example.com"));
    for (host, said) in [
        ("blog.example.com", "421 wrong-tls-connection"),
        // Nor what is served in clear text only.
        ("plain.example.com", "421 wrong-tls-connection"),
        ("nobody.example.com", "421 no-site-for-host"),
    ] {
        assert_eq!(client.get(host, "/").said(), said, "{host}");
    }
    assert_eq!(client.get("shop.example.com", "/").text(), "shop");
}

#[test]
fn one_certificate_for_two_sites_serves_both_on_one_connection() {
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    authority
        .pair(&["*.example.com"])
        .write(plan.sites().path(), "all");
    let proxy = plan
        .site("shop.toml", with_files("shop.example.com", "all", "shop"))
        .site("blog.toml", with_files("blog.example.com", "all", "blog"))
        .site(
            "strict.toml",
            with_files("strict.example.com", "all", "strict") + "min = '1.3'\n",
        )
        .start();
    let mut client = tls_to(
        &proxy,
        &Tls::to("shop.example.com").version(&rustls::version::TLS12),
    );
    assert_eq!(client.get("shop.example.com", "/").text(), "shop");
    assert_eq!(client.get("blog.example.com", "/").text(), "blog");
    // Older than that site takes.
    assert_eq!(
        client.get("strict.example.com", "/").said(),
        "421 wrong-tls-connection"
    );
    let mut client = tls_to(&proxy, &Tls::to("shop.example.com"));
    assert_eq!(client.get("strict.example.com", "/").text(), "strict");
}

#[test]
fn a_wildcard_site_shows_its_certificate_for_every_name() {
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    authority
        .pair(&["*.example.com"])
        .write(plan.sites().path(), "all");
    let proxy = plan
        .site("all.toml", with_files("*.example.com", "all", "all"))
        .start();
    for host in ["a.example.com", "b.example.com"] {
        let mut client = tls_to(&proxy, &Tls::to(host).trusting(&authority.pem));
        assert_eq!(client.get(host, "/").text(), "all");
    }
    assert!(Tls::to("a.b.example.com").shake(proxy.address()).is_err());
}

#[test]
fn a_passthrough_name_that_another_certificate_is_for_is_warned_of_and_sent_away() {
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    authority
        .pair(&["*.example.com"])
        .write(plan.sites().path(), "all");
    let proxy = plan
        .site("shop.toml", with_files("shop.example.com", "all", "shop"))
        .site(
            "vault.toml",
            "host = 'vault.example.com'\nto = 9\ntls = 'passthrough'\n",
        )
        .start();
    let said = "is also for vault.example.com, whose TLS is passed through";
    until("it is said", || {
        proxy.status("vault").unwrap()["problems"]
            .to_string()
            .contains(said)
    });
    let check = words_of(&onedoor(proxy.folder(), ["check", "sites.d"]));
    assert!(check.contains(said), "{check}");
    let mut client = tls_to(&proxy, &Tls::to("shop.example.com"));
    assert_eq!(
        client.get("vault.example.com", "/").said(),
        "421 wrong-tls-connection"
    );
}
