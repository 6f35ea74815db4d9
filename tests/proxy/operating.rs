//! What an operator sees while it runs: metrics, health, events, the page, status files, top.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::harness::{
    Authority, Backend, Folder, Plan, Proxy, Tls, UnderWay, found, free_port, has_package, onedoor,
    under_way, until, words_of,
};

fn says(host: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n")
}

/// One with an address for browsers, which is returned.
fn with_address(plan: Plan) -> (Proxy, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let proxy = plan.flag(format!("--admin-listen={address}")).start();
    proxy.until_logged("the page and the metrics are at");
    (proxy, address)
}

/// Head and body of what is answered there.
fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn get(address: SocketAddr, path: &str) -> (String, String) {
    ask(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    )
}

/// The value of a series in the text of `/metrics`.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

#[test]
fn metrics_count_what_happened() {
    let app = Backend::saying("hello");
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}\n", app.port),
        )
        .site("bad.toml", "nonsense")
        .start();
    let mut client = proxy.client();
    for _ in 0..16 {
        assert_eq!(client.get("shop.test", "/").text(), "hello");
    }
    proxy.get("nobody.test", "/");
    drop(Tls::to("shop.test").shake(proxy.address()).unwrap());
    let text = || proxy.admin("GET", "/metrics").1;
    let counts = |series: &str| value(&text(), series);
    until("the last request is counted", || {
        counts("onedoor_requests_total{site=\"shop\",code=\"2xx\",protocol=\"http1\"}")
            == Some(16.0)
    });
    for (series, wanted) in [
        ("onedoor_refused_total{reason=\"no-site-for-host\"}", 1.0),
        ("onedoor_site_files{state=\"live\"}", 1.0),
        ("onedoor_site_files{state=\"down\"}", 1.0),
        ("onedoor_upstreams_total{kind=\"opened\"}", 1.0),
        ("onedoor_upstreams_total{kind=\"reused\"}", 15.0),
        ("onedoor_tls_handshakes_total", 1.0),
        ("onedoor_connections_total", 3.0),
        ("onedoor_request_duration_seconds_count{site=\"shop\"}", 2.0),
        (
            &format!(
                "onedoor_backend_fit{{site=\"shop\",backend=\"localhost:{}\"}}",
                app.port
            ),
            1.0,
        ),
        (
            &format!(
                "onedoor_build_info{{version=\"{}\"}}",
                env!("CARGO_PKG_VERSION")
            ),
            1.0,
        ),
    ] {
        assert_eq!(counts(series), Some(wanted), "{series} in\n{}", text());
    }
    assert!(counts("process_open_fds").unwrap() > 5.0);
    let cpu = counts("process_cpu_seconds_total").unwrap();
    assert!(cpu > 0.0 && cpu < 100.0, "{cpu}");
    // What a rate is made from is there before the first of them.
    let none_yet = "onedoor_requests_total{site=\"shop\",code=\"5xx\",protocol=\"http1\"}";
    assert_eq!(counts(none_yet), Some(0.0));
    let reloading = |what: &str| counts(&format!("onedoor_{what}_total")).unwrap();
    let before = (reloading("reloads"), reloading("reload_seconds"));
    assert!(before.0 >= 1.0 && before.1 > 0.0, "{before:?}");
    proxy.site("new.toml", says("new.test", "x"));
    let after = (reloading("reloads"), reloading("reload_seconds"));
    assert!(
        after.0 == before.0 + 1.0 && after.1 > before.1,
        "{before:?} {after:?}"
    );
    let last = counts("onedoor_reload_last_seconds").unwrap();
    assert!(
        (after.1 - before.1 - last).abs() < 1e-6,
        "{before:?} {after:?} {last}"
    );
    assert_eq!(
        counts("onedoor_certificate_end_time_seconds{name=\"shop.test\"}"),
        None
    );
}

#[test]
fn open_connections_are_counted_by_what_they_are() {
    let upgraded = Backend::upgrading();
    let behind = Backend::doing(|conversation| drop(conversation.rest()));
    let proxy = Proxy::plan()
        .site("a.toml", says("a.test", "x"))
        .site(
            "up.toml",
            format!("host = 'up.test'\nto = {}\n", upgraded.port),
        )
        .site(
            "passed.toml",
            format!(
                "host = 'passed.test'\nto = {}\ntls = 'passthrough'\n",
                behind.port
            ),
        )
        .start();
    let count = |series: &str| value(&proxy.admin("GET", "/metrics").1, series);
    let kinds = ["opening", "http1", "http2", "upgraded", "passthrough"];
    let open = || {
        kinds.map(|kind| {
            let series = format!("onedoor_connections_open{{kind=\"{kind}\"}}");
            count(&series).unwrap()
        })
    };
    assert_eq!(open(), [0.0; 5]);
    let silent = proxy.client();
    let mut http1 = proxy.client();
    assert_eq!(http1.get("a.test", "/").text(), "x");
    let mut http2 = proxy.client();
    http2.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let mut tunnel = proxy.client();
    tunnel.send("GET / HTTP/1.1\r\nHost: up.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(tunnel.response_head().status, 101);
    let passed = proxy.client();
    let hello = Tls::to("passed.test").hello();
    passed.stream().write_all(&hello).unwrap();
    until("each is counted as what it is", || open() == [1.0; 5]);
    assert_eq!(count("onedoor_tunnels_open{protocol=\"http1\"}"), Some(1.0));
    drop((silent, http1, http2, tunnel, passed));
    until("all are gone", || open() == [0.0; 5]);
    for kind in ["http2", "upgraded", "passthrough"] {
        let series = format!("onedoor_connections_served_total{{kind=\"{kind}\"}}");
        assert_eq!(count(&series), Some(1.0), "{kind}");
    }
    let series = "onedoor_connections_served_total{kind=\"http1\"}";
    assert_eq!(count(series), Some(2.0), "the upgraded one was one before");
}

#[test]
fn what_clients_send_makes_no_series() {
    let proxy = Proxy::plan().site("a.toml", says("a.test", "x")).start();
    let names = || {
        let text = proxy.admin("GET", "/metrics").1;
        let mut names: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
            .collect();
        names.sort();
        names
    };
    proxy.get("a.test", "/");
    until("it is counted", || {
        names().iter().any(|name| name.contains("site=\"a\""))
    });
    let before = names();
    for number in 0..20 {
        proxy.get(&format!("h{number}.test"), "/x");
        proxy.ask(format!("M{number} /y HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    }
    assert_eq!(names(), before);
}

#[test]
fn a_parser_that_is_not_ours_reads_the_metrics() {
    if !found("python3") {
        return;
    }
    let has = Command::new("python3")
        .args(["-c", "import prometheus_client.parser"])
        .stderr(Stdio::null())
        .status();
    if !has.unwrap().success() {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "python3-prometheus-client must be installed in CI"
        );
        return println!("left out: no prometheus_client for python3");
    }
    let proxy = Proxy::plan().site("a.toml", says("a.test", "x")).start();
    proxy.get("a.test", "/");
    let (head, text) = proxy.admin("GET", "/metrics");
    assert!(
        head.contains("Content-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    let mut python = Command::new("python3")
        .args([
            "-c",
            "import sys\n\
             from prometheus_client.parser import text_string_to_metric_families\n\
             families = list(text_string_to_metric_families(sys.stdin.read()))\n\
             assert all(f.documentation for f in families), families\n\
             print(len(families), sum(len(f.samples) for f in families))",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", words_of(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    let families: usize = said.split(' ').next().unwrap().parse().unwrap();
    assert!(families > 20, "{said}");
}

#[test]
fn it_is_healthy_while_it_drains_and_ready_no_more() {
    let UnderWay {
        mut proxy,
        client: _client,
        app: _app,
    } = under_way();
    let status = |proxy: &Proxy, path: &str| proxy.admin("GET", path).0[9..12].to_owned();
    assert_eq!(status(&proxy, "/healthz"), "200");
    assert_eq!(status(&proxy, "/readyz"), "200");
    // As load balancers like to ask.
    let (head, body) = proxy.admin("HEAD", "/healthz");
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Length: 3"),
        "{head}"
    );
    assert_eq!(body, "");
    assert!(
        proxy
            .admin("HEAD", "/v1/reload")
            .0
            .starts_with("HTTP/1.1 405 ")
    );
    proxy.signal(rustix::process::Signal::TERM);
    until("it is not ready", || status(&proxy, "/readyz") == "503");
    assert_eq!(status(&proxy, "/healthz"), "200");
    proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn the_address_is_for_this_machine_and_only_to_look() {
    let (proxy, address) = with_address(Proxy::plan().site("a.toml", says("a.test", "x")));
    assert!(get(address, "/metrics").0.starts_with("HTTP/1.1 200 "));
    for host in [
        "localhost",
        "localhost:9180",
        "127.0.0.1",
        "[::1]:1",
        "onedoor.localhost",
    ] {
        let (head, _) = ask(
            address,
            &format!("GET /v1/sites HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
        assert!(head.starts_with("HTTP/1.1 200 "), "{host}: {head}");
        assert!(!head.to_lowercase().contains("access-control"), "{head}");
    }
    // DNS rebinding: the name of somebody's page that leads here.
    for host in ["evil.example", "localhost.evil.example", "10.0.0.1", ""] {
        let (head, body) = ask(
            address,
            &format!("GET /v1/sites HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
        assert!(head.starts_with("HTTP/1.1 421 "), "{host}: {head}\n{body}");
    }
    let (head, _) = ask(address, "GET /v1/sites HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 421 "), "{head}");
    for request in [
        "POST /v1/reload",
        "POST /v1/drain",
        "POST /v1/gone?name=a",
        "GET /v1/history?name=a&whole",
    ] {
        let (head, _) = ask(
            address,
            &format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        );
        assert!(head.starts_with("HTTP/1.1 403 "), "{request}: {head}");
    }
    assert_eq!(proxy.get("a.test", "/").text(), "x");
    // Never on the public port.
    assert_eq!(proxy.get("localhost", "/metrics").status, 421);
    // Nor through a proxy that says for whom it asks.
    for (askers, status) in [
        ("203.0.113.9", 403),
        ("127.0.0.1, 203.0.113.9", 403),
        ("unknown", 403),
        ("127.0.0.1, ::1", 200),
    ] {
        let (head, _) = ask(
            address,
            &format!(
                "GET /v1/sites HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {askers}\r\n\r\n"
            ),
        );
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{askers}: {head}"
        );
    }
}

#[test]
fn the_address_for_looking_is_no_backend() {
    let (proxy, address) = with_address(Proxy::plan());
    for (name, to) in [
        ("port", address.port().to_string()),
        ("ip", format!("'{address}'")),
        ("name", format!("'localhost:{}'", address.port())),
        ("url", format!("['http://{address}', 5000]")),
    ] {
        proxy.sites().write(
            &format!("{name}.toml"),
            format!("host = '{name}.test'\nto = {to}\nsend_host = 'localhost'\n"),
        );
        proxy.until_state(name, "down");
        let problems = proxy.status(name).unwrap()["problems"].to_string();
        assert!(
            problems.contains(&format!("{name}.toml:2:")) && problems.contains("admin_listen"),
            "{problems}"
        );
        assert_eq!(proxy.get(&format!("{name}.test"), "/metrics").status, 421);
    }
}

#[test]
fn a_changed_site_is_told_with_what_changed() {
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "x"))
        .start();
    let told = |what: &str| {
        until(&format!("{what:?} is told"), || {
            let events = proxy.admin_json("/v1/events");
            let mut events = events["events"].as_array().unwrap().iter();
            events.any(|event| {
                let text = event["text"].as_str().unwrap();
                event["site"] == "shop"
                    && event["level"] == "info"
                    && text.starts_with("site changed ")
                    && text.ends_with(&format!(" what={what}"))
            })
        });
    };
    for (text, what) in [
        ("host = 'shop.test'\nrespond = 'y'\n", "what answers"),
        (
            "host = ['shop.test', 'b.test']\nrespond = 'y'\nnote = 'ask Ann'\n",
            "hosts, note",
        ),
        (
            "host = ['shop.test', 'b.test']\nrespond = 'y'\nnote = 'ask Ann'\nallow = '127.0.0.1'\nlimit.connections = 9\ntimeout.idle = '9s'\n",
            "allow, limit, timeout",
        ),
        (
            "host = ['shop.test', 'b.test']\nnote = 'ask Ann'\nallow = '127.0.0.1'\nlimit.connections = 9\ntimeout.idle = '9s'\nrespond = 'y'\nheaders.response.set = { X = 'y' }\n[[path]]\nmatch = '/a'\nrespond = 'a'\n",
            "paths, headers",
        ),
    ] {
        proxy.site("shop.toml", text);
        told(what);
    }
}

#[test]
fn a_swapped_certificate_is_told_by_its_files_and_its_end_is_a_number() {
    const DAY: f64 = 86_400.0;
    let authority = Authority::new("test");
    let plan = Proxy::plan();
    authority
        .pair_for_days(&["shop.test"], 3)
        .write(plan.sites().path(), "shop");
    let files = "[tls]\ncert = 'shop.pem'\nkey = 'shop.key'\n";
    let proxy = plan
        .site("shop.toml", says("shop.test", "x") + files)
        .start();
    let days_left = || {
        let text = proxy.admin("GET", "/metrics").1;
        let end = value(
            &text,
            "onedoor_certificate_end_time_seconds{name=\"shop.test\"}",
        );
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        end.map_or(0.0, |end| (end - now) / DAY)
    };
    // Certificates are read in the background.
    until("its end is known", || (2.0..4.0).contains(&days_left()));
    authority
        .pair_for_days(&["shop.test"], 30)
        .write(proxy.sites().path(), "shop");
    proxy.until_logged("what=\"what is in shop.pem, shop.key\"");
    until("it is that of the new one", || {
        (29.0..31.0).contains(&days_left())
    });
    proxy.site("shop.toml", says("shop.test", "x") + files + "# nothing\n");
    proxy.until_logged("what=\"words without a meaning\"");
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    for address in ["0.0.0.0:9180", "10.0.0.1:9180", "[::]:9180"] {
        let mut proxy = Proxy::plan()
            .flag(format!("--admin-listen={address}"))
            .spawn();
        assert_eq!(proxy.exit_code(), 1);
        proxy.until_logged("is not of this machine alone");
    }
}

#[test]
fn events_are_kept_and_repeated_lines_are_folded() {
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "x"))
        .start();
    proxy.sites().write("shop.toml", "nonsense");
    proxy.until_state("shop", "stale");
    let events = proxy.admin_json("/v1/events");
    let of_shop: Vec<&str> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["site"] == "shop")
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    assert!(
        of_shop.iter().any(|text| text.contains("shop.toml:1:")),
        "{of_shop:?}"
    );
    assert!(of_shop.last().unwrap().contains("site live"), "{of_shop:?}");
    for _ in 0..3 {
        proxy.signal(rustix::process::Signal::USR2);
    }
    until("the signals are said", || {
        proxy.log().matches("SIGUSR2").count() == 1
    });
}

#[test]
fn a_log_in_json_has_objects_and_nothing_else() {
    let proxy = Proxy::plan()
        .flag("--log-format=json")
        .site("shop.toml", says("shop.test", "x"))
        .start();
    let said = || {
        let events = proxy.admin_json("/v1/events")["events"].clone();
        events.to_string().matches("SIGUSR2").count()
    };
    for times in 1..=3 {
        proxy.signal(rustix::process::Signal::USR2);
        until("it is said", || said() == times);
    }
    proxy.signal(rustix::process::Signal::HUP);
    proxy.until_logged("the line before was said");
    let log = proxy.log();
    // On standard output, for people.
    let is_hello = |line: &&str| line.contains(" listening on ") || line.contains(" live from ");
    for line in log.lines().filter(|line| !is_hello(line)) {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(event["timestamp"].is_string(), "{line}");
        assert!(event["level"].is_string(), "{line}");
    }
}

#[test]
fn the_journal_gets_a_level_in_front_of_each_line_and_knows_the_time_itself() {
    // As systemd does: the variable says which descriptor is the journal's.
    let proxy = Proxy::plan()
        .under([
            "sh",
            "-c",
            "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$0\" \"$@\"",
        ])
        .site("shop.toml", says("shop.test", "x"))
        .site("bad.toml", "nonsense")
        .start();
    proxy.until_logged("<6> INFO site live site=shop");
    proxy.until_logged("<4> WARN rejected");
    let other = Proxy::plan()
        .environment("JOURNAL_STREAM", "1:2")
        .site("shop.toml", says("shop.test", "x"))
        .start();
    other.until_logged("Z  INFO site live site=shop");
}

#[test]
fn the_state_of_each_file_is_a_file() {
    let plan = Proxy::plan();
    let folder = plan.folder().join("status");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("old.json"), "{}").unwrap();
    fs::write(folder.join("mine.txt"), "").unwrap();
    let mut proxy = plan
        .daemon_file(&format!("status = '{}'\n", folder.display()))
        .site("shop.toml", says("shop.test", "x"))
        .start();
    proxy.site("team/blog.toml", says("blog.test", "x"));
    let state = |name: &str| {
        let text = fs::read_to_string(folder.join(format!("{name}.json"))).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        value["state"].as_str().map(str::to_owned)
    };
    let until_state = |name: &str, wanted: Option<&str>| {
        until(&format!("{name} is {wanted:?}"), || {
            state(name).as_deref() == wanted
        });
    };
    until_state("shop", Some("live"));
    until_state("team/blog", Some("live"));
    until_state("old", None);
    assert!(folder.join("mine.txt").exists(), "what is not ours stays");
    proxy.sites().write("shop.toml", "nonsense");
    until_state("shop", Some("stale"));
    proxy.sites().remove("team/blog.toml");
    until_state("team/blog", None);
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(folder.join("shop.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);
    // Who writes them, and what is not told by any of them.
    let of_daemon = || {
        let text = fs::read_to_string(folder.join(".onedoor.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_eq!(of_daemon()["pid"], proxy.id());
    let first = of_daemon()["time"].as_u64().unwrap();
    until("a sign of life", || {
        of_daemon()["time"].as_u64().unwrap() > first
    });
    fs::rename(proxy.sites().path(), proxy.folder().join("aside")).unwrap();
    until("it is told that the folder is away", || {
        let notice = of_daemon()["notice"].clone();
        notice
            .as_str()
            .is_some_and(|notice| notice.contains("is missing"))
    });
    // Nothing that is not so is left behind.
    proxy.stop();
    let left = fs::read_dir(&folder).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".json")),
        "{left:?}"
    );
    assert!(folder.join("mine.txt").exists(), "what is not ours stays");
}

#[test]
fn states_that_could_not_be_written_are_written_when_they_can() {
    let plan = Proxy::plan();
    let (folder, away) = (plan.folder().join("status"), plan.folder().join("away"));
    // There is a file in the place of the folder, and what an earlier run left is behind it.
    fs::write(&folder, "").unwrap();
    fs::create_dir(&away).unwrap();
    fs::write(away.join("old.json"), "{}").unwrap();
    let proxy = plan
        .daemon_file(&format!("status = '{}'\n", folder.display()))
        .site("shop.toml", says("shop.test", "x"))
        .start();
    let state = || {
        let text = fs::read_to_string(folder.join("shop.json")).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        value["state"].as_str().map(str::to_owned)
    };
    for (number, wanted) in ["live", "stale"].into_iter().enumerate() {
        let logged = || {
            proxy
                .log()
                .matches("status files cannot be written")
                .count()
        };
        if number == 1 {
            fs::rename(&folder, &away).unwrap();
            fs::write(&folder, "").unwrap();
            proxy.sites().write("shop.toml", "nonsense");
        }
        until("it is said", || logged() == number + 1);
        fs::remove_file(&folder).unwrap();
        fs::rename(&away, &folder).unwrap();
        until(&format!("it is {wanted}"), || {
            state().as_deref() == Some(wanted)
        });
    }
    assert!(!folder.join("old.json").exists());
}

/// More than are talked to at once.
const TOO_MANY: usize = 300;

/// Each is closed without a word, and not with the answer that its time is over.
fn have_made_room(silent: Vec<impl Read>) {
    for mut one in silent {
        let mut said = Vec::new();
        // Closed with what came unread is a reset.
        one.read_to_end(&mut said).ok();
        assert_eq!(String::from_utf8_lossy(&said), "");
    }
}

#[test]
fn those_who_say_nothing_make_room_for_a_health_check() {
    let plan = Proxy::plan().site("a.toml", says("a.test", "x"));
    let (proxy, address) = with_address(plan);
    let socket = proxy.state().join("admin.sock");
    for beginning in ["", "GET /v1/sites HTTP/1.1\r\n"] {
        let begin = |stream: &mut dyn Write| stream.write_all(beginning.as_bytes()).unwrap();
        let mut at_the_socket = Vec::new();
        let mut at_the_address = Vec::new();
        for _ in 0..TOO_MANY {
            let mut one = UnixStream::connect(&socket).unwrap();
            begin(&mut one);
            at_the_socket.push(one);
            let mut one = TcpStream::connect(address).unwrap();
            begin(&mut one);
            at_the_address.push(one);
        }
        assert_eq!(proxy.admin("GET", "/healthz").1, "ok\n");
        assert_eq!(get(address, "/healthz").1, "ok\n");
        at_the_socket.truncate(10);
        have_made_room(at_the_socket);
        at_the_address.truncate(10);
        have_made_room(at_the_address);
    }
}

#[test]
fn top_shows_what_moves_and_needs_a_terminal() {
    let proxy = Proxy::plan()
        .site("busy.toml", says("busy.test", "x"))
        .site("calm.toml", says("calm.test", "x"))
        .start();
    let output = std::thread::scope(|scope| {
        let top = scope.spawn(|| proxy.command(["top", "--once"]));
        while !top.is_finished() {
            // A connection has an end after ten thousand requests.
            let mut client = proxy.client();
            for _ in 0..100 {
                assert_eq!(client.get("busy.test", "/").text(), "x");
            }
        }
        top.join().unwrap()
    });
    assert_eq!(output.status.code(), Some(0), "{}", words_of(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<&str> = text.lines().collect();
    assert!(
        rows[0].starts_with("onedoor ") && rows[0].ends_with("2 sites"),
        "{text}"
    );
    assert!(
        rows[3].starts_with("busy ") && rows[4].starts_with("calm  0 "),
        "{text}"
    );
    let output = proxy.command(["top"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words_of(&output).contains("needs a terminal"));
    assert_eq!(
        onedoor(&Folder::new(), ["top", "--state", "state"])
            .status
            .code(),
        Some(4)
    );
}

/// In a pipe, one object a line, until nobody reads it any more.
#[test]
fn top_tells_programs_an_object_a_line_until_its_reader_has_gone() {
    let backend = Backend::saying("x");
    let proxy = Proxy::plan()
        .site(
            "busy.toml",
            format!("host = 'busy.test'\nto = {}", backend.port),
        )
        .site("calm.toml", says("calm.test", "x"))
        .start();
    let mut top = Command::new(env!("CARGO_BIN_EXE_onedoor"))
        .args(["top", "--json", "--state"])
        .arg(proxy.state())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    let mut look = || -> Value {
        let line = lines.next().expect("another line").unwrap();
        serde_json::from_str(&line).unwrap()
    };
    let is_busy = |look: &Value| {
        look["sites"].as_array().unwrap().len() == 2
            && look["sites"][0]["name"] == "busy"
            && look["sites"][0]["requests_per_second"].as_f64() > Some(0.0)
    };
    let mut client = proxy.client();
    let calm = look();
    assert!(!is_busy(&calm), "{calm}");
    let busy = loop {
        for _ in 0..100 {
            assert_eq!(client.get("busy.test", "/").text(), "x");
        }
        let busy = look();
        if is_busy(&busy) {
            break busy;
        }
    };
    assert_eq!(busy["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(busy["sites"][0]["connections"], 1, "{busy}");
    assert_eq!(busy["sites"][0]["errors_per_second"], 0.0, "{busy}");
    assert!(busy["sites"][0]["p99_ms"].is_array(), "{busy}");
    assert!(busy["sites"][1]["p99_ms"].is_null(), "{busy}");
    assert!(busy["time"].is_u64() && busy["connections"].is_u64());
    drop(lines);
    assert!(top.wait().unwrap().success());
    // And once.
    let once = proxy.command(["top", "--json", "--once"]);
    assert!(once.status.success(), "{}", words_of(&once));
    let text = String::from_utf8(once.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let look: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(look["sites"].as_array().unwrap().len(), 2, "{text}");
}

/// `onedoor top` on a terminal, which `script` gives it: when it has drawn its screen, and what it has drawn.
fn top_on_a_terminal(proxy: &Proxy) -> (Child, ChildStdout, Vec<u8>) {
    let command = format!(
        "{} top --state {}",
        env!("CARGO_BIN_EXE_onedoor"),
        proxy.state().display()
    );
    let mut script = Command::new("script")
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut screen = script.stdout.take().unwrap();
    let mut seen = Vec::new();
    let mut part = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains("q ends") {
        let count = screen.read(&mut part).unwrap();
        assert!(count > 0, "it ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&part[..count]);
    }
    (script, screen, seen)
}

/// q ends it, and the terminal is as it was.
#[test]
fn top_is_drawn_on_a_terminal_until_q() {
    if !found("script") {
        return;
    }
    let proxy = Proxy::plan().site("a.toml", says("a.test", "x")).start();
    let (mut script, mut screen, mut seen) = top_on_a_terminal(&proxy);
    script.stdin.take().unwrap().write_all(b"q").unwrap();
    screen.read_to_end(&mut seen).unwrap();
    assert!(script.wait().unwrap().success());
    let text = String::from_utf8_lossy(&seen);
    assert!(
        text.contains("SITE") && text.contains("\x1b[?1049h"),
        "{text:?}"
    );
    assert!(
        text.trim_end().ends_with("\x1b[?25h\x1b[?1049l"),
        "{text:?}"
    );
}

#[test]
fn top_says_why_it_ends_where_that_can_be_read() {
    if !found("script") {
        return;
    }
    let mut proxy = Proxy::plan().site("a.toml", says("a.test", "x")).start();
    let (mut script, mut screen, mut seen) = top_on_a_terminal(&proxy);
    let _open = script.stdin.take();
    proxy.kill();
    screen.read_to_end(&mut seen).unwrap();
    assert_eq!(script.wait().unwrap().code(), Some(4));
    let text = String::from_utf8_lossy(&seen);
    let (_, after) = text.rsplit_once("\x1b[?1049l").expect(&text);
    assert!(after.contains("the daemon is not running"), "{text:?}");
}

#[test]
fn a_daemon_that_hangs_is_told_from_one_that_is_gone() {
    let proxy = Proxy::plan().site("a.toml", says("a.test", "x")).start();
    proxy.suspend();
    let output = proxy.command(["ls"]);
    proxy.signal(rustix::process::Signal::CONT);
    assert_eq!(output.status.code(), Some(4), "{}", words_of(&output));
    let words = words_of(&output);
    assert!(words.contains("has not answered within 10s"), "{words}");
}

/// The page as a browser makes it, after some looks.
fn rendered(address: SocketAddr, folder: &Folder, flags: &[&str]) -> String {
    let output = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--virtual-time-budget=6000",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("chromium").display()
        ))
        .args(flags)
        .arg(format!("http://{address}/"))
        .stderr(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_page_shows_sites_errors_and_events_in_a_browser() {
    if !found("chromium") {
        return;
    }
    let app = Backend::saying("hello");
    let plan = Proxy::plan()
        .site(
            "shop.toml",
            format!(
                "host = 'shop.test'\nto = {}\nnote = '<b>ask Ann</b>'\n",
                app.port
            ),
        )
        .site("blog.toml", "host = 'blog.test'\nupstream = 8081\nto = 1\n");
    let socket = plan.folder().join("no.sock");
    let dead = format!(
        "host = 'dead.test'\nto = 'unix:{}'\nhold = 'off'\n",
        socket.display()
    );
    let (proxy, address) = with_address(plan.site("dead.toml", dead));
    assert_eq!(proxy.get("dead.test", "/").said(), "502 backend-refused");
    for _ in 0..20 {
        proxy.get("shop.test", "/");
    }
    let folder = Folder::new();
    let page = rendered(address, &folder, &["--dump-dom"]);
    for part in [
        "shop.test",
        // As text and not as a tag.
        "&lt;b&gt;ask Ann&lt;/b&gt;",
        "did you mean \"to\"?",
        "upstream = 8081",
        "^^^^^^^^",
        &format!("localhost:{}", app.port),
        "2 live, 1 not, 1 in trouble",
        "<span class=\"badge warn\">live</span>",
        "no.sock does not accept connections: ",
        "site live",
        "aria-label=\"requests a second",
    ] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    assert!(
        page.contains("<p id=\"lost\" role=\"alert\"></p>"),
        "{page}"
    );
}

/// Speaks to a browser (Chrome DevTools Protocol): opens the page and says what it evaluates to, line by line.
const BROWSER: &str = r#"
import json, subprocess, sys
from websockets.sync.client import connect
folder, page = sys.argv[1:]
browser = subprocess.Popen(["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--remote-debugging-port=0", "--window-size=400,800", "--user-data-dir=" + folder, "about:blank"],
    stderr=subprocess.PIPE, text=True)
at = next(line for line in browser.stderr if "DevTools listening on" in line).split()[-1]
with connect(at, max_size=None) as socket:
    last = 0
    def say(method, session=None, **params):
        global last
        last += 1
        socket.send(json.dumps({"id": last, "method": method, "params": params, **({"sessionId": session} if session else {})}))
        while True:
            answer = json.loads(socket.recv())
            if answer.get("id") == last:
                return answer["result"]
    target = say("Target.createTarget", url="about:blank")["targetId"]
    session = say("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    say("Emulation.setEmulatedMedia", session, features=[{"name": "prefers-color-scheme", "value": "dark"}])
    say("Page.navigate", session, url=page)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.startswith("key "):
            for kind in ("keyDown", "keyUp"):
                say("Input.dispatchKeyEvent", session, type=kind, key=line[4:].strip(), code=line[4:].strip(), windowsVirtualKeyCode=9)
            print("null", flush=True)
            continue
        result = say("Runtime.evaluate", session, expression=line, returnByValue=True)
        print(json.dumps(result["result"].get("value")), flush=True)
browser.terminate()
browser.wait()
"#;

/// The page in a browser that goes on running.
struct Browser {
    driver: Child,
    said: BufReader<ChildStdout>,
}

impl Browser {
    fn open(address: SocketAddr, folder: &Folder) -> Browser {
        let mut driver = Command::new("python3")
            .args(["-c", BROWSER])
            .arg(folder.join("chromium"))
            .arg(format!("http://{address}/"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(driver.stdout.take().unwrap());
        let mut browser = Browser { driver, said };
        assert_eq!(browser.line(), "ready");
        browser
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// What an expression is on the page.
    fn say(&mut self, words: &str) -> Value {
        writeln!(self.driver.stdin.as_mut().unwrap(), "{words}").unwrap();
        serde_json::from_str(&self.line()).unwrap()
    }

    #[track_caller]
    fn until(&mut self, reason: &str, expression: &str) {
        until(reason, || self.say(expression) == true);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // At the end of its orders it ends the browser.
        drop(self.driver.stdin.take());
        drop(self.driver.wait());
    }
}

#[test]
fn the_page_moves_and_leaves_its_reader_in_peace() {
    if !found("chromium") || !has_package("websockets") {
        return;
    }
    let plan = Proxy::plan()
        .site("blog.toml", says("blog.test", "x"))
        .site("bad.toml", format!("upstream = 1 # {}\n", "x".repeat(300)));
    let (proxy, address) = with_address(plan);
    let folder = Folder::new();
    let mut browser = Browser::open(address, &folder);
    browser.until(
        "both are drawn",
        "!!document.querySelector('#sites pre') && document.body.innerText.includes('blog.test')",
    );
    // In the dark it is dark.
    let dark =
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(part => part < 64)";
    assert_eq!(browser.say(dark), true);
    // By keyboard one gets to the only thing that can be typed into, and sees where one is.
    browser.say("key Tab");
    assert_eq!(browser.say("document.activeElement.id"), "filter");
    assert_eq!(
        browser.say("getComputedStyle(document.activeElement).outlineStyle"),
        "solid"
    );
    // Somebody has scrolled and selected; then requests are answered and a site is added.
    browser.say("window.readRow = document.querySelector('#sites pre').closest('tr'); window.readPre = readRow.querySelector('pre')");
    browser.say("readPre.scrollLeft = 40; getSelection().selectAllChildren(readPre); window.chosen = getSelection().toString()");
    let rate = "[...document.querySelectorAll('#sites tr')].find(row => row.innerText.includes('blog.test')).querySelectorAll('td.number')[1].textContent";
    until("requests move on the page", || {
        for _ in 0..20 {
            proxy.get("blog.test", "/");
        }
        let rate = browser.say(rate);
        rate.as_str()
            .is_some_and(|rate| !matches!(rate, "" | "0.0"))
    });
    assert!(
        browser
            .say("document.querySelector('#sites svg').getAttribute('aria-label')")
            .is_string()
    );
    proxy.site("new.toml", says("new.test", "x"));
    browser.until(
        "a site appears by itself",
        "document.body.innerText.includes('new.test')",
    );
    assert_eq!(
        browser.say("readRow.isConnected && readPre.isConnected"),
        true
    );
    assert_eq!(browser.say("readPre.scrollLeft"), 40);
    assert_eq!(
        browser.say("chosen.length > 20 && getSelection().toString() === chosen"),
        true
    );
    assert_eq!(browser.say("document.activeElement.id"), "filter");
    // And what has changed is drawn anew.
    proxy.sites().write("bad.toml", says("bad.test", "x"));
    browser.until(
        "its error goes away",
        "!document.querySelector('#sites pre')",
    );
    proxy.sites().remove("new.toml");
    browser.until(
        "a site goes away by itself",
        "!document.querySelector('#sites').innerText.includes('new.test')",
    );
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let (_proxy, address) = with_address(Proxy::plan());
    let (head, page) = get(address, "/");
    assert!(
        head.contains("Content-Security-Policy: default-src 'none'"),
        "{head}"
    );
    for part in [
        "src=",
        "href=",
        "url(",
        "@import",
        "innerHTML",
        "http-equiv",
    ] {
        assert!(!page.contains(part), "{part}");
    }
    // Addresses of namespaces are names, and nobody fetches them.
    assert!(
        !page
            .replace("http://www.w3.org/2000/svg", "")
            .contains("http://")
    );
    assert!(page.contains("<html lang=\"en\">") && page.contains("prefers-color-scheme: dark"));
}
