//! Usage, exit codes, addresses in use, what the commands print.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::Output;

use crate::harness::{
    Backend, Client, Folder, Proxy, Sites, found, free_port, onedoor, until, words_of,
};

fn says(host: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn version_and_help_are_for_people() {
    let folder = Folder::new();
    let output = onedoor(&folder, ["--version"]);
    assert_eq!(
        (output.status.code(), out(&output)),
        (Some(0), format!("onedoor {}\n", env!("CARGO_PKG_VERSION")))
    );
    let output = onedoor(&folder, ["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for part in [
        "demo",
        "check",
        "ls",
        "wait",
        "reload",
        "--listen",
        "ONEDOOR_LISTEN",
        "Exit codes",
    ] {
        assert!(out(&output).contains(part), "{part} in\n{}", out(&output));
    }
    for command in ["run", "demo", "check", "ls", "wait", "reload"] {
        assert_eq!(
            onedoor(&folder, [command, "--help"]).status.code(),
            Some(0),
            "{command}"
        );
    }
}

#[test]
fn wrong_usage_is_2() {
    let folder = Folder::new();
    for words in [
        &["lss"][..],
        &["--nothing"],
        &["wait", "--timeout", "5"],
        &["wait", "--gone"],
        &["ls", "--listen", "x"],
    ] {
        let output = onedoor(&folder, words.iter().copied());
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", err(&output));
        assert!(out(&output).is_empty());
    }
    assert!(
        err(&onedoor(&folder, ["relaod"])).contains("reload"),
        "a near word is named"
    );
}

#[test]
fn a_wrong_daemon_file_is_1_with_its_place() {
    let mut proxy = Proxy::plan()
        .daemon_file("listne = '127.0.0.1:0'\n")
        .spawn();
    assert_eq!(proxy.exit_code(), 1);
    assert!(proxy.log().contains("onedoor.toml:1:1"), "{}", proxy.log());
    assert!(
        proxy.log().contains("did you mean \"listen\"?"),
        "{}",
        proxy.log()
    );
}

#[test]
fn commands_find_the_daemon_of_a_broken_file_where_it_says_for_sure_where_that_is() {
    let state = "state = 'state'\n";
    let proxy = Proxy::plan()
        .daemon_file(state)
        .site("one.toml", says("one.test", "x"))
        .start();
    for broken in [
        "workrs = 2\n",
        "listen = \n",
        "limit = { linee = '512b' }\n",
    ] {
        proxy.daemon_file(&format!("{state}{broken}"));
        let output = onedoor(proxy.folder(), ["ls"]);
        let said = err(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(out(&output).contains("one.test"), "{}", out(&output));
        assert!(said.contains("onedoor.toml:2"), "{said}");
        assert!(said.contains("with the settings of before"), "{said}");
    }
    // The daemon tells the same of its file, and goes on.
    let output = onedoor(proxy.folder(), ["reload"]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    for unsure in [
        // What is broken is where.
        "state = 'state\n",
        "state = 7\n",
        "state = 'state'\nadmin = \n",
        // It says something, and it is not read.
        "listen = '''\nstate = 'state'\n",
        // Nobody is there.
        "workrs = 2\nstate = 'elsewhere'\n",
    ] {
        proxy.daemon_file(unsure);
        let output = onedoor(proxy.folder(), ["ls"]);
        let said = err(&output);
        assert_eq!(output.status.code(), Some(1), "{unsure:?}: {said}");
        assert!(said.contains("name its socket with --admin"), "{said}");
        assert!(out(&output).is_empty());
        // A state directory that is named needs no file.
        assert_eq!(proxy.command(["ls"]).status.code(), Some(0));
    }
}

#[test]
fn a_bad_site_file_does_not_stop_the_start_and_is_counted() {
    let proxy = Proxy::plan()
        .site("good.toml", says("good.test", "x"))
        .site("bad.toml", "nonsense")
        .start();
    assert_eq!(proxy.get("good.test", "/").text(), "x");
    proxy.until_logged("1 site");
    proxy.until_logged("bad");
}

#[test]
fn a_port_in_use_is_1_and_named_also_when_it_is_shared() {
    for reuse in [false, true] {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_port(reuse).unwrap();
        socket
            .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket.listen(1).unwrap();
        let taken: TcpListener = socket.into();
        let address = taken.local_addr().unwrap();
        let mut proxy = Proxy::plan()
            .no_listen()
            .flag(format!("--listen={address}"))
            .spawn();
        assert_eq!(proxy.exit_code(), 1, "SO_REUSEPORT {reuse}");
        assert!(
            proxy.log().contains(&address.to_string()),
            "{}",
            proxy.log()
        );
    }
}

#[test]
fn several_files_are_checked_at_once() {
    let folder = Folder::new();
    let sites = Sites::at(folder.join("sites.d"));
    sites.write("a.toml", "host = 'a.test'\nto = 1\n");
    sites.write("b.toml", "host = 'b.test'\nto = 0\n");
    sites.write("c.toml", "host = 'c.test'\nto = 1\n");
    let check = |words: &[&str]| {
        let words = ["check", "--state", "state"].iter().chain(words);
        onedoor(&folder, words.copied())
    };
    let output = check(&["sites.d/a.toml", "sites.d/c.toml"]);
    assert!(output.status.success(), "{}", words_of(&output));
    assert!(
        words_of(&output).contains("2 files: 2 fine"),
        "{}",
        words_of(&output)
    );
    let output = check(&["sites.d/a.toml", "sites.d/b.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        words_of(&output).contains("2 files: 1 fine, 1 with errors"),
        "{}",
        words_of(&output)
    );
    let output = check(&["sites.d/a.toml", "sites.d/b.toml", "--as", "x"]);
    assert_eq!(output.status.code(), Some(2), "{}", words_of(&output));
}

#[test]
fn a_variable_that_is_none_of_ours_is_told_from_which_it_may_be() {
    let plan = Proxy::plan().environment("ONEDOOR_LISTN", "1");
    let proxy = plan.start();
    proxy.until_logged("$ONEDOOR_LISTN: there is no such variable, and it has no effect; did you mean ONEDOOR_LISTEN?");
}

#[test]
fn a_catch_all_that_is_not_there_is_said_until_it_is() {
    let proxy = Proxy::plan().daemon_file("catch_all = 'rest'\n").start();
    let said = "catch_all names the site \"rest\", and there is no ";
    proxy.until_logged(said);
    let ls = || words_of(&proxy.command(["ls"]));
    assert!(ls().contains(said), "{}", ls());
    let check = || words_of(&proxy.command(["check"]));
    assert!(check().contains(said), "{}", check());
    proxy.site("rest.toml", "host = '*'\nrespond = 'x'\n");
    proxy.wait_for("rest");
    assert!(
        !ls().contains(said) && !check().contains(said),
        "{}{}",
        ls(),
        check()
    );
    // And of a certificate for every name nobody need be told.
    assert!(!ls().contains("no certificate for"), "{}", ls());
}

#[test]
fn what_is_wrong_without_a_line_is_drawn_without_a_rule() {
    let folder = Folder::new();
    Sites::at(folder.join("sites.d"));
    let output = onedoor(&folder, ["check", "--state", "sites.d/state"]);
    let words = words_of(&output);
    assert!(
        words.contains("help: name another one with --state"),
        "{words}"
    );
    assert!(!words.contains('|'), "{words}");
}

#[test]
fn a_value_with_a_blank_is_quoted_in_the_log() {
    let proxy = Proxy::plan()
        .site(
            "copy of one.test.toml",
            "host = 'one.test'\nrespond = 'x'\n",
        )
        .start();
    proxy.until_logged("site=\"copy of one.test\" ");
}

#[test]
fn the_flag_that_asked_for_a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for flag in ["--listen", "--admin-listen"] {
        let plan = match flag {
            "--listen" => Proxy::plan().no_listen(),
            _ => Proxy::plan(),
        };
        let mut proxy = plan.flag(format!("{flag}={address}")).spawn();
        assert_eq!(proxy.exit_code(), 1);
        let said = format!("{address} is in use by another process; choose another with {flag}\n");
        assert!(proxy.log().contains(&said), "{}", proxy.log());
    }
}

#[test]
fn one_listener_that_fails_of_several_is_fatal() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut proxy = Proxy::plan()
        .flag(format!("--listen={}", taken.local_addr().unwrap()))
        .spawn();
    assert_eq!(proxy.exit_code(), 1);
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_says_so() {
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "x"))
        .start();
    let output = proxy.command(["run", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    let state = proxy.state();
    assert!(
        err(&output).contains(state.to_str().unwrap()),
        "{}",
        err(&output)
    );
    assert_eq!(proxy.get("shop.test", "/").text(), "x");
}

#[test]
fn a_daemon_that_ends_leaves_the_admin_socket_of_another_alone() {
    let folder = Folder::new();
    let socket = folder.join("both.sock");
    let plan = || {
        let plan = Proxy::plan().site("a.toml", says("a.test", "a"));
        plan.flag("--admin").flag(&socket)
    };
    let mut first = plan().start();
    until("the first one has the socket", || socket.exists());
    let mut second = plan().start();
    second.until_logged("another onedoor answers there");
    second.stop();
    let path = socket.to_str().unwrap();
    let listed = onedoor(&folder, ["ls", "--admin", path]);
    assert_eq!(listed.status.code(), Some(0), "{}", err(&listed));
    first.stop();
    assert!(!socket.exists());
}

#[test]
fn settings_come_from_the_file_a_variable_beats_it_and_a_flag_both() {
    let plan = Proxy::plan();
    let (file, variable, flag) = (
        plan.folder().join("f"),
        plan.folder().join("v"),
        plan.folder().join("g"),
    );
    for (folder, name) in [(&file, "file"), (&variable, "variable"), (&flag, "flag")] {
        Sites::at(folder.clone()).write("shop.toml", says("shop.test", name));
    }
    fs::write(
        plan.folder().join("onedoor.toml"),
        format!("sites = '{}'\n", file.display()),
    )
    .unwrap();
    let check = |words: &[&str], variable: Option<&str>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_onedoor"));
        command
            .args(["check", "--state", "state"])
            .args(words)
            .current_dir(plan.folder().path());
        match variable {
            Some(value) => command.env("ONEDOOR_SITES", value),
            None => command.env_remove("ONEDOOR_SITES"),
        };
        // Each folder has one file; a broken one tells which folder was read.
        out(&command.output().unwrap())
    };
    for folder in [&file, &variable, &flag] {
        fs::write(folder.join("shop.toml"), "nonsense").unwrap();
    }
    let (variable, flag) = (variable.to_str().unwrap(), flag.to_str().unwrap());
    assert!(check(&[], None).contains("f/shop.toml"));
    assert!(check(&[], Some(variable)).contains("v/shop.toml"));
    assert!(check(&["--sites", flag], Some(variable)).contains("g/shop.toml"));
}

#[test]
fn where_to_listen_may_come_from_a_variable() {
    let proxy = Proxy::plan()
        .no_listen()
        .environment("ONEDOOR_LISTEN", "127.0.0.1:0,127.0.0.1:0")
        .start();
    until("it listens twice", || proxy.addresses().len() == 2);
}

#[test]
fn check_is_0_for_good_files_and_1_for_bad_ones() {
    let folder = Folder::new();
    let sites = Sites::at(folder.join("sites.d"));
    sites.write("shop.toml", says("shop.test", "x"));
    assert_eq!(onedoor(&folder, ["check"]).status.code(), Some(0));
    sites.write("bad.toml", "host = ");
    let output = onedoor(&folder, ["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("bad.toml:1:"), "{}", out(&output));
    assert_eq!(
        onedoor(&folder, ["check", "sites.d/shop.toml"])
            .status
            .code(),
        Some(0)
    );
    assert_eq!(
        onedoor(&folder, ["check", "sites.d/bad.toml"])
            .status
            .code(),
        Some(1)
    );
    sites.remove("bad.toml");
    sites.write("twice.toml", says("shop.test", "y"));
    let output = onedoor(&folder, ["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("shop.toml:1:8"), "{}", out(&output));
}

#[test]
fn ls_lists_what_is_live_for_people_and_for_programs() {
    let app = Backend::saying("x");
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!(
                "host = ['shop.test', 'www.shop.test']\nto = {}\nnote = 'ask Ann'",
                app.port
            ),
        )
        .site("bad.toml", "nonsense")
        .start();
    let text = out(&proxy.command(["ls"]));
    for part in [
        "SITE",
        "shop",
        "live",
        "shop.test www.shop.test",
        "bad",
        "down",
        "bad.toml:1:",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let shop = proxy.status("shop").unwrap();
    assert_eq!(shop["state"], "live");
    assert_eq!(
        shop["hosts"],
        serde_json::json!(["shop.test", "www.shop.test"])
    );
    assert_eq!(shop["note"], "ask Ann");
    assert!(
        shop["file"]
            .as_str()
            .unwrap()
            .ends_with("sites.d/shop.toml")
    );
    assert!(
        shop["to"][0]
            .as_str()
            .unwrap()
            .contains(&app.port.to_string())
    );
}

#[test]
fn wait_tells_serving_rejected_and_late_apart() {
    let proxy = Proxy::start();
    proxy.sites().write("shop.toml", says("shop.test", "x"));
    assert_eq!(proxy.command(["wait", "shop"]).status.code(), Some(0));
    assert_eq!(proxy.command(["wait", "shop.toml"]).status.code(), Some(0));
    assert_eq!(proxy.command(["wait"]).status.code(), Some(0));
    proxy.sites().write("bad.toml", "nonsense");
    let output = proxy.command(["wait", "bad"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("bad.toml:1:"), "{}", out(&output));
    let output = proxy.command(["wait", "shop", "--gone", "--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    let output = proxy.command(["wait", "shp"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("\"shop\""), "{}", err(&output));
}

#[test]
fn without_a_daemon_commands_are_4_and_name_the_socket() {
    let folder = Folder::new();
    Sites::at(folder.join("sites.d"));
    for words in [&["ls"][..], &["wait"], &["wait", "shop"], &["reload"]] {
        let words: Vec<&str> = words.iter().copied().chain(["--state", "state"]).collect();
        let output = onedoor(&folder, words.iter().copied());
        assert_eq!(output.status.code(), Some(4), "{words:?}: {}", err(&output));
        assert!(
            err(&output).contains("state/admin.sock"),
            "{}",
            err(&output)
        );
    }
}

#[test]
fn reload_prints_what_changed() {
    let proxy = Proxy::plan()
        .flag("--watch=poll 600s")
        .site("a.toml", says("a.test", "1"))
        .start();
    proxy.sites().write("a.toml", says("a.test", "2"));
    proxy.sites().write("b.toml", says("b.test", "1"));
    let output = proxy.command(["reload"]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", err(&output));
    for part in ["changed   a\n", "added     b\n", "2 sites live\n"] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert_eq!(proxy.get("a.test", "/").text(), "2");
    assert!(out(&proxy.command(["reload"])).contains("nothing changed"));
    proxy.sites().write("b.toml", "nonsense");
    let output = proxy.command(["reload"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(out(&output).contains("rejected  b\n"), "{}", out(&output));
    let said = "not everything on disk serves";
    assert!(err(&output).contains(said), "{}", err(&output));
}

#[test]
fn the_admin_socket_is_for_its_owner_and_speaks_http() {
    use std::os::unix::fs::PermissionsExt;
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "x"))
        .start();
    let socket = proxy.state().join("admin.sock");
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o660
    );
    assert_eq!(
        fs::metadata(proxy.state()).unwrap().permissions().mode() & 0o777,
        0o700
    );
    if found("curl") {
        let output = std::process::Command::new("curl")
            .args([
                "-s",
                "--unix-socket",
                socket.to_str().unwrap(),
                "http://onedoor/v1/status",
            ])
            .output()
            .unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(status["pid"], proxy.id());
        assert_eq!(status["listening"][0], proxy.address().to_string());
    }
    for (request, status) in [
        ("GET /v2 HTTP/1.1\r\n\r\n", "404"),
        ("GET /v1/reload HTTP/1.1\r\n\r\n", "405"),
        ("GET /v1/wait?timeout=x HTTP/1.1\r\n\r\n", "400"),
        ("hello\r\n\r\n", "400"),
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains("\"error\""),
            "{request}: {text}"
        );
    }
}

#[test]
fn the_demo_shows_two_apps_and_takes_a_third() {
    let plan = Proxy::plan();
    // Free a moment ago; the shipped ports may be in use on this machine.
    let (blue, green, page) = (free_port(), free_port(), free_port());
    plan.sites()
        .write("blue.localhost.toml", format!("to = {blue}\n"));
    plan.sites()
        .write("green.localhost.toml", format!("to = {green}\n"));
    let look = format!("host = 'localhost'\nto = {page}\nallow = ['127.0.0.0/8', '::1']\n");
    plan.sites().write("localhost.toml", look);
    let proxy = plan.command_word("demo").start();
    proxy.until_logged("http://blue.localhost");
    let page = proxy.get("blue.localhost", "/a?<b>");
    assert_eq!(page.status, 404);
    let page = proxy.get("blue.localhost", "/?<b>");
    assert_eq!(page.value("content-type"), "text/html; charset=utf-8");
    for part in ["127.0.0.1", "x-forwarded-for", "/?&lt;b&gt;"] {
        assert!(
            page.text().to_lowercase().contains(part),
            "{part} in\n{}",
            page.text()
        );
    }
    let mut clock = proxy.client();
    clock.send("GET /clock HTTP/1.1\r\nHost: green.localhost\r\n\r\n");
    assert_eq!(
        clock.response_head().value("content-type"),
        "text/event-stream"
    );
    let mut echo: Client = proxy.client();
    echo.send(
        "GET /echo HTTP/1.1\r\nHost: blue.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let answer = echo.response_head();
    assert_eq!(
        answer.value("sec-websocket-accept"),
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    // A masked text frame "hi" (the mask is zero), and its echo without one.
    echo.send([0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    assert_eq!(echo.bytes(4), [0x81, 2, b'h', b'i']);
    proxy.site("red.localhost.toml", "respond = 'hello from a file'");
    assert_eq!(proxy.get("red.localhost", "/").text(), "hello from a file");
    let reload = words_of(&proxy.command(["reload"]));
    assert!(
        reload.contains("nothing changed\n") && !reload.contains("restart"),
        "{reload}"
    );
    // What it knows of itself stands behind the same port, for this machine.
    let host = format!("localhost:{}", proxy.address().port());
    let page = proxy.get(&host, "/");
    assert!(page.text().contains("<title>onedoor</title>"));
    assert!(
        page.value("content-security-policy")
            .contains("default-src 'none'")
    );
    assert!(
        proxy
            .get(&host, "/v1/sites")
            .text()
            .contains("red.localhost")
    );
    assert_eq!(proxy.get("onedoor.test", "/v1/sites").status, 421);
    let mut cross_site = proxy.client();
    cross_site.send(format!(
        "POST /v1/drain HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.test\r\nContent-Length: 0\r\n\r\n"
    ));
    assert_eq!(cross_site.response().status, 403);
    assert!(echo.stream().peer_addr().is_ok());
}

#[test]
fn a_demo_whose_port_is_taken_says_which_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let plan = Proxy::plan();
    plan.sites()
        .write("blue.localhost.toml", format!("to = {port}\n"));
    let mut proxy = plan.command_word("demo").spawn();
    assert_eq!(proxy.exit_code(), 1);
    for part in [&port.to_string(), "blue", "blue.localhost.toml"] {
        assert!(proxy.log().contains(part), "{part} in\n{}", proxy.log());
    }
    // The page's, too.
    let plan = Proxy::plan();
    for name in ["blue", "green"] {
        let site = format!("{name}.localhost.toml");
        plan.sites().write(&site, "respond = 'x'\n");
    }
    plan.sites().write(
        "localhost.toml",
        format!("host = 'localhost'\nto = {port}\n"),
    );
    let mut proxy = plan.command_word("demo").spawn();
    assert_eq!(proxy.exit_code(), 1);
    for part in [&port.to_string(), "the page", "localhost.toml"] {
        assert!(proxy.log().contains(part), "{part} in\n{}", proxy.log());
    }
}

#[test]
fn the_shipped_site_files_are_good() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/sites.d");
    let folder = Folder::new();
    let output = onedoor(&folder, ["check", shipped, "--strict", "--state", "state"]);
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    // The harness reads both pipes; here they are given to a reader that never reads.
    let proxy = Proxy::plan()
        .under([
            "sh",
            "-c",
            "exec \"$0\" \"$@\" 2>&1 | (grep -m 1 --line-buffered listening; sleep 20)",
        ])
        .site("shop.toml", says("shop.test", "x"))
        .start();
    for number in 0..300 {
        proxy
            .sites()
            .write("bad.toml", format!("nonsense {number}"));
    }
    until("still answering", || {
        proxy.get("shop.test", "/").text() == "x"
    });
}

#[test]
fn a_name_that_is_no_site_is_explained() {
    let proxy = Proxy::plan()
        .site("red.localhost.toml", "respond = 'x'\n")
        .start();
    let near = proxy.command(["wait", "red", "--timeout", "1s"]);
    assert_eq!(near.status.code(), Some(1));
    assert!(
        err(&near).contains("did you mean \"red.localhost\"?"),
        "{}",
        err(&near)
    );
    proxy
        .sites()
        .rename("red.localhost.toml", "red.localhost.toml.off");
    proxy.wait_gone("red.localhost.toml");
    let off = proxy.command(["wait", "red.localhost"]);
    assert_eq!(off.status.code(), Some(1));
    assert!(
        err(&off).contains("red.localhost.toml.off is ignored: switched off by its name"),
        "{}",
        err(&off)
    );
}

#[test]
fn what_is_kept_is_said_once_by_ls() {
    let proxy = Proxy::plan()
        .site("a.toml", says("a.test", "a"))
        .site("b.toml", says("b.test", "b"))
        .start();
    std::fs::rename(proxy.sites().path(), proxy.folder().join("aside")).unwrap();
    until("ls tells that the folder is missing", || {
        out(&proxy.command(["ls"]))
            .matches("still serving its 2 sites")
            .count()
            == 1
    });
    assert_eq!(proxy.get("a.test", "/").text(), "a");
}

#[test]
fn output_that_cannot_be_written_is_a_failure_and_a_reader_that_has_gone_is_none() {
    let proxy = Proxy::plan().site("a.toml", says("a.test", "a")).start();
    let run = |line: &str| {
        std::process::Command::new("sh")
            .args(["-c", line, env!("CARGO_BIN_EXE_onedoor")])
            .arg("--sites")
            .arg(proxy.sites().path())
            .arg("--state")
            .arg(proxy.state())
            .output()
            .unwrap()
    };
    for command in ["schema", "ls", "ls --json", "check"] {
        let output = run(&format!("exec \"$0\" {command} \"$@\" > /dev/full"));
        assert_eq!(
            output.status.code(),
            Some(1),
            "{command}: {}",
            words_of(&output)
        );
        assert!(
            err(&output).contains("No space left"),
            "{command}: {}",
            err(&output)
        );
    }
    // sh has no pipefail: it writes down how the first of both ended.
    let output = run("{ \"$0\" schema \"$@\"; echo $? >&2; } | true");
    assert_eq!(err(&output), "0\n");
}

#[test]
fn a_folder_that_is_away_is_an_error_of_ls_and_a_number_of_the_metrics() {
    let proxy = Proxy::plan().site("a.toml", says("a.test", "a")).start();
    let readable = || {
        let text = proxy.admin("GET", "/metrics").1;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("onedoor_sites_readable "));
        line.map(str::to_owned)
    };
    let errors = || proxy.command(["ls", "--errors"]);
    assert_eq!(out(&errors()), "nothing is wrong\n");
    assert_eq!(readable().as_deref(), Some("1"));
    std::fs::rename(proxy.sites().path(), proxy.folder().join("aside")).unwrap();
    until("it is noticed", || readable().as_deref() == Some("0"));
    let output = errors();
    assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
    let text = out(&output);
    assert!(
        text.lines()
            .next()
            .unwrap()
            .contains("sites.d is missing; still serving its site"),
        "{text}"
    );
    let json = proxy.command(["ls", "--errors", "--json"]);
    assert_eq!(json.status.code(), Some(1), "{}", words_of(&json));
}

#[test]
fn without_its_folder_wait_is_1_and_says_why_and_so_does_a_start() {
    let mut proxy = Proxy::plan()
        .site("a.toml", says("a.test", "a"))
        .site("b.toml", says("b.test", "b"))
        .start();
    let aside = proxy.folder().join("aside");
    std::fs::rename(proxy.sites().path(), &aside).unwrap();
    for words in [&["wait"][..], &["wait", "a"], &["wait", "nobody"]] {
        let output = proxy.command(words.iter().copied());
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(
            err(&output).contains("still serving its 2 sites; onedoor reload --accept-removals"),
            "{words:?}: {}",
            err(&output)
        );
    }
    let late = proxy.command(["wait", "a", "--gone", "--timeout", "100ms"]);
    assert_eq!(late.status.code(), Some(3));
    assert!(err(&late).contains("accept-removals"), "{}", err(&late));
    proxy.stop();
    proxy.start_again();
    proxy.until_logged("sites.d is missing; still serving its 2 sites");
    let log = proxy.log();
    assert!(!log.contains("0 sites live"), "{log}");
    assert!(!log.contains("`onedoor check` shows"), "{log}");
    assert_eq!(proxy.get("a.test", "/").text(), "a");
    std::fs::rename(&aside, proxy.sites().path()).unwrap();
    proxy.wait_for("a");
}

#[test]
fn a_conflict_is_drawn_like_any_other_error() {
    let proxy = Proxy::plan()
        .site("a.toml", says("x.test", "a"))
        .site("b.toml", says("x.test", "b"))
        .start();
    let text = out(&proxy.command(["ls"]));
    assert!(text.contains("1 | host = 'x.test'"), "{text}");
    assert_eq!(text.matches("belongs to").count(), 1, "{text}");
    assert!(text.contains("respond 200"), "{text}");
}
