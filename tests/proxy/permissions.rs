//! Run as somebody with fewer rights: what cannot be read is said, with the command that mends it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

use crate::harness::{Authority, Backend, Plan, Proxy, found, words_of};

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
    set_mode(plan_file, 0o600);
}

fn set_mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
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
fn no_link_makes_onedoor_tell_root_to_open_a_file_elsewhere() {
    let Some(plan) = as_nobody() else { return };
    let closed = plan.folder().join("closed");
    fs::create_dir(&closed).unwrap();
    let (secret, deep) = (plan.folder().join("secret"), closed.join("deep.toml"));
    for file in [&secret, &deep] {
        fs::write(file, "root's own").unwrap();
        set_mode(file, 0o600);
    }
    set_mode(&closed, 0o700);
    let plan = plan
        .site("inside.toml", says("inside.test", "x"))
        .site("a.toml", says("a.test", "x"));
    let sites = plan.sites().path().to_owned();
    forbid(&sites.join("inside.toml"));
    symlink("inside.toml", sites.join("near.toml")).unwrap();
    symlink(&secret, sites.join("file.toml")).unwrap();
    symlink(&deep, sites.join("deep.toml")).unwrap();
    symlink(&closed, sites.join("team")).unwrap();
    let proxy = plan.start();
    proxy.until_logged("team");
    let said = |name: &str| {
        proxy.status(name).unwrap()["problems"][0]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(said("near").contains("chmod o+r '"), "{}", said("near"));
    for (name, place) in [("file", &secret), ("deep", &deep)] {
        let said = said(name);
        let leads = format!("it leads to {}, which onedoor", place.display());
        assert!(said.contains(&leads), "{said}");
        assert!(
            !said.contains("chmod") && !said.contains("setfacl"),
            "{said}"
        );
    }
    let log = proxy.log();
    let about_team = log.lines().find(|line| line.contains("/team")).unwrap();
    assert!(about_team.contains("it leads to"), "{log}");
    assert!(!about_team.contains("chmod"), "{log}");
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
fn a_folder_that_may_not_be_read_keeps_everything_and_says_what_mends_it() {
    let Some(plan) = as_nobody() else { return };
    let proxy = plan.site("shop.toml", says("shop.test", "x")).start();
    let folder = proxy.sites().path().to_path_buf();
    set_mode(&folder, 0o700);
    proxy.until_logged("the sites directory cannot be read");
    let output = proxy.command(["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let reload = words_of(&output);
    let ls = words_of(&proxy.command(["ls"]));
    for said in [&proxy.log(), &reload, &ls] {
        for part in [
            "permission denied",
            "belongs to root with mode 0700",
            "runs as nobody",
            "chmod o+rx '",
        ] {
            assert!(said.contains(part), "{part} in\n{said}");
        }
    }
    assert!(!reload.contains("nothing changed"), "{reload}");
    assert!(
        ls.contains("live"),
        "what serves is still what was on disk\n{ls}"
    );
    assert_eq!(proxy.get("shop.test", "/").text(), "x");

    set_mode(&folder, 0o755);
    proxy.until_logged("the sites directory can be read again");
    proxy.site("blog.toml", says("blog.test", "y"));
    assert_eq!(proxy.get("blog.test", "/").text(), "y");
    assert_eq!(proxy.command(["reload"]).status.code(), Some(0));
    let count = proxy.log().matches("cannot be read").count();
    assert_eq!(count, 1, "said once:\n{}", proxy.log());
}

/// certbot's own folder is root's alone.
#[test]
fn a_folder_of_certificates_that_may_not_be_read_is_said_with_what_mends_it() {
    let Some(plan) = as_nobody() else { return };
    let live = plan.folder().join("live");
    fs::create_dir(&live).unwrap();
    set_mode(&live, 0o700);
    let proxy = plan
        .daemon_file("certificates = ['live', 'never-made']\n")
        .site("shop.toml", says("shop.example.com", "x"))
        .start();
    proxy.until_logged("live cannot be listed: permission denied");
    proxy.until_logged("never-made cannot be listed: No such file");
    proxy.command(["reload"]);
    let log = proxy.log();
    for part in ["belongs to root with mode 0700", "chmod o+rx '"] {
        assert_eq!(log.matches(part).count(), 1, "{part} in\n{log}");
    }
}

#[test]
fn a_folder_that_can_be_listed_and_not_entered_is_one_warning() {
    let Some(plan) = as_nobody() else { return };
    let mut plan = plan;
    for number in 0..20 {
        plan = plan.site(
            &format!("s{number}.toml"),
            says(&format!("s{number}.test"), "x"),
        );
    }
    let proxy = plan.start();
    let folder = proxy.sites().path().to_path_buf();
    set_mode(&folder, 0o744);
    proxy.until_logged("the sites directory cannot be read");
    proxy.command(["reload"]);
    assert_eq!(proxy.state_of("s7"), "live");
    assert_eq!(proxy.log().matches("permission denied").count(), 1);
    assert_eq!(proxy.get("s7.test", "/").text(), "x");
}

#[test]
fn a_folder_that_may_not_be_read_at_the_start_is_waited_for() {
    let Some(plan) = as_nobody() else { return };
    let mut proxy = plan.site("shop.toml", says("shop.test", "x")).start();
    proxy.stop();
    let folder = proxy.sites().path().to_path_buf();
    set_mode(&folder, 0o700);
    proxy.start_again();
    proxy.until_logged("chmod o+rx '");
    assert_eq!(proxy.get("shop.test", "/").text(), "x", "from the last run");
    let ls = words_of(&proxy.command(["ls"]));
    assert!(!ls.contains("its file is gone"), "{ls}");
    set_mode(&folder, 0o755);
    proxy.until_logged("can be read again");
    proxy.until_state("shop", "live");
    // By events again, and not only by looking every two seconds.
    assert!(!proxy.log().contains("every 2 s"), "{}", proxy.log());
}

#[test]
fn a_team_folder_that_may_not_be_read_keeps_its_sites_and_says_so_once() {
    let Some(plan) = as_nobody() else { return };
    let proxy = plan
        .site("red/shop.toml", says("shop.test", "red"))
        .site("blog.toml", says("blog.test", "y"))
        .start();
    let folder = proxy.sites().join("red");
    set_mode(&folder, 0o700);
    proxy.until_logged("this folder cannot be read");
    proxy.command(["reload"]);
    assert_eq!(proxy.get("shop.test", "/").text(), "red");
    assert_eq!(proxy.log().matches("chmod o+rx '").count(), 1);
    set_mode(&folder, 0o755);
    proxy.until_logged("can be read again");
    proxy.site("red/shop.toml", says("shop.test", "new"));
    assert_eq!(proxy.get("shop.test", "/").text(), "new");
}

#[test]
fn what_everybody_may_write_is_served_with_a_warning_once() {
    let plan = Proxy::plan()
        .site("open.toml", says("open.test", "x"))
        .site("red/shop.toml", says("shop.test", "x"));
    set_mode(&plan.sites().join("open.toml"), 0o666);
    set_mode(&plan.sites().join("red"), 0o777);
    let proxy = plan.start();
    for host in ["open.test", "shop.test"] {
        assert_eq!(proxy.get(host, "/").text(), "x");
    }
    let (file, folder) = (proxy.sites().join("open.toml"), proxy.sites().join("red"));
    let chmod = |path: &std::path::Path| format!("chmod o-w '{}'", path.display());
    proxy.until_logged("everybody may write this file (mode 0666)");
    proxy.until_logged(&chmod(&folder));
    let ls = words_of(&proxy.command(["ls"]));
    assert!(ls.contains(&chmod(&file)), "{ls}");
    proxy.command(["reload"]);
    proxy.command(["reload"]);
    assert_eq!(proxy.log().matches("everybody may write").count(), 2);
}

/// The folder of a link says nothing of the file behind it, nor of the folder that this lies in.
#[test]
fn what_everybody_may_write_behind_a_link_is_told_with_the_command_that_ends_it() {
    let plan = Proxy::plan().site("plain.toml", says("plain.test", "x"));
    let (far, near) = (plan.folder().join("far"), plan.folder().join("near"));
    for folder in [&far, &near] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(far.join("shop.toml"), says("shop.test", "x")).unwrap();
    symlink("../far/shop.toml", near.join("link")).unwrap();
    symlink("../near/link", plan.sites().join("shop.toml")).unwrap();
    let proxy = plan.start();
    let exposed = [(far.join("shop.toml"), 0o666), (near, 0o777)];
    for (path, mode) in exposed {
        let closed = fs::metadata(&path).unwrap().permissions();
        set_mode(&path, mode);
        let command = format!("chmod o-w '{}'", fs::canonicalize(&path).unwrap().display());
        let check = || words_of(&proxy.command(["check"]));
        let said = check();
        assert_eq!(said.matches("everybody may write").count(), 1, "{said}");
        assert!(said.contains(&command), "{command} in {said}");
        let done = Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(done.success());
        let said = check();
        assert!(!said.contains("everybody may write"), "{said}");
        fs::set_permissions(&path, closed).unwrap();
    }
    // In such a folder nobody replaces what is another's.
    set_mode(&far, 0o1777);
    let said = words_of(&proxy.command(["check"]));
    assert!(!said.contains("everybody may write"), "{said}");
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

#[test]
fn a_socket_that_is_somebody_else_s_is_told_by_owner_and_mode() {
    let Some(plan) = as_nobody() else { return };
    let socket = plan.folder().join("app.sock");
    let _app = Backend::saying_on_socket(&socket, "hello");
    set_mode(&socket, 0o700);
    let site = format!(
        "host = 'app.localhost'\nto = 'unix:{}'\nhold = 'off'\n",
        socket.display()
    );
    let proxy = plan.site("app.toml", site).start();
    let refused = proxy.get("app.localhost", "/");
    assert_eq!(refused.said(), "502 backend-refused");
    let why = "it belongs to user 0 and group 0 with mode 0700";
    assert!(refused.text().contains(why), "{}", refused.text());
    assert!(
        refused.text().contains("runs as user 65534"),
        "{}",
        refused.text()
    );
    set_mode(&socket, 0o722);
    assert_eq!(proxy.get("app.localhost", "/").text(), "hello");
}

#[test]
fn a_key_of_certbot_that_may_not_be_read_is_said_with_the_command_that_helps_and_nothing_false() {
    let Some(plan) = as_nobody() else { return };
    // As certbot lays it down, but for the folders, which may be looked into.
    let (live, archive) = (plan.folder().join("live"), plan.folder().join("archive"));
    let (live, archive) = (live.join("shop.test"), archive.join("shop.test"));
    fs::create_dir_all(&live).unwrap();
    fs::create_dir_all(&archive).unwrap();
    let pair = Authority::new("certbot's").pair(&["shop.test"]);
    for (name, text, mode) in [
        ("fullchain", &pair.cert, 0o644),
        ("privkey", &pair.key, 0o600),
    ] {
        let file = archive.join(format!("{name}1.pem"));
        fs::write(&file, text).unwrap();
        set_mode(&file, mode);
        symlink(
            format!("../../archive/shop.test/{name}1.pem"),
            live.join(format!("{name}.pem")),
        )
        .unwrap();
    }
    let proxy = plan
        .daemon_file("certificates = 'live'\n")
        .site("shop.toml", says("shop.test", "x"))
        .start();
    let key = live.join("privkey.pem");
    let command = format!("setfacl -m u:nobody:r '{}'", key.display());
    proxy.until_logged(&command);
    let log = proxy.log();
    assert!(!log.contains("no key in"), "{log}");
    assert!(!log.contains("chmod o+r"), "{log}");
    let listed = words_of(&proxy.command(["ls"]));
    assert!(listed.contains(&command), "{listed}");
    chown(archive.join("privkey1.pem"), Some(NOBODY), Some(NOBODY)).unwrap();
    proxy.command(["reload"]);
    let listed = words_of(&proxy.command(["ls"]));
    assert!(!listed.contains("setfacl"), "{listed}");
    assert!(!listed.contains("clear text only"), "{listed}");
}
