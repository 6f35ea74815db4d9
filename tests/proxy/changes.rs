//! Sites added, removed, changed and taken back by command; waited for without a race.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Backend, Folder, Proxy, Sites, UnderWay, is_golden, onedoor, under_way, until, until_some,
    words_of,
};

fn says(host: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn fine(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", words_of(&output));
    out(&output)
}

#[test]
fn a_site_is_added_and_removed_by_command_and_comes_back() {
    let app = Backend::saying("hello");
    let proxy = Proxy::start();
    let port = app.port.to_string();
    let said = fine(proxy.command(["add", "shop.test", &port, "--note", "ask Ann"]));
    let file = proxy.sites().join("shop.test.toml");
    assert_eq!(said, format!("wrote {}\n", file.display()));
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        format!("host = \"shop.test\"\nto   = {port}\nnote = \"ask Ann\"\n")
    );
    assert_eq!(proxy.get("shop.test", "/").text(), "hello");
    let again = proxy.command(["add", "shop.test", "5000"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        words_of(&again).contains("is there already"),
        "{}",
        words_of(&again)
    );

    let said = fine(proxy.command(["rm", "shop.test.toml"]));
    assert_eq!(
        said,
        format!(
            "removed {}\nto undo: onedoor rollback shop.test --sites {} --state {}\n",
            file.display(),
            proxy.sites().path().display(),
            proxy.state().display()
        )
    );
    assert_eq!(proxy.get("shop.test", "/").said(), "421 no-site-for-host");
    let said = fine(proxy.command(["rollback", "shop.test"]));
    assert!(
        said.contains("your git or Ansible will undo this"),
        "{said}"
    );
    assert_eq!(proxy.get("shop.test", "/").text(), "hello");
}

#[test]
fn a_host_in_other_letters_is_the_same_host_and_has_the_same_file() {
    let proxy = Proxy::start();
    fine(proxy.command(["add", "Shop3.Example.com.", "5000"]));
    assert_eq!(proxy.state_of("shop3.example.com"), "live");
    let again = proxy.command(["add", "shop3.example.com", "5000"]);
    assert!(
        words_of(&again).contains("is there already"),
        "{}",
        words_of(&again)
    );
}

#[test]
fn what_would_be_rejected_is_not_written() {
    let proxy = Proxy::plan().site("a.toml", says("a.test", "a")).start();
    for (words, part) in [
        (
            &["add", "b..test", "5000"][..],
            "a label of the hostname is empty",
        ),
        (&["add", "b.test", "nowhere"], "the backend has no port"),
        (
            &["add", "a.test", "5000", "--name", "z"],
            "\"a.test\" is already claimed",
        ),
        (
            &["add", "b.test", "5000", "--name", "../b"],
            "is no name of a site",
        ),
        (
            &["add", "http://b.test:80", "5000"],
            "a hostname has no scheme and no path",
        ),
        (
            &["add", "https://me@b.test:80/x", "5000"],
            "help: write \"b.test\"",
        ),
        (&["add", "*", "5000"], "\"*\" needs catch_all = \"any\""),
    ] {
        let output = proxy.command(words.iter().copied());
        assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
        assert!(
            words_of(&output).contains(part),
            "{part}: {}",
            words_of(&output)
        );
        // Of a file that nobody has there is no version of before.
        assert!(
            !words_of(&output).contains("goes on serving"),
            "{}",
            words_of(&output)
        );
    }
    assert_eq!(fs::read_dir(proxy.sites().path()).unwrap().count(), 1);
}

#[test]
fn the_name_of_a_live_site_is_not_given_to_a_file_that_is_called_before_it() {
    let proxy = Proxy::plan()
        .site("zzz.toml", says("shop.test", "z"))
        .start();
    let output = proxy.command(["add", "shop.test", "5000", "--name", "aaa"]);
    assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
    let part = "zzz.toml, which serves it";
    assert!(words_of(&output).contains(part), "{}", words_of(&output));
    assert!(!proxy.sites().join("aaa.toml").exists());
    // Written by hand, the newcomer is what is wrong.
    proxy.sites().write("aaa.toml", says("shop.test", "a"));
    proxy.until_state("aaa", "conflict");
    let check = proxy.command(["check"]);
    assert_eq!(check.status.code(), Some(1));
    assert!(out(&check).contains("aaa.toml:1:8"), "{}", out(&check));
    assert!(!out(&check).contains("zzz.toml:1:8"), "{}", out(&check));
    let zzz = proxy.sites().join("zzz.toml");
    fine(proxy.command(["check", zzz.to_str().unwrap()]));
    assert_eq!(proxy.get("shop.test", "/").text(), "z");
}

#[test]
fn what_is_added_is_checked_by_the_settings_of_the_daemon() {
    let plan = Proxy::plan();
    let config = plan.folder().join("conf/daemon.toml");
    fs::create_dir(config.parent().unwrap()).unwrap();
    fs::write(&config, "sockets_under = '/run/apps'\n").unwrap();
    let proxy = plan.flag("--config").flag(&config).start();
    let output = proxy.command(["add", "shop.test", "unix:/tmp/shop.sock"]);
    assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
    let part = "lies outside of sockets_under";
    assert!(words_of(&output).contains(part), "{}", words_of(&output));
    assert!(!proxy.sites().join("shop.test.toml").exists());
}

#[test]
fn without_a_daemon_files_are_written_and_removed_all_the_same() {
    let folder = Folder::new();
    let sites = Sites::at(folder.join("sites.d"));
    let output = onedoor(
        &folder,
        [
            "add",
            "shop.test",
            "5000",
            "--name",
            "team/shop",
            "--state",
            "state",
        ],
    );
    assert!(
        words_of(&output).contains("nobody answers at state/admin.sock; a start will serve it"),
        "{}",
        words_of(&output)
    );
    assert!(sites.join("team/shop.toml").is_file());
    fine(onedoor(&folder, ["check", "--state", "state"]));
    fine(onedoor(&folder, ["rm", "team/shop", "--state", "state"]));
    assert!(!sites.join("team/shop.toml").exists());
}

#[test]
fn a_file_that_is_gone_ends_its_site_at_once_when_its_operator_says_so() {
    let UnderWay {
        proxy,
        mut client,
        app: _app,
    } = under_way();
    fine(proxy.command(["rm", "slow", "--now"]));
    assert_eq!(client.response().said(), "503 site-gone");
    let unknown = proxy.command(["rm", "slow"]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn versions_are_listed_compared_and_written_back() {
    let proxy = Proxy::start();
    proxy.site("shop.toml", says("shop.test", "one"));
    proxy.site("shop.toml", says("shop.test", "two"));
    proxy.site("shop.toml", says("shop.test", "three") + "note = 'x'\n");
    let text = fine(proxy.command(["history", "shop"]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(
        lines[1].starts_with("1 (serves)  ") && lines[1].ends_with("3      +2 -1"),
        "{text}"
    );

    let masked = |text: String| {
        let since = proxy.folder().path().display().to_string();
        let text = text.replace(&format!("{since}/"), "");
        text.lines()
            .map(|line| match line.split_once(" UTC") {
                Some((before, after)) => format!("{}(when){after}\n", &before[..before.len() - 19]),
                None => format!("{line}\n"),
            })
            .collect::<String>()
    };
    is_golden(
        "diff_versions.txt",
        &masked(fine(proxy.command(["diff", "shop"]))),
    );
    is_golden(
        "diff_old.txt",
        &masked(fine(proxy.command(["diff", "shop", "--version", "3"]))),
    );
    proxy.sites().write("shop.toml", "nonsense");
    proxy.until_state("shop", "stale");
    is_golden(
        "diff_disk.txt",
        &masked(fine(proxy.command(["diff", "shop"]))),
    );

    let help = fine(proxy.command(["rollback", "--help"]));
    assert!(
        help.contains("a second rollback undoes the first"),
        "{help}"
    );
    fine(proxy.command(["rollback", "shop", "--version", "3"]));
    assert_eq!(proxy.get("shop.test", "/").text(), "one");
    fine(proxy.command(["rollback", "shop"]));
    assert_eq!(proxy.get("shop.test", "/").text(), "three");
    for words in [
        &["rollback", "shop", "--version", "99"][..],
        &["diff", "shop", "--version", "0"],
        &["history", "nobody"],
    ] {
        assert_eq!(
            proxy.command(words.iter().copied()).status.code(),
            Some(1),
            "{words:?}"
        );
    }
}

#[test]
fn rollback_of_a_file_that_was_rejected_writes_what_serves() {
    let proxy = Proxy::start();
    proxy.site("shop.toml", says("shop.test", "one"));
    proxy.site("shop.toml", says("shop.test", "two"));
    proxy.sites().write("shop.toml", "nonsense");
    proxy.until_state("shop", "stale");
    let said = fine(proxy.command(["rollback", "shop"]));
    assert!(said.contains("version 1, which serves"), "{said}");
    assert_eq!(proxy.get("shop.test", "/").text(), "two");
    let said = fine(proxy.command(["rollback", "shop"]));
    assert!(said.contains("version 2, the one before"), "{said}");
    assert_eq!(proxy.get("shop.test", "/").text(), "one");
}

#[test]
fn rollback_follows_no_link_out_of_the_folder() {
    let proxy = Proxy::start();
    let sites = proxy.sites().path().to_owned();
    fs::create_dir(sites.join(".store")).unwrap();
    fs::write(sites.join(".store/in"), says("in.test", "one")).unwrap();
    symlink(".store/in", sites.join("in.toml")).unwrap();
    proxy.wait_for("in.toml");
    fs::write(sites.join(".store/in"), says("in.test", "two")).unwrap();
    until("the link's file is read", || {
        proxy.command(["reload"]);
        proxy.get("in.test", "/").text() == "two"
    });
    fine(proxy.command(["rollback", "in"]));
    assert_eq!(proxy.get("in.test", "/").text(), "one");
    assert!(sites.join("in.toml").is_symlink(), "a link stays one");

    proxy.site("out.toml", says("out.test", "one"));
    proxy.site("out.toml", says("out.test", "two"));
    let victim = proxy.folder().join("victim");
    fs::write(&victim, "not yours").unwrap();
    fs::remove_file(sites.join("out.toml")).unwrap();
    symlink(&victim, sites.join("out.toml")).unwrap();
    // And where a folder is the link.
    let theirs = proxy.folder().join("theirs");
    fs::create_dir(&theirs).unwrap();
    symlink(&theirs, sites.join("team")).unwrap();
    for words in [
        &["rollback", "out"][..],
        &["add", "team.test", "5000", "--name", "team/x"],
    ] {
        let output = proxy.command(words.iter().copied());
        assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
        assert!(
            words_of(&output).contains("outside of the sites folder"),
            "{}",
            words_of(&output)
        );
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "not yours");
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0);
}

/// The owner, the group and the mode of a file.
fn rights(file: &std::path::Path) -> (u32, u32, u32) {
    let of = fs::metadata(file).unwrap();
    (of.uid(), of.gid(), of.mode() & 0o7777)
}

#[test]
fn what_commands_write_is_read_by_whom_it_was_read_before() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() || !crate::harness::found("setpriv") {
        return println!("left out: only root can start onedoor as somebody else");
    }
    let plan = Proxy::plan().under([
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ]);
    let folder = plan.folder().path().to_owned();
    chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    let sites = plan.sites().path().to_owned();
    let proxy = plan.site("shop.toml", says("shop.test", "one")).start();
    let set = |path: &std::path::Path, group, mode| {
        chown(path, Some(0), Some(group)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let shop = sites.join("shop.toml");
    proxy.site("shop.toml", says("shop.test", "two"));
    set(&shop, NOBODY, 0o640);
    fine(proxy.command(["rollback", "shop"]));
    assert_eq!(proxy.get("shop.test", "/").text(), "one");
    assert_eq!(rights(&shop), (0, NOBODY, 0o640));

    // As root with a narrow umask: in a folder for everybody, and in one for the daemon's group only.
    let add = |name: &str| {
        std::process::Command::new("sh")
            .args(["-c", "umask 077; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_onedoor"))
            .args(["add", &format!("{}.test", name.replace('/', ".")), "5000"])
            .args(["--name", name, "--timeout", "30s", "--state"])
            .arg(proxy.state())
            .arg("--sites")
            .arg(&sites)
            .output()
            .unwrap()
    };
    set(&sites, 0, 0o755);
    fine(add("open"));
    assert_eq!(rights(&sites.join("open.toml")), (0, 0, 0o644));
    set(&sites, NOBODY, 0o750);
    fine(add("closed"));
    assert_eq!(rights(&sites.join("closed.toml")), (0, NOBODY, 0o640));
    fine(add("team/shop"));
    assert_eq!(rights(&sites.join("team")), (0, NOBODY, 0o750));

    // A password that comes back where everybody may list the folder.
    set(&sites, 0, 0o755);
    let secret = "[headers.request]\nset = { Authorization = 'x' }\n";
    let text = format!("host = 'secret.test'\nto = 5000\n{secret}");
    proxy.site("secret.toml", text);
    fine(proxy.command(["rm", "secret"]));
    fine(proxy.command(["rollback", "secret"]));
    assert_eq!(rights(&sites.join("secret.toml")), (0, NOBODY, 0o640));
}

#[test]
fn secrets_are_not_shown_and_come_back_all_the_same() {
    let app = Backend::echoing();
    let proxy = Proxy::start();
    let site = |secret: &str| {
        format!(
            "host = 'shop.test'\nto = {}\n[headers.request]\nset = {{ Authorization = 'Bearer {secret}' }}\n",
            app.port
        )
    };
    proxy.site("shop.toml", site("alpha7"));
    proxy.site("shop.toml", site("omega7"));
    for words in [
        &["history", "shop", "--json"][..],
        &["diff", "shop"],
        &["explain", "shop.test"],
        &["ls", "--json"],
    ] {
        let said = fine(proxy.command(words.iter().copied()));
        assert!(
            !said.contains("alpha7") && !said.contains("omega7"),
            "{words:?}: {said}"
        );
    }
    fine(proxy.command(["rollback", "shop"]));
    assert!(proxy.get("shop.test", "/").text().contains("Bearer alpha7"));
}

#[test]
fn no_secret_of_a_file_is_told_by_its_errors_its_states_or_its_history() {
    let plan = Proxy::plan();
    let states = plan.folder().join("status");
    let proxy = plan
        .daemon_file(&format!("status = '{}'\n", states.display()))
        .start();
    let fine_one = says("old.test", "one") + "# Authorization: Bearer secret1\n";
    proxy.site("old.toml", &fine_one);
    proxy.site("old.toml", fine_one + "note = 'x' # Cookie: secret2\n");
    let head = "[headers.request]\nset = {";
    for (name, text) in [
        (
            "address",
            "to = 'https://user:secret3@localhost:1'\n".to_owned(),
        ),
        (
            "slash",
            "to = 'https://user:secr/et4@localhost:1'\n".to_owned(),
        ),
        (
            "escaped",
            format!("{head} \"\\u0041uthorization\" = 'Bearer secret5'\n"),
        ),
        ("behind", "to = 99999 # Cookie: secret6\n".to_owned()),
    ] {
        proxy.site(&format!("{name}.toml"), says(&format!("{name}.test"), "x"));
        proxy.sites().write(
            &format!("{name}.toml"),
            format!("host = '{name}.test'\n{text}"),
        );
        proxy.until_state(name, "stale");
    }
    let file = states.join("behind.json");
    until("the states are written", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("stale"))
    });
    let mut said = proxy.log();
    for name in ["old", "address", "slash", "escaped", "behind"] {
        for words in [&["history", name, "--json"][..], &["diff", name]] {
            let output = proxy.command(words.iter().copied());
            said.push_str(&words_of(&output));
        }
        said.push_str(&std::fs::read_to_string(states.join(format!("{name}.json"))).unwrap());
    }
    for words in [
        &["ls"][..],
        &["ls", "--json"],
        &["check"],
        &["check", "--json"],
    ] {
        said.push_str(&words_of(&proxy.command(words.iter().copied())));
    }
    said.push_str(&proxy.admin("GET", "/v1/events").1);
    said.push_str(&proxy.admin("GET", "/v1/sites").1);
    assert!(said.contains("no user and no password"), "{said}");
    for line in said.lines() {
        assert!(!line.contains("secr"), "{line}");
    }
}

#[test]
fn what_is_no_secret_of_a_file_is_told_as_it_stands_there() {
    let app = Backend::saying("x");
    let proxy = Proxy::start();
    let text = format!(
        "# The app keeps a session,\n# so nothing is cached.\nhost = 'shop.test'\nto = {}\n\
         sticky = {{ cookie = 'shop_sid' }} # of the app\n",
        app.port
    );
    proxy.site("shop.toml", &text);
    let old = text.clone()
        + "\n# sid: Cookie = 'sword\n# fish'\n[timeout]\nidle = '1m'\n# for the tests\n";
    proxy.site("shop.toml", &old);
    let told = fine(proxy.command(["history", "shop", "--json"]));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let versions = &told["versions"];
    assert_eq!(versions[1]["text"], text);
    let shown = text + "\n# sid: Cookie (not shown)\n[timeout]\nidle = '1m'\n# for the tests\n";
    assert_eq!(versions[0]["text"], shown);
}

#[test]
fn versions_outlive_a_restart() {
    let mut proxy = Proxy::start();
    proxy.site("shop.toml", says("shop.test", "one"));
    proxy.stop();
    proxy.sites().write("shop.toml", says("shop.test", "two"));
    proxy.start_again();
    fine(proxy.command(["rollback", "shop"]));
    assert_eq!(proxy.get("shop.test", "/").text(), "one");
}

#[test]
fn a_former_version_goes_into_the_sites_directory_of_today() {
    let mut before = Proxy::start();
    before.site("shop.toml", says("shop.test", "one"));
    before.site("shop.toml", says("shop.test", "two"));
    before.stop();
    before.sites().remove("shop.toml");
    let plan = Proxy::plan().site("shop.toml", says("shop.test", "three"));
    for part in ["sites", "history/shop"] {
        let to = plan.folder().join("state").join(part);
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(before.state().join(part)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    let proxy = plan.start();
    let said = fine(proxy.command(["rollback", "shop"]));
    let file = proxy.sites().join("shop.toml");
    assert!(said.contains(&file.display().to_string()), "{said}");
    assert_ne!(proxy.get("shop.test", "/").text(), "three");
    assert!(!before.sites().join("shop.toml").exists());
}

#[test]
fn wait_has_no_race() {
    let proxy = Proxy::start();
    for number in 0..500 {
        let text = says("shop.test", &number.to_string());
        match number % 3 {
            0 => proxy.sites().write("shop.toml", text),
            1 => proxy.sites().write_in_place("shop.toml", text),
            _ => {
                proxy.sites().write("next", text);
                proxy.sites().rename("next", "shop.toml");
            }
        }
        // As the command asks, without a process for each.
        let waited = proxy.admin_json("/v1/wait?name=shop&timeout=30s");
        assert_eq!(waited["outcome"], "serving", "edit {number}: {waited}");
        assert_eq!(
            proxy.get("shop.test", "/").text(),
            number.to_string(),
            "edit {number}"
        );
    }
}

#[test]
fn drain_ends_the_daemon_politely() {
    let mut proxy = Proxy::plan().site("a.toml", says("a.test", "a")).start();
    let said = fine(proxy.command(["drain", "--wait"]));
    assert!(said.starts_with("draining: no new connections"), "{said}");
    assert_eq!(proxy.exit_code(), 0);
    assert_eq!(proxy.command(["drain"]).status.code(), Some(4));
}

#[test]
fn who_is_in_the_group_may_read_and_not_change() {
    if !rustix::process::geteuid().is_root() {
        return println!("left out: only root can become somebody else");
    }
    let proxy = Proxy::plan().site("a.toml", says("a.test", "a")).start();
    // For everybody, so that only who asks makes the difference.
    fs::set_permissions(proxy.folder().path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(proxy.state(), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = proxy.state().join("admin.sock");
    chown(&socket, None, Some(65_534)).unwrap();
    let ask = |method: &str, target: &str| {
        let output = std::process::Command::new("setpriv")
            .args([
                "--reuid",
                "65534",
                "--regid",
                "65534",
                "--clear-groups",
                "curl",
                "-s",
                "-X",
                method,
            ])
            .args(["-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"])
            .arg(&socket)
            .arg(format!("http://onedoor{target}"))
            .output()
            .unwrap();
        out(&output)
    };
    if !crate::harness::found("curl") || !crate::harness::found("setpriv") {
        return;
    }
    for target in [
        "/v1/sites",
        "/v1/wait?name=a",
        "/v1/history?name=a",
        "/v1/explain?url=a.test",
    ] {
        assert_eq!(ask("GET", target), "200", "{target}");
    }
    for (method, target) in [
        ("POST", "/v1/reload"),
        ("POST", "/v1/drain"),
        ("POST", "/v1/gone?name=a"),
        ("GET", "/v1/history?name=a&whole"),
    ] {
        assert_eq!(ask(method, target), "403", "{target}");
    }
    assert_eq!(proxy.get("a.test", "/").text(), "a");
}

#[test]
fn ls_shows_a_part_and_what_is_wrong() {
    let proxy = Proxy::plan()
        .site("blog.toml", says("blog.test", "x"))
        .site(
            "shop.toml",
            says("shop.example.test", "x") + "note = 'ask Ann'\n",
        )
        .site("bad.toml", "nonsense")
        .start();
    let lines = |words: &[&str]| out(&proxy.command(words.iter().copied())).lines().count();
    assert_eq!(lines(&["ls", "shop"]), 4, "head, line, note");
    assert_eq!(lines(&["ls", "*.example.test"]), 4);
    let none = proxy.command(["status", "*.nowhere"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(words_of(&none).ends_with("onedoor: no site matches *.nowhere\n"));
    let wrong = proxy.command(["ls", "--errors"]);
    assert_eq!(wrong.status.code(), Some(1));
    let text = out(&wrong);
    assert!(
        text.contains("nonsense") && text.contains("bad: down, nothing of it serves"),
        "{text}"
    );
    assert!(!text.contains("ask Ann"), "{text}");
    proxy.site("bad.toml", says("bad.test", "x"));
    proxy.site("shop.toml", says("shop.test", "x"));
    assert_eq!(
        fine(proxy.command(["ls", "--errors"])),
        "nothing is wrong\n"
    );
}

#[test]
fn ls_answers_at_once_with_ten_thousand_sites_and_traffic_does_not_feel_it() {
    let plan = Proxy::plan();
    for number in 0..10_000 {
        let name = format!("s{number}.toml");
        fs::write(
            plan.sites().join(&name),
            says(&format!("s{number}.test"), "x"),
        )
        .unwrap();
    }
    let proxy = plan.start();
    // Where others have the processor it gives up after ten seconds, and is asked once more.
    let mut asked = 0;
    let mut ls = || {
        asked += 1;
        let output = proxy.command(["ls"]);
        output.status.success().then(|| out(&output))
    };
    until_some("the work of the start is done", &mut ls);
    let before = proxy.processor_time();
    let text = until_some("ls answers", &mut ls);
    assert_eq!(text.lines().count(), 10_001);
    let took = proxy.processor_time() - before;
    assert!(
        took < asked * Duration::from_secs(8),
        "{took:?} of a processor"
    );

    // Somebody asks all the time; the next request is answered as ever.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    proxy.admin("GET", "/v1/sites");
                }
            });
        }
        let mut client = proxy.client();
        for number in 0..300 {
            let host = format!("s{}.test", number * 7);
            assert_eq!(client.get(&host, "/").text(), "x");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    until("it still does what it is told", || {
        proxy.signal(Signal::HUP);
        proxy.log().contains("SIGHUP")
    });
}

/// One with many sites whose list has megabytes, and how long that list is.
fn with_a_long_list() -> (Proxy, u64) {
    let plan = Proxy::plan();
    for number in 0..3_000 {
        let text =
            says(&format!("s{number}.test"), "x") + &format!("note = '{}'\n", "y".repeat(500));
        fs::write(plan.sites().join(&format!("s{number}.toml")), text).unwrap();
    }
    let proxy = plan.start();
    let list = proxy.admin("GET", "/v1/sites").1.len() as u64;
    assert!(list > 2 << 20, "{list}");
    // The peak is from now on, where the system has that (proc(5), clear_refs).
    fs::write(format!("/proc/{}/clear_refs", proxy.own_id()), "5").ok();
    (proxy, list)
}

/// Somebody who has asked for all sites.
fn asker(proxy: &Proxy) -> std::os::unix::net::UnixStream {
    let socket = proxy.state().join("admin.sock");
    let mut one = std::os::unix::net::UnixStream::connect(socket).unwrap();
    one.write_all(b"GET /v1/sites HTTP/1.1\r\nHost: onedoor\r\n\r\n")
        .unwrap();
    one
}

#[test]
fn those_who_ask_for_all_sites_and_do_not_read_share_one_list() {
    let (proxy, list) = with_a_long_list();
    let before = proxy.peak_memory();
    let mut silent: Vec<_> = (0..100).map(|_| asker(&proxy)).collect();
    // Each has the beginning of an answer before anybody reads on.
    for one in &mut silent {
        one.read_exact(&mut [0; 16]).unwrap();
    }
    let more = proxy.peak_memory() - before;
    assert!(more < 30 * list, "{more} bytes for lists of {list}");
    assert_eq!(proxy.admin("GET", "/healthz").1, "ok\n");
}

#[test]
fn those_who_ask_for_all_sites_and_hang_up_leave_no_lists_behind() {
    let (proxy, list) = with_a_long_list();
    let before = proxy.peak_memory();
    for _ in 0..3 {
        let all: Vec<_> = (0..200).map(|_| asker(&proxy)).collect();
        for one in all {
            drop(one);
            // Not all at once; what is true does not depend on it.
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
    }
    let own = proxy.admin("GET", "/v1/sites").1.len() as u64;
    assert!(own > 2 << 20, "{own}");
    let more = proxy.peak_memory() - before;
    assert!(more < 30 * list, "{more} bytes for lists of {list}");
}
