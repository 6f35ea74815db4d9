use std::collections::BTreeMap;

use super::{Gate, answers, plan, under_way};
use crate::harness::{Backend, Proxy, free_port};

#[test]
fn weights_of_round_robin_are_exact() {
    let (one, two, three) = (
        Backend::saying("one"),
        Backend::saying("two"),
        Backend::saying("three"),
    );
    let proxy = plan(format!(
        "to = [{{ at = {}, weight = 5 }}, {}, {{ at = {}, weight = 2 }}]\nbalance = 'round-robin'",
        one.port, two.port, three.port
    ))
    .start();
    let counts = answers(&proxy, 80, ["one", "two", "three"]);
    assert_eq!(counts, [50, 10, 20]);
}

#[test]
fn two_rules_with_the_same_backends_have_turns_of_their_own() {
    let (one, two) = (Backend::saying("one"), Backend::saying("two"));
    let to = format!("to = [{}, {}]\n", one.port, two.port);
    let proxy = plan(format!(
        "{to}balance = 'round-robin'\n[[path]]\nmatch = '/a'\n{to}[[path]]\nmatch = '/b'\n{to}"
    ))
    .start();
    let mut client = proxy.client();
    let mut counts = BTreeMap::new();
    // With turns in common the first two would be at one backend each.
    for _ in 0..10 {
        for path in ["/", "/a", "/b", "/b"] {
            let text = client.get("app.test", path).text();
            *counts.entry((path, text)).or_insert(0) += 1;
        }
    }
    for (path, count) in [("/", 5), ("/a", 5), ("/b", 10)] {
        for text in ["one", "two"] {
            assert_eq!(counts[&(path, text.to_owned())], count, "{counts:?}");
        }
    }
}

#[test]
fn each_backend_gets_its_share_when_nothing_is_said() {
    let (one, two) = (Backend::saying("one"), Backend::saying("two"));
    let proxy = plan(format!("to = [{}, {}]", one.port, two.port)).start();
    let [one, two] = answers(&proxy, 400, ["one", "two"]);
    // Five standard deviations of 400 tosses: once in two million runs.
    assert!((150..=250).contains(&one), "{one} and {two}");
}

#[test]
fn the_backend_with_fewer_requests_in_flight_is_asked() {
    let (slow, quick) = (Gate::new("slow"), Backend::saying("quick"));
    let proxy = plan(format!("to = [{}, {}]", slow.app.port, quick.port)).start();
    // As many as it takes until one is with the slow one.
    let mut waiting = Vec::new();
    while slow.app.requests().is_empty() {
        waiting.extend(under_way(&proxy, 1));
        crate::harness::until("somebody is asked", || {
            slow.app.requests().len() + quick.requests().len() >= waiting.len()
        });
    }
    assert_eq!(answers(&proxy, 50, ["slow", "quick"]), [0, 50]);
    slow.let_answer(1);
    for request in waiting {
        request.join().unwrap();
    }
}

#[test]
fn a_drained_backend_is_sent_nobody() {
    let (one, two) = (Backend::saying("one"), Backend::saying("two"));
    let site = |weight: u32| {
        format!(
            "to = [{{ at = {}, weight = {weight} }}, {}]",
            one.port, two.port
        )
    };
    let proxy = plan(site(0)).start();
    assert_eq!(answers(&proxy, 40, ["one", "two"]), [0, 40]);
    proxy.site("app.toml", format!("host = 'app.test'\n{}", site(1)));
    assert!(answers(&proxy, 60, ["one", "two"])[0] > 0);
    let all_drained = format!(
        "host = 'app.test'\nto = {{ at = {}, weight = 0 }}",
        one.port
    );
    proxy.site("app.toml", all_drained);
    let answer = proxy.get("app.test", "/");
    assert_eq!(answer.said(), "503 no-backend-fit");
    assert_eq!(answer.value("retry-after"), "1");
}

#[test]
fn a_backup_is_asked_only_when_no_other_is_fit() {
    let port = free_port();
    let app = Backend::saying_on_port(port, "app");
    let spare = Backend::saying("spare");
    let proxy = plan(format!(
        "to = [{port}, {{ at = {}, backup = true }}]",
        spare.port
    ))
    .start();
    assert_eq!(answers(&proxy, 20, ["app", "spare"]), [20, 0]);
    drop(app);
    assert_eq!(answers(&proxy, 20, ["app", "spare"]), [0, 20]);
    let app = Backend::saying_on_port(port, "app");
    proxy.until_answer("app.test", "it is back", |answer| answer.text() == "app");
    drop(app);
}

/// Which backend answers for each of these values of X-User.
fn by_user(proxy: &Proxy, users: std::ops::Range<usize>) -> BTreeMap<usize, String> {
    let mut client = proxy.client();
    let answers = users.map(|user| {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: app.test\r\nX-User: {user}\r\n\r\n"
        ));
        (user, client.response().text())
    });
    answers.collect()
}

#[test]
fn a_hashed_value_goes_to_the_same_backend_on_all_workers_and_after_reloads() {
    let apps = ["a", "b", "c", "d", "e"].map(|name| (name, Backend::saying(name)));
    let site = |count: usize| {
        let ports: Vec<String> = apps[..count]
            .iter()
            .map(|(_, app)| app.port.to_string())
            .collect();
        format!(
            "host = 'app.test'\nto = [{}]\nbalance = 'hash:header:X-User'",
            ports.join(", ")
        )
    };
    let proxy = Proxy::plan()
        .flag("--workers=3")
        .site("app.toml", site(4))
        .start();
    let before = by_user(&proxy, 0..300);
    // Other connections are other workers'.
    for _ in 0..8 {
        assert_eq!(
            by_user(&proxy, 0..60),
            before.clone().into_iter().take(60).collect()
        );
    }
    proxy.site("app.toml", site(4) + "\nnote = 'edited'");
    assert_eq!(by_user(&proxy, 0..300), before);
    proxy.site("app.toml", site(5));
    let after = by_user(&proxy, 0..300);
    let moved: Vec<_> = after
        .iter()
        .filter(|(user, at)| before[*user] != **at)
        .collect();
    assert!(moved.iter().all(|(_, at)| *at == "e"), "{moved:?}");
    // A fifth of them; five standard deviations are 35.
    assert!((25..=95).contains(&moved.len()), "{} of 300", moved.len());
}

#[test]
fn cookies_paths_and_addresses_are_hashed_too() {
    let (one, two) = (Backend::saying("one"), Backend::saying("two"));
    let site = |by: &str| {
        format!(
            "host = 'app.test'\nto = [{}, {}]\nbalance = 'hash:{by}'",
            one.port, two.port
        )
    };
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", site("ip"))
        .start();
    let mut client = proxy.client();
    let first = client.get("app.test", "/").text();
    assert!((0..20).all(|_| client.get("app.test", "/").text() == first));
    proxy.site("app.toml", site("path"));
    let by_path = |client: &mut crate::harness::Client| -> Vec<String> {
        let paths = (0..20).map(|n| format!("/{n}?{n}"));
        paths
            .map(|path| client.get("app.test", &path).text())
            .collect()
    };
    let paths = by_path(&mut client);
    assert_eq!(by_path(&mut client), paths);
    assert!(paths.contains(&"one".to_owned()) && paths.contains(&"two".to_owned()));
    proxy.site("app.toml", site("cookie:uid"));
    let mut seen = Vec::new();
    for user in 0..20 {
        let ask = format!("GET / HTTP/1.1\r\nHost: app.test\r\nCookie: a=b; uid={user}\r\n\r\n");
        let mut ask_once = || {
            client.send(&ask);
            client.response().text()
        };
        let at = ask_once();
        assert_eq!(ask_once(), at);
        seen.push(at);
    }
    assert!(seen.contains(&"one".to_owned()) && seen.contains(&"two".to_owned()));
}

#[test]
fn two_that_refuse_are_passed_over_for_one_that_does_not() {
    let app = Backend::saying("app");
    let proxy = plan(format!(
        "to = [{}, {}, {}]",
        free_port(),
        free_port(),
        app.port
    ))
    .start();
    assert_eq!(answers(&proxy, 30, ["app"]), [30]);
}

#[test]
fn a_thousand_sites_on_one_backend_share_its_upstreams() {
    let app = Backend::saying("app");
    let plan = Proxy::plan();
    for number in 0..1_000 {
        let text = format!("host = 'site{number}.test'\nto = {}", app.port);
        plan.sites().write(&format!("site{number}.toml"), text);
    }
    let proxy = plan.flag("--workers=2").start();
    let mut random = crate::harness::Random::new(5);
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    let mut ask = |times: usize| {
        for _ in 0..times {
            let host = format!("site{}.test", random.below(1_000));
            assert_eq!(clients[random.below(4)].get(&host, "/").text(), "app");
        }
    };
    ask(100);
    let before = app.accepted();
    ask(2_000);
    let connects = app.accepted() - before;
    assert!(connects < 40, "{connects} connects for 2,000 requests");
}
