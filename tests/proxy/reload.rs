//! Files added, changed, removed, many at once, during traffic; nobody else notices.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Backend, Proxy, UnderWay, under_way, until};

fn says(host: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n")
}

#[test]
fn a_dropped_file_is_live_a_moment_later_and_so_is_its_change_and_its_end() {
    let proxy = Proxy::start();
    assert_eq!(proxy.get("shop.test", "/").status, 421);
    proxy.site("shop.toml", says("shop.test", "one"));
    assert_eq!(proxy.get("shop.test", "/").text(), "one");
    proxy.site("shop.toml", says("shop.test", "two"));
    assert_eq!(proxy.get("shop.test", "/").text(), "two");
    proxy.sites().remove("shop.toml");
    proxy.wait_gone("shop");
    assert_eq!(proxy.get("shop.test", "/").said(), "421 no-site-for-host");
}

#[test]
fn a_change_needs_nobody_to_ask_for_it() {
    let proxy = Proxy::start();
    proxy.sites().write("shop.toml", says("shop.test", "here"));
    let answer = proxy.until_answer("shop.test", "the new site", |answer| answer.status == 200);
    assert_eq!(answer.text(), "here");
}

#[test]
fn a_site_that_moves_to_another_app_sends_the_next_request_there() {
    let (old, new) = (Backend::saying("old"), Backend::saying("new"));
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", old.port),
        )
        .start();
    let mut client = proxy.client();
    assert_eq!(client.get("shop.test", "/").text(), "old");
    proxy.site(
        "shop.toml",
        format!("host = 'shop.test'\nto = {}", new.port),
    );
    assert_eq!(
        client.get("shop.test", "/").text(),
        "new",
        "on the same connection"
    );
    until("the idle upstream to the old app is closed", || {
        old.closed() == old.accepted()
    });
}

#[test]
fn an_open_websocket_does_not_notice_a_thousand_edits_of_another_site() {
    let blue = Backend::upgrading();
    let proxy = Proxy::plan()
        .site(
            "blue.toml",
            format!("host = 'blue.test'\nto = {}", blue.port),
        )
        .site("green.toml", says("green.test", "0"))
        .start();
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: blue.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.response_head().status, 101);
    for number in 1..=1000 {
        proxy
            .sites()
            .write("green.toml", says("green.test", &number.to_string()));
        if number % 100 == 0 {
            client.send(format!("{number:04}"));
            assert_eq!(client.bytes(4), format!("{number:04}").as_bytes());
        }
    }
    proxy.wait_for("green");
    assert_eq!(proxy.get("green.test", "/").text(), "1000");
    client.send("still");
    assert_eq!(client.bytes(5), b"still");
    assert_eq!(blue.accepted(), 1);
}

#[test]
fn an_open_stream_of_an_edited_site_goes_on() {
    let app = Backend::upgrading();
    let text = |note: &str| format!("host = 'app.test'\nto = {}\nnote = '{note}'", app.port);
    let proxy = Proxy::plan().site("app.toml", text("one")).start();
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.response_head().status, 101);
    proxy.site("app.toml", text("two"));
    client.send("still");
    assert_eq!(client.bytes(5), b"still");
}

#[test]
fn an_edit_that_would_not_admit_a_connection_ends_it() {
    let app = Backend::upgrading();
    let text = |allow: &str| format!("host = 'app.test'\nto = {}\nallow = '{allow}'", app.port);
    let proxy = Proxy::plan().site("app.toml", text("127.0.0.1")).start();
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.response_head().status, 101);
    proxy.site("app.toml", text("10.0.0.0/8"));
    client.expect_close();
}

#[test]
fn a_request_that_an_edit_gives_no_more_time_is_told_that_its_site_was_edited() {
    let UnderWay {
        proxy,
        mut client,
        app,
    } = under_way();
    let port = app.port;
    proxy.site(
        "slow.toml",
        format!("host = 'slow.test'\nto = {port}\ndrain = {{ edit = '300ms' }}\n"),
    );
    assert_eq!(client.response().said(), "503 site-edited");
}

#[test]
fn open_work_of_a_removed_site_ends_within_its_drain() {
    let app = Backend::upgrading();
    let text = format!(
        "host = 'app.test'\nto = {}\ndrain = {{ remove = '300ms' }}\n",
        app.port
    );
    let proxy = Proxy::plan().site("app.toml", text).start();
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.response_head().status, 101);
    proxy.sites().remove("app.toml");
    client.expect_close();
    proxy.wait_gone("app");
    until("the app's connection ends", || app.closed() == 1);
}

#[test]
fn a_request_under_way_when_its_site_is_removed_is_finished() {
    let app = Backend::doing(|conversation| {
        let Some((_, _)) = conversation.request_head() else {
            return;
        };
        let body = conversation.bytes(2);
        conversation.answer(body);
    });
    let proxy = Proxy::plan()
        .site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
        .start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\n");
    app.until_requests(1);
    proxy.sites().remove("app.toml");
    proxy.wait_gone("app");
    client.send("hi");
    assert_eq!(client.response().text(), "hi");
}

#[test]
fn traffic_of_other_sites_is_answered_without_a_failure_during_edits() {
    let app = Backend::saying("app");
    let proxy = Proxy::plan()
        .site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
        .start();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut client, mut count) = (proxy.client(), 0);
            while !done.load(Ordering::SeqCst) {
                assert_eq!(client.get("app.test", "/").text(), "app");
                count += 1;
            }
            count
        });
        for number in 0..200 {
            proxy.sites().write(
                &format!("s{}.toml", number % 20),
                says(&format!("s{}.test", number % 20), "x"),
            );
            if number % 7 == 0 {
                proxy.sites().remove(&format!("s{}.toml", number % 20));
            }
        }
        proxy.command(["reload"]);
        done.store(true, Ordering::SeqCst);
        assert!(asking.join().unwrap() > 0);
    });
}

#[test]
fn touch_and_chmod_and_the_same_content_do_nothing() {
    let app = Backend::upgrading();
    let text = format!("host = 'app.test'\nto = {}\n", app.port);
    let proxy = Proxy::plan().site("app.toml", &text).start();
    let before = proxy.status("app").unwrap();
    let file = proxy.sites().join("app.toml");
    assert!(Command::new("touch").arg(&file).status().unwrap().success());
    assert!(
        Command::new("chmod")
            .arg("600")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    proxy.sites().write("app.toml", &text);
    proxy.sites().write_in_place("app.toml", &text);
    let output = proxy.command(["reload"]);
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("nothing changed"),
        "{output:?}"
    );
    assert_eq!(
        proxy.status("app").unwrap()["serving_since"],
        before["serving_since"]
    );
}

#[test]
fn every_way_of_saving_counts_once_and_whole() {
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "0"))
        .start();
    let file = proxy.sites().join("shop.toml");
    let path = file.to_str().unwrap();
    let other = proxy.folder().join("new.toml");
    let shell = |line: &str| {
        let status = Command::new("sh")
            .arg("-c")
            .arg(line)
            .env("f", path)
            .env("new", &other)
            .status()
            .unwrap();
        assert!(status.success(), "{line}");
    };
    let ways = [
        // `>`, nano and cp: truncate, write, close.
        ("cat", "cat \"$new\" > \"$f\""),
        ("cp", "cp \"$new\" \"$f\""),
        ("tee", "tee \"$f\" < \"$new\" > /dev/null"),
        // A new file takes the place of the old one.
        ("mv", "cp \"$new\" \"$f.tmp\" && mv \"$f.tmp\" \"$f\""),
        ("install", "install -m 644 \"$new\" \"$f\""),
        // rsync: a hidden file with a random end, then renamed.
        (
            "rsync",
            "d=$(dirname \"$f\") && cp \"$new\" \"$d/.shop.toml.Xa3f9Q\" && mv \"$d/.shop.toml.Xa3f9Q\" \"$f\"",
        ),
        // vim with backupcopy=no: the old one moves away, a new one is made, the old one goes.
        (
            "vim",
            "mv \"$f\" \"$f~\" && cat \"$new\" > \"$f\" && rm \"$f~\"",
        ),
        ("rm", "rm \"$f\" && cp \"$new\" \"$f\""),
        ("ln", "ln \"$new\" \"$f.hard\" && mv \"$f.hard\" \"$f\""),
    ];
    for (name, line) in ways {
        // A new inode each time: a hard link must not change with the next round.
        drop(fs::remove_file(&other));
        fs::write(&other, says("shop.test", name)).unwrap();
        shell(line);
        proxy.wait_for("shop");
        assert_eq!(proxy.get("shop.test", "/").text(), name);
    }
    shell("sed -i s/ln/sed/ \"$f\"");
    proxy.wait_for("shop");
    assert_eq!(proxy.get("shop.test", "/").text(), "sed");
}

#[test]
fn vim_itself_saves_and_the_site_is_there() {
    if !crate::harness::found("vim") {
        return;
    }
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "before"))
        .start();
    let status = Command::new("vim")
        .args([
            "-u",
            "NONE",
            "-n",
            "-es",
            "-c",
            "%s/before/after/",
            "-c",
            "wq",
        ])
        .arg(proxy.sites().join("shop.toml"))
        .status()
        .unwrap();
    assert!(status.success());
    proxy.wait_for("shop");
    assert_eq!(proxy.get("shop.test", "/").text(), "after");
}

#[test]
fn the_first_half_of_a_write_is_never_live_even_when_it_is_valid() {
    let (inner, outer) = (Backend::saying("inner"), Backend::saying("outer"));
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", outer.port),
        )
        .start();
    // Valid so far, and without the guard that comes below.
    let half = format!("host = 'shop.test'\nto = {}\n", inner.port);
    let mut file = proxy.sites().begin_in_place("shop.toml", &half);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        assert_eq!(proxy.get("shop.test", "/").text(), "outer");
    }
    std::io::Write::write_all(&mut file, b"allow = '10.0.0.0/8'\n").unwrap();
    drop(file);
    proxy.wait_for("shop");
    assert_eq!(proxy.get("shop.test", "/").said(), "403 not-allowed");
}

#[test]
fn an_empty_moment_of_a_file_does_not_remove_its_site() {
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "before"))
        .start();
    for _ in 0..20 {
        drop(proxy.sites().begin_in_place("shop.toml", ""));
        assert_eq!(proxy.get("shop.test", "/").status, 200);
        proxy
            .sites()
            .write_in_place("shop.toml", says("shop.test", "after"));
        assert_eq!(proxy.get("shop.test", "/").status, 200);
    }
    proxy.wait_for("shop");
    assert_eq!(proxy.get("shop.test", "/").text(), "after");
}

#[test]
fn a_file_of_a_team_is_one_folder_deep() {
    let proxy = Proxy::start();
    proxy.site("red/shop.toml", says("shop.test", "team red"));
    assert_eq!(proxy.get("shop.test", "/").text(), "team red");
    assert_eq!(proxy.state_of("red/shop"), "live");
    proxy
        .sites()
        .write("red/deeper/blog.toml", says("blog.test", "x"));
    proxy.command(["reload"]);
    assert_eq!(
        proxy.get("blog.test", "/").status,
        421,
        "two folders deep is nobody's"
    );
}

#[test]
fn files_that_are_no_site_files_are_ignored_with_a_reason() {
    let proxy = Proxy::start();
    for name in [
        "shop.conf",
        "shop.tml",
        ".shop.toml",
        "shop.toml~",
        "shop.toml.swp",
        "shop.toml.off",
        "4913",
        "shop.toml.dpkg-new",
        "shop.toml.rpmnew",
        "#shop.toml#",
    ] {
        proxy.sites().write_in_place(name, says("shop.test", name));
    }
    proxy.command(["reload"]);
    assert_eq!(proxy.get("shop.test", "/").status, 421);
    let ignored: Vec<_> = proxy
        .list()
        .into_iter()
        .filter(|file| file["state"] == "ignored")
        .collect();
    let conf = ignored.iter().find(|file| {
        file["file"]
            .as_str()
            .is_some_and(|path| path.ends_with("shop.conf"))
    });
    assert!(
        conf.is_some_and(|file| file["reason"].is_string()),
        "{ignored:?}"
    );
}

#[test]
fn files_that_a_site_names_are_no_mistakes_and_the_others_have_their_folder() {
    let proxy = Proxy::start();
    let sites = proxy.sites().path().to_path_buf();
    for folder in ["a/b", "c"] {
        std::fs::create_dir_all(sites.join(folder)).unwrap();
    }
    for file in ["a/page", "a/value", "a/one.conf", "c/one.conf", "c/page"] {
        std::fs::write(sites.join(file), "text").unwrap();
    }
    std::fs::write(
        sites.join("a/shop.toml"),
        "host = 'shop.test'\nrespond = { file = 'page' }\n[headers.response.set]\nx-value = { file = 'value' }\n",
    )
    .unwrap();
    let output = proxy.command(["wait", "a/shop"]);
    assert!(output.status.success(), "{output:?}");
    proxy.command(["reload"]);
    let mut ignored: Vec<String> = proxy
        .list()
        .into_iter()
        .filter(|file| file["state"] == "ignored")
        .map(|file| file["name"].as_str().unwrap().to_owned())
        .collect();
    ignored.sort();
    assert_eq!(ignored, ["a/b", "a/one.conf", "c/one.conf", "c/page"]);
    let check = proxy.command(["check"]);
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    let is_ignored = |file: &str| check.contains(&format!("{}: ", sites.join(file).display()));
    assert!(is_ignored("c/page") && is_ignored("a/one.conf"), "{check}");
    assert!(!is_ignored("a/page") && !is_ignored("a/value"), "{check}");
}

#[test]
fn a_file_set_to_off_is_gone_at_once() {
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "x"))
        .start();
    proxy.sites().rename("shop.toml", "shop.toml.off");
    proxy.wait_gone("shop");
    assert_eq!(proxy.get("shop.test", "/").status, 421);
    proxy.sites().rename("shop.toml.off", "shop.toml");
    proxy.wait_for("shop");
    assert_eq!(proxy.get("shop.test", "/").text(), "x");
}

#[test]
fn sighup_looks_at_everything_again() {
    let proxy = Proxy::plan().flag("--watch=poll 600s").start();
    proxy.sites().write("shop.toml", says("shop.test", "found"));
    proxy.signal(rustix::process::Signal::HUP);
    proxy.until_answer("shop.test", "found after SIGHUP", |answer| {
        answer.status == 200
    });
}

/// As many as fit into ten seconds of a debug build on two busy cores; most of that time is one `stat` and one `open`
/// for each of them.
const MANY: usize = 10_000;

#[test]
fn ten_thousand_files_at_once_are_all_live_and_nobody_else_notices() {
    let app = Backend::saying("app");
    let proxy = Proxy::plan()
        .daemon_file("[limit]\nrequests = 1000000000\n")
        .site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
        .start();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut client, mut count, mut slowest) = (proxy.client(), 0, Duration::ZERO);
            while !done.load(Ordering::SeqCst) {
                let begun = Instant::now();
                assert_eq!(client.get("app.test", "/").text(), "app");
                slowest = slowest.max(begun.elapsed());
                count += 1;
            }
            (count, slowest)
        });
        let begun = Instant::now();
        for number in 0..MANY {
            proxy.sites().write_in_place(
                &format!("s{number}.toml"),
                says(&format!("s{number}.test"), &number.to_string()),
            );
        }
        let output = proxy.command(["wait", "--timeout", "60s"]);
        println!("{MANY} files are live after {:?}", begun.elapsed());
        done.store(true, Ordering::SeqCst);
        assert!(output.status.success(), "{output:?}");
        let (count, slowest) = asking.join().unwrap();
        println!("{count} requests meanwhile, the slowest took {slowest:?}");
        assert!(count > 0);
    });
    for number in (0..MANY).step_by(MANY / 50).chain([MANY - 1]) {
        assert_eq!(
            proxy.get(&format!("s{number}.test"), "/").text(),
            number.to_string()
        );
    }
    let live = proxy
        .list()
        .iter()
        .filter(|file| file["state"] == "live")
        .count();
    assert_eq!(live, MANY + 1);
}

#[test]
fn the_last_of_many_quick_changes_is_what_stays() {
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "0"))
        .start();
    for number in 1..=500 {
        proxy
            .sites()
            .write_in_place("shop.toml", says("shop.test", &number.to_string()));
    }
    proxy.wait_for("shop");
    assert_eq!(proxy.get("shop.test", "/").text(), "500");
}

#[test]
fn a_file_that_a_site_file_points_at_counts_too() {
    let plan = Proxy::plan();
    let page = plan.sites().join("page.txt");
    fs::write(&page, "one").unwrap();
    let proxy = plan
        .site(
            "shop.toml",
            "host = 'shop.test'\nrespond = { file = 'page.txt' }\n",
        )
        .start();
    assert_eq!(proxy.get("shop.test", "/").text(), "one");
    fs::write(&page, "two").unwrap();
    proxy.command(["reload"]);
    assert_eq!(proxy.get("shop.test", "/").text(), "two");
}
