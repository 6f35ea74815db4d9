//! onedoor.toml read again, by SIGHUP or `onedoor reload`: what is in force then, for whom, and what waits.

use std::fs;

use rustix::process::Signal;

use crate::harness::{
    Authority, Backend, Client, Folder, Plan, Proxy, Sites, Tls, onedoor, until, words_of,
};

const FORWARDED: &str =
    "GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";

fn with_shop(app: &Backend) -> Plan {
    Proxy::plan().daemon_file("").site(
        "shop.toml",
        format!(
            "host = ['shop.test', 'shop.example.com']\nto = {}",
            app.port
        ),
    )
}

/// Reads everything again, which must succeed, and returns what was printed.
#[track_caller]
fn reload(proxy: &Proxy) -> String {
    let output = proxy.command(["reload"]);
    let words = words_of(&output);
    assert!(output.status.success(), "{words}");
    words
}

fn forwarded_for(client: &mut Client, app: &Backend) -> String {
    app.forget();
    client.send(FORWARDED);
    assert_eq!(client.response().status, 200);
    app.only_request().value("x-forwarded-for")
}

#[test]
fn a_daemon_file_that_leads_nowhere_is_an_error_and_not_the_defaults() {
    let folder = Folder::new();
    let sites = Sites::at(folder.join("sites.d"));
    sites.write("a.toml", "host = 'a.test'\nrespond = 'a'");
    let check = || onedoor(&folder, ["check", "--state", "state"]);
    assert_eq!(check().status.code(), Some(0), "{}", words_of(&check()));
    std::os::unix::fs::symlink("nowhere.toml", folder.join("onedoor.toml")).unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
    assert!(
        words_of(&output).contains("onedoor.toml: cannot be read"),
        "{}",
        words_of(&output)
    );
}

#[test]
fn a_proxy_that_is_trusted_by_sighup_is_believed_at_once_and_no_longer_when_it_is_not() {
    let app = Backend::recording();
    let proxy = with_shop(&app).start();
    let mut client = proxy.client();
    assert_eq!(forwarded_for(&mut client, &app), "127.0.0.1");
    proxy.daemon_file("[trust]\nproxies = '127.0.0.0/8'\n");
    proxy.signal(Signal::HUP);
    proxy.until_logged("changed in the daemon file, and in force");
    // Also on the connection that was open.
    assert_eq!(forwarded_for(&mut client, &app), "203.0.113.9, 127.0.0.1");
    assert_eq!(
        forwarded_for(&mut proxy.client(), &app),
        "203.0.113.9, 127.0.0.1"
    );
    proxy.daemon_file("");
    let said = reload(&proxy);
    assert!(said.contains("in force  [trust]"), "{said}");
    assert_eq!(forwarded_for(&mut client, &app), "127.0.0.1");
}

#[test]
fn a_load_balancer_that_is_named_later_must_introduce_new_connections_and_not_old_ones() {
    let app = Backend::recording();
    let proxy = with_shop(&app).start();
    let mut before = proxy.client();
    assert_eq!(forwarded_for(&mut before, &app), "127.0.0.1");
    proxy.daemon_file("[trust]\nproxy_protocol = '127.0.0.1'\n");
    reload(&proxy);
    assert_eq!(forwarded_for(&mut before, &app), "127.0.0.1");
    let mut introduced = proxy.client();
    introduced.send("PROXY TCP4 10.0.0.7 10.0.0.1 50000 443\r\n");
    assert_eq!(forwarded_for(&mut introduced, &app), "10.0.0.7");
    let mut silent = proxy.client();
    silent.send(FORWARDED);
    silent.expect_close();
}

#[test]
fn limits_bind_the_next_request_of_open_connections() {
    let app = Backend::saying("shop");
    let proxy = with_shop(&app).start();
    let mut client = proxy.client();
    let long = format!("/?{}", "x".repeat(1000));
    assert_eq!(client.get("shop.test", &long).status, 200);
    proxy.daemon_file("[limit]\nline = '512b'\n[timeout]\nhead = '1s'\n");
    let said = reload(&proxy);
    assert!(said.contains("in force  [limit]"), "{said}");
    assert!(said.contains("in force  [timeout]"), "{said}");
    assert_eq!(client.get("shop.test", "/").status, 200);
    assert_eq!(client.get("shop.test", &long).status, 414);
    let mut slow = proxy.client();
    slow.send("GET / HTTP/1.1\r\n");
    assert_eq!(slow.response().status, 408);
}

#[test]
fn fewer_connections_keep_new_ones_out_and_more_let_them_in() {
    let app = Backend::saying("shop");
    let proxy = Proxy::plan()
        .daemon_file("")
        .site(
            "shop.toml",
            format!(
                "host = 'shop.test'\nto = {}\n[limit]\nconnections = 9",
                app.port
            ),
        )
        .start();
    proxy.daemon_file("[limit]\nconnections = 2\n[timeout]\nidle_when_full = '1h'\n");
    reload(&proxy);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    assert_eq!(one.get("shop.test", "/").status, 200);
    assert_eq!(two.get("shop.test", "/").status, 200);
    let mut third = proxy.client();
    third.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    proxy.until_logged("all connections that [limit] connections allows are open");
    proxy.daemon_file("[limit]\nconnections = 3\n[timeout]\nidle_when_full = '1h'\n");
    reload(&proxy);
    assert_eq!(third.response().text(), "shop");
}

#[test]
fn other_defaults_reach_every_site_without_disturbing_its_connections() {
    let app = Backend::recording();
    let proxy = with_shop(&app)
        .site("named.toml", "host = 'named.test'\nrespond = 'named'")
        .start();
    let mut client = proxy.client();
    assert!(!client.get("named.test", "/").has("x-door"));
    proxy.daemon_file(
        "[defaults]\nsend_host = 'app.internal'\n[defaults.headers.response]\nset = { X-Door = 'one' }\n",
    );
    let said = reload(&proxy);
    assert!(said.contains("in force  [defaults]"), "{said}");
    assert_eq!(client.get("named.test", "/").value("x-door"), "one");
    assert_eq!(client.get("shop.test", "/").value("x-door"), "one");
    assert_eq!(app.only_request().value("host"), "app.internal");
}

#[test]
fn folders_of_certificates_are_searched_when_they_are_named() {
    let app = Backend::saying("shop");
    let authority = Authority::new("test");
    let proxy = Proxy::plan()
        .daemon_file("")
        .site(
            "shop.toml",
            format!("host = 'shop.example.com'\nto = {}", app.port),
        )
        .start();
    let pair = authority.pair(&["shop.example.com"]);
    fs::create_dir(proxy.folder().join("live")).unwrap();
    pair.write(&proxy.folder().join("live"), "any");
    let tls = Tls::to("shop.example.com").trusting(&authority.pem);
    assert!(tls.shake(proxy.address()).is_err());
    proxy.daemon_file("certificates = 'live'\n");
    reload(&proxy);
    let line = tls.shake(proxy.address()).expect("a handshake");
    assert_eq!(
        Client::over(line).get("shop.example.com", "/").text(),
        "shop"
    );
    // Without them the name has had a certificate once, and is not shown in clear text.
    proxy.daemon_file("");
    reload(&proxy);
    assert!(tls.shake(proxy.address()).is_err());
    assert_eq!(proxy.get("shop.example.com", "/").status, 503);
}

#[test]
fn a_tighter_fence_rejects_what_lies_outside_and_keeps_what_served() {
    let proxy = Proxy::plan().daemon_file("").start();
    fs::create_dir(proxy.folder().join("shared")).unwrap();
    fs::write(proxy.folder().join("shared/page"), "page").unwrap();
    let site = "host = 'page.test'\nrespond = { file = '../shared/page' }";
    proxy.sites().write("page.toml", site);
    proxy.until_state("page", "down");
    proxy.daemon_file("files_under = 'shared'\n");
    reload(&proxy);
    assert_eq!(proxy.get("page.test", "/").text(), "page");
    proxy.daemon_file("");
    let output = proxy.command(["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let words = words_of(&output);
    let unfit = "rejected since the daemon file says something else: page\n";
    assert!(words.contains(unfit), "{words}");
    assert_eq!(proxy.state_of("page"), "stale");
    assert_eq!(proxy.get("page.test", "/").text(), "page");
}

#[test]
fn one_bad_site_file_does_not_fail_the_reload_of_everything_else() {
    let proxy = Proxy::plan().daemon_file("").start();
    proxy.sites().write("typo.toml", "nonsense");
    proxy.until_state("typo", "down");
    proxy.daemon_file("[timeout]\nhead = '7s'\n");
    let output = proxy.command(["reload"]);
    let words = words_of(&output);
    assert_eq!(output.status.code(), Some(0), "{words}");
    for said in [
        "in force",
        "rejected  typo",
        "not everything on disk serves",
    ] {
        assert!(words.contains(said), "{said} in\n{words}");
    }
    proxy.daemon_file("nonsense");
    assert_eq!(proxy.command(["reload"]).status.code(), Some(1));
}

#[test]
fn link_local_backends_are_allowed_without_a_restart_by_address_and_by_name() {
    let proxy = Proxy::plan().daemon_file("").start();
    let sites = proxy.sites();
    sites.write(
        "address.toml",
        "host = 'address.test'\nto = '169.254.0.9:9'",
    );
    proxy.until_state("address", "down");
    // The same address, in a spelling that only a resolver reads.
    proxy.site("name.toml", "host = 'name.localhost'\nto = '0xa9fe0009:9'");
    let is_fenced = || {
        let answer = proxy.get("name.localhost", "/");
        answer.text().contains("allow_link_local")
    };
    until("the name is fenced", is_fenced);
    proxy.daemon_file("allow_link_local = true\n");
    let said = reload(&proxy);
    assert!(said.contains("in force  allow_link_local"), "{said}");
    assert!(!said.contains("restart"), "{said}");
    proxy.until_state("address", "live");
    until("the name leads there", || !is_fenced());
    // Back again: what served stays, and what comes is refused.
    proxy.daemon_file("");
    assert_eq!(proxy.command(["reload"]).status.code(), Some(1));
    assert_eq!(proxy.state_of("address"), "stale");
    sites.write("late.toml", "host = 'late.test'\nto = '169.254.0.9:9'");
    proxy.until_state("late", "down");
}

#[test]
fn a_file_with_an_error_changes_nothing_and_the_error_has_its_place() {
    let app = Backend::recording();
    let proxy = with_shop(&app).start();
    let mut client = proxy.client();
    proxy.daemon_file("[trust]\nproxies = '127.0.0.1'\n[limit]\nlinee = '512b'\n");
    proxy.site("new.toml", "host = 'new.test'\nrespond = 'new'");
    let output = proxy.command(["reload"]);
    let words = words_of(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("onedoor.toml:4:1"), "{words}");
    assert!(words.contains("did you mean \"line\"?"), "{words}");
    assert!(
        words.contains("the settings of before stay in force"),
        "{words}"
    );
    proxy.until_logged("the daemon file cannot be used");
    assert_eq!(forwarded_for(&mut client, &app), "127.0.0.1");
    // Site files are looked at all the same.
    assert_eq!(proxy.get("new.test", "/").text(), "new");
    fs::remove_file(proxy.folder().join("onedoor.toml")).unwrap();
    let words = words_of(&proxy.command(["reload"]));
    assert!(
        words.contains("the settings of before stay in force"),
        "{words}"
    );
}

#[test]
fn what_needs_a_restart_is_named_and_waits() {
    let app = Backend::saying("shop");
    let proxy = with_shop(&app).start();
    let address = proxy.address();
    proxy.daemon_file(
        "workers = 7\ncatch_all = 'shop'\nsites = 'elsewhere'\n[log]\nlevel = 'debug'\n",
    );
    let said = reload(&proxy);
    for key in ["workers", "catch_all"] {
        assert!(said.contains(&format!("restart   {key}")), "{said}");
    }
    // A flag names it, and beats the file.
    assert!(!said.contains("restart   sites"), "{said}");
    assert!(said.contains("in force  [log]"), "{said}");
    proxy.until_logged("waiting for a restart");
    assert_eq!(proxy.address(), address);
    assert_eq!(proxy.get("shop.test", "/").text(), "shop");
    // Until it is done, or taken back.
    assert!(reload(&proxy).contains("restart   workers"));
    proxy.daemon_file("[log]\nlevel = 'debug'\n");
    let said = reload(&proxy);
    assert!(!said.contains("restart"), "{said}");
    assert!(said.contains("nothing changed"), "{said}");
}

#[test]
fn the_log_changes_its_level_and_its_shape() {
    let proxy = Proxy::plan()
        .daemon_file("[log]\nlevel = 'error'\n")
        .start();
    proxy.site("one.toml", "host = 'one.test'\nrespond = 'one'");
    assert!(!proxy.log().contains("one.test"), "{}", proxy.log());
    proxy.daemon_file("[log]\nformat = 'json'\n");
    reload(&proxy);
    proxy.site("two.toml", "host = 'two.test'\nrespond = 'two'");
    until("the log has a line of JSON", || {
        let log = proxy.log();
        log.lines()
            .any(|line| line.starts_with('{') && line.contains("two.test"))
    });
}

#[test]
fn a_redirect_to_a_port_that_nobody_may_listen_on_is_said_until_the_file_says_that_somebody_does() {
    let folder = Folder::new();
    let sites = Sites::at(folder.join("sites.d"));
    let pair = Authority::new("some").pair(&["shop.test"]);
    let keys = folder.join("keys");
    fs::create_dir(&keys).unwrap();
    pair.write(&keys, "shop");
    let files = format!(
        "cert = '{0}/shop.pem'\nkey = '{0}/shop.key'\n",
        keys.display()
    );
    let said = |listen: &str, tls: &str| {
        fs::write(folder.join("onedoor.toml"), listen).unwrap();
        sites.write("shop.toml", format!("host = 'shop.test'\nto = 5000\n{tls}"));
        words_of(&onedoor(&folder, ["check", "--state", "state"]))
    };
    const WARNING: &str = "to 443, where this onedoor does not listen";
    let only_80 = "listen = '0.0.0.0:80'\n";
    let found = format!("{only_80}certificates = 'keys'\n");
    let own = format!("[tls]\n{files}");
    let warned = |listen: &str, tls: &str| said(listen, tls).contains(WARNING);
    assert!(warned(only_80, &own), "{}", said(only_80, &own));
    assert!(warned(&found, ""), "{}", said(&found, ""));
    assert!(warned(only_80, "tls = 'passthrough'"));
    for quiet in [
        "https_port = 443\n",
        "https_port = 8443\n",
        "http = 'serve'\n",
        "http = 'refuse'\n",
    ] {
        let tls = format!("{own}{quiet}");
        assert!(!warned(only_80, &tls), "{}", said(only_80, &tls));
    }
    for listen in [
        "listen = ['0.0.0.0:80', '0.0.0.0:443']\n",
        // The client names the port, and the same one speaks TLS.
        "listen = '0.0.0.0:8080'\n",
        "listen = '0.0.0.0:80'\n[defaults]\ntls.https_port = 443\n",
    ] {
        assert!(!warned(listen, &own), "{}", said(listen, &own));
    }
    // No redirect.
    assert!(!warned(only_80, ""), "{}", said(only_80, ""));

    const ADDRESS: &str = "127.80.80.1:80";
    if std::net::TcpListener::bind(ADDRESS).is_err() {
        return println!("left out: no right to listen on port 80");
    }
    let site = format!("host = 'shop.test'\nto = 5000\n{own}");
    let plan = Proxy::plan().no_listen().flag("--listen").flag(ADDRESS);
    let proxy = plan.site("shop.toml", site).start();
    proxy.until_logged(WARNING);
    let listed = words_of(&proxy.command(["ls"]));
    assert!(listed.contains(WARNING), "{listed}");
}
