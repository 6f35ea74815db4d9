//! Files that change, break, are missing or are found: nobody else notices, and nothing falls back to clear text.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::{tls_to, two_and_one, with_files, with_folder};
use crate::harness::{
    Agreed, Authority, Client, Folder, Pair, Plan, Proxy, Sites, Tls, found, is_same, onedoor, put,
    until, words_of,
};

#[test]
fn a_renewed_certificate_is_shown_without_one_failed_handshake() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    let (done, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let tls = Tls::to("shop.example.com").trusting(&authority.pem);
    // Once it was shown it has been read: until then there is nothing to keep while the two do not fit.
    tls_to(&proxy, &tls);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(
                    tls_to(&proxy, &tls).get("shop.example.com", "/").text(),
                    "shop"
                );
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        for _ in 0..5 {
            let renewed = authority.pair(&["shop.example.com"]);
            // The two change at different moments, whichever comes first.
            let folder = proxy.sites().path();
            put(folder, "shop.pem", &renewed.cert);
            put(folder, "shop.key", &renewed.key);
            until("the new certificate is shown", || {
                is_same(&renewed.cert, &tls.shake(proxy.address()).unwrap().shown())
            });
        }
        let before = count.load(Ordering::SeqCst);
        until("it was asked meanwhile", || {
            count.load(Ordering::SeqCst) > before
        });
        done.store(true, Ordering::SeqCst);
        asking.join().unwrap();
    });
}

#[test]
fn a_certificate_without_the_intermediate_that_no_client_has_is_said() {
    let (web, own) = (Authority::new("R11"), Authority::new("own"));
    let whole = |pair: Pair| Pair {
        cert: pair.cert + &web.pem,
        ..pair
    };
    let plan = with_folder("");
    let live = plan.folder().join("live");
    let shop = web.pair_of_the_web(&["shop.example.com"]);
    shop.write(plan.sites().path(), "shop");
    let blog = web.pair_of_the_web(&["blog.example.com"]);
    blog.write(&live, "blog");
    // A company's root may sign by itself, and a full chain lacks nothing.
    own.pair(&["wiki.example.com"]).write(&live, "wiki");
    whole(web.pair_of_the_web(&["docs.example.com"])).write(&live, "docs");
    let answers = |host: &str| format!("host = '{host}'\nrespond = 'here'\n");
    let proxy = plan
        .site("shop.toml", with_files("shop.example.com", "shop", "shop"))
        .site("blog.toml", answers("blog.example.com"))
        .site("wiki.toml", answers("wiki.example.com"))
        .site("docs.toml", answers("docs.example.com"))
        .start();
    let said = |file: &str| {
        format!(
            "{file}.pem: the certificate comes without the intermediate of its issuer \"R11\"; clients may refuse it"
        )
    };
    let check = words_of(&onedoor(proxy.folder(), ["check"]));
    let problems = |site: &str| {
        proxy.status(site).unwrap()["problems"]
            .to_string()
            .replace("\\\"", "\"")
    };
    for site in ["shop", "blog"] {
        proxy.until_logged(&said(site));
        assert!(problems(site).contains(&said(site)), "{}", problems(site));
        assert!(check.contains(&said(site)), "{check}");
    }
    for site in ["wiki", "docs"] {
        assert_eq!(problems(site), "[]");
        assert!(!check.contains(&format!("{site}.pem")), "{check}");
    }
    put(proxy.sites().path(), "shop.pem", &whole(shop).cert);
    put(&live, "blog.pem", &whole(blog).cert);
    until("they are whole", || {
        proxy.command(["reload"]);
        problems("shop") == "[]" && problems("blog") == "[]"
    });
    for site in ["shop", "blog"] {
        assert_eq!(
            proxy.log().matches(&said(site)).count(),
            1,
            "{}",
            proxy.log()
        );
    }
}

#[test]
fn an_intermediate_that_ends_before_its_certificate_is_said_and_another_shown_where_it_has_ended() {
    let plan = with_folder("");
    let live = plan.folder().join("live");
    let (former, ending) = (
        Authority::former("former"),
        Authority::for_days("ending", 5),
    );
    former
        .whole_pair(&["shop.example.com"])
        .write(&live, "shop");
    ending
        .whole_pair(&["blog.example.com"])
        .write(&live, "blog");
    // Without it nobody knows when it ends.
    ending.pair(&["wiki.example.com"]).write(&live, "wiki");
    let answers = |host: &str| format!("host = '{host}'\nrespond = 'here'\n");
    let proxy = plan
        .site("shop.toml", answers("shop.example.com"))
        .site("blog.toml", answers("blog.example.com"))
        .site("wiki.toml", answers("wiki.example.com"))
        .start();
    let check = words_of(&onedoor(proxy.folder(), ["check"]));
    for (site, said) in [
        (
            "shop",
            "shop.pem: the intermediate of the certificate ended 1 day ago; clients will refuse it",
        ),
        (
            "blog",
            "blog.pem: the intermediate of the certificate ends in 4 days",
        ),
    ] {
        proxy.until_logged(said);
        let problems = proxy.status(site).unwrap()["problems"].to_string();
        assert!(problems.contains(said), "{problems}");
        assert!(check.contains(said), "{check}");
    }
    assert!(!check.contains("wiki.pem"), "{check}");
    // It counts as ended: another is shown, be it for a day.
    let good = ending.pair_for_days(&["shop.example.com"], 1);
    good.write(&live, "good");
    until("the other is shown", || {
        proxy.command(["reload"]);
        let shown = Tls::to("shop.example.com")
            .shake(proxy.address())
            .unwrap()
            .shown();
        is_same(&good.cert, &shown)
    });
}

#[test]
fn a_broken_new_pair_keeps_the_old_one_and_is_said() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    // Once it was shown it has been read.
    tls_to(&proxy, &Tls::to("shop.example.com"));
    let stranger = authority.pair(&["shop.example.com"]);
    put(proxy.sites().path(), "shop.key", &stranger.key);
    proxy.until_state("shop", "stale");
    proxy.until_logged("shop.key: the key does not fit the certificate");
    let tls = Tls::to("shop.example.com").trusting(&authority.pem);
    assert_eq!(
        tls_to(&proxy, &tls).get("shop.example.com", "/").text(),
        "shop"
    );
    put(proxy.sites().path(), "shop.pem", &stranger.cert);
    proxy.until_state("shop", "live");
    assert!(is_same(
        &stranger.cert,
        &tls.shake(proxy.address()).unwrap().shown()
    ));
}

#[test]
fn a_site_waits_for_a_certificate_that_is_not_there_yet() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    proxy
        .sites()
        .write("late.toml", with_files("late.example.com", "late", "late"));
    proxy.until_state("late", "waiting");
    let reason = proxy.status("late").unwrap()["reason"].to_string();
    assert!(reason.contains("late.pem is not there yet"), "{reason}");
    assert_eq!(
        proxy.get("late.example.com", "/").said(),
        "421 no-site-for-host"
    );
    authority
        .pair(&["late.example.com"])
        .write(proxy.sites().path(), "late");
    proxy.wait_for("late.toml");
    let mut client = tls_to(
        &proxy,
        &Tls::to("late.example.com").trusting(&authority.pem),
    );
    assert_eq!(client.get("late.example.com", "/").text(), "late");
}

#[test]
fn a_site_whose_key_is_taken_away_goes_on_with_its_pair_and_says_so() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    let tls = Tls::to("shop.example.com").trusting(&authority.pem);
    tls_to(&proxy, &tls);
    let folder = proxy.sites().path();
    put(
        folder,
        "shop.pem",
        &authority.pair(&["other.example.com"]).cert,
    );
    fs::remove_file(folder.join("shop.key")).unwrap();
    proxy.until_state("shop", "waiting");
    proxy.until_logged("waiting, still serving the version of ");
    let status = proxy.status("shop").unwrap();
    let problems = status["problems"].to_string();
    let said = "what served before is served until it is there, but not after a restart";
    assert!(problems.contains(said), "{problems}");
    assert!(problems.contains("shop.key is not there yet"), "{problems}");
    let check = words_of(&proxy.command(["check"]));
    assert!(check.contains("shop.key is not there yet"), "{check}");
    assert_eq!(
        tls_to(&proxy, &tls).get("shop.example.com", "/").text(),
        "shop"
    );
}

#[test]
fn a_pair_that_is_broken_at_a_restart_closes_the_site_and_no_other() {
    let authority = Authority::new("test");
    let mut proxy = two_and_one(&authority);
    put(proxy.sites().path(), "shop.key", "nothing");
    proxy.stop();
    proxy.start_again();
    proxy.until_logged("shop.key: there is no private key in it");
    // It has never served since.
    proxy.until_state("shop", "down");
    let problems = proxy.status("shop").unwrap()["problems"].to_string();
    assert!(
        problems.contains("shop.key: there is no private key"),
        "{problems}"
    );
    assert!(problems.contains("error: "), "{problems}");
    assert_eq!(proxy.command(["wait", "shop"]).status.code(), Some(1));
    assert!(Tls::to("shop.example.com").shake(proxy.address()).is_err());
    assert_eq!(
        proxy.get("shop.example.com", "/").said(),
        "503 no-certificate"
    );
    let blog = Tls::to("blog.example.com").trusting(&authority.pem);
    assert_eq!(
        tls_to(&proxy, &blog).get("blog.example.com", "/").text(),
        "blog"
    );
    let broken = "host = 'shop.example.com'\nto = nowhere";
    put(proxy.sites().path(), "shop.toml", broken);
    proxy.until_logged("rejected, nothing older to serve site=shop");
    assert_eq!(proxy.state_of("shop"), "down");
    let text = with_files("shop.example.com", "shop", "shop");
    put(proxy.sites().path(), "shop.toml", &text);
    authority
        .pair(&["shop.example.com"])
        .write(proxy.sites().path(), "shop");
    let shop = Tls::to("shop.example.com").trusting(&authority.pem);
    until("it is mended", || shop.shake(proxy.address()).is_ok());
    proxy.until_state("shop", "live");
    assert_eq!(proxy.get("shop.example.com", "/").status, 308);
}

#[test]
fn a_certificate_that_is_missing_at_a_start_is_waited_for() {
    let authority = Authority::new("test");
    let mut proxy = two_and_one(&authority);
    let folder = proxy.sites().path().to_owned();
    proxy.stop();
    fs::remove_file(folder.join("shop.pem")).unwrap();
    proxy.start_again();
    proxy.until_state("shop", "waiting");
    let reason = proxy.status("shop").unwrap()["reason"].to_string();
    assert!(reason.contains("shop.pem is not there yet"), "{reason}");
    let listed = words_of(&proxy.command(["ls", "--errors"]));
    assert!(
        listed.contains("shop: waiting, nothing of it serves"),
        "{listed}"
    );
    assert!(Tls::to("shop.example.com").shake(proxy.address()).is_err());
    assert_eq!(
        proxy.get("shop.example.com", "/").said(),
        "503 no-certificate"
    );
    assert_eq!(proxy.state_of("blog"), "live");
    authority.pair(&["shop.example.com"]).write(&folder, "shop");
    proxy.until_state("shop", "live");
    let shop = Tls::to("shop.example.com").trusting(&authority.pem);
    assert_eq!(
        tls_to(&proxy, &shop).get("shop.example.com", "/").text(),
        "shop"
    );
}

/// A plan for which opening `file` takes so many microseconds.
pub(super) fn slow_to_open(plan: Plan, file: &Path, delay: u64) -> Plan {
    let inject = format!("inject=openat:delay_enter={delay}");
    let file = file.display().to_string();
    let quiet = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"];
    let only = ["-P", &file, "-e", "trace=openat", "-e", &inject];
    plan.under(quiet.into_iter().chain(only))
}

/// Reading takes a while at a start, and nobody is turned away for it.
#[test]
fn a_handshake_for_a_pair_that_is_still_being_read_waits_as_long_as_it_may() {
    if !found("strace") {
        return;
    }
    let authority = Authority::new("test");
    for (delay, limit, is_served) in [(4_000_000, "60s", true), (60_000_000, "1s", false)] {
        let plan = Proxy::plan().daemon_file(&format!("[timeout]\nopening = '{limit}'\n"));
        authority
            .pair(&["shop.example.com"])
            .write(plan.sites().path(), "shop");
        let chain = plan.sites().join("shop.pem");
        let proxy = slow_to_open(plan, &chain, delay)
            .site("shop.toml", with_files("shop.example.com", "shop", "shop"))
            .start();
        let tls = Tls::to("shop.example.com").trusting(&authority.pem);
        let line = tls.shake(proxy.address());
        assert_eq!(line.is_ok(), is_served, "after {delay} us");
        match line {
            Ok(line) => {
                let mut client = Client::over(line);
                assert_eq!(client.get("shop.example.com", "/").text(), "shop");
            }
            Err(_) => proxy.until_counted("handshake-timeout", 1),
        }
    }
}

#[test]
fn a_site_shakes_hands_while_what_its_backends_need_is_being_read() {
    if !found("strace") {
        return;
    }
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    authority.pair(&["shop.example.com"]).write(&live, "shop");
    let ca = plan.sites().join("ca.pem");
    put(plan.sites().path(), "ca.pem", &authority.pem);
    let file = "host = 'shop.example.com'\nto = { at = 'https://127.0.0.1:1', ca = 'ca.pem' }\n";
    let proxy = slow_to_open(plan, &ca, 60_000_000)
        .site("shop.toml", format!("{file}[tls]\nmin = '1.3'\n"))
        .start();
    let tls = Tls::to("shop.example.com").trusting(&authority.pem);
    assert!(tls.shake(proxy.address()).is_ok());
}

/// As certbot lays them: the site file names a link, and what that leads to is switched.
#[test]
fn a_pair_behind_links_is_renewed_when_the_links_are() {
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    let archive = plan.folder().join("archive");
    fs::create_dir(&archive).unwrap();
    let put_in = |round: usize| {
        let pair = authority.pair(&["shop.example.com"]);
        for (name, text) in [("shop.key", &pair.key), ("shop.pem", &pair.cert)] {
            let kept = format!("{round}-{name}");
            put(&archive, &kept, text);
            let beside = archive.join(format!(".{name}"));
            symlink(archive.join(kept), &beside).unwrap();
            fs::rename(beside, archive.join(name)).unwrap();
        }
        pair
    };
    let first = put_in(1);
    for name in ["shop.key", "shop.pem"] {
        symlink(archive.join(name), plan.sites().join(name)).unwrap();
    }
    let proxy = plan
        .site("shop.toml", with_files("shop.example.com", "shop", "shop"))
        .start();
    let tls = Tls::to("shop.example.com").trusting(&authority.pem);
    let shown = || tls.shake(proxy.address()).unwrap().shown();
    assert!(is_same(&first.cert, &shown()));
    let second = put_in(2);
    until("the second is shown", || is_same(&second.cert, &shown()));
    assert_eq!(proxy.state_of("shop"), "live");
}

#[test]
fn every_way_in_which_a_pair_can_be_wrong_is_said() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    let good = authority.pair(&["shop.example.com"]);
    let other = authority.pair(&["shop.example.com"]);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let former = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
    let torn = &good.cert[..good.cert.len() / 2];
    // Each is tried with each: so many that this would keep a processor busy are no pair of anybody's.
    let (many, keys) = (good.cert.repeat(17), good.key.repeat(5));
    for (cert, key, said) in [
        (
            good.cert.as_str(),
            other.key.as_str(),
            "bad.key: the key does not fit the certificate",
        ),
        (
            good.cert.as_str(),
            good.cert.as_str(),
            "bad.key: there is no private key in it",
        ),
        (
            good.cert.as_str(),
            encrypted,
            "bad.key: the key is encrypted",
        ),
        (good.cert.as_str(), former, "bad.key: the key is encrypted"),
        (
            good.key.as_str(),
            good.key.as_str(),
            "bad.pem: there is no certificate in it",
        ),
        (torn, good.key.as_str(), "bad.pem: the PEM in it is damaged"),
        (
            many.as_str(),
            good.key.as_str(),
            "bad.pem: there are more than 16 certificates in it",
        ),
        (
            good.cert.as_str(),
            keys.as_str(),
            "bad.key: there are more than 4 private keys in it",
        ),
    ] {
        put(proxy.sites().path(), "bad.pem", cert);
        put(proxy.sites().path(), "bad.key", key);
        proxy
            .sites()
            .write("bad.toml", with_files("bad.example.com", "bad", "bad"));
        until(said, || {
            proxy.command(["reload"]);
            let status = proxy.status("bad").unwrap();
            // Between the two files of a turn a good pair may have lain there, and have gone live.
            let is_rejected = status["state"] == "down" || status["state"] == "stale";
            is_rejected && status["problems"].to_string().contains(said)
        });
        let check = words_of(&onedoor(proxy.folder(), ["check", "sites.d"]));
        assert!(check.contains(said), "{check}");
        assert!(!check.contains("MII"), "nothing of a key is shown: {check}");
    }
    assert_eq!(proxy.state_of("shop"), "live");
}

#[test]
fn a_file_of_another_kind_is_said_to_be_what_it_is() {
    if !found("openssl") {
        return;
    }
    let folder = Folder::new();
    let sites = Sites::at(folder.join("sites.d"));
    let openssl = |words: &str| {
        let output = Command::new("openssl")
            .args(words.split(' '))
            .current_dir(sites.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
    };
    let make = "req -x509 -nodes -days 30 -newkey";
    openssl(&format!(
        "{make} rsa:2048 -keyout good.key -out good.pem -subj /CN=good.example.com"
    ));
    openssl(&format!(
        "{make} rsa:1024 -keyout short.key -out short.pem -subj /CN=short.example.com"
    ));
    openssl("rsa -in good.key -traditional -aes128 -passout pass:x -out locked.key");
    openssl("x509 -in good.pem -outform der -out der.pem");
    openssl("pkey -in good.key -outform der -out der.key");
    openssl("pkcs12 -export -in good.pem -inkey good.key -passout pass: -out pfx.pem");
    openssl("req -new -key good.key -out request.pem -subj /CN=good.example.com");
    fs::copy(sites.join("pfx.pem"), sites.join("pfx.key")).unwrap();
    for (number, (cert, key, said)) in [
        (
            "good",
            "short",
            "short.key: the key is of no kind that TLS uses",
        ),
        (
            "short",
            "short",
            "short.key: the key is RSA of 1024 bits, and TLS takes 2048 to 8192",
        ),
        ("good", "locked", "locked.key: the key is encrypted"),
        ("der", "good", "one in DER; `openssl x509 -inform der"),
        ("good", "der", "one in DER; `openssl pkey -inform der"),
        ("pfx", "pfx", "it is PKCS#12 (PFX); `openssl pkcs12 -nokeys"),
        (
            "good",
            "pfx",
            "it is PKCS#12 (PFX); `openssl pkcs12 -nocerts",
        ),
        ("request", "good", "but a request for one"),
        (
            "good",
            "good",
            "not for host8.example.com: it has no subjectAltName with a hostname",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!(
            "host = 'host{number}.example.com'\nto = 5000\n[tls]\ncert = '{cert}.pem'\nkey = '{key}.key'\n"
        );
        sites.write("one.toml", text);
        let check = words_of(&onedoor(&folder, ["check", "--state", "state"]));
        assert!(check.contains(said), "{said} is not in\n{check}");
    }
    fs::rename(sites.join("good.key"), sites.join("spare.key")).unwrap();
    fs::rename(sites.join("good.pem"), sites.join("good.key")).unwrap();
    fs::rename(sites.join("spare.key"), sites.join("good.pem")).unwrap();
    let check = words_of(&onedoor(&folder, ["check", "--state", "state"]));
    assert!(
        check.contains("are the certificate and the key swapped?"),
        "{check}"
    );
}

#[test]
fn a_chain_in_the_wrong_order_with_text_between_is_put_right() {
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    let pair = authority.pair(&["shop.example.com"]);
    let text = format!(
        "some words\r\n{}\r\nmore words\r\n{}",
        authority.pem, pair.cert
    );
    put(proxy.sites().path(), "shop.key", &pair.key);
    put(
        proxy.sites().path(),
        "shop.pem",
        &text.replace('\n', "\r\n"),
    );
    let tls = Tls::to("shop.example.com").trusting(&authority.pem);
    until("the new one is shown", || {
        tls.shake(proxy.address())
            .is_ok_and(|line| is_same(&pair.cert, &line.shown()))
    });
}

#[test]
fn what_an_operator_should_know_of_a_certificate_is_said_and_stops_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    authority
        .pair_for_days(&["shop.example.com"], -3)
        .write(plan.sites().path(), "shop");
    authority
        .pair_for_days(&["blog.example.com"], 5)
        .write(plan.sites().path(), "blog");
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(plan.sites().join("blog.key"), open).unwrap();
    let proxy = plan
        .site("shop.toml", with_files("shop.example.com", "shop", "shop"))
        .site(
            "blog.toml",
            with_files("weblog.example.com", "blog", "blog"),
        )
        .start();
    proxy.until_logged("shop.pem: the certificate ended 3 days ago");
    for said in [
        "blog.pem: the certificate ends in 4 days",
        "the certificate is not for weblog.example.com, but for blog.example.com",
        "blog.key: everybody can read or change the key",
    ] {
        proxy.until_logged(said);
        let ls = proxy.status("blog").unwrap()["problems"].to_string();
        assert!(ls.contains(said), "{ls}");
    }
    for host in ["shop.example.com", "weblog.example.com"] {
        assert_eq!(tls_to(&proxy, &Tls::to(host)).get(host, "/").status, 200);
    }
}

/// A plan with one site that names its pair, which is good for so long, and one whose pair is found.
fn named_and_found(span: time::Duration) -> Plan {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    let pair = |host| authority.pair_for(&[host], span);
    pair("shop.example.com").write(plan.sites().path(), "shop");
    pair("found.example.com").write(&live, "found");
    let found = "host = 'found.example.com'\nrespond = 'found'";
    plan.site("shop.toml", with_files("shop.example.com", "shop", "shop"))
        .site("found.toml", found)
}

/// What was true when it was read is not what `ls` says a week later.
#[test]
fn the_end_of_a_certificate_is_said_as_it_is_now() {
    let proxy = named_and_found(time::Duration::seconds(6)).start();
    for site in ["shop", "found"] {
        let ls = || proxy.status(site).unwrap()["problems"].to_string();
        until("it has ended", || ls().contains("the certificate ended"));
        assert!(!ls().contains("ends in"), "{}", ls());
    }
}

/// CASES T-60. As certbot lays them: what the link is in says nothing of what it leads to.
#[test]
fn a_key_that_everybody_can_replace_is_said_with_the_folder_to_close() {
    use std::os::unix::fs::PermissionsExt;
    let plan = named_and_found(time::Duration::days(90));
    let archive = plan.folder().join("archive");
    fs::create_dir(&archive).unwrap();
    let keys = [
        plan.sites().join("shop.key"),
        plan.folder().join("live/found.key"),
    ];
    for key in &keys {
        let kept = archive.join(key.file_name().unwrap());
        fs::rename(key, &kept).unwrap();
        symlink(&kept, key).unwrap();
    }
    fs::set_permissions(&archive, fs::Permissions::from_mode(0o777)).unwrap();
    let proxy = plan.start();
    let archive = fs::canonicalize(archive).unwrap();
    let archive = archive.display();
    for name in ["shop", "found"] {
        let said = format!(
            "{name}.key: everybody can put another key in its place, in {archive}; `chmod o-w '{archive}'`"
        );
        proxy.until_logged(&said);
        let ls = proxy.status(name).unwrap()["problems"].to_string();
        assert!(ls.contains(&said), "{ls}");
    }
}

/// CASES T-60.
#[test]
fn a_key_that_somebody_else_owns_is_said() {
    if !rustix::process::geteuid().is_root() {
        println!("left out: only root can give a file away");
        return;
    }
    let plan = named_and_found(time::Duration::days(90));
    let found = plan.folder().join("live/found.key");
    for key in [plan.sites().join("shop.key"), found] {
        std::os::unix::fs::chown(key, Some(12345), None).unwrap();
    }
    let proxy = plan.start();
    for name in ["shop", "found"] {
        let said = format!("{name}.key: the key belongs to user 12345");
        proxy.until_logged(&said);
        let ls = proxy.status(name).unwrap()["problems"].to_string();
        assert!(ls.contains(&said), "{ls}");
    }
}

#[test]
fn a_certificate_is_found_by_its_names_and_renewed_behind_its_link() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let (live, archive) = (
        plan.folder().join("live/shop"),
        plan.folder().join("archive"),
    );
    fs::create_dir(&archive).unwrap();
    fs::create_dir(&live).unwrap();
    let put_in = |round: usize| {
        let pair = authority.pair(&["shop.example.com", "*.shop.example.com"]);
        for (name, text) in [
            ("fullchain", &pair.cert),
            ("cert", &pair.cert),
            ("privkey", &pair.key),
        ] {
            let kept = archive.join(format!("{name}{round}.pem"));
            fs::write(&kept, text).unwrap();
            // As certbot does.
            let link = live.join(format!("{name}.pem"));
            fs::remove_file(&link).ok();
            symlink(&kept, &link).unwrap();
        }
        pair
    };
    let first = put_in(1);
    let proxy = plan
        .site(
            "shop.toml",
            "host = ['shop.example.com', 'eu.shop.example.com']\nrespond = 'shop'",
        )
        .start();
    for host in ["shop.example.com", "eu.shop.example.com"] {
        let line = Tls::to(host)
            .trusting(&authority.pem)
            .shake(proxy.address())
            .unwrap();
        assert!(is_same(&first.cert, &line.shown()));
        assert_eq!(Client::over(line).get(host, "/").text(), "shop");
        assert_eq!(proxy.get(host, "/").status, 308);
    }
    let second = put_in(2);
    proxy.command(["reload"]);
    let line = Tls::to("shop.example.com").shake(proxy.address()).unwrap();
    assert!(is_same(&second.cert, &line.shown()));
}

#[test]
fn a_name_that_had_a_certificate_never_falls_back_to_clear_text() {
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
        .start();
    assert_eq!(
        tls_to(&proxy, &Tls::to("shop.example.com"))
            .get("shop.example.com", "/")
            .text(),
        "shop"
    );
    until("it is remembered", || {
        fs::read_to_string(proxy.state().join("had-certificates"))
            .is_ok_and(|text| text.contains("shop.example.com"))
    });
    fs::remove_file(live.join("shop.pem")).unwrap();
    fs::remove_file(live.join("shop.key")).unwrap();
    for _ in 0..2 {
        until("the folder was looked at", || {
            proxy.command(["reload"]);
            proxy.get("shop.example.com", "/").said() == "503 no-certificate"
        });
        assert!(Tls::to("shop.example.com").shake(proxy.address()).is_err());
        assert_eq!(proxy.get("plain.example.com", "/").text(), "plain");
        proxy.stop();
        proxy.start_again();
    }
    proxy.site(
        "shop.toml",
        "host = 'shop.example.com'\nrespond = 'shop'\ntls = 'off'",
    );
    assert_eq!(proxy.get("shop.example.com", "/").text(), "shop");
}

/// Whoever asks for many names of a wildcard must not fill the memory and the disk.
#[test]
fn names_that_only_a_wildcard_stands_for_are_remembered_as_one() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    authority.pair(&["*.example.com"]).write(&live, "any");
    let proxy = plan
        .site("any.toml", "host = '*.example.com'\nrespond = 'any'")
        .site("shop.toml", "host = 'shop.example.com'\nrespond = 'shop'")
        .start();
    for number in 0..50 {
        let host = format!("any-{number}.example.com");
        assert_eq!(proxy.get(&host, "/").status, 308);
    }
    assert!(Tls::to("other.example.com").shake(proxy.address()).is_ok());
    assert_eq!(proxy.get("shop.example.com", "/").status, 308);
    let remembered = || fs::read_to_string(proxy.state().join("had-certificates"));
    until("they are remembered", || {
        remembered().is_ok_and(|text| text == "*.example.com\nshop.example.com\n")
    });
    fs::remove_file(live.join("any.pem")).unwrap();
    fs::remove_file(live.join("any.key")).unwrap();
    // One that was never asked for would have been shown the certificate, too.
    until("the folder was looked at", || {
        proxy.command(["reload"]);
        proxy.get("new.example.com", "/").said() == "503 no-certificate"
    });
}

#[test]
fn labels_that_clients_think_of_are_remembered_as_the_wildcard_they_fall_under() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    let names = ["*.w.example.com", "one.w.example.com"];
    authority.pair(&names).write(&live, "w");
    let proxy = plan
        .site("w.toml", "host = '*.w.example.com'\nrespond = 'w'")
        .site("one.toml", "host = 'one.w.example.com'\nrespond = 'one'")
        .start();
    let kept = || fs::read_to_string(proxy.state().join("had-certificates")).unwrap_or_default();
    assert_eq!(proxy.get("one.w.example.com", "/").status, 308);
    for number in 0..50 {
        let host = format!("x{number}.w.example.com");
        assert_eq!(proxy.get(&host, "/").status, 308);
        if number == 0 {
            tls_to(&proxy, &Tls::to(&host));
        }
    }
    until("the wildcard is kept", || kept().contains("*.w"));
    assert_eq!(kept(), "one.w.example.com\n*.w.example.com\n");
    fs::remove_file(live.join("w.pem")).unwrap();
    fs::remove_file(live.join("w.key")).unwrap();
    until("the folder was looked at", || {
        proxy.command(["reload"]);
        proxy.get("never-asked.w.example.com", "/").said() == "503 no-certificate"
    });
}

#[test]
fn a_site_without_a_certificate_is_served_in_clear_text_and_says_so() {
    let proxy = Proxy::plan()
        .site(
            "plain.toml",
            "host = 'plain.example.com'\nrespond = 'plain'",
        )
        .start();
    assert_eq!(proxy.get("plain.example.com", "/").text(), "plain");
    assert!(Tls::to("plain.example.com").shake(proxy.address()).is_err());
    let said = "live, clear text only: no certificate for plain.example.com";
    proxy.until_logged(said);
    let ls = proxy.status("plain").unwrap()["problems"].to_string();
    assert!(ls.contains(said), "{ls}");
}

#[test]
fn the_local_authority_vouches_for_local_names_across_restarts() {
    let mut proxy = Proxy::plan()
        .site("blue.localhost.toml", "respond = 'blue'")
        .site("box.toml", "host = '127.0.0.1'\nrespond = 'box'")
        .start();
    // In clear text too: nobody trusts it before they are asked to.
    assert_eq!(proxy.get("blue.localhost", "/").text(), "blue");
    tls_to(&proxy, &Tls::to("blue.localhost"));
    let root = fs::read_to_string(proxy.state().join("authority/root.pem")).unwrap();
    for _ in 0..2 {
        let mut client = tls_to(&proxy, &Tls::to("blue.localhost").trusting(&root));
        assert_eq!(client.get("blue.localhost", "/").text(), "blue");
        proxy.stop();
        proxy.start_again();
    }
    // With an address there is no SNI: the site is the one of the address that was connected to.
    let mut client = tls_to(&proxy, &Tls::to("127.0.0.1").trusting(&root));
    assert_eq!(client.get("127.0.0.1", "/").text(), "box");
    let key = fs::metadata(proxy.state().join("authority/root.key")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[test]
fn certificates_may_be_anywhere_unless_the_daemon_file_says_where() {
    let authority = Authority::new("test");
    let elsewhere = Folder::new();
    authority
        .pair(&["shop.example.com"])
        .write(elsewhere.path(), "shop");
    let at = |name: &str| elsewhere.join(name).display().to_string();
    let file = format!(
        "host = 'shop.example.com'\nrespond = 'shop'\n[tls]\ncert = '{}'\nkey = '{}'\n",
        at("shop.pem"),
        at("shop.key")
    );
    let proxy = Proxy::plan().site("shop.toml", &file).start();
    let tls = Tls::to("shop.example.com").trusting(&authority.pem);
    assert_eq!(
        tls_to(&proxy, &tls).get("shop.example.com", "/").text(),
        "shop"
    );

    let plan = Proxy::plan();
    let allowed = plan.folder().path().display().to_string();
    let proxy = plan
        .daemon_file(&format!("files_under = '{allowed}'\n"))
        .start();
    proxy.sites().write("shop.toml", &file);
    proxy.until_state("shop", "down");
    proxy.until_logged("shop.pem: it lies outside the sites directory and of files_under");
}
