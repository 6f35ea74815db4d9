//! One bad file harms nobody else; the message shows the line.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Backend, Proxy, until};

fn says(host: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n")
}

#[test]
fn a_broken_site_file_leaves_the_other_sites_serving() {
    let blog = Backend::saying("blog");
    let proxy = Proxy::start();
    proxy.site(
        "blog.toml",
        format!("host = 'blog.test'\nto = {}", blog.port),
    );
    proxy
        .sites()
        .write("shop.toml", "host = 'shop.test'\nto = nowhere");
    proxy.until_logged("shop.toml:2:6");
    assert_eq!(proxy.get("blog.test", "/").text(), "blog");
    assert_eq!(proxy.state_of("shop"), "down");
}

#[test]
fn a_site_that_is_broken_by_an_edit_serves_its_last_good_version_also_after_a_restart() {
    let mut proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "good"))
        .start();
    proxy
        .sites()
        .write("shop.toml", "host = 'shop.test'\nrespnd = 'x'\n");
    proxy.until_state("shop", "stale");
    proxy.until_logged("still serving the version of");
    assert_eq!(proxy.get("shop.test", "/").text(), "good");
    proxy.stop();
    proxy.start_again();
    assert_eq!(proxy.get("shop.test", "/").text(), "good");
    assert_eq!(proxy.state_of("shop"), "stale");
    proxy.kill();
    proxy.start_again();
    assert_eq!(proxy.get("shop.test", "/").text(), "good");
    proxy.site("shop.toml", says("shop.test", "mended"));
    assert_eq!(proxy.get("shop.test", "/").text(), "mended");
    assert_eq!(proxy.state_of("shop"), "live");
}

#[test]
fn a_last_good_version_keeps_its_claims() {
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "good"))
        .start();
    proxy.sites().write("shop.toml", "nonsense");
    proxy.until_state("shop", "stale");
    proxy
        .sites()
        .write("thief.toml", says("shop.test", "thief"));
    proxy.until_state("thief", "conflict");
    assert_eq!(proxy.get("shop.test", "/").text(), "good");
}

#[test]
fn one_bad_file_among_a_thousand_is_the_only_one_missing() {
    let mut plan = Proxy::plan().site("bad.toml", "host = ");
    for number in 0..1000 {
        plan = plan.site(
            &format!("s{number}.toml"),
            says(&format!("s{number}.test"), "x"),
        );
    }
    let proxy = plan.start();
    assert_eq!(proxy.get("s0.test", "/").text(), "x");
    assert_eq!(proxy.get("s999.test", "/").text(), "x");
    let not_live: Vec<_> = proxy
        .list()
        .into_iter()
        .filter(|file| file["state"] != "live")
        .collect();
    assert_eq!(not_live.len(), 1, "{not_live:?}");
    assert_eq!(not_live[0]["name"], "bad");
}

/// What `onedoor check` says about one file.
fn check(text: &[u8]) -> (Option<i32>, String) {
    let plan = Proxy::plan();
    fs::write(plan.sites().join("shop.toml"), text).unwrap();
    let output = crate::harness::onedoor(plan.folder(), ["check", "--state", "state"]);
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn a_message_shows_place_line_and_what_to_write_instead() {
    let (code, text) = check(b"host = \"shop.test\"\nproxy_pass = 5000\n");
    assert_eq!(code, Some(1));
    for part in [
        "sites.d/shop.toml:2:1",
        "unknown key \"proxy_pass\"",
        "did you mean \"to\"?",
        "2 | proxy_pass = 5000",
        "^^^^^^^^^^",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

#[test]
fn all_errors_of_a_file_are_shown_at_once() {
    let (code, text) = check(
        b"host = 'a b'\nto = 0\nnoet = 'x'\n[timeout]\nidle = 5\n[limit]\nbody = '1 parsec'\n",
    );
    assert_eq!(code, Some(1));
    for place in [":1:8", ":2:6", ":3:1", ":5:8", ":7:8"] {
        assert!(
            text.contains(&format!("shop.toml{place}")),
            "{place} in\n{text}"
        );
    }
}

#[test]
fn a_key_in_the_wrong_place_is_sent_to_the_right_one() {
    let (code, text) =
        check(b"host = 'shop.test'\nto = 5000\n[timeout]\nidle = '5s'\nsend_host = 'backend'\n");
    assert_eq!(code, Some(1));
    assert!(
        text.contains("\"send_host\" belongs above [timeout], line 3"),
        "{text}"
    );
}

#[test]
fn input_that_is_no_site_file_at_all_is_an_error_with_a_place() {
    for bad in [
        &b"\xff\xfeh\0o\0s\0t\0"[..],
        b"host = 'a\0b'\nto = 1",
        b"host = 'a.test'\nhost = 'b.test'\nto = 1",
        b"host = 'a.test'\rto = 1",
        b"\x89PNG\r\n",
        b"host = \"a.test\nto = 1",
        b"",
        b"# nothing\n",
    ] {
        let (code, text) = check(bad);
        assert_eq!(code, Some(1), "{:?}: {text}", String::from_utf8_lossy(bad));
        assert!(text.contains("shop.toml"), "{text}");
    }
}

#[test]
fn a_byte_order_mark_windows_line_ends_and_tabs_are_fine_or_a_clear_error() {
    let (code, text) = check(b"host\t=\t'shop.test'\r\nto = 5000\r\n");
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check(b"\xef\xbb\xbfhost = 'shop.test'\nto = 5000\n");
    assert!(
        code == Some(0) || text.to_lowercase().contains("byte order mark"),
        "{text}"
    );
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let (_, text) = check(b"host = 'shop.test'\n\"\\u001b[31m\" = 'x'\n");
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let proxy = Proxy::start();
    proxy
        .sites()
        .write_in_place("a\u{1b}[31m\nb.toml", "nonsense");
    proxy.sites().write_in_place("plain.toml", "nonsense");
    proxy.until_state("plain", "down");
    until("both are seen", || proxy.list().len() == 2);
    assert!(!proxy.log().contains("\u{1b}[31m"));
    let output = proxy.command(["ls"]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("\u{1b}[31m"));
    // What is compared is written out, too.
    proxy.site("shop.toml", says("shop.test", "x"));
    let broken = format!("# \u{1b}[31m\n{}", says("shop.test", "x"));
    proxy.sites().write_in_place("shop.toml", broken);
    proxy.until_state("shop", "stale");
    let output = proxy.command(["diff", "shop"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("+# \\u{1b}[31m"), "{said:?}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn a_fifo_a_device_and_a_huge_file_hang_nothing() {
    let proxy = Proxy::plan()
        .site("good.toml", says("good.test", "x"))
        .start();
    assert!(
        Command::new("mkfifo")
            .arg(proxy.sites().join("pipe.toml"))
            .status()
            .unwrap()
            .success()
    );
    symlink("/dev/zero", proxy.sites().join("zero.toml")).unwrap();
    symlink("loop.toml", proxy.sites().join("loop.toml")).unwrap();
    symlink("nowhere", proxy.sites().join("dangling.toml")).unwrap();
    fs::create_dir(proxy.sites().join("folder.toml")).unwrap();
    proxy.sites().write("huge.toml", vec![b'#'; 3 << 20]);
    proxy.sites().write(
        "deep.toml",
        format!("host = 'x.test'\nto = {}", "[".repeat(100_000)),
    );
    proxy.site("good.toml", says("good.test", "y"));
    assert_eq!(proxy.get("good.test", "/").text(), "y");
    for name in ["pipe", "zero", "loop", "huge", "deep"] {
        until(&format!("{name} is rejected"), || {
            matches!(proxy.state_of(name).as_str(), "down" | "ignored")
        });
    }
}

#[test]
fn a_file_outside_the_fence_is_refused_without_showing_it() {
    let plan = Proxy::plan();
    let secret = plan.folder().join("secret.txt");
    fs::write(&secret, "the secret").unwrap();
    let proxy = plan
        .site(
            "a.toml",
            format!(
                "host = 'a.test'\nrespond = {{ file = '{}' }}\n",
                secret.display()
            ),
        )
        .site(
            "b.toml",
            "host = 'b.test'\nrespond = { file = '../secret.txt' }\n",
        )
        .start();
    for name in ["a", "b"] {
        proxy.until_state(name, "down");
        let file = proxy.status(name).unwrap().to_string();
        assert!(
            file.contains("files_under") && !file.contains("the secret"),
            "{file}"
        );
    }
    assert!(!proxy.log().contains("the secret"));
}

#[test]
fn a_backend_at_the_metadata_address_is_refused_unless_allowed() {
    let text = "host = 'a.test'\nto = '169.254.169.254:80'\n";
    let proxy = Proxy::plan().site("a.toml", text).start();
    proxy.until_state("a", "down");
    let proxy = Proxy::plan()
        .daemon_file("allow_link_local = true\n")
        .site("a.toml", text)
        .start();
    assert_eq!(proxy.state_of("a"), "live");
}

#[test]
fn an_unparsable_moment_is_looked_at_again_before_it_counts() {
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "one"))
        .start();
    let begun = Instant::now();
    // Unparsable for less than the 300 ms that such a moment may last.
    proxy.sites().write_in_place("shop.toml", "host = 'shop.te");
    std::thread::sleep(Duration::from_millis(50));
    proxy
        .sites()
        .write_in_place("shop.toml", says("shop.test", "two"));
    if begun.elapsed() < Duration::from_millis(250) {
        proxy.wait_for("shop");
        assert!(!proxy.log().contains("rejected"), "{}", proxy.log());
    }
    proxy.wait_for("shop");
    assert_eq!(proxy.get("shop.test", "/").text(), "two");
}

/// CASES S-15, unix(7): `sockaddr_un` ends there.
#[test]
fn a_socket_path_that_no_system_takes_is_an_error_at_its_place() {
    let path = format!("/run/{}.sock", "x".repeat(98));
    assert_eq!(path.len(), 108);
    let proxy = Proxy::start();
    proxy.sites().write(
        "app.toml",
        format!("host = 'app.test'\nto = 'unix:{path}'\n"),
    );
    proxy.until_logged("app.toml:2:6");
    proxy.until_logged("the socket's path has 108 bytes, the system takes 107");
    assert_eq!(proxy.state_of("app"), "down");
}
