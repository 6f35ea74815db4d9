//! The descriptors of the process: raised, shared out, and never all of them gone.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Backend, Client, Plan, Proxy, found, until};
use crate::http2_apps;

/// A proxy that may have this many descriptors, `soft:hard`. `None`: the test is left out.
fn with_descriptors(count: &str, app: &Backend) -> Option<Plan> {
    with_descriptors_and(2, count, app)
}

fn with_descriptors_and(workers: usize, count: &str, app: &Backend) -> Option<Plan> {
    if !found("prlimit") {
        return None;
    }
    let flag = format!("--nofile={count}");
    let plan = Proxy::plan()
        .under(["prlimit", &flag])
        .flag(format!("--workers={workers}"))
        .daemon_file("[limit]\nconnections = 1000\n[defaults]\nlimit.connections = 1000\n")
        .site("app.toml", format!("host = 'app.test'\nto = {}", app.port));
    Some(plan)
}

fn ask(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    client
}

/// The limit the process has set itself.
fn soft_limit(proxy: &Proxy) -> String {
    let limits = fs::read_to_string(format!("/proc/{}/limits", proxy.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    line.unwrap().split_whitespace().nth(3).unwrap().to_string()
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one_and_enough_is_not_lowered() {
    let app = Backend::saying("x");
    let Some(plan) = with_descriptors("64:4096", &app) else {
        return;
    };
    let proxy = plan.start();
    assert_eq!(soft_limit(&proxy), "4096");
    assert_eq!(proxy.get("app.test", "/").text(), "x");
    assert!(!proxy.log().contains("descriptors"), "{}", proxy.log());
}

#[test]
fn more_connections_than_descriptors_allow_are_lowered_and_it_says_so() {
    let app = Backend::saying("x");
    let Some(plan) = with_descriptors("64:64", &app) else {
        return;
    };
    let proxy = plan.start();
    proxy.until_logged("[limit] connections is more than the file descriptors allow");
    // More than fit: the door must neither stop nor spin, and serve again when there is room.
    let open: Vec<_> = (0..100).map(|_| proxy.client()).collect();
    drop(open);
    until("it serves again", || {
        let mut client = proxy.client();
        client
            .stream()
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        client
            .try_send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            .is_ok()
            && client
                .try_response("GET")
                .is_ok_and(|response| response.status == 200)
    });
}

#[test]
fn idle_connections_to_apps_of_http_2_are_given_up_at_once_for_what_needs_them() {
    const IDLE: usize = 60;
    const WAITING: usize = 30;
    let app = Backend::silent();
    // Each worker has its own.
    let Some(mut plan) = with_descriptors_and(1, "4096:4096", &app) else {
        return;
    };
    let others: Vec<_> = (0..IDLE).map(|_| http2_apps::answering()).collect();
    for (number, other) in others.iter().enumerate() {
        let text = format!(
            "host = 'a{number}.test'\nto = 'h2c://127.0.0.1:{}'",
            other.backend.port
        );
        plan = plan.site(&format!("a{number}.toml"), text);
    }
    let proxy = plan.start();
    for number in 0..IDLE {
        let answer = proxy.get(&format!("a{number}.test"), "/");
        assert_eq!(answer.text(), "app");
    }
    // From now on it has fewer: each request needs two.
    let left = IDLE + 40;
    assert!(proxy.descriptors().len() + 2 * WAITING > left);
    let lowered = Command::new("prlimit")
        .arg(format!("--nofile={left}:{left}"))
        .args(["--pid", &proxy.id().to_string()])
        .status();
    assert!(lowered.unwrap().success());
    let _open: Vec<Client> = (0..WAITING).map(|_| ask(&proxy)).collect();
    app.until_requests(WAITING);
}

#[test]
fn with_all_connections_in_use_there_are_descriptors_for_everything_else() {
    let app = Backend::silent();
    let Some(plan) = with_descriptors("256:256", &app) else {
        return;
    };
    let proxy = plan.start();
    proxy.until_logged("connections=");
    let log = proxy.log();
    let (_, said) = log.split_once(" connections=").unwrap();
    let most: usize = said.split_whitespace().next().unwrap().parse().unwrap();
    assert!(most > 50, "{log}");
    // Each needs two; those beyond the limit wait in vain.
    let open: Vec<Client> = (0..most + 20).map(|_| ask(&proxy)).collect();
    app.until_requests(most);
    proxy.until_logged("new ones wait");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", proxy.id()))
        .unwrap()
        .count();
    assert!(descriptors < 256 - 16, "{descriptors} of 256");
    proxy.site("red/new.toml", "host = 'new.test'\nrespond = 'new'");
    assert_eq!(proxy.state_of("red/new"), "live");
    assert_eq!(app.requests().len(), most);
    assert!(!proxy.log().contains("cannot accept"), "{}", proxy.log());
    drop(open);
    assert_eq!(proxy.get("new.test", "/").text(), "new");
}
