//! The daemon's folders of certificates: half of a renewal and a folder that is away are no outage, and what is wrong in them
//! is said.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{tls_to, with_files, with_folder};
use crate::harness::{
    Agreed, Authority, Pair, Proxy, Tls, found, is_same, onedoor, put, until, until_late, words_of,
};

fn answers(host: &str) -> String {
    format!("host = '{host}'\nrespond = 'here'\n")
}

/// Whether `pair` is what `host` shows.
fn is_shown(proxy: &Proxy, host: &str, pair: &Pair) -> bool {
    let line = Tls::to(host).shake(proxy.address());
    line.is_ok_and(|line| is_same(&pair.cert, &line.shown()))
}

#[test]
fn half_a_renewal_in_a_folder_of_many_is_no_outage_and_is_said() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    let old = authority.pair(&["shop.example.com"]);
    old.write(&live, "shop");
    authority.pair(&["blog.example.com"]).write(&live, "blog");
    let proxy = plan
        .site("shop.toml", answers("shop.example.com"))
        .site("blog.toml", answers("blog.example.com"))
        .start();
    assert!(is_shown(&proxy, "shop.example.com", &old));
    let renewed = authority.pair(&["shop.example.com"]);
    put(&live, "shop.pem", &renewed.cert);
    proxy.command(["reload"]);
    proxy.until_logged("shop.key are no pair; the certificate that they were goes on being shown");
    assert!(is_shown(&proxy, "shop.example.com", &old));
    assert_eq!(proxy.get("shop.example.com", "/").status, 308);
    let ls = proxy.status("shop").unwrap()["problems"].to_string();
    assert!(!ls.contains("clear text only"), "{ls}");
    assert!(ls.contains("shop.key are no pair; the certificate"), "{ls}");
    let all = words_of(&proxy.command(["ls"]));
    assert!(all.contains("in the folders of certificates: "), "{all}");
    // Who looks for the first time knows nothing of what it was.
    let check = words_of(&proxy.command(["check"]));
    let said = "no certificate for shop.example.com, and it had one: it answers, at the latest after a restart, 503";
    assert!(check.contains(said), "{check}");
    put(&live, "shop.key", &renewed.key);
    proxy.command(["reload"]);
    assert!(is_shown(&proxy, "shop.example.com", &renewed));
}

#[test]
fn what_has_become_of_the_halves_of_a_pair_is_said() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    let hosts = ["changed", "kept", "key"].map(|name| format!("{name}.example.com"));
    let pairs = hosts.each_ref().map(|host| authority.pair(&[host]));
    for (host, pair) in hosts.iter().zip(&pairs) {
        pair.write(&live, host);
    }
    let plan = hosts.iter().fold(plan, |plan, host| {
        plan.site(&format!("{host}.toml"), answers(host))
    });
    let proxy = plan.start();
    for (host, pair) in hosts.iter().zip(&pairs) {
        assert!(is_shown(&proxy, host, pair), "{host}");
    }
    let remove = |file: &str| fs::remove_file(live.join(file)).unwrap();
    let other = authority.pair(&["changed.example.com"]);
    put(&live, "changed.example.com.pem", &other.cert);
    remove("changed.example.com.key");
    remove("kept.example.com.key");
    remove("key.example.com.pem");
    proxy.command(["reload"]);
    let check = words_of(&proxy.command(["check"]));
    for (host, end) in [
        (
            "changed",
            "pem is not what it was, no key beside it fits, and ",
        ),
        ("kept", "key is gone, and "),
        ("key", "pem is gone, and "),
    ] {
        let said = format!("{host}.example.com.{end}");
        proxy.until_logged(&said);
        let ls = words_of(&proxy.command(["ls"]));
        assert!(ls.contains(&said), "{said} in {ls}");
        // Who looks for the first time sees what is there.
        let without = format!("no certificate for {host}.example.com");
        assert!(check.contains(&without), "{without} in {check}");
    }
    let goes_on = "the certificate that they were goes on being shown, but not after a restart";
    proxy.until_logged(goes_on);
    for file in ["changed", "kept"] {
        let alone = format!("{file}.example.com.pem: no key in");
        assert!(check.contains(&alone), "{alone} in {check}");
    }
    for (host, pair) in hosts.iter().zip(&pairs) {
        assert!(is_shown(&proxy, host, pair), "{host}");
    }
}

/// Whoever looks in the middle looks again soon, and not when everything is looked at.
#[test]
fn a_renewal_that_was_looked_at_in_the_middle_is_shown_as_soon_as_it_is_whole() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live/shop");
    fs::create_dir(&live).unwrap();
    let link = |round: usize, names: &[&str], pair: &Pair| {
        let leaf = pair.cert.find("-----END").map(|end| &pair.cert[..end + 25]);
        for name in names {
            let text = match *name {
                "privkey" => &pair.key,
                "cert" => leaf.unwrap(),
                _ => &pair.cert,
            };
            let kept = format!("{name}{round}");
            put(&live, &kept, text);
            let link = live.join(format!("{name}.pem"));
            fs::remove_file(&link).ok();
            symlink(&kept, &link).unwrap();
        }
    };
    let (old, new) = (
        authority.whole_pair(&["shop.example.com"]),
        authority.whole_pair(&["shop.example.com"]),
    );
    link(1, &["cert", "privkey", "fullchain"], &old);
    let proxy = plan.site("shop.toml", answers("shop.example.com")).start();
    assert!(is_shown(&proxy, "shop.example.com", &old));
    link(2, &["cert", "privkey"], &new);
    proxy.command(["reload"]);
    // The new one is there already, without what clients need to check it.
    assert!(is_shown(&proxy, "shop.example.com", &old));
    let whole = Instant::now();
    link(2, &["fullchain"], &new);
    until("the new one is shown", || {
        is_shown(&proxy, "shop.example.com", &new)
    });
    let taken = whole.elapsed();
    assert!(taken < Duration::from_secs(25), "{taken:?}");
}

#[test]
fn a_folder_that_is_away_keeps_what_was_found_in_it() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let (live, away) = (plan.folder().join("live"), plan.folder().join("away"));
    let pair = authority.pair(&["shop.example.com"]);
    pair.write(&live, "shop");
    let proxy = plan.site("shop.toml", answers("shop.example.com")).start();
    fs::rename(&live, &away).unwrap();
    for _ in 0..2 {
        proxy.command(["reload"]);
        assert!(is_shown(&proxy, "shop.example.com", &pair));
        assert_eq!(proxy.get("shop.example.com", "/").status, 308);
    }
    let said = "what was found in it goes on being shown";
    proxy.until_logged(said);
    assert_eq!(proxy.log().matches(said).count(), 1, "{}", proxy.log());
    let ls = words_of(&proxy.command(["ls"]));
    assert!(ls.contains(said), "{ls}");
    let renewed = authority.pair(&["shop.example.com"]);
    renewed.write(&away, "shop");
    let back = Instant::now();
    fs::rename(&away, &live).unwrap();
    until("it is found again", || {
        is_shown(&proxy, "shop.example.com", &renewed)
    });
    let taken = back.elapsed();
    assert!(taken < Duration::from_secs(25), "{taken:?}");
}

#[test]
fn what_is_away_together_is_said_once_each() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    let hosts = ["shop.example.com", "blog.example.com"];
    for host in hosts {
        authority.pair(&[host]).write(&live, host);
    }
    let proxy = plan
        .site("shop.toml", answers(hosts[0]))
        .site("blog.toml", answers(hosts[1]))
        .start();
    for folder in [&live, proxy.sites().path()] {
        fs::rename(folder, folder.with_extension("away")).unwrap();
        fs::create_dir(folder).unwrap();
    }
    for command in [&["ls"][..], &["ls", "--errors"]] {
        let ls = || words_of(&proxy.command(command.iter().copied()));
        let said = [
            "lost 2 of 2 files; still serving them",
            "live has no certificate any more",
        ];
        until("all is seen", || {
            proxy.command(["reload"]);
            let ls = ls();
            said.iter().all(|said| ls.contains(said)) && ls.contains("stale")
        });
        let ls = ls();
        assert_eq!(said.map(|said| ls.matches(said).count()), [1, 1], "{ls}");
    }
}

/// An unmounted volume leaves an empty folder.
#[test]
fn a_folder_that_has_lost_all_its_pairs_at_once_keeps_them_until_told() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let (live, away) = (plan.folder().join("live"), plan.folder().join("away"));
    let hosts = ["shop.example.com", "blog.example.com"];
    let pairs = hosts.map(|host| authority.pair(&[host]));
    for (host, pair) in hosts.iter().zip(&pairs) {
        pair.write(&live, host);
    }
    let proxy = plan
        .site("shop.toml", answers(hosts[0]))
        .site("blog.toml", answers(hosts[1]))
        .start();
    let are_shown = |count: usize| {
        for (host, pair) in hosts.iter().zip(&pairs).take(count) {
            assert!(is_shown(&proxy, host, pair), "{host}");
            assert_eq!(proxy.get(host, "/").status, 308, "{host}");
        }
    };
    are_shown(2);
    let said = "live has no certificate any more, as where a volume is not mounted; what was found in it goes on being shown";
    for round in 1..=2 {
        fs::rename(&live, &away).unwrap();
        fs::create_dir(&live).unwrap();
        for _ in 0..2 {
            proxy.command(["reload"]);
            are_shown(2);
        }
        proxy.until_logged(said);
        for line in [said, "`onedoor reload --accept-removals` lets it go"] {
            let ls = words_of(&proxy.command(["ls"]));
            assert_eq!(ls.matches(line).count(), 1, "{ls}");
        }
        let check = words_of(&proxy.command(["check"]));
        let bare = "live: there is no certificate in it; is a volume not mounted?";
        assert!(check.contains(bare), "{check}");
        if round == 1 {
            fs::remove_dir(&live).unwrap();
            fs::rename(&away, &live).unwrap();
            proxy.command(["reload"]);
            are_shown(2);
            let ls = words_of(&proxy.command(["ls"]));
            assert!(!ls.contains("goes on being shown"), "{ls}");
        }
    }
    proxy.command(["reload", "--accept-removals"]);
    for host in hosts {
        until("it is let go", || {
            proxy.get(host, "/").said() == "503 no-certificate"
        });
    }
    // Of several one may be taken away like any other.
    fs::remove_dir(&live).unwrap();
    fs::rename(&away, &live).unwrap();
    proxy.command(["reload"]);
    are_shown(2);
    for half in ["pem", "key"] {
        fs::remove_file(live.join(format!("{}.{half}", hosts[1]))).unwrap();
    }
    until("it is gone", || {
        proxy.command(["reload"]);
        proxy.get(hosts[1], "/").said() == "503 no-certificate"
    });
    are_shown(1);
}

/// A volume is restored file by file.
#[test]
fn pairs_that_come_back_slowly_are_shown_until_they_are_back_or_said_to_be_gone() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    let fill = |host: &String, pair: &Pair| {
        fs::create_dir(live.join(host)).unwrap();
        pair.write(&live.join(host), "pair");
    };
    let hosts = ["shop", "blog", "wiki"].map(|name| format!("{name}.example.com"));
    let pairs = hosts.each_ref().map(|host| authority.pair(&[host]));
    for (host, pair) in hosts.iter().zip(&pairs) {
        fill(host, pair);
    }
    let plan = hosts.iter().fold(plan, |plan, host| {
        plan.site(&format!("{host}.toml"), answers(host))
    });
    let proxy = plan.start();
    let are_shown = || {
        for (host, pair) in hosts.iter().zip(&pairs) {
            assert!(is_shown(&proxy, host, pair), "{host}");
        }
    };
    are_shown();
    fs::rename(&live, live.with_extension("away")).unwrap();
    fs::create_dir(&live).unwrap();
    proxy.command(["reload"]);
    proxy.until_logged("live has no certificate any more");
    for (lacking, host, pair) in [(2, &hosts[0], &pairs[0]), (1, &hosts[1], &pairs[1])] {
        fill(host, pair);
        let said = format!(
            "live still lacks {lacking} of the certificates that it had before it was empty or away"
        );
        until("the others are missed", || {
            proxy.command(["reload"]);
            are_shown();
            words_of(&proxy.command(["ls"])).contains(&said)
        });
        proxy.until_logged("live still lacks ");
    }
    let ls = words_of(&proxy.command(["ls"]));
    assert!(
        ls.contains("`onedoor reload --accept-removals` lets it go"),
        "{ls}"
    );
    let of_site = proxy.status(&hosts[2]).unwrap()["problems"].to_string();
    assert!(of_site.contains("are no pair again since"), "{of_site}");
    proxy.command(["reload", "--accept-removals"]);
    until("it is let go", || {
        proxy.get(&hosts[2], "/").said() == "503 no-certificate"
    });
    let ls = words_of(&proxy.command(["ls"]));
    assert!(!ls.contains("still lacks"), "{ls}");
    for (host, pair) in hosts.iter().zip(&pairs).take(2) {
        assert!(is_shown(&proxy, host, pair), "{host}");
    }
    assert_eq!(
        proxy.log().matches("live still lacks ").count(),
        1,
        "{}",
        proxy.log()
    );
}

/// What a link leads to may be mounted in a moment.
#[test]
fn a_folder_behind_a_link_that_leads_nowhere_keeps_what_was_found_in_it() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let (far, away) = (plan.folder().join("far"), plan.folder().join("away"));
    fs::create_dir(&far).unwrap();
    let pair = authority.pair(&["shop.example.com"]);
    pair.write(&far, "shop");
    let link = plan.folder().join("live/shop");
    symlink(&far, &link).unwrap();
    let proxy = plan.site("shop.toml", answers("shop.example.com")).start();
    fs::rename(&far, &away).unwrap();
    for _ in 0..2 {
        proxy.command(["reload"]);
        assert!(is_shown(&proxy, "shop.example.com", &pair));
        assert_eq!(proxy.get("shop.example.com", "/").status, 308);
    }
    proxy.until_logged("live/shop cannot be listed: its link leads nowhere");
    fs::rename(&away, &far).unwrap();
    proxy.command(["reload"]);
    assert!(is_shown(&proxy, "shop.example.com", &pair));
    // Whoever takes the link away means it.
    fs::remove_file(&link).unwrap();
    until("it is gone", || {
        proxy.command(["reload"]);
        proxy.get("shop.example.com", "/").said() == "503 no-certificate"
    });
    proxy.until_logged("no certificate for shop.example.com, and it had one: it answers 503");
}

#[test]
fn what_an_operator_should_know_of_a_found_pair_is_said() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    for (name, days) in [("ended", -3), ("ending", 5), ("open", 90)] {
        let host = format!("{name}.example.com");
        authority.pair_for_days(&[&host], days).write(&live, name);
    }
    authority.pair(&["w.example.com"]).write(&live, "alone");
    fs::remove_file(live.join("alone.key")).unwrap();
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let former = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
    let of_no_kind = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
    put(&live, "encrypted.key", encrypted);
    put(&live, "former.key", former);
    put(&live, "strange.key", of_no_kind);
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(live.join("open.key"), open).unwrap();
    let proxy = plan
        .site("ended.toml", answers("ended.example.com"))
        .site("ending.toml", answers("ending.example.com"))
        .site("open.toml", answers("open.example.com"))
        .start();
    let check = words_of(&onedoor(proxy.folder(), ["check"]));
    for (site, said) in [
        ("ended", "ended.pem: the certificate ended 3 days ago"),
        ("ending", "ending.pem: the certificate ends in 4 days"),
        ("open", "open.key: everybody can read or change the key"),
    ] {
        proxy.until_logged(said);
        assert_eq!(proxy.log().matches(said).count(), 1, "{}", proxy.log());
        let ls = proxy.status(site).unwrap()["problems"].to_string();
        assert!(ls.contains(said), "{ls}");
        assert_eq!(check.matches(said).count(), 1, "{check}");
        let host = format!("{site}.example.com");
        assert_eq!(tls_to(&proxy, &Tls::to(&host)).get(&host, "/").status, 200);
    }
    for said in [
        "alone.pem: no key in",
        "encrypted.key: the key is encrypted",
        "former.key: the key is encrypted",
        "strange.key: the key is of no kind that TLS uses",
    ] {
        proxy.until_logged(said);
        assert!(check.contains(said), "{check}");
    }
}

#[test]
fn check_says_what_is_live_in_clear_text_only_and_what_browsers_will_mix_up() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    authority.pair(&["*.w.example.com"]).write(&live, "w");
    let passed = "host = 'app.w.example.com'\nto = 1\ntls = 'passthrough'\n";
    let plan = plan
        .site("plain.toml", answers("plain.example.com"))
        .site("meant.toml", answers("meant.example.com") + "tls = 'off'\n")
        .site("found.toml", answers("found.w.example.com"))
        .site("local.toml", answers("blue.localhost"))
        .site("passed.toml", passed);
    let output = onedoor(plan.folder(), ["check"]);
    let check = words_of(&output);
    assert!(output.status.success(), "{check}");
    for said in [
        "live, clear text only: no certificate for plain.example.com",
        "for other names is also for app.w.example.com",
        "5 files: 3 fine, 2 with warnings",
    ] {
        assert_eq!(check.matches(said).count(), 1, "{said} in\n{check}");
    }
    assert_eq!(check.matches("clear text only").count(), 1, "{check}");
    let alone = words_of(&onedoor(plan.folder(), ["check", "sites.d/plain.toml"]));
    assert!(alone.contains("clear text only"), "{alone}");
    let strict = onedoor(plan.folder(), ["check", "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
}

#[test]
fn a_strict_check_takes_clear_text_that_is_meant() {
    let plan = Proxy::plan().site("plain.toml", answers("plain.example.com"));
    let strict = || onedoor(plan.folder(), ["check", "--strict"]);
    let refused = strict();
    assert_eq!(refused.status.code(), Some(1));
    let said = words_of(&refused);
    assert!(said.contains("tls = \"off\" in its file says"), "{said}");
    for meant in ["tls = 'off'\n", "[tls]\nmode = 'off'\n"] {
        plan.sites()
            .write("plain.toml", answers("plain.example.com") + meant);
        let taken = strict();
        assert_eq!(taken.status.code(), Some(0), "{}", words_of(&taken));
    }
    // And nothing of it is in the log of one that runs.
    let proxy = plan.start();
    assert_eq!(proxy.get("plain.example.com", "/").status, 200);
    assert!(!proxy.log().contains("clear text only"), "{}", proxy.log());
}

#[test]
fn what_answers_503_without_a_certificate_is_not_called_live_and_is_not_told_to_open_itself() {
    let plan = Proxy::plan();
    put(plan.sites().path(), "ca.pem", &Authority::new("ca").pem);
    let client = "[tls.client]\nca = 'ca.pem'\n";
    let tls = |name: &str, tls: &str| answers(&format!("{name}.example.com")) + tls;
    let plan = plan
        .site("sent.toml", tls("sent", "tls.http = 'redirect'\n"))
        .site("closed.toml", tls("closed", "tls.http = 'refuse'\n"))
        .site("partners.toml", tls("partners", client))
        .site("plain.toml", answers("plain.example.com"));
    let check = words_of(&onedoor(plan.folder(), ["check"]));
    let proxy = plan.start();
    for (name, why) in [
        ("sent", "http = \"redirect\" wants TLS"),
        ("closed", "http = \"refuse\" wants TLS"),
        ("partners", "[tls.client] asks clients for theirs"),
    ] {
        let host = format!("{name}.example.com");
        assert_eq!(proxy.get(&host, "/").said(), "503 no-certificate");
        let said = format!("no certificate for {host}, and {why}: it answers 503 until it has one");
        proxy.until_logged(&said);
        let ls = proxy.status(name).unwrap()["problems"].to_string();
        let ls = ls.replace('\\', "");
        for text in [&check, &ls] {
            assert_eq!(text.matches(&said).count(), 1, "{said} in\n{text}");
        }
        assert!(!ls.contains("off") && !ls.contains("live, "), "{ls}");
    }
    assert_eq!(proxy.get("plain.example.com", "/").status, 200);
    for text in [&check, &proxy.log()] {
        assert_eq!(text.matches("clear text only").count(), 1, "{text}");
    }
}

#[test]
fn check_says_which_folder_of_certificates_cannot_be_listed() {
    let plan = Proxy::plan().daemon_file("certificates = 'never-made'\n");
    let check = words_of(&onedoor(plan.folder(), ["check"]));
    assert!(check.contains("never-made cannot be listed"), "{check}");
    let strict = onedoor(plan.folder(), ["check", "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    // One file is not to blame for it.
    let plan = plan.site("off.toml", answers("off.example.com") + "tls = 'off'\n");
    let one = onedoor(plan.folder(), ["check", "--strict", "sites.d/off.toml"]);
    assert!(one.status.success(), "{}", words_of(&one));
}

/// CASES T-22. The certificate is known only after the site that is passed through is live.
#[test]
fn a_passthrough_name_under_the_certificate_of_another_site_is_said_in_the_log() {
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    let wide = authority.pair(&["*.example.com"]);
    wide.write(plan.sites().path(), "shop");
    let passed = "host = 'app.example.com'\nto = 1\ntls = 'passthrough'\n";
    let proxy = plan
        .site("app.toml", passed)
        .site("shop.toml", with_files("shop.example.com", "shop", "shop"))
        .start();
    proxy.until_logged("for other names is also for app.example.com");
    proxy.site("late.toml", passed.replace("app.", "late."));
    proxy.until_logged("for other names is also for late.example.com");
}

/// CASES T-22, where neither the site nor its file has changed.
#[test]
fn an_edit_elsewhere_that_covers_a_passthrough_name_is_said_at_once_and_once() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    let folder = plan.sites().path().to_owned();
    let passed = |host: &str| format!("host = '{host}'\nto = 1\ntls = 'passthrough'\n");
    let proxy = plan
        .site("app.toml", passed("app.example.com"))
        .site("far.toml", passed("far.w.example.com"))
        .start();
    let said = |host: &str| format!("for other names is also for {host}, whose TLS is passed");
    let times = |host: &str| proxy.log().matches(&said(host)).count();
    authority.pair(&["shop.example.com"]).write(&folder, "shop");
    proxy.site("shop.toml", with_files("shop.example.com", "shop", "shop"));
    assert_eq!(
        (times("app.example.com"), times("far.w.example.com")),
        (0, 0)
    );
    // By another certificate of a site.
    let wide = authority.pair(&["shop.example.com", "*.example.com"]);
    wide.write(&folder, "shop");
    proxy.until_logged(&said("app.example.com"));
    // By one in the folders.
    authority.pair(&["*.w.example.com"]).write(&live, "w");
    proxy.command(["reload"]);
    proxy.until_logged(&said("far.w.example.com"));
    // One that says nothing new, and one that does.
    wide.write(&folder, "shop");
    let other = with_files("shop.example.com", "shop", "other");
    proxy.site("shop.toml", other);
    proxy.site("late.toml", passed("late.example.com"));
    proxy.until_logged(&said("late.example.com"));
    let hosts = ["app.example.com", "far.w.example.com", "late.example.com"];
    assert_eq!(hosts.map(times), [1; 3], "{}", proxy.log());
}

#[test]
fn a_passthrough_name_that_is_covered_again_is_said_again() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    let folder = plan.sites().path().to_owned();
    let passed = "host = 'app.example.com'\nto = 1\ntls = 'passthrough'\n";
    let proxy = plan.site("app.toml", passed).start();
    let said = "for other names is also for app.example.com, whose TLS is passed";
    let wide = authority.pair(&["shop.example.com", "*.example.com"]);
    let narrow = authority.pair(&["shop.example.com"]);
    let until_said = |times: usize| {
        until("it is said", || proxy.log().matches(said).count() >= times);
        assert_eq!(proxy.log().matches(said).count(), times, "{}", proxy.log());
    };
    let until_not_so = || {
        until("it is not so any more", || {
            let problems = &proxy.status("app").unwrap()["problems"];
            !problems.to_string().contains(said)
        });
    };
    let shop = || with_files("shop.example.com", "shop", "shop");
    wide.write(&folder, "shop");
    proxy.site("shop.toml", shop());
    until_said(1);
    // By another certificate, by another kind of TLS, and without the site.
    narrow.write(&folder, "shop");
    until_not_so();
    wide.write(&folder, "shop");
    until_said(2);
    proxy.site("shop.toml", answers("shop.example.com") + "tls = 'off'\n");
    until_not_so();
    proxy.site("shop.toml", shop());
    until_said(3);
    proxy.sites().remove("shop.toml");
    until_not_so();
    proxy.site("shop.toml", shop());
    until_said(4);
    // In the folders.
    proxy.sites().remove("shop.toml");
    until_not_so();
    wide.write(&live, "wide");
    proxy.command(["reload"]);
    until_said(5);
    for half in ["pem", "key"] {
        fs::remove_file(live.join(format!("wide.{half}"))).unwrap();
    }
    until("it is looked at", || {
        proxy.command(["reload"]);
        let problems = &proxy.status("app").unwrap()["problems"];
        !problems.to_string().contains(said)
    });
    proxy.site("shop.toml", shop());
    until_said(6);
}

/// Of files that only the daemon may read nobody else knows what is in them.
#[test]
fn check_by_somebody_else_says_that_it_cannot_look_and_nothing_of_the_sites() {
    if !rustix::process::geteuid().is_root() || !found("setpriv") {
        return println!("left out: only root can become somebody else");
    }
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    authority.pair(&["shop.example.com"]).write(&live, "shop");
    let proxy = plan.site("shop.toml", answers("shop.example.com")).start();
    assert_eq!(proxy.get("shop.example.com", "/").status, 308);
    let folder = proxy.folder().path().to_owned();
    until("it is remembered", || {
        proxy.state().join("had-certificates").exists()
    });
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&live, fs::Permissions::from_mode(0o700)).unwrap();
    let check = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups"])
        .arg(env!("CARGO_BIN_EXE_onedoor"))
        .args(["check", "--state"])
        .arg(proxy.state())
        .current_dir(&folder)
        .output()
        .unwrap();
    let check = words_of(&check);
    assert!(
        check.contains("live cannot be looked at as this user"),
        "{check}"
    );
    assert!(
        check.contains("had-certificates cannot be looked at"),
        "{check}"
    );
    assert!(!check.contains("no certificate for"), "{check}");
    let own = words_of(&proxy.command(["check"]));
    assert!(!own.contains("cannot be looked at"), "{own}");
}

#[test]
fn nothing_is_said_of_a_certificate_that_has_ended_and_is_shown_to_nobody() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    let host = "shop.example.com";
    authority.pair_for_days(&[host], -3).write(&live, "old");
    let good = authority.pair(&[host]);
    good.write(&live, "new");
    authority
        .pair_for_days(&["ended.example.com"], -3)
        .write(&live, "ended");
    let proxy = plan.site("shop.toml", answers(host)).start();
    assert!(is_shown(&proxy, host, &good));
    proxy.until_logged("ended.pem: the certificate ended");
    until_late("it is said of those that are shown", || {
        proxy.log().contains("has ended; clients refuse it")
    });
    let log = proxy.log();
    assert!(!log.contains("old.pem"), "{log}");
    assert_eq!(
        log.matches("has ended; clients refuse it").count(),
        1,
        "{log}"
    );
}

/// What `onedoor reload` says of certificates after `act`. Where everything was just being looked at it has been said before,
/// and is done again.
#[track_caller]
fn until_reload_says(proxy: &Proxy, change: &str, act: impl Fn()) -> serde_json::Value {
    let mut said = serde_json::Value::Null;
    until_late(&format!("a reload says {change:?}"), || {
        act();
        let answer = proxy.command(["reload", "--json"]);
        let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
        let all = answer["certificates"].as_array().unwrap();
        let one = all.iter().find(|one| one["change"] == change);
        said = one.cloned().unwrap_or_default();
        said.is_object()
    });
    said
}

#[test]
fn a_certificate_that_is_found_swapped_or_gone_is_said_by_reload_and_the_log() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    authority.pair(&["*.w.example.com"]).write(&live, "w");
    authority.pair(&["blog.example.com"]).write(&live, "blog");
    let mut proxy = plan
        .site("shop.toml", answers("shop.example.com"))
        .site("blog.toml", answers("blog.example.com"))
        .site("w.toml", answers("*.w.example.com"))
        .site("off.toml", answers("off.example.com") + "tls = 'off'\n")
        .start();
    let nothing = words_of(&proxy.command(["reload"]));
    assert!(nothing.contains("nothing changed"), "{nothing}");
    let shop = || authority.pair_for_days(&["shop.example.com", "x.example.com"], 40);
    let remove = || {
        for half in ["shop.key", "shop.pem"] {
            fs::remove_file(live.join(half)).ok();
        }
    };
    let found = until_reload_says(&proxy, "found", || {
        remove();
        proxy.command(["reload"]);
        shop().write(&live, "shop");
    });
    let file = live.join("shop.pem").display().to_string();
    assert_eq!(found["file"], file);
    assert_eq!(found["sites"], serde_json::json!(["shop"]));
    assert_eq!(found["hosts"], serde_json::json!(["shop.example.com"]));
    assert!(found["ends"].as_u64().unwrap() > 1_700_000_000, "{found}");
    until_late("a reload says it for people", || {
        shop().write(&live, "shop");
        let text = words_of(&proxy.command(["reload"]));
        let said = format!("swapped   certificate {file} for shop.example.com, good until 20");
        text.contains(&said) && !text.contains("nothing changed")
    });
    // An event of that site.
    let told = |what: &str| {
        let events = proxy.admin_json("/v1/events");
        let mut events = events["events"].as_array().unwrap().iter();
        events.any(|event| {
            let text = event["text"].as_str().unwrap();
            let start = format!("certificate {what} file={file} hosts=shop.example.com ends=20");
            event["site"] == "shop" && event["level"] == "info" && text.starts_with(&start)
        })
    };
    for what in ["found", "swapped"] {
        until(what, || told(what));
    }
    // A part of what a site claims.
    let part = until_reload_says(&proxy, "swapped", || {
        authority.pair(&["a.w.example.com"]).write(&live, "a");
    });
    assert_eq!(part["hosts"], serde_json::json!(["a.w.example.com"]));
    assert_eq!(part["sites"], serde_json::json!(["w"]));
    let gone = until_reload_says(&proxy, "gone", || {
        shop().write(&live, "shop");
        proxy.command(["reload"]);
        remove();
    });
    assert_eq!(gone["file"], file);
    until("gone", || told("gone"));
    // Nobody shows these.
    for name in ["off", "nobody"] {
        let host = format!("{name}.example.com");
        authority.pair(&[&host]).write(&live, name);
    }
    let none = proxy.command(["reload", "--json"]);
    let none: serde_json::Value = serde_json::from_slice(&none.stdout).unwrap();
    assert_eq!(none["certificates"], serde_json::json!([]));
    proxy.stop();
    let log = proxy.log();
    for file in ["off.pem", "nobody.pem", "blog.pem", "w.pem"] {
        assert!(!log.contains(&format!("{file} hosts=")), "{log}");
    }
}

#[test]
fn certificates_that_are_swapped_all_at_once_are_one_line() {
    const MANY: usize = 120;
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    // A folder behind a link is another one in one step.
    let folder = live.parent().unwrap();
    let fill = |round: &str| {
        let kept = folder.join(round);
        fs::create_dir(&kept).unwrap();
        for number in 0..MANY {
            let host = format!("{number}.example.com");
            authority.pair(&[&host]).write(&kept, &number.to_string());
        }
        let link = folder.join("link");
        symlink(&kept, &link).unwrap();
        fs::rename(&link, live.join("all")).unwrap();
    };
    fill("first");
    authority.pair(&["*.w.example.com"]).write(&live, "w");
    for number in 0..MANY {
        let host = format!("{number}.example.com");
        let of_wildcard = format!("{number}.w.example.com");
        let text = format!("host = ['{host}', '{of_wildcard}']\nrespond = 'here'\n");
        plan.sites().write(&format!("{number}.toml"), &text);
    }
    let proxy = plan.start();
    assert!(!proxy.log().contains("certificate found"));
    authority.pair(&["*.w.example.com"]).write(&live, "w");
    proxy.command(["reload"]);
    proxy.until_logged(&format!("certificate swapped sites={MANY} file="));
    proxy.until_logged("hosts=\"0.w.example.com 1.w.example.com 10.w.example.com");
    proxy.until_logged(&format!(" +{}\" ends=20", MANY - 8));
    fill("second");
    proxy.command(["reload"]);
    proxy.until_logged("certificates of sites are others now, or there no more found=0 swapped=");
    // Two lines, where it was looked at in that very moment.
    assert!(proxy.log().matches("certificate swapped").count() < MANY / 2);
}
