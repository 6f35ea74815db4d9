//! Changes are noticed where no events come, behind mounts and under a clock that jumps.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Authority, Plan, Proxy, found, hanging_at, may_mount, until, words_of};

fn says(host: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n")
}

/// A onedoor whose inotify fails as `inject` says; nothing else is slowed down.
fn with_inotify(inject: &str) -> Option<Plan> {
    let plan = || {
        let inject = format!("inject={inject}");
        Proxy::plan().under([
            "strace",
            "-f",
            "-qq",
            "--seccomp-bpf",
            "-o",
            "/dev/null",
            "-e",
            "trace=inotify_init1,inotify_add_watch",
            "-e",
            &inject,
        ])
    };
    found("strace").then(plan)
}

/// Longer than a poll of 2 s and two equal looks, far shorter than the net of 30 s.
const SOON: Duration = Duration::from_secs(10);

#[track_caller]
fn appears(proxy: &Proxy, name: &str) {
    let begun = Instant::now();
    let host = format!("{}.test", name.replace('/', "."));
    proxy
        .sites()
        .write(&format!("{name}.toml"), says(&host, name));
    proxy.until_answer(&host, "found by polling", |answer| answer.text() == name);
    assert!(begun.elapsed() < SOON, "after {:?}", begun.elapsed());
}

#[test]
fn polling_finds_what_events_would() {
    let proxy = Proxy::plan()
        .flag("--watch=poll 200ms")
        .site("a.toml", says("a.test", "1"))
        .start();
    proxy.sites().write("b.toml", says("b.test", "1"));
    proxy.until_answer("b.test", "found by polling", |answer| answer.status == 200);
    proxy.sites().write_in_place("a.toml", says("a.test", "2"));
    proxy.until_answer("a.test", "changed, found by polling", |answer| {
        answer.text() == "2"
    });
    proxy.sites().remove("b.toml");
    proxy.until_answer("b.test", "removed, found by polling", |answer| {
        answer.status == 421
    });
}

#[test]
fn too_many_inotify_instances_are_said_with_what_to_raise_and_it_polls() {
    let Some(plan) = with_inotify("inotify_init1:error=EMFILE") else {
        return;
    };
    let proxy = plan.start();
    proxy.until_logged("raise fs.inotify.max_user_instances");
    proxy.until_logged("looking every 2 s");
    appears(&proxy, "shop");
}

#[test]
fn too_many_inotify_watches_are_said_with_what_to_raise_and_it_polls() {
    let Some(plan) = with_inotify("inotify_add_watch:error=ENOSPC") else {
        return;
    };
    let proxy = plan.start();
    proxy.until_logged("raise fs.inotify.max_user_watches");
    appears(&proxy, "shop");
}

#[test]
fn a_limit_reached_while_running_is_noticed_and_polled_at_once() {
    // The first watch is that of sites.d, the second that of a team's folder.
    let Some(plan) = with_inotify("inotify_add_watch:error=ENOSPC:when=2+") else {
        return;
    };
    let proxy = plan.start();
    appears(&proxy, "red/shop");
    proxy.until_logged("raise fs.inotify.max_user_watches");
    appears(&proxy, "blog");
    let count = proxy.log().matches("cannot get file events").count();
    assert_eq!(count, 1, "said once:\n{}", proxy.log());
}

#[test]
fn events_are_used_again_when_they_can_be_had() {
    let Some(plan) = with_inotify("inotify_init1:error=EMFILE:when=1") else {
        return;
    };
    let proxy = plan.start();
    proxy.until_logged("looking every 2 s");
    proxy.until_logged("file events can be had again");
    appears(&proxy, "shop");
}

#[test]
fn a_folder_from_which_no_events_come_is_found_out_and_polled() {
    // The watch seems to be there, and is not: what a filesystem shared by machines looks like.
    let Some(plan) = with_inotify("inotify_add_watch:retval=1") else {
        return;
    };
    let proxy = plan.start();
    proxy.until_logged("no events arrive for this folder, looking every 2 s");
    appears(&proxy, "shop");
}

/// A file that is written to `folder` goes live as the site NAME, of which there is no other yet.
#[track_caller]
fn appears_in(proxy: &Proxy, folder: &std::path::Path, name: &str) {
    let begun = Instant::now();
    let host = format!("{}.test", name.replace('/', "."));
    let file = name.rsplit('/').next().unwrap();
    fs::write(folder.join(format!("{file}.toml")), says(&host, name)).unwrap();
    proxy.until_answer(&host, "live", |answer| answer.text() == name);
    assert!(begun.elapsed() < SOON, "after {:?}", begun.elapsed());
    assert!(proxy.status(name).is_some(), "{name} is not its name");
}

fn listed(proxy: &Proxy) -> String {
    words_of(&proxy.command(["ls"]))
}

#[test]
fn a_link_to_the_sites_directory_itself_is_ignored_and_its_removal_blinds_nobody() {
    let proxy = Proxy::start();
    appears(&proxy, "a");
    let link = proxy.sites().join("self");
    symlink("../sites.d", &link).unwrap();
    until("it is told", || {
        listed(&proxy).contains("leads to the sites directory itself")
    });
    appears(&proxy, "b");
    assert!(proxy.status("self/b").is_none(), "{}", listed(&proxy));
    fs::remove_file(&link).unwrap();
    until("it is told no more", || !listed(&proxy).contains("itself"));
    appears(&proxy, "c");
}

#[test]
fn what_lies_next_to_a_file_that_a_site_names_is_no_file_of_the_sites_directory() {
    let plan = Proxy::plan();
    let (pki, deep) = (plan.folder().join("pki"), plan.sites().join("red/deep"));
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(&pki).unwrap();
    fs::write(deep.join("page"), "page").unwrap();
    let pair = Authority::new("test").pair(&["*.example.com"]);
    pair.write(&pki, "x");
    let with = |host: &str, folder: &str| {
        let files = format!("cert = '{folder}/x.pem'\nkey = '{folder}/x.key'");
        format!("host = '{host}'\nrespond = 'x'\n[tls]\n{files}\n")
    };
    let proxy = plan
        .site("a.toml", with("a.example.com", "../pki"))
        .site("red/b.toml", with("b.example.com", "../../pki"))
        .site(
            "red/c.toml",
            "host = 'c.test'\nrespond = { file = 'deep/page' }\n",
        )
        .start();
    for name in ["a", "red/b", "red/c"] {
        proxy.until_state(name, "live");
    }
    for folder in [&pki, &deep] {
        fs::write(folder.join("zzz.pem"), "").unwrap();
        fs::write(folder.join("foo.toml"), says("foo.test", "foo")).unwrap();
    }
    // What is told of this one is told after those.
    fs::write(proxy.sites().join("last.conf"), "").unwrap();
    until("the last is told", || listed(&proxy).contains("last.conf"));
    let listed = listed(&proxy);
    for name in ["zzz.pem", "foo.toml"] {
        assert!(!listed.contains(name), "{listed}");
    }
}

#[test]
fn a_folder_of_two_teams_is_followed_until_both_links_to_it_are_gone() {
    let proxy = Proxy::start();
    let shared = proxy.folder().join("shared");
    fs::create_dir(&shared).unwrap();
    let link = |team: &str| symlink(&shared, proxy.sites().join(team)).unwrap();
    let is_followed = |team: &str, number: usize| {
        let site = format!("{team}/{number}");
        // Two teams claim the same name, so that one of them waits: which one does not matter here.
        appears_in(&proxy, &shared, &site);
    };
    let mut number = 0;
    for (first, second, away) in [
        ("red", "blue", "red"),
        ("red", "blue", "blue"),
        ("blue", "red", "red"),
        ("blue", "red", "blue"),
    ] {
        let stays = if away == first { second } else { first };
        link(first);
        number += 1;
        is_followed(first, number);
        link(second);
        // Both are known when both have a state.
        until("both are listed", || {
            proxy.status(&format!("{second}/{number}")).is_some()
        });
        fs::remove_file(proxy.sites().join(away)).unwrap();
        until("one is gone", || {
            let status = proxy.status(&format!("{away}/{number}"));
            status.is_none_or(|status| status["state"] == "stale")
        });
        number += 1;
        is_followed(stays, number);
        fs::remove_file(proxy.sites().join(stays)).unwrap();
        for entry in fs::read_dir(&shared).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        proxy.command(["reload", "--accept-removals"]);
        until("nothing is left", || {
            !listed(&proxy).contains(&format!("{stays}/"))
        });
    }
}

#[test]
fn a_file_that_is_mounted_on_its_name_is_seen_when_it_is_written_in_place() {
    if !may_mount() {
        return;
    }
    // `docker run -v ./real.toml:/etc/onedoor/sites.d/shop.toml`
    let plan = Proxy::plan().site("shop.toml", "");
    let real = plan.folder().join("real.toml");
    fs::write(&real, says("shop.test", "one")).unwrap();
    let goal = plan.sites().join("shop.toml");
    let line = format!("mount --bind '{}' \"$0\"", real.display());
    let proxy = plan.after_mounting(&line, &goal).start();
    assert_eq!(proxy.get("shop.test", "/").text(), "one");
    let begun = Instant::now();
    fs::write(&real, says("shop.test", "two")).unwrap();
    proxy.until_answer("shop.test", "the new text", |answer| answer.text() == "two");
    assert!(begun.elapsed() < SOON, "after {:?}", begun.elapsed());
}

#[test]
fn a_disk_that_hangs_keeps_nobody_from_asking_nor_from_ending() {
    if !found("strace") {
        return;
    }
    let plan = Proxy::plan().site("shop.toml", says("shop.test", "x"));
    let slow = plan.sites().join("slow.toml");
    let proxy = plan.under(hanging_at(&slow)).start();
    proxy.sites().write("slow.toml", says("slow.test", "x"));
    proxy.until_logged("the disk does not answer");
    let listed = words_of(&proxy.command(["ls"]));
    assert!(listed.contains("edits wait until it does"), "{listed}");
    assert!(listed.contains("shop.test"), "{listed}");
    let waited = proxy.command(["wait", "slow", "--timeout", "200ms"]);
    assert_eq!(waited.status.code(), Some(3), "{}", words_of(&waited));
    assert_eq!(proxy.get("shop.test", "/").text(), "x");
    // strace itself stays with the thread whose call it delays.
    let end = |proxy: Proxy| {
        let id = proxy.own_id();
        kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
        until("it ends", || {
            let status = fs::read_to_string(format!("/proc/{id}/status"));
            status.map_or(true, |status| status.contains("State:\tZ"))
        });
    };
    end(proxy);

    // Also while it starts: it writes its lock before it looks at any site, and after it listens to signals.
    let plan = Proxy::plan();
    let slow = plan.sites().join("slow.toml");
    let plan = plan.site("slow.toml", says("slow.test", "x"));
    end(plan.under(hanging_at(&slow)).spawn());
}

#[test]
fn a_clock_that_is_set_back_or_forth_stops_nothing() {
    if !found("faketime") {
        return;
    }
    let asked = Command::new("faketime")
        .args(["-f", "+0", "printenv", "LD_PRELOAD"])
        .output()
        .unwrap();
    let library = String::from_utf8(asked.stdout).unwrap();
    let plan = Proxy::plan().site("shop.toml", says("shop.test", "0"));
    // Read anew at every question for the time.
    let clock = plan.folder().join("clock");
    fs::write(&clock, "+0").unwrap();
    let proxy = plan
        .environment("LD_PRELOAD", library.trim())
        .environment("FAKETIME_TIMESTAMP_FILE", &clock)
        .environment("FAKETIME_NO_CACHE", "1")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .environment("NO_FAKE_STAT", "1")
        .start();
    for (number, jump) in ["-2d", "+3d", "-10y", "+0"].into_iter().enumerate() {
        proxy.site("shop.toml", says("shop.test", "before"));
        fs::write(&clock, jump).unwrap();
        let begun = Instant::now();
        proxy.site("shop.toml", says("shop.test", &number.to_string()));
        assert_eq!(proxy.get("shop.test", "/").text(), number.to_string());
        let since = proxy.status("shop").unwrap()["since"].as_u64().unwrap();
        let real = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert_eq!(
            since.abs_diff(real) > 86_400,
            jump != "+0",
            "its clock shows {since}"
        );
        proxy.site("blog.toml", says("blog.test", "x"));
        proxy.sites().remove("blog.toml");
        proxy.wait_gone("blog");
        assert!(begun.elapsed() < SOON, "{jump}: {:?}", begun.elapsed());
        let output = proxy.command(["reload"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert!(!proxy.log().contains("panic"), "{}", proxy.log());
}
