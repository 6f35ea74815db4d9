//! A network of a test's own, for what depends on where clients come from.

use std::env;
use std::process::Command;

use super::proxy::found;

const INSIDE: &str = "ONEDOOR_TEST_INSIDE";

/// Does `what` in a network namespace whose loopback device has these addresses besides its own. The test `name`
/// (as `cargo test` prints it) is run once more by itself in there; where that is not allowed it is left out, but
/// not in CI (`CI=true`).
#[track_caller]
pub(crate) fn in_a_network_of_its_own(name: &str, addresses: &[&str], what: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return what();
    }
    if !found("unshare") || !found("ip") {
        return;
    }
    let may = |flag: &&str| {
        let tried = Command::new("unshare")
            .args([flag, "ip", "link", "set", "lo", "up"])
            .output();
        tried.is_ok_and(|output| output.status.success())
    };
    // As root, or as root of a user namespace.
    let Some(flag) = ["-n", "-rn"].into_iter().find(may) else {
        assert!(
            env::var("CI").as_deref() != Ok("true"),
            "CI must allow network namespaces"
        );
        println!("left out: no right to a network of its own");
        return;
    };
    let mut line = "ip link set lo up".to_string();
    for address in addresses {
        line.push_str(&format!(" && ip address add {address} dev lo"));
    }
    let inside = Command::new("unshare")
        .args([flag, "sh", "-c", &format!("{line} && exec \"$0\" \"$@\"")])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout).into_owned()
        + &String::from_utf8_lossy(&inside.stderr);
    assert!(
        inside.status.success() && said.contains("1 passed"),
        "{said}"
    );
}
