//! The state directory full, not to be written or taken away: a warning, never an outage.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use crate::harness::{Proxy, found, may_mount, until, words_of};

fn says(host: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n")
}

const WARNING: &str = "cannot write what is live, a restart would not know it";

#[test]
fn a_disk_that_is_full_is_one_warning_and_is_written_again_when_it_has_room() {
    if !may_mount() {
        return;
    }
    let plan = Proxy::plan().site("shop.toml", says("shop.test", "0"));
    // Only this part of it, so that the admin socket can be found from outside.
    let state = plan.folder().join("state/sites");
    let line = "mkdir -p \"$0\" && mount -t tmpfs -o size=64k none \"$0\"";
    let proxy = plan.after_mounting(line, &state).start();
    let ballast = proxy.seen(&state.join("ballast"));
    let kept = proxy.seen(&state.join("shop.json"));
    until("the first version is kept", || kept.exists());
    assert!(fs::write(&ballast, vec![0; 128 << 10]).is_err(), "full");
    for number in 1..=3 {
        proxy.site("shop.toml", says("shop.test", &number.to_string()));
        assert_eq!(proxy.get("shop.test", "/").text(), number.to_string());
        proxy.until_logged(WARNING);
    }
    let noticed = "what is live cannot be written into";
    let output = proxy.command(["ls", "--errors"]);
    assert!(
        words_of(&output).contains(noticed) && words_of(&output).contains("No space left"),
        "{}",
        words_of(&output)
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(words_of(&proxy.command(["ls"])).contains(noticed));
    assert!(fs::read_to_string(&kept).unwrap().contains("'0'"));
    fs::remove_file(&ballast).unwrap();
    proxy.site("blog.toml", says("blog.test", "x"));
    proxy.until_logged("what is live is written again");
    let text = fs::read_to_string(&kept).unwrap();
    assert!(text.contains("'3'"), "{text}");
    let output = proxy.command(["ls", "--errors"]);
    assert_eq!(words_of(&output), "exit status: 0\nnothing is wrong\n");
    assert_eq!(proxy.log().matches(WARNING).count(), 1, "{}", proxy.log());
}

#[test]
fn a_state_directory_that_becomes_unwritable_is_one_warning_and_recovers() {
    if !rustix::process::geteuid().is_root() || !found("setpriv") {
        return println!("left out: only root can start onedoor as somebody else");
    }
    const NOBODY: u32 = 65534;
    let plan = Proxy::plan().under([
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ]);
    chown(plan.folder().path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut proxy = plan.site("shop.toml", says("shop.test", "0")).start();
    let kept = proxy.state().join("sites");
    until("the first version is kept", || {
        kept.join("shop.json").exists()
    });
    let set_mode = |mode| fs::set_permissions(&kept, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o500);
    for number in 1..=3 {
        proxy.site("shop.toml", says("shop.test", &number.to_string()));
        assert_eq!(proxy.get("shop.test", "/").text(), number.to_string());
        proxy.until_logged(WARNING);
    }
    set_mode(0o700);
    proxy.site("blog.toml", says("blog.test", "x"));
    proxy.until_logged("what is live is written again");
    assert_eq!(proxy.log().matches(WARNING).count(), 1, "{}", proxy.log());
    // What was written in the end is what a restart with a broken file serves.
    proxy.kill();
    proxy.sites().write("shop.toml", "broken");
    proxy.start_again();
    assert_eq!(proxy.get("shop.test", "/").text(), "3");
}

#[test]
fn a_sync_that_fails_is_a_warning_and_no_outage() {
    if !found("strace") {
        return;
    }
    let proxy = Proxy::plan()
        .under([
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "inject=fsync,fdatasync:error=ENOSPC",
        ])
        .start();
    proxy.site("shop.toml", says("shop.test", "x"));
    assert_eq!(proxy.get("shop.test", "/").text(), "x");
    proxy.until_logged("No space left on device");
}

#[test]
fn a_state_directory_taken_away_is_a_warning_and_is_not_made_anew() {
    let proxy = Proxy::start();
    proxy.site("shop.toml", says("shop.test", "x"));
    // Written after it serves, beside its name at first.
    let kept = proxy.state().join("sites");
    until("it is kept", || kept.join("shop.json").exists());
    fs::remove_dir_all(kept).unwrap();
    fs::rename(proxy.state(), proxy.folder().join("away")).unwrap();
    proxy.sites().write("shop.toml", says("shop.test", "y"));
    proxy.until_answer("shop.test", "the edit", |answer| answer.text() == "y");
    proxy.until_logged(WARNING);
    assert!(!proxy.state().exists(), "its lock would not be ours");
}

#[test]
fn a_state_directory_that_cannot_be_made_is_a_warning_at_the_start() {
    let plan = Proxy::plan().site("shop.toml", says("shop.test", "x"));
    // A file stands in its place.
    fs::write(plan.folder().join("state"), "").unwrap();
    let mut proxy = plan.start();
    proxy.until_logged("the state directory cannot be used");
    proxy.until_logged("no admin socket");
    assert_eq!(proxy.get("shop.test", "/").text(), "x");
    proxy.sites().write("shop.toml", says("shop.test", "y"));
    proxy.until_answer("shop.test", "the edit", |answer| answer.text() == "y");
    proxy.stop();
}

#[test]
fn a_full_disk_under_the_log_stops_nothing() {
    let wrapper = ["sh", "-c", "exec \"$@\" 2> /dev/full", "sh"];
    let mut proxy = Proxy::plan().under(wrapper).start();
    for text in ["1", "2", "3"] {
        proxy.site("shop.toml", says("shop.test", text));
        assert_eq!(proxy.get("shop.test", "/").text(), text);
    }
    proxy.sites().write("shop.toml", "broken");
    proxy.until_state("shop", "stale");
    assert_eq!(proxy.get("shop.test", "/").text(), "3");
    proxy.stop();
}

#[test]
fn a_second_onedoor_ends_on_the_same_state_directory_and_says_so_on_the_same_sites() {
    let first = Proxy::plan()
        .site("shop.toml", says("shop.test", "x"))
        .start();
    let second = Proxy::plan();
    let sites = second.sites().path().to_owned();
    fs::remove_dir(&sites).unwrap();
    symlink(first.sites().path(), &sites).unwrap();
    let mut second = second.start();
    second.until_logged("another onedoor with another state directory serves this folder, too");
    assert_eq!(second.get("shop.test", "/").text(), "x");
    // It is no lock, and of a folder that can be unmounted.
    assert!(!first.log().contains("another onedoor"), "{}", first.log());
    second.stop();
    let third = first.command(["run", "--listen", "127.0.0.1:0"]);
    assert_eq!(third.status.code(), Some(1), "{third:?}");
    let said = crate::harness::words_of(&third);
    assert!(said.contains("it is running already"), "{said}");
}
