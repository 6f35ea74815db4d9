//! Content that was served over TLS never falls back to clear text, whatever becomes of certificates, files and memory.

use std::fs;

use super::certificates::slow_to_open;
use super::{tls_to, with_files, with_folder};
use crate::harness::http2::Http2;
use crate::harness::{Authority, Folder, Proxy, Tls, found, put, until, words_of};

const SHOP: &str = "shop.example.com";

fn remembered(proxy: &Proxy) -> String {
    fs::read_to_string(proxy.state().join("had-certificates")).unwrap_or_default()
}

/// Reading takes a while at a start. Nothing else than this one request ever says that the name has a certificate.
#[test]
fn a_name_asked_for_in_clear_text_while_its_pair_is_being_read_is_remembered() {
    if !found("strace") {
        return;
    }
    let authority = Authority::new("test");
    let in_http1: fn(&Proxy) -> u16 = |proxy| proxy.get(SHOP, "/").status;
    let in_http2: fn(&Proxy) -> u16 = |proxy| Http2::to(proxy).get(SHOP, "/").status();
    for ask in [in_http1, in_http2] {
        let plan = Proxy::plan();
        let folder = plan.sites().path().to_owned();
        authority.pair(&[SHOP]).write(&folder, "shop");
        let proxy = slow_to_open(plan, &folder.join("shop.pem"), 3_000_000)
            .site("shop.toml", with_files(SHOP, "shop", "shop"))
            .start();
        assert_eq!(ask(&proxy), 308);
        until("it is remembered", || {
            remembered(&proxy) == format!("{SHOP}\n")
        });
        let without = format!("host = '{SHOP}'\nrespond = 'shop'");
        proxy.sites().write("shop.toml", without);
        proxy.until_state("shop", "waiting");
        assert_eq!(proxy.get(SHOP, "/").said(), "503 no-certificate");
    }
}

/// It is served, whatever becomes of the pair.
#[test]
fn a_request_that_came_by_tls_to_a_trusted_proxy_does_not_wait_for_the_pair() {
    if !found("strace") {
        return;
    }
    let plan =
        Proxy::plan().daemon_file("[trust]\nproxies = '127.0.0.1'\n[timeout]\nopening = '10m'\n");
    let folder = plan.sites().path().to_owned();
    Authority::new("test").pair(&[SHOP]).write(&folder, "shop");
    let proxy = slow_to_open(plan, &folder.join("shop.pem"), 60_000_000)
        .site("shop.toml", with_files(SHOP, "shop", "shop"))
        .start();
    let mut client = proxy.client();
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: {SHOP}\r\nX-Forwarded-Proto: https\r\n\r\n"
    ));
    assert_eq!(client.response().text(), "shop");
}

#[test]
fn nobody_is_sent_on_to_tls_before_it_is_known_whether_the_pair_is_good() {
    if !found("strace") {
        return;
    }
    let authority = Authority::new("test");
    // Broken, or not read within the time of an opening.
    for (delay, limit, is_broken) in [(3_000_000, "60s", true), (60_000_000, "1s", false)] {
        let plan = Proxy::plan().daemon_file(&format!("[timeout]\nopening = '{limit}'\n"));
        let folder = plan.sites().path().to_owned();
        authority.pair(&[SHOP]).write(&folder, "shop");
        if is_broken {
            put(&folder, "shop.key", "nothing");
        }
        let open = with_files("open.example.com", "shop", "shop") + "http = 'serve'\n";
        let proxy = slow_to_open(plan, &folder.join("shop.pem"), delay)
            .site("shop.toml", with_files(SHOP, "shop", "shop"))
            .site("open.toml", open)
            .start();
        let mut client = proxy.client();
        for _ in 0..2 {
            assert_eq!(client.get(SHOP, "/").said(), "503 no-certificate");
        }
        assert_eq!(Http2::to(&proxy).get(SHOP, "/").status(), 503);
        assert_eq!(remembered(&proxy), "");
        // Who is served in clear text anyway waits for nothing.
        if !is_broken {
            assert_eq!(proxy.get("open.example.com", "/").status, 200);
        }
    }
}

#[test]
fn a_name_whose_certificate_its_file_no_longer_names_answers_503() {
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    let folder = plan.sites().path().to_owned();
    authority.pair(&["shop.example.com"]).write(&folder, "shop");
    authority.pair(&["other.example.com"]).write(&folder, "any");
    let any = |tls: &str| format!("host = '*.any.example.com'\nrespond = 'any'\n{tls}");
    let mut proxy = plan
        .site("shop.toml", with_files("shop.example.com", "shop", "shop"))
        .site(
            "any.toml",
            any("[tls]\ncert = 'any.pem'\nkey = 'any.key'\n"),
        )
        .start();
    tls_to(&proxy, &Tls::to("shop.example.com"));
    // Clear text is enough, and labels that clients think of are one name of an operator's.
    for number in 0..20 {
        let host = format!("x{number}.any.example.com");
        assert_eq!(proxy.get(&host, "/").status, 308);
    }
    until("both are remembered", || {
        let remembered = remembered(&proxy);
        let mut lines: Vec<&str> = remembered.lines().collect();
        lines.sort_unstable();
        lines == ["*.any.example.com", "shop.example.com"]
    });
    let shop = "host = 'shop.example.com'\nrespond = 'shop'";
    proxy.sites().write("shop.toml", shop);
    proxy.sites().write("any.toml", any(""));
    for name in ["shop", "any"] {
        proxy.until_state(name, "waiting");
    }
    for _ in 0..2 {
        for host in ["shop.example.com", "new.any.example.com"] {
            assert_eq!(proxy.get(host, "/").said(), "503 no-certificate", "{host}");
            assert!(Tls::to(host).shake(proxy.address()).is_err());
        }
        let ls = proxy.status("shop").unwrap()["problems"].to_string();
        assert!(
            ls.contains("no certificate for shop.example.com, and it had one: it answers 503"),
            "{ls}"
        );
        assert!(!ls.contains("clear text only"), "{ls}");
        proxy.stop();
        proxy.start_again();
    }
    proxy.site(
        "shop.toml",
        "host = 'shop.example.com'\nrespond = 'shop'\ntls = 'off'",
    );
    assert_eq!(proxy.get("shop.example.com", "/").text(), "shop");
}

/// Taken away before anybody has asked, it may not open what it was to close.
#[test]
fn a_name_that_nobody_has_asked_for_is_remembered_too() {
    let authority = Authority::new("test");
    let plan = with_folder("catch_all = 'all'\n");
    let live = plan.folder().join("live");
    let (below, other) = ("one.star.example.com", "other.example.net");
    for (name, host) in [
        ("found", "found.example.com"),
        ("any", "*.any.example.com"),
        // Found for what wildcards of sites stand for.
        ("below", below),
        ("other", other),
    ] {
        authority.pair(&[host]).write(&live, name);
    }
    let sites = plan.sites().path().to_owned();
    authority.pair(&[SHOP]).write(&sites, "shop");
    let site = |host: &str| format!("host = '{host}'\nrespond = 'x'\n");
    let proxy = plan
        .site(
            "shop.toml",
            with_files(SHOP, "shop", "shop").replace(
                &format!("'{SHOP}'"),
                &format!("['{SHOP}', 'unlike.example.com']"),
            ),
        )
        .site("found.toml", site("found.example.com"))
        .site("any.toml", site("*.any.example.com"))
        .site("star.toml", site("*.star.example.com"))
        .site("all.toml", site("*"))
        .start();
    let names = [SHOP, "found.example.com", "*.any.example.com", below, other];
    until("all are remembered", || {
        let remembered = remembered(&proxy);
        names
            .iter()
            .all(|name| remembered.lines().any(|line| line == *name))
    });
    // That one is no name of the pair: to write it down closes it for nobody.
    assert!(!remembered(&proxy).contains("unlike"));
    for name in ["found", "any", "below", "other"] {
        for half in ["pem", "key"] {
            fs::remove_file(live.join(format!("{name}.{half}"))).unwrap();
        }
    }
    proxy.sites().write("shop.toml", site(SHOP));
    proxy.until_state("shop", "waiting");
    let reload = proxy.command(["reload", "--accept-removals"]);
    assert!(reload.status.success(), "{}", words_of(&reload));
    for host in [
        SHOP,
        "found.example.com",
        "new.any.example.com",
        below,
        other,
    ] {
        assert_eq!(proxy.get(host, "/").said(), "503 no-certificate", "{host}");
    }
    assert_eq!(proxy.get("two.star.example.com", "/").status, 200);
}

#[test]
fn a_site_that_comes_with_its_pair_is_not_live_in_clear_text_for_a_moment() {
    let authority = Authority::new("test");
    let proxy = with_folder("").start();
    let live = proxy.folder().join("live");
    let site = |host: &str| format!("host = '{host}'\nrespond = 'x'\n");
    authority.pair(&["one.example.com"]).write(&live, "one");
    proxy.site("one.toml", site("one.example.com"));
    assert_eq!(proxy.get("one.example.com", "/").status, 308);
    assert!(Tls::to("one.example.com").shake(proxy.address()).is_ok());
    // What is on disk is what is served, for whoever waits.
    proxy.site("two.toml", site("two.example.com"));
    assert_eq!(proxy.get("two.example.com", "/").status, 200);
    authority.pair(&["two.example.com"]).write(&live, "two");
    let wait = proxy.command(["wait", "two"]);
    assert!(wait.status.success(), "{}", words_of(&wait));
    assert_eq!(proxy.get("two.example.com", "/").status, 308);
}

#[test]
fn a_site_that_answers_nothing_but_503_is_not_live_and_is_waited_for() {
    let authority = Authority::new("test");
    let folder = Folder::new();
    let status = folder.path();
    let plan = with_folder(&format!("status = '{}'\n", status.display()));
    let live = plan.folder().join("live");
    let pair = authority.pair(&[SHOP]);
    pair.write(&live, "shop");
    let other = authority.pair(&["one.w.example.com", "two.w.example.com"]);
    other.write(&live, "other");
    let says = |host: &str, tls: &str| format!("host = {host}\nrespond = 'here'\n{tls}");
    let sent = "tls.http = 'redirect'\n";
    let proxy = plan
        .site("shop.toml", says("'shop.example.com'", ""))
        // Some of their names answer.
        .site("two.toml", says("['one.w.example.com', 'two.test']", sent))
        .site("below.toml", says("'*.w.example.com'", sent))
        .start();
    let is = |name: &str, state: &str| {
        proxy.until_state(name, state);
        until("the status file says so", || {
            let text = fs::read_to_string(status.join(format!("{name}.json"))).unwrap_or_default();
            let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            status["state"] == state
        });
    };
    let ends = |words: &[&str]| {
        let words = ["wait"].iter().chain(words).copied();
        let output = proxy.command(words.chain(["--timeout", "100ms"]));
        (output.status.code(), words_of(&output))
    };
    tls_to(&proxy, &Tls::to(SHOP));
    until("it is remembered", || remembered(&proxy).contains(SHOP));
    for name in ["shop", "two", "below"] {
        is(name, "live");
        proxy.wait_for(name);
    }

    fs::remove_file(live.join("shop.pem")).unwrap();
    fs::remove_file(live.join("shop.key")).unwrap();
    until("the pair is gone", || {
        proxy.command(["reload"]);
        proxy.get(SHOP, "/").said() == "503 no-certificate"
    });
    is("shop", "waiting");
    is("two", "live");
    is("below", "live");
    let why = "no certificate for shop.example.com, and it had one: it answers 503";
    let (code, said) = ends(&["shop"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("shop is not serving yet") && said.contains(why),
        "{said}"
    );
    // It has served: that is no matter of whoever deploys another.
    let all = proxy.command(["wait"]);
    assert!(all.status.success(), "{}", words_of(&all));
    assert_eq!(
        proxy.status("shop").unwrap()["serving_since"],
        serde_json::Value::Null
    );
    let metrics = proxy.admin("GET", "/metrics").1;
    for series in ["{state=\"live\"} 2\n", "{state=\"waiting\"} 1\n"] {
        assert!(
            metrics.contains(&format!("onedoor_site_files{series}")),
            "{metrics}"
        );
    }

    // One that never had one, and whose operator wants TLS. A reload does not wait for it.
    proxy
        .sites()
        .write("sent.toml", says("'sent.example.com'", sent));
    let reload = words_of(&proxy.command(["reload"]));
    assert!(
        reload.contains("waiting   sent\nwaiting   shop\n2 sites live\n"),
        "{reload}"
    );
    let (code, said) = ends(&[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("waiting for sent: no certificate for sent.example.com"),
        "{said}"
    );
    assert_eq!(
        proxy.get("sent.example.com", "/").said(),
        "503 no-certificate"
    );
    is("sent", "waiting");

    pair.write(&live, "shop");
    authority.pair(&["sent.example.com"]).write(&live, "sent");
    until("both are found", || {
        proxy.command(["reload"]);
        ["shop", "sent"]
            .iter()
            .all(|name| proxy.state_of(name) == "live")
    });
    for (name, host) in [("shop", SHOP), ("sent", "sent.example.com")] {
        proxy.wait_for(name);
        is(name, "live");
        assert_eq!(proxy.get(host, "/").status, 308);
        proxy.until_logged(&format!("it has a certificate now, live site={name}"));
    }
}

#[test]
fn what_is_said_at_a_start_of_a_pair_that_is_missing_or_broken_is_one_line_and_not_that_it_is_live()
{
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    let folder = plan.sites().path().to_owned();
    let mut plan = plan;
    for name in ["good", "missing", "broken"] {
        let host = format!("{name}.example.com");
        authority.pair(&[&host]).write(&folder, name);
        plan = plan.site(&format!("{name}.toml"), with_files(&host, name, name));
    }
    fs::remove_file(folder.join("missing.key")).unwrap();
    put(&folder, "broken.key", "nothing");
    let proxy = plan.start();
    proxy.until_logged("3 sites from ");
    for said in [
        "site live site=good",
        "waiting: ",
        "broken.key: there is no private key in it",
    ] {
        proxy.until_logged(said);
    }
    proxy.until_state("missing", "waiting");
    proxy.until_state("broken", "down");
    let log = proxy.log();
    assert!(
        log.contains(", 3 of them live once the certificate files are read"),
        "{log}"
    );
    assert_eq!(log.matches("site live").count(), 1, "{log}");
    for name in ["missing", "broken"] {
        assert_eq!(log.matches(&format!("site={name}")).count(), 1, "{log}");
    }
}

/// Its owner never had one: what somebody else does with the names around it is no affair of his.
#[test]
fn a_certificate_for_a_wildcard_closes_no_site_that_claims_a_name_under_it() {
    let authority = Authority::new("test");
    let plan = with_folder("catch_all = 'any'\n");
    let (folder, live) = (plan.sites().path().to_owned(), plan.folder().join("live"));
    authority.pair(&["*.w.example.com"]).write(&folder, "w");
    let corp = authority.pair(&["*.corp.example.com"]);
    let plain = |host: &str| format!("host = '{host}'\nrespond = 'plain'\n");
    let (blog, wiki) = ("blog.w.example.com", "wiki.corp.example.com");
    let mut proxy = plan
        .site("blog.toml", plain(blog))
        .site("wiki.toml", plain(wiki))
        .site("w.toml", with_files("*.w.example.com", "w", "w"))
        .site("any.toml", plain("*"))
        .start();
    // Waits until its files are read.
    tls_to(&proxy, &Tls::to("x.w.example.com"));
    assert_eq!(proxy.get(blog, "/").text(), "plain");
    corp.write(&live, "corp");
    proxy.command(["reload"]);
    assert_eq!(proxy.get("x.corp.example.com", "/").status, 308);
    // What lies in the folders is for this one as well.
    until("all are remembered", || {
        let remembered = remembered(&proxy);
        let mut lines: Vec<&str> = remembered.lines().collect();
        lines.sort_unstable();
        lines == ["*.corp.example.com", "*.w.example.com", wiki]
    });
    fs::remove_file(live.join("corp.pem")).unwrap();
    fs::remove_file(live.join("corp.key")).unwrap();
    until("it is gone", || {
        proxy.command(["reload"]);
        proxy.get("x.corp.example.com", "/").said() == "503 no-certificate"
    });
    for _ in 0..2 {
        assert_eq!(proxy.get(blog, "/").text(), "plain");
        assert_eq!(proxy.get(wiki, "/").said(), "503 no-certificate");
        let ls = proxy.status("blog").unwrap()["problems"].to_string();
        assert!(ls.contains("live, clear text only"), "{ls}");
        proxy.stop();
        proxy.start_again();
    }
    // From here on it has had one, too.
    authority.pair(&[blog]).write(&live, "blog");
    proxy.command(["reload"]);
    assert_eq!(proxy.get(blog, "/").status, 308);
    until("it is remembered by its name", || {
        remembered(&proxy).ends_with("\nblog.w.example.com\n")
    });
    fs::remove_file(live.join("blog.pem")).unwrap();
    fs::remove_file(live.join("blog.key")).unwrap();
    proxy.stop();
    proxy.start_again();
    assert_eq!(proxy.get(blog, "/").said(), "503 no-certificate");
}

#[test]
fn the_local_authority_takes_over_where_a_certificate_for_a_local_name_is_taken_away() {
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    let pair = authority.pair(&["blue.localhost"]);
    pair.write(plan.sites().path(), "blue");
    let mut proxy = plan
        .site("blue.toml", with_files("blue.localhost", "blue", "blue"))
        .start();
    tls_to(&proxy, &Tls::to("blue.localhost"));
    until("it is remembered", || {
        remembered(&proxy) == "blue.localhost\n"
    });
    proxy.site("blue.toml", "host = 'blue.localhost'\nrespond = 'local'");
    for _ in 0..2 {
        let mut client = tls_to(&proxy, &Tls::to("blue.localhost"));
        assert_eq!(client.get("blue.localhost", "/").text(), "local");
        // It was not served in clear text either.
        assert_eq!(proxy.get("blue.localhost", "/").status, 308);
        proxy.stop();
        proxy.start_again();
    }
}

#[test]
fn a_memory_that_cannot_be_read_opens_nothing() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    authority.pair(&["shop.example.com"]).write(&live, "shop");
    let mut proxy = plan
        .site("shop.toml", "host = 'shop.example.com'\nrespond = 'shop'")
        .site(
            "plain.toml",
            "host = 'plain.example.com'\nrespond = 'plain'",
        )
        .site("blue.localhost.toml", "respond = 'blue'")
        .start();
    assert_eq!(proxy.get("shop.example.com", "/").status, 308);
    until("it is remembered", || {
        remembered(&proxy) == "shop.example.com\n"
    });
    proxy.stop();
    let file = proxy.state().join("had-certificates");
    fs::write(&file, b"shop.exam\xffle.com\n").unwrap();
    fs::remove_file(live.join("shop.pem")).unwrap();
    fs::remove_file(live.join("shop.key")).unwrap();
    proxy.start_again();
    proxy.until_logged("had-certificates:1: that is no name");
    for host in ["shop.example.com", "plain.example.com"] {
        assert_eq!(proxy.get(host, "/").said(), "503 no-certificate", "{host}");
    }
    assert_eq!(proxy.get("blue.localhost", "/").text(), "blue");
    let ls = proxy.status("plain").unwrap()["problems"].to_string();
    assert!(ls.contains("whether it had one is not known"), "{ls}");
    // Mended, without a restart.
    fs::write(&file, "shop.example.com\n").unwrap();
    proxy.command(["reload"]);
    until("the file was read again", || {
        proxy.get("plain.example.com", "/").text() == "plain"
    });
    assert_eq!(
        proxy.get("shop.example.com", "/").said(),
        "503 no-certificate"
    );
}

#[test]
fn an_authority_for_clients_that_is_broken_at_a_restart_sends_nobody_to_tls_that_is_refused() {
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let plan = with_folder("");
    let live = plan.folder().join("live");
    authority.pair(&["shop.example.com"]).write(&live, "shop");
    put(plan.sites().path(), "partners.pem", &partners.pem);
    let client = "respond = 'secret'\n[tls.client]\nca = 'partners.pem'\n";
    let mut proxy = plan
        .site("shop.toml", format!("host = 'shop.example.com'\n{client}"))
        .site("blue.localhost.toml", client)
        .start();
    let hosts = ["shop.example.com", "blue.localhost"];
    for host in hosts {
        assert_eq!(proxy.get(host, "/").status, 308, "{host}");
    }
    put(proxy.sites().path(), "partners.pem", "nothing");
    proxy.stop();
    proxy.start_again();
    proxy.until_logged("partners.pem: there is no certificate in it");
    for host in hosts {
        let ann = Tls::to(host).showing(&partners.client("ann"));
        assert!(ann.shake(proxy.address()).is_err(), "{host}");
        assert_eq!(proxy.get(host, "/").said(), "503 no-certificate", "{host}");
    }
    put(proxy.sites().path(), "partners.pem", &partners.pem);
    until("it is mended", || {
        proxy.get("shop.example.com", "/").status == 308
    });
}
