//! A line for each request, where somebody wants one.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{
    Backend, Client, Plan, Proxy, Tls, found, free_port, hanging_at, may_mount, until, until_some,
    words_of,
};

/// Requests are logged to `access.log` in the folder of the test, by one worker, so that lines come in their order.
fn logging(format: &str) -> Plan {
    let plan = Proxy::plan();
    let file = plan.folder().join("access.log");
    plan.daemon_file(&format!(
        "workers = 1\n[log]\naccess = '{}'\naccess_format = '{format}'\n",
        file.display()
    ))
}

/// The lines of a file, once there are so many.
#[track_caller]
fn lines(file: &Path, count: usize) -> Vec<String> {
    until_some(&format!("{count} lines in {}", file.display()), || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[track_caller]
fn objects(proxy: &Proxy, count: usize) -> Vec<Value> {
    let lines = lines(&proxy.folder().join("access.log"), count);
    let read = |line: &String| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    lines.iter().map(read).collect()
}

#[test]
fn a_request_is_one_object_with_what_became_of_it() {
    let app = Backend::saying("hello");
    let proxy = logging("json")
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}\n", app.port),
        )
        .start();
    let mut client = proxy.client();
    client.send("POST /a/b?c=d HTTP/1.1\r\nHost: Shop.test\r\nContent-Length: 3\r\nX-Request-Id: mine\r\n\r\nabc");
    assert_eq!(client.response().text(), "hello");
    let line = &objects(&proxy, 1)[0];
    for (key, value) in [
        ("client", "127.0.0.1"),
        ("site", "shop"),
        ("host", "shop.test"),
        ("method", "POST"),
        ("path", "/a/b?c=d"),
        ("protocol", "HTTP/1.1"),
        ("backend", &format!("localhost:{}", app.port)),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
    assert_eq!(
        (&line["status"], &line["received"], &line["sent"]),
        (&200.into(), &3.into(), &5.into())
    );
    assert_eq!(line["id"], app.only_request().value("x-request-id"));
    let time = |key: &str| {
        line[key]
            .as_f64()
            .unwrap_or_else(|| panic!("{key} in {line}"))
    };
    assert!(
        time("time_total") >= time("time_first_byte") && time("time_wait") >= time("time_connect"),
        "{line}"
    );
    assert!(
        line["reason"].is_null() && line["tls"].is_null() && line["retries"].is_null(),
        "{line}"
    );
}

#[test]
fn what_is_counted_as_sent_is_the_body_whoever_wrote_it() {
    let app = Backend::saying("hello");
    let large = "x".repeat(20_000);
    for (format, words) in [("json", "\"sent\":"), ("combined", "HTTP/1.1\" 200 ")] {
        let proxy = logging(format)
            .site(
                "app.toml",
                format!("host = 'app.test'\nto = {}\n", app.port),
            )
            .site("tea.toml", "host = 'tea.test'\nrespond = 'four'\n")
            .site(
                "long.toml",
                format!("host = 'long.test'\nrespond = '{large}'\n"),
            )
            .start();
        for (number, (host, bytes)) in [("app.test", 5), ("tea.test", 4), ("long.test", 20_000)]
            .into_iter()
            .enumerate()
        {
            assert_eq!(proxy.get(host, "/").body.len(), bytes);
            let line = &lines(&proxy.folder().join("access.log"), number + 1)[number];
            let (_, behind) = line.split_once(words).unwrap();
            let counted = behind.split(|c: char| !c.is_ascii_digit()).next();
            assert_eq!(counted, Some(&*bytes.to_string()), "{line}");
        }
        let mut client = proxy.client();
        client.send("HEAD / HTTP/1.1\r\nHost: tea.test\r\n\r\n");
        assert_eq!(client.response_head().status, 200);
        let line = &lines(&proxy.folder().join("access.log"), 4)[3];
        assert!(line.contains(&format!("{words}0")), "{line}");
    }
}

#[test]
fn our_own_answers_say_why_and_what_cannot_be_read_is_logged_too() {
    let proxy = logging("json")
        .site(
            "gone.toml",
            "host = 'gone.test'\nto = 1\n[timeout]\nconnect = '1s'\n",
        )
        .site(
            "tea.toml",
            "host = 'tea.test'\nrespond = { status = 418, body = 'x' }\n",
        )
        .start();
    assert_eq!(proxy.get("nobody.test", "/x").status, 421);
    assert_eq!(proxy.get("tea.test", "/").status, 418);
    assert_eq!(proxy.get("gone.test", "/").status, 502);
    assert_eq!(proxy.ask("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").status, 400);
    let lines = objects(&proxy, 4);
    let told: Vec<(u64, &str, &str)> = lines
        .iter()
        .map(|line| {
            (
                line["status"].as_u64().unwrap(),
                line["reason"].as_str().unwrap_or_default(),
                line["host"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (421, "no-site-for-host", "nobody.test"),
            (418, "", "tea.test"),
            (502, "backend-refused", "gone.test"),
            (400, "bad-host", ""),
        ]
    );
}

#[test]
fn a_backend_that_gives_no_upstream_is_named_too() {
    let proxy = logging("json")
        .site("one.toml", "host = 'one.test'\nto = 1\n")
        .site(
            "two.toml",
            "host = 'two.test'\nto = ['127.0.0.1:1', '127.0.0.2:1']\n",
        )
        .site(
            "passed.toml",
            "host = 'passed.test'\nto = 1\ntls = 'passthrough'\n",
        )
        .start();
    assert_eq!(proxy.get("one.test", "/").status, 502);
    assert_eq!(proxy.get("two.test", "/").status, 502);
    assert!(Tls::to("passed.test").shake(proxy.address()).is_err());
    let lines = objects(&proxy, 3);
    assert_eq!(lines[0]["backend"], "localhost:1");
    // Which of the two was asked last is a matter of turns.
    let last = lines[1]["backend"].as_str().unwrap_or_default();
    assert!(
        last.starts_with("127.0.0.") && last.ends_with(":1"),
        "{}",
        lines[1]
    );
    assert!(lines[1]["retries"].as_u64() >= Some(1), "{}", lines[1]);
    assert_eq!(lines[2]["backend"], "localhost:1");
}

#[test]
fn tls_is_told_with_its_version_and_name_also_where_it_is_passed_through() {
    let app = Backend::doing(|conversation| drop(conversation.bytes(5)));
    let proxy = logging("json")
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .site(
            "passed.toml",
            format!(
                "host = 'passed.test'\nto = {}\ntls = 'passthrough'\n",
                app.port
            ),
        )
        .start();
    let line = Tls::to("a.test").shake(proxy.address()).unwrap();
    assert_eq!(Client::over(line).get("a.test", "/").text(), "x");
    assert!(Tls::to("passed.test").shake(proxy.address()).is_err());
    let lines = objects(&proxy, 2);
    assert_eq!(
        (&lines[0]["tls"], &lines[0]["sni"]),
        (&"1.3".into(), &"a.test".into())
    );
    assert_eq!(
        (&lines[1]["protocol"], &lines[1]["site"]),
        (&"TLS".into(), &"passed".into())
    );
    assert_eq!(lines[1]["sni"], "passed.test");
}

#[test]
fn a_connection_that_is_passed_through_to_nowhere_has_its_line() {
    let app = Backend::silent();
    let passed = |more: &str| format!("tls = 'passthrough'\n{more}");
    let proxy = logging("json")
        .site(
            "far.toml",
            passed("host = 'far.test'\nto = 1\nallow = '10.0.0.0/8'\n"),
        )
        .site("gone.toml", passed("host = 'gone.test'\nto = 1\n"))
        .site(
            "full.toml",
            passed(&format!(
                "host = 'full.test'\nto = {}\nlimit.connections = 1\n",
                app.port
            )),
        )
        .start();
    let mut first = proxy.client();
    first.send(Tls::to("full.test").hello());
    until("the first is there", || !app.raw_bytes().is_empty());
    for name in ["far", "gone", "full"] {
        assert!(
            Tls::to(&format!("{name}.test"))
                .shake(proxy.address())
                .is_err()
        );
    }
    let told = objects(&proxy, 3);
    let told: Vec<_> = told
        .iter()
        .map(|line| {
            let word = |key: &str| line[key].as_str().unwrap_or_default();
            (word("site"), word("sni"), word("reason"))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("far", "far.test", "not-allowed"),
            ("gone", "gone.test", "backend-refused"),
            ("full", "full.test", "site-full"),
        ]
    );
    proxy.until_counted("not-allowed", 1);
}

#[test]
fn the_combined_format_is_for_those_who_have_readers_of_it() {
    let app = Backend::saying("hello");
    let proxy = logging("combined")
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}\n", app.port),
        )
        .start();
    proxy.ask("GET /a\"b?c HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: x\"\x1b[1my\r\nReferer: http://a.test/\r\n\r\n");
    proxy.ask("GET /a?c HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: me\r\n\r\n");
    let lines = lines(&proxy.folder().join("access.log"), 2);
    let line = lines.iter().find(|line| line.contains("/a?c")).unwrap();
    let (front, behind) = line.split_once('[').unwrap();
    assert_eq!(front, "127.0.0.1 - - ");
    let (_, behind) = behind.split_once(']').unwrap();
    let (behind, upstream) = behind.rsplit_once(' ').unwrap();
    assert_eq!(
        behind,
        " \"GET /a?c HTTP/1.1\" 200 5 \"-\" \"me\" \"shop.test\""
    );
    assert!(upstream.parse::<f64>().is_ok(), "{upstream}");
    assert!(lines.iter().all(|line| !line.contains('\x1b')));
}

#[test]
fn a_site_has_a_log_of_its_own_or_none() {
    let plan = Proxy::plan();
    let folder = plan.folder().join("logs");
    fs::create_dir(&folder).unwrap();
    let all = plan.folder().join("access.log");
    let own = folder.join("own.log");
    let proxy = plan
        .daemon_file(&format!(
            "[log]\naccess = '{}'\naccess_query = false\nsites_under = '{}'\n",
            all.display(),
            folder.display()
        ))
        .site(
            "own.toml",
            format!(
                "host = 'own.test'\nrespond = 'x'\naccess_log = '{}'\n",
                own.display()
            ),
        )
        .site(
            "off.toml",
            "host = 'off.test'\nrespond = 'x'\naccess_log = 'off'\n",
        )
        .site(
            "thief.toml",
            "host = 'thief.test'\nrespond = 'x'\naccess_log = '/tmp/onedoor-stolen.log'\n",
        )
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .start();
    assert_eq!(proxy.state_of("thief"), "down", "it may not write anywhere");
    for host in ["off.test", "own.test", "a.test"] {
        assert_eq!(proxy.get(host, "/?secret").text(), "x");
    }
    let (all, own) = (lines(&all, 1), lines(&own, 1));
    assert!(all.len() == 1 && all[0].contains("a.test"), "{all:?}");
    assert!(own.len() == 1 && own[0].contains("own.test"), "{own:?}");
    assert!(!all[0].contains("secret"));
    // It is there at once, and gone with an edit.
    proxy.site(
        "a.toml",
        "host = 'a.test'\nrespond = 'x'\naccess_log = 'stdout'\n",
    );
    proxy.get("a.test", "/told");
    proxy.until_logged("\"path\":\"/told\"");
}

#[test]
fn a_site_whose_log_has_no_folder_yet_says_so_and_goes_live_when_it_is_made() {
    let plan = Proxy::plan();
    let folder = plan.folder().join("logs/team");
    let proxy = plan
        .daemon_file(&format!(
            "[log]\nsites_under = '{}'\n",
            folder.parent().unwrap().display()
        ))
        .site(
            "own.toml",
            format!(
                "host = 'own.test'\nrespond = 'x'\naccess_log = '{}/own.log'\n",
                folder.display()
            ),
        )
        .start();
    assert_eq!(proxy.state_of("own"), "down");
    let said = format!("the folder {} is not there", folder.display());
    let listed = words_of(&proxy.command(["ls"]));
    assert!(listed.contains(&said), "{listed}");
    fs::create_dir_all(&folder).unwrap();
    proxy.until_state("own", "live");
    assert_eq!(proxy.get("own.test", "/").text(), "x");
    lines(&folder.join("own.log"), 1);
}

#[test]
fn a_reload_reads_what_is_rejected_once_more() {
    let plan = Proxy::plan();
    let (logs, real) = (plan.folder().join("logs"), plan.folder().join("real"));
    let other = plan.folder().join("other");
    fs::create_dir(&real).unwrap();
    fs::create_dir(&other).unwrap();
    symlink(&other, &logs).unwrap();
    let proxy = plan
        .daemon_file(&format!("[log]\nsites_under = '{}'\n", logs.display()))
        .site(
            "own.toml",
            format!(
                "host = 'own.test'\nrespond = 'x'\naccess_log = '{}/own.log'\n",
                real.display()
            ),
        )
        .start();
    assert_eq!(proxy.state_of("own"), "down");
    let output = proxy.command(["reload"]);
    let said = words_of(&output);
    assert!(said.contains("rejected  own\n"), "{said}");
    assert_eq!(proxy.log().matches("lies in none of").count(), 1);
    // Nothing that the file names is another one.
    fs::remove_file(&logs).unwrap();
    symlink(&real, &logs).unwrap();
    let output = proxy.command(["reload"]);
    let said = words_of(&output);
    assert!(!said.contains("rejected"), "{said}");
    assert_eq!(proxy.get("own.test", "/").text(), "x");
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew_when_told() {
    let proxy = logging("json")
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .start();
    let file = proxy.folder().join("access.log");
    proxy.get("a.test", "/before");
    lines(&file, 1);
    let moved = proxy.folder().join("access.log.1");
    fs::rename(&file, &moved).unwrap();
    proxy.get("a.test", "/between");
    assert!(lines(&moved, 2)[1].contains("/between"));
    proxy.signal(Signal::USR1);
    proxy.until_logged("opened anew");
    proxy.get("a.test", "/after");
    assert!(lines(&file, 1)[0].contains("/after"));
}

#[test]
fn a_file_that_is_cut_under_the_log_goes_on_from_its_start() {
    // `copytruncate` of logrotate: nobody is told.
    let proxy = logging("json")
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .start();
    let file = proxy.folder().join("access.log");
    proxy.get("a.test", "/before");
    lines(&file, 1);
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(0)
        .unwrap();
    proxy.get("a.test", "/after");
    let text = lines(&file, 1);
    assert!(
        text[0].starts_with('{') && text[0].contains("/after"),
        "{text:?}"
    );
}

#[test]
fn lines_are_written_before_the_end() {
    let mut proxy = logging("json")
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .start();
    proxy.get("a.test", "/last");
    proxy.stop();
    let text = fs::read_to_string(proxy.folder().join("access.log")).unwrap();
    assert!(text.contains("/last"), "{text}");
}

#[test]
fn a_sink_that_stalls_loses_lines_and_no_request_waits() {
    let plan = Proxy::plan();
    let pipe = plan.folder().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    // Open at both ends, so that the writer does not wait for a reader, and nobody reads.
    let _reader = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let proxy = plan
        .daemon_file(&format!("[log]\naccess = '{}'\n", pipe.display()))
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .start();
    let mut client = proxy.client();
    let path = format!("/{}", "x".repeat(900));
    let lost = || proxy.counters()["access_log_lost"].as_u64().unwrap();
    // 128 buffers of 32 KiB and a pipe of 64 KiB are full after some 4,500 of these.
    until("lines are lost", || {
        for _ in 0..500 {
            assert_eq!(client.get("a.test", &path).text(), "x");
        }
        lost() > 0
    });
}

#[test]
fn a_sink_that_cannot_be_opened_is_said_and_costs_nothing_else() {
    let proxy = Proxy::plan()
        .daemon_file("[log]\naccess = '/nowhere/access.log'\n")
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .start();
    assert_eq!(proxy.get("a.test", "/").text(), "x");
    proxy.until_logged("the access log cannot be written");
}

#[test]
fn the_settings_of_the_log_are_in_force_when_the_daemon_file_is_read_anew() {
    let mut proxy = logging("json")
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .start();
    let mut client = proxy.client();
    client.get("a.test", "/one?secret");
    let (first, second) = (
        proxy.folder().join("access.log"),
        proxy.folder().join("second.log"),
    );
    assert!(lines(&first, 1)[0].contains("/one?secret"));
    proxy.daemon_file(&format!(
        "workers = 1\n[log]\naccess = '{}'\naccess_format = 'combined'\naccess_query = false\n",
        second.display()
    ));
    proxy.signal(Signal::HUP);
    proxy.until_logged("parts=\"[log]\"");
    // On the connection that was open before.
    client.get("a.test", "/two?secret");
    let line = &lines(&second, 1)[0];
    assert!(
        line.starts_with("127.0.0.1 - - [") && line.contains("\"GET /two HTTP/1.1\" 200 "),
        "{line}"
    );
    proxy.daemon_file("workers = 1\n");
    proxy.signal(Signal::HUP);
    until("both are in force", || {
        proxy.log().matches("parts=\"[log]\"").count() == 2
    });
    client.get("a.test", "/three");
    proxy.stop();
    for (file, last) in [(first, "/one"), (second, "/two")] {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.lines().count() == 1 && text.contains(last), "{text}");
    }
}

#[test]
fn a_log_that_cannot_be_written_is_said_at_the_start_and_when_it_is_named() {
    let plan = Proxy::plan();
    let text = |name: &str| {
        fs::create_dir(plan.folder().join(name)).unwrap();
        format!("[log]\naccess = '{}'\n", plan.folder().join(name).display())
    };
    let (one, two) = (text("one"), text("two"));
    let proxy = plan.daemon_file(&one).start();
    let logged = |name: &str| {
        until("it is said", || {
            let log = proxy.log();
            let mut lines = log.lines();
            lines.any(|line| line.contains("its lines will be lost") && line.contains(name))
        });
    };
    logged("one");
    proxy.daemon_file(&two);
    proxy.command(["reload"]);
    logged("two");
}

#[test]
fn a_log_that_cannot_be_written_is_complained_about_and_no_request_waits() {
    let plan = Proxy::plan();
    let folder = plan.folder().join("not-there");
    let proxy = plan
        .daemon_file(&format!(
            "workers = 1\n[log]\naccess = '{}'\n",
            folder.join("access.log").display()
        ))
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .start();
    // Before anybody asks.
    let said = "is not there, and until it is the lines of the access log are lost; mkdir -p";
    proxy.until_logged(said);
    let check = words_of(&proxy.command(["check"]));
    assert!(
        check.contains(said) && check.contains("onedoor.toml:3:10"),
        "{check}"
    );
    assert_eq!(proxy.get("a.test", "/lost").text(), "x");
    proxy.until_logged("the access log cannot be written, its lines are lost");
    until("it is counted", || {
        proxy.admin_json("/v1/counters")["access_log_lost"] == 1
    });
    fs::create_dir(&folder).unwrap();
    assert_eq!(proxy.get("a.test", "/there").text(), "x");
    assert!(lines(&folder.join("access.log"), 1)[0].contains("/there"));
}

#[test]
fn a_trusted_proxy_says_who_asks_in_the_log_too() {
    let plan = Proxy::plan();
    let file = plan.folder().join("access.log");
    let proxy = plan
        .daemon_file(&format!(
            "workers = 1\n[log]\naccess = '{}'\n[trust]\nproxies = '127.0.0.1'\n",
            file.display()
        ))
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .start();
    let mut client = proxy.client();
    for asker in ["192.0.2.1", "2001:db8::1", "192.0.2.2"] {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: {asker}\r\n\r\n"
        ));
        client.response();
    }
    let lines = objects(&proxy, 3);
    let clients: Vec<&str> = lines
        .iter()
        .map(|l| l["client"].as_str().unwrap())
        .collect();
    assert_eq!(clients, ["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
    assert!(lines.iter().all(|line| line["site"] == "a"));
}

#[test]
fn a_connection_that_goes_to_another_host_is_logged_for_that_one() {
    let proxy = logging("json")
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .site("b.toml", "host = 'b.test'\nrespond = 'x'\n")
        .start();
    let mut client = proxy.client();
    for host in ["a.test", "b.test", "a.test:80", "nobody.test"] {
        client.get(host, "/");
    }
    proxy.site("nobody.toml", "host = 'nobody.test'\nrespond = 'x'\n");
    client.get("nobody.test", "/");
    let lines = objects(&proxy, 5);
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["site"].as_str(), line["host"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            (Some("a"), "a.test"),
            (Some("b"), "b.test"),
            (Some("a"), "a.test:80"),
            (None, "nobody.test"),
            (Some("nobody"), "nobody.test"),
        ]
    );
}

#[test]
fn the_log_of_a_site_stalls_no_other_and_leads_nowhere_else() {
    let plan = Proxy::plan();
    let logs = plan.folder().join("logs");
    fs::create_dir(&logs).unwrap();
    let (pipe, link) = (logs.join("pipe"), logs.join("link"));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let elsewhere = plan.folder().join("elsewhere");
    let all = plan.folder().join("access.log");
    let site = |name: &str, log: &Path| {
        format!(
            "host = '{name}.test'\nrespond = 'x'\naccess_log = '{}'\n",
            log.display()
        )
    };
    let proxy = plan
        .daemon_file(&format!(
            "workers = 1\n[log]\naccess = '{}'\nsites_under = '{}'\n",
            all.display(),
            logs.display()
        ))
        .site("pipe.toml", site("pipe", &pipe))
        .site("link.toml", site("link", &link))
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .start();
    // Made when it was accepted already.
    fs::write(&elsewhere, "mine\n").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    for host in ["pipe.test", "link.test"] {
        assert_eq!(proxy.get(host, "/").text(), "x");
    }
    until("both are counted", || {
        proxy.admin_json("/v1/counters")["access_log_lost"] == 2
    });
    proxy.until_logged("the access log cannot be written, its lines are lost: it is a ");
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine\n");
    assert_eq!(proxy.get("a.test", "/").text(), "x");
    assert!(lines(&all, 1)[0].contains("a.test"));
}

/// Standard output is a pipe that nobody reads any more behind the first line.
const UNREAD: [&str; 3] = [
    "sh",
    "-c",
    "exec \"$0\" \"$@\" | (grep -m 1 --line-buffered listening; sleep 600)",
];

#[test]
fn a_reader_of_standard_output_that_stalls_keeps_no_file_waiting() {
    let plan = Proxy::plan().under(UNREAD);
    let logs = plan.folder().join("logs");
    fs::create_dir(&logs).unwrap();
    let own = logs.join("own.log");
    let mut proxy = plan
        .daemon_file(&format!(
            "workers = 1\n[log]\naccess = 'stdout'\nsites_under = '{}'\n",
            logs.display()
        ))
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .site(
            "own.toml",
            format!(
                "host = 'own.test'\nrespond = 'x'\naccess_log = '{}'\n",
                own.display()
            ),
        )
        .start();
    let id = Pid::from_raw(i32::try_from(proxy.own_id()).unwrap()).unwrap();
    let mut client = proxy.client();
    let path = format!("/{}", "x".repeat(900));
    let lost = || proxy.counters()["access_log_lost"].as_u64().unwrap();
    until("lines are lost", || {
        for _ in 0..500 {
            assert_eq!(client.get("a.test", &path).text(), "x");
        }
        lost() > 0
    });
    proxy.until_logged("access log lines are lost: they were not taken in time");
    // A file is written, and opened anew when told.
    proxy.get("own.test", "/before");
    lines(&own, 1);
    let moved = logs.join("own.log.1");
    fs::rename(&own, &moved).unwrap();
    kill_process(id, Signal::USR1).unwrap();
    proxy.until_logged("opened anew");
    proxy.get("own.test", "/after");
    assert!(lines(&own, 1)[0].contains("/after"));
    // And to its end.
    proxy.get("own.test", "/last");
    kill_process(id, Signal::TERM).unwrap();
    assert!(lines(&own, 2)[1].contains("/last"));
    proxy.kill();
}

#[test]
fn a_disk_that_hangs_behind_the_log_of_one_site_keeps_the_log_of_all_sites_going() {
    if !found("strace") {
        return;
    }
    let plan = Proxy::plan();
    let logs = plan.folder().join("logs");
    fs::create_dir(&logs).unwrap();
    let (slow, all) = (logs.join("slow.log"), plan.folder().join("access.log"));
    let proxy = plan
        .under(hanging_at(&slow))
        .daemon_file(&format!(
            "workers = 1\n[log]\naccess = '{}'\nsites_under = '{}'\n",
            all.display(),
            logs.display()
        ))
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .start();
    // What is looked at before it is live would hang, too.
    let named = format!("access_log = '{}'\n", slow.display());
    proxy.site(
        "slow.toml",
        format!("host = 'slow.test'\nrespond = 'x'\n{named}"),
    );
    for round in 1..=3 {
        assert_eq!(proxy.get("slow.test", "/").text(), "x");
        assert_eq!(proxy.get("a.test", &format!("/{round}")).text(), "x");
        assert_eq!(lines(&all, round).len(), round);
    }
    assert!(!slow.exists());
    // And to its end, which is not kept waiting either.
    assert_eq!(proxy.get("a.test", "/last").text(), "x");
    let id = proxy.own_id();
    kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
    until("it ends", || {
        let status = fs::read_to_string(format!("/proc/{id}/status"));
        status.map_or(true, |status| status.contains("State:\tZ"))
    });
    assert!(lines(&all, 4)[3].contains("/last"));
}

#[test]
fn lines_that_a_full_disk_behind_standard_output_does_not_take_are_counted() {
    if !may_mount() {
        return;
    }
    let plan = Proxy::plan();
    let small = plan.folder().join("small");
    fs::create_dir(&small).unwrap();
    let line = "mount -t tmpfs -o size=64k none \"$0\" && exec \"$@\" >> \"$0/out\"";
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let proxy = plan
        .under(["unshare", "-m", "sh", "-c", line, small.to_str().unwrap()])
        .no_listen()
        .flag(format!("--listen={address}"))
        .daemon_file("workers = 1\n[log]\naccess = 'stdout'\n")
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .spawn();
    until("it listens", || TcpStream::connect(address).is_ok());
    let mut client = Client::connect(address);
    let asked = 400;
    for _ in 0..asked {
        assert_eq!(client.get("a.test", &"/x".repeat(100)).text(), "x");
    }
    proxy.until_logged("the access log cannot be written, its lines are lost");
    let out = proxy.seen(&small).join("out");
    until("each line is written or counted", || {
        let text = fs::read_to_string(&out).unwrap();
        let written = text.lines().filter(|line| line.ends_with('}')).count() as u64;
        let lost = proxy.counters()["access_log_lost"].as_u64().unwrap();
        assert!(written + lost <= asked + 1, "{written} and {lost}");
        lost > 0 && written + lost == asked
    });
}
