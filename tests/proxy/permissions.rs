//! Run as somebody with fewer rights: what cannot be read is said, with the command that mends it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use crate::harness::{Plan, Proxy, found};

/// `nobody` on every Debian.
const NOBODY: u32 = 65534;

/// A onedoor that runs as nobody, in a folder that nobody owns. `None` when the tests are not run by root.
fn as_nobody() -> Option<Plan> {
    if !rustix::process::geteuid().is_root() {
        println!("left out: only root can start onedoor as somebody else");
        return None;
    }
    if !found("setpriv") {
        return None;
    }
    let plan = Proxy::plan().under([
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ]);
    chown(plan.folder().path(), Some(NOBODY), Some(NOBODY)).unwrap();
    Some(plan)
}

fn says(host: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n")
}

fn forbid(plan_file: &std::path::Path) {
    fs::set_permissions(plan_file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_file_that_may_not_be_read_is_named_with_the_command_that_mends_it() {
    let Some(plan) = as_nobody() else { return };
    let plan = plan
        .site("shop.toml", says("shop.test", "x"))
        .site("secret.toml", says("secret.test", "x"));
    let file = plan.sites().join("secret.toml");
    forbid(&file);
    let proxy = plan.start();
    assert_eq!(proxy.get("shop.test", "/").text(), "x");
    proxy.until_logged("permission denied");
    let log = proxy.log();
    for part in ["secret.toml", "root", "nobody", "600", "chmod"] {
        assert!(log.contains(part), "{part} in\n{log}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    proxy.until_answer("secret.test", "readable now", |answer| answer.status == 200);
}

#[test]
fn a_file_that_becomes_unreadable_keeps_its_old_version() {
    let Some(plan) = as_nobody() else { return };
    let proxy = plan.site("shop.toml", says("shop.test", "old")).start();
    let beside = proxy.sites().join(".shop.toml.new");
    fs::write(&beside, says("shop.test", "new")).unwrap();
    forbid(&beside);
    fs::rename(&beside, proxy.sites().join("shop.toml")).unwrap();
    proxy.until_state("shop", "stale");
    assert_eq!(proxy.get("shop.test", "/").text(), "old");
}

#[test]
fn a_folder_that_may_not_be_read_keeps_everything() {
    let Some(plan) = as_nobody() else { return };
    let proxy = plan.site("shop.toml", says("shop.test", "x")).start();
    let folder = proxy.sites().path().to_path_buf();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    proxy.command(["reload"]);
    assert_eq!(proxy.get("shop.test", "/").text(), "x");
    proxy.until_logged("permission denied");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    proxy.site("blog.toml", says("blog.test", "y"));
    assert_eq!(proxy.get("blog.test", "/").text(), "y");
}

#[test]
fn a_state_directory_that_may_not_be_written_is_a_clear_error_or_a_warning() {
    let Some(plan) = as_nobody() else { return };
    let state = plan.folder().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let mut proxy = plan.site("shop.toml", says("shop.test", "x")).spawn();
    proxy.until_logged("state");
    if proxy.has_ended() {
        assert_eq!(proxy.exit_code(), 1);
    }
    assert!(
        proxy.log().to_lowercase().contains("permission denied"),
        "{}",
        proxy.log()
    );
}

#[test]
fn a_port_below_1024_without_the_right_to_it_says_what_is_missing() {
    let Some(plan) = as_nobody() else { return };
    let low =
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if low.trim().parse().unwrap_or(1024) <= 81 {
        return println!("left out: anybody may bind port 81 here");
    }
    let mut proxy = plan.no_listen().flag("--listen=127.0.0.1:81").spawn();
    assert_eq!(proxy.exit_code(), 1);
    for part in ["127.0.0.1:81", "cap_net_bind_service"] {
        assert!(proxy.log().contains(part), "{part} in\n{}", proxy.log());
    }
}
