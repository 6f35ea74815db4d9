//! `onedoor trust`: which authority the system comes to believe, and that this can be taken back.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::tls_to;
use crate::harness::{Folder, Proxy, Tls, found, may_mount, put, words_of};

fn blue() -> Proxy {
    Proxy::plan()
        .site("blue.localhost.toml", "respond = 'blue'")
        .start()
}

#[test]
fn the_local_authority_is_printed() {
    let proxy = blue();
    let printed = words_of(&proxy.command(["trust", "--print"]));
    let tls = Tls::to("blue.localhost").trusting(&printed);
    assert_eq!(
        tls_to(&proxy, &tls).get("blue.localhost", "/").text(),
        "blue"
    );
}

/// Does `script` over the system's store, in mounts of its own; `ask` there is true if the site of `$port` is believed.
fn over_the_store(script: &str, proxies: [&Proxy; 2]) -> Option<Output> {
    if !may_mount() || !found("update-ca-certificates") || !found("curl") {
        return None;
    }
    let [one, other] = proxies;
    let script = format!(
        r#"
        set -e
        mount -t tmpfs none /usr/local/share/ca-certificates
        mount -t tmpfs none /etc/ssl/certs
        ask() {{ curl -sS --resolve "blue.localhost:$1:127.0.0.1" "https://blue.localhost:$1/" 2>/dev/null; }}
        one() {{ "$onedoor" trust --sites "$sites" --state "$one" "$@" 2>&1; }}
        other() {{ "$onedoor" trust --sites "$sites" --state "$other" "$@" 2>&1; }}
        {script}"#
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env_remove("CURL_CA_BUNDLE")
        .env_remove("SSL_CERT_FILE")
        .env("onedoor", env!("CARGO_BIN_EXE_onedoor"))
        .env("sites", one.sites().path())
        .env("one", one.state())
        .env("other", other.state())
        .env("one_port", one.address().port().to_string())
        .env("other_port", other.address().port().to_string())
        .output();
    Some(output.unwrap())
}

#[test]
fn the_system_believes_each_authority_that_it_was_told_of_until_that_is_taken_back() {
    let (one, other) = (blue(), blue());
    let script = r#"
        one
        other
        ask $one_port && ask $other_port
        one --remove
        ! ask $one_port
        ask $other_port
        one --remove
        other --remove
        ! ask $other_port
        ls /usr/local/share/ca-certificates | wc -l
    "#;
    let Some(output) = over_the_store(script, [&one, &other]) else {
        return;
    };
    let said = words_of(&output);
    assert!(output.status.success(), "{said}");
    for (words, times) in [
        ("The system trusts the local authority now", 2),
        ("trusts the local authority no more", 2),
        ("did not trust it; nothing to remove", 1),
        // To the second, and twice when the first was taken back.
        ("It trusts another one of onedoor: /usr/local", 3),
    ] {
        assert_eq!(said.matches(words).count(), times, "{words}: {said}");
    }
    assert!(said.trim_end().ends_with("\n0"), "{said}");
}

#[test]
fn what_could_not_be_taken_back_is_not_said_to_be_gone() {
    let (one, other) = (blue(), blue());
    let broken = Folder::new();
    put(
        broken.path(),
        "update-ca-certificates",
        "#!/bin/sh\nexit 1\n",
    );
    let program = broken.join("update-ca-certificates");
    fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
    let script = format!(
        r#"
        one
        good=$PATH
        PATH={}:$PATH
        ! one --remove
        PATH=$good
        ask $one_port
        one --remove
        ! ask $one_port
    "#,
        broken.path().display()
    );
    let Some(output) = over_the_store(&script, [&one, &other]) else {
        return;
    };
    let said = words_of(&output);
    assert!(output.status.success(), "{said}");
    let kept = "update-ca-certificates ended with exit status: 1; the system still trusts /usr";
    assert!(said.contains(kept), "{said}");
    assert!(
        said.contains("trusts the local authority no more"),
        "{said}"
    );
}

#[test]
fn programs_are_told_what_was_done_where_and_to_which_authority() {
    let (one, other) = (blue(), blue());
    let script = r#"
        told() { "$onedoor" trust --sites "$sites" --state "$one" --json "$@"; }
        told --remove
        told --print
        told --remove
        other >/dev/null
        told
        told --remove
    "#;
    let Some(output) = over_the_store(script, [&one, &other]) else {
        return;
    };
    assert!(output.status.success(), "{}", words_of(&output));
    let told: Vec<Value> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .map(|told| told.unwrap_or_else(|error| panic!("{error}: {}", words_of(&output))))
        .collect();
    let outcomes: Vec<&Value> = told.iter().map(|told| &told["outcome"]).collect();
    assert_eq!(
        outcomes,
        [
            "no-authority",
            "printed",
            "not-trusted",
            "trusted",
            "removed"
        ]
    );
    let root = one.state().join("authority/root.pem");
    let pem = fs::read_to_string(&root).unwrap();
    assert_eq!(told[0]["pem"], Value::Null);
    for told in &told[1..] {
        assert_eq!(told["authority"], root.to_str().unwrap(), "{told}");
        assert_eq!(told["pem"], pem, "{told}");
    }
    let store = "/usr/local/share/ca-certificates/onedoor-local-authority-";
    let file = told[3]["file"].as_str().unwrap();
    assert!(file.starts_with(store) && file.ends_with(".crt"), "{file}");
    assert_eq!(told[4]["file"], file);
    for none in [0, 2] {
        assert_eq!(told[none]["file"], Value::Null);
        assert_eq!(told[none]["others"], Value::Array(Vec::new()));
    }
    for told in &told[3..] {
        let [other] = &told["others"].as_array().unwrap()[..] else {
            panic!("{told}");
        };
        assert!(other.as_str().unwrap().starts_with(store), "{told}");
        assert_ne!(other, file);
    }
}

/// `onedoor trust --print` with this home, as this user.
fn printed(folder: &Folder, home: &Path, user: &str) -> Output {
    Command::new("setpriv")
        .args([user, "--clear-groups"])
        .arg(env!("CARGO_BIN_EXE_onedoor"))
        .args(["trust", "--print"])
        .env("HOME", home)
        .env_remove("XDG_STATE_HOME")
        .env_remove("STATE_DIRECTORY")
        .env_remove("ONEDOOR_STATE")
        .current_dir(folder.path())
        .output()
        .unwrap()
}

#[test]
fn nobody_makes_an_authority_that_the_onedoor_of_these_sites_would_not_know() {
    if !rustix::process::geteuid().is_root() || !found("setpriv") {
        println!("left out: only root can be somebody else");
        return;
    }
    const NOBODY: u32 = 65534;
    let folder = Folder::new();
    for name in ["sites.d", "home", "root"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    for own in ["sites.d", "home"] {
        chown(folder.join(own), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    // As with sudo.
    let root = folder.join("root");
    let refused = words_of(&printed(&folder, &root, "--reuid=0"));
    assert!(
        refused.contains("no onedoor has run with the state directory"),
        "{refused}"
    );
    assert!(refused.contains("--state"), "{refused}");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    // Its owner may, and nobody else can look.
    let own = printed(&folder, &folder.join("home"), "--reuid=65534");
    assert!(own.status.success(), "{}", words_of(&own));
    let states = folder.join("home/.local/state/onedoor");
    let state = fs::read_dir(states)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mode = fs::metadata(&state).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // Who is told where it is makes it for its owner.
    fs::remove_dir_all(state.join("authority")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_onedoor"))
        .args(["trust", "--print", "--state", state.to_str().unwrap()])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", words_of(&output));
    for name in ["authority", "authority/root.key", "authority/root.pem"] {
        assert_eq!(
            fs::metadata(state.join(name)).unwrap().uid(),
            NOBODY,
            "{name}"
        );
    }
}
