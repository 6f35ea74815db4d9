//! Commands that write, remove and compare site files: what they leave alone, what they keep, what programs get.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use rustix::fs::{CWD, FileType, mknodat};
use serde_json::Value;

use crate::harness::{Backend, Plan, Proxy, found, free_port, may_mount, until, words_of};

fn says(host: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn fine(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", words_of(&output));
    out(&output)
}

#[track_caller]
fn failed(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
    words_of(&output)
}

#[test]
fn what_is_no_file_keeps_no_command_waiting() {
    let proxy = Proxy::start();
    proxy.site("shop.toml", says("shop.test", "one"));
    let file = proxy.sites().join("shop.toml");
    fs::remove_file(&file).unwrap();
    mknodat(CWD, &file, FileType::Fifo, 0o644.into(), 0).unwrap();
    let is_no_file = "something that is no file has its name";
    assert!(failed(proxy.command(["diff", "shop"])).contains(is_no_file));
    assert!(failed(proxy.command(["rollback", "shop"])).contains(is_no_file));
    let said = fine(proxy.command(["rm", "shop"]));
    assert!(!said.contains("to undo"), "{said}");
    assert!(file.symlink_metadata().is_err());
}

#[test]
fn diff_reads_nothing_behind_a_link_out_of_the_folder() {
    let proxy = Proxy::start();
    proxy.site("shop.toml", says("shop.test", "one"));
    let elsewhere = proxy.folder().join("elsewhere");
    fs::write(&elsewhere, "root's own\n").unwrap();
    let file = proxy.sites().join("shop.toml");
    fs::remove_file(&file).unwrap();
    symlink(&elsewhere, &file).unwrap();
    let said = failed(proxy.command(["diff", "shop"]));
    assert!(said.contains("outside of the sites folder"), "{said}");
    assert!(!said.contains("root's own"), "{said}");
}

#[test]
fn rm_loses_no_text_that_nobody_else_has() {
    let proxy = Proxy::start();
    let file = |name: &str| proxy.sites().join(name);
    let read = |name: &str| fs::read_to_string(file(name)).ok();
    // Never live.
    proxy.sites().write("draft.toml", "nonsense, but mine");
    proxy.until_state("draft", "down");
    let said = fine(proxy.command(["rm", "draft"]));
    let undo = format!(
        "mv '{}' '{}'",
        file("draft.toml.off").display(),
        file("draft.toml").display()
    );
    assert!(said.contains(&format!("to undo: {undo}\n")), "{said}");
    assert_eq!(
        read("draft.toml.off").as_deref(),
        Some("nonsense, but mine")
    );
    assert_eq!(read("draft.toml"), None);
    // Live, and something else since. What was kept before is not overwritten.
    proxy.site("draft.toml", says("draft.test", "live"));
    proxy.sites().write("draft.toml", "and another thought");
    proxy.until_state("draft", "stale");
    let said = fine(proxy.command(["rm", "draft"]));
    assert_eq!(
        read("draft.toml.off").as_deref(),
        Some("nonsense, but mine")
    );
    assert_eq!(
        read("draft.toml.2.off").as_deref(),
        Some("and another thought")
    );
    assert!(
        said.contains("the version that was live last: onedoor rollback draft"),
        "{said}"
    );
    assert_eq!(proxy.get("draft.test", "/").said(), "421 no-site-for-host");
    fine(proxy.command(["rollback", "draft"]));
    assert_eq!(proxy.get("draft.test", "/").text(), "live");
    // What is no text is not nothing.
    fs::write(file("latin.toml"), b"note = '\xfc'").unwrap();
    proxy.until_state("latin", "down");
    fine(proxy.command(["rm", "latin"]));
    assert_eq!(fs::read(file("latin.toml.off")).unwrap(), b"note = '\xfc'");
    // A file of somebody else's behind the link of a team is not ours to remove.
    let theirs = proxy.folder().join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("x.toml"), "theirs").unwrap();
    symlink(&theirs, file("team")).unwrap();
    let said = failed(proxy.command(["rm", "team/x"]));
    assert!(said.contains("outside of the sites folder"), "{said}");
    assert!(theirs.join("x.toml").exists());
    fs::remove_file(file("team")).unwrap();
    // A link stays a link.
    fs::write(file(".in"), says("in.test", "x")).unwrap();
    symlink(".in", file("in.toml")).unwrap();
    proxy.wait_for("in.toml");
    let said = fine(proxy.command(["rm", "in"]));
    let undo = format!("ln -s '.in' '{}'", file("in.toml").display());
    assert!(
        said.contains(&format!("it was a link; to undo: {undo}\n")),
        "{said}"
    );
    assert!(read(".in").is_some());
}

#[test]
fn whoever_may_write_into_the_folder_may_remove_without_asking_for_more() {
    if !rustix::process::geteuid().is_root() {
        return println!("left out: only root can become somebody else");
    }
    if !found("setpriv") {
        return;
    }
    let proxy = Proxy::plan()
        .site("a.toml", says("a.test", "a"))
        .site("b.toml", says("b.test", "b"))
        .start();
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o775)).unwrap();
    for folder in [proxy.folder().path(), &proxy.state(), proxy.sites().path()] {
        chown(folder, None, Some(65_534)).unwrap();
        open(folder);
    }
    chown(proxy.state().join("admin.sock"), None, Some(65_534)).unwrap();
    let as_member = |words: &[&str]| {
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(env!("CARGO_BIN_EXE_onedoor"))
            .args(words)
            .arg("--sites")
            .arg(proxy.sites().path())
            .arg("--state")
            .arg(proxy.state())
            .current_dir(proxy.folder().path())
            .output()
            .unwrap()
    };
    let said = fine(as_member(&["rm", "a"]));
    let undo = "to undo, as root or the user that onedoor runs as: onedoor rollback a --sites ";
    assert!(said.contains(undo), "{said}");
    assert_eq!(proxy.get("a.test", "/").said(), "421 no-site-for-host");
    // What is for others is not done, and said.
    let said = failed(as_member(&["rm", "b", "--now"]));
    assert!(said.contains("open work is not cut"), "{said}");
    assert_eq!(proxy.get("b.test", "/").said(), "421 no-site-for-host");
}

#[test]
fn of_two_who_add_the_same_file_one_is_told_that_it_is_there() {
    let proxy = Proxy::start();
    for round in 0..10 {
        let name = format!("shop{round}");
        let add = |host: String| {
            let (proxy, name) = (&proxy, &name);
            move || proxy.command(["add", &host, "5000", "--name", name, "--timeout", "30s"])
        };
        let outputs = thread::scope(|scope| {
            let one = scope.spawn(add(format!("one{round}.test")));
            let other = scope.spawn(add(format!("other{round}.test")));
            [one.join().unwrap(), other.join().unwrap()]
        });
        let wrote = outputs
            .iter()
            .filter(|output| out(output).contains("wrote "));
        assert_eq!(wrote.count(), 1, "{outputs:?}");
        let refused = outputs
            .iter()
            .find(|output| output.status.code() == Some(1));
        let refused = words_of(refused.unwrap());
        assert!(refused.contains("there already"), "{refused}");
    }
}

/// What a command says to programs, which is one object.
#[track_caller]
fn object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", words_of(output)))
}

#[test]
fn every_command_of_a_deploy_script_has_an_object_for_it() {
    let app = Backend::saying("x");
    let mut proxy = Plan::start(Proxy::plan());
    let port = app.port.to_string();
    let file = proxy.sites().join("shop.test.toml");
    let path = file.display().to_string();
    let run = |words: &[&str]| {
        let output = proxy.command(words.iter().copied().chain(["--json"]));
        (object(&output), output.status.code())
    };
    let (said, code) = run(&["add", "shop.test", &port]);
    assert_eq!(
        (&said["wrote"], &said["outcome"]),
        (&Value::from(&*path), &"serving".into())
    );
    assert_eq!(code, Some(0));
    let (said, code) = run(&["wait"]);
    assert_eq!((&said["outcome"], code), (&"serving".into(), Some(0)));
    let (said, code) = run(&["reload"]);
    assert_eq!((&said["live"], code), (&1.into(), Some(0)));
    proxy.sites().write("shop.test.toml", "nonsense");
    let (said, code) = run(&["wait", "shop.test"]);
    assert_eq!((&said["outcome"], code), (&"rejected".into(), Some(1)));
    assert!(
        said["problems"][0]
            .as_str()
            .unwrap()
            .contains("shop.test.toml:1:")
    );
    let (said, code) = run(&["diff", "shop.test"]);
    assert!(
        said["diff"].as_str().unwrap().contains("\n+nonsense\n"),
        "{said}"
    );
    assert_eq!((&said["after"], code), (&Value::from(&*path), Some(0)));
    let (said, code) = run(&["rollback", "shop.test"]);
    assert_eq!(
        (&said["version"], &said["outcome"]),
        (&1.into(), &"serving".into())
    );
    assert_eq!(code, Some(0));
    let (said, code) = run(&["rm", "shop.test"]);
    assert_eq!((&said["outcome"], code), (&"gone".into(), Some(0)));
    let undo = said["undo"].as_str().unwrap();
    assert!(
        undo.starts_with("onedoor rollback shop.test --sites "),
        "{undo}"
    );
    let late = format!(
        "host = 'late.test'\nto = {}\n[health]\npath = '/'\nevery = '50ms'\n",
        free_port()
    );
    proxy.sites().write("late.toml", late);
    let (said, code) = run(&["wait", "--timeout", "1s"]);
    assert_eq!(
        (&said["pending"], code),
        (&serde_json::json!(["late"]), Some(3))
    );
    assert!(
        said["reasons"]["late"]
            .as_str()
            .unwrap()
            .starts_with("no backend has passed")
    );
    let (said, code) = run(&["drain"]);
    assert_eq!((&said["draining"], code), (&true.into(), Some(0)));
    until("it has ended", || proxy.has_ended());
}

#[test]
fn what_rm_prints_to_undo_it_does_so_as_it_is_printed() {
    let proxy = Proxy::start();
    proxy.site("shop.toml", says("shop.test", "one"));
    let said = fine(proxy.command(["rm", "shop"]));
    let (_, undo) = said.split_once("to undo: onedoor ").unwrap();
    let done = Command::new("sh")
        .args(["-c", &format!("exec \"$0\" {undo}")])
        .arg(env!("CARGO_BIN_EXE_onedoor"))
        .current_dir("/")
        .output()
        .unwrap();
    fine(done);
    assert_eq!(proxy.get("shop.test", "/").text(), "one");
}

/// A daemon whose state directory systemd has named and nobody else, and commands of a shell that is not told.
#[test]
fn the_daemon_of_a_unit_is_found_by_its_daemon_file_or_where_nothing_else_could_be_meant() {
    if !may_mount() || !found("nsenter") {
        return;
    }
    let plan = Proxy::plan()
        .daemon_file("watch = 'auto'\n")
        .site("shop.toml", says("shop.test", "one"));
    let state = plan.folder().join("state");
    let line = "mount -t tmpfs none /var/lib && ln -s \"$0\" /var/lib/onedoor";
    let proxy = plan.after_mounting(line, &state).start();
    let config = proxy.folder().join("onedoor.toml");
    let config = config.to_str().unwrap();
    let (empty, other) = (proxy.folder().join("empty"), proxy.folder().join("other"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir_all(other.join("sites.d")).unwrap();
    let in_folder = |folder: &Path, words: &[&str]| {
        Command::new("nsenter")
            .args(["-m", "-t", &proxy.own_id().to_string()])
            .args(["env", "-i", "-C"])
            .arg(folder)
            .arg(format!("HOME={}", proxy.folder().path().display()))
            .arg(env!("CARGO_BIN_EXE_onedoor"))
            .args(words)
            .output()
            .unwrap()
    };
    assert!(fine(in_folder(&other, &["ls", "--config", config])).contains("shop.test"));
    assert!(fine(in_folder(&empty, &["ls"])).contains("shop.test"));
    fine(in_folder(&empty, &["add", "blog.test", "5000"]));
    assert!(proxy.sites().join("blog.test.toml").exists());
    // Where there are sites of one's own, or another daemon file, another one is meant.
    let output = in_folder(&other, &["ls"]);
    assert_eq!(output.status.code(), Some(4), "{}", words_of(&output));
    fs::write(other.join("onedoor.toml"), "").unwrap();
    let output = in_folder(&other, &["add", "news.test", "5000"]);
    let said = words_of(&output);
    assert!(said.contains("nobody answers at "), "{said}");
    assert!(said.contains("--admin"), "{said}");
    assert!(!proxy.sites().join("news.test.toml").exists(), "{said}");
}
