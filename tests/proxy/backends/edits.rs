use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{Gate, plan, under_way};
use crate::harness::{Backend, Client, Proxy, Random, free_port, until};

fn site(port: u16, rest: &str) -> String {
    format!("host = 'app.test'\nto = {port}\n{rest}\n")
}

#[test]
fn the_old_backend_answers_until_a_new_one_has_and_never_after() {
    let old = Backend::saying("old");
    let port = free_port();
    let proxy = plan(format!("to = {}", old.port)).start();
    assert_eq!(proxy.get("app.test", "/").text(), "old");
    proxy.site("app.toml", site(port, "hold = '1h'"));
    for _ in 0..3 {
        assert_eq!(proxy.get("app.test", "/").text(), "old");
    }
    let new = Backend::saying_on_port(port, "new");
    for _ in 0..3 {
        assert_eq!(proxy.get("app.test", "/").text(), "new");
    }
    drop(new);
    let before = old.requests().len();
    let waiting = under_way(&proxy, 3);
    until("they are held", || proxy.counters()["open"] == 3);
    let new = Backend::saying_on_port(port, "new again");
    for request in waiting {
        assert_eq!(request.join().unwrap(), "new again");
    }
    assert_eq!(old.requests().len(), before);
    drop(new);
}

#[test]
fn the_old_backend_answers_only_while_requests_are_held() {
    let old = Backend::saying("old");
    let proxy = plan(format!("to = {}", old.port)).start();
    proxy.site("app.toml", site(free_port(), "hold = '1s'"));
    assert_eq!(proxy.get("app.test", "/").text(), "old");
    proxy.until_answer("app.test", "the time is over", |answer| {
        answer.said() == "502 backend-refused"
    });
}

#[test]
fn fallback_can_be_turned_off() {
    let old = Backend::saying("old");
    let proxy = plan(format!("to = {}", old.port)).start();
    proxy.site(
        "app.toml",
        site(free_port(), "hold = '100ms'\nfallback = false"),
    );
    assert_eq!(proxy.get("app.test", "/").said(), "502 backend-refused");
    assert_eq!(old.requests().len(), 0);
}

#[test]
fn what_another_site_names_is_never_fallen_back_to() {
    let old = Backend::saying("old");
    let proxy = plan(format!("to = {}", old.port))
        .site(
            "other.toml",
            format!("host = 'other.test'\nto = '127.0.0.1:{}'", old.port),
        )
        .start();
    proxy.site("app.toml", site(free_port(), "hold = '1s'"));
    assert_eq!(proxy.get("app.test", "/").said(), "502 backend-refused");
    assert_eq!(old.requests().len(), 0);
    // Nor while it is held: the other site lets go, and it is nobody's.
    proxy.site("app.toml", site(free_port(), "hold = '1h'"));
    proxy.sites().remove("other.toml");
    proxy.wait_gone("other.toml");
    assert_eq!(proxy.get("app.test", "/").text(), "old");
}

#[test]
fn another_way_of_speaking_to_the_same_place_is_not_taken_back() {
    // Two line feeds in a hello, and it has over a thousand random bytes, are the end of a head to the app.
    let is_clear = |head: &str| head.starts_with("GET ");
    let app = Backend::doing(move |conversation| {
        while let Some(request) = conversation.request() {
            if is_clear(&request.head) {
                conversation.answer("in clear text");
            }
        }
    });
    let proxy = plan(format!("to = {}", app.port)).start();
    let secured = format!(
        "host = 'app.test'\nto = {{ at = 'https://localhost:{}', verify = 'off' }}\n[timeout]\nconnect = '500ms'",
        app.port
    );
    proxy.site("app.toml", secured);
    assert_eq!(proxy.get("app.test", "/").said(), "504 backend-timeout");
    assert!(!app.requests().iter().any(|request| is_clear(&request.head)));
}

#[test]
fn the_same_content_under_another_name_has_no_gap() {
    let app = Backend::saying("app");
    let proxy = plan(format!("to = {}", app.port)).start();
    let is_over = Arc::new(AtomicBool::new(false));
    let visitor = {
        let (address, is_over) = (proxy.address(), is_over.clone());
        thread::spawn(move || {
            let mut count = 0;
            let mut client = Client::connect(address);
            while !is_over.load(Ordering::SeqCst) {
                assert_eq!(client.get("app.test", "/").text(), "app");
                count += 1;
            }
            count
        })
    };
    for (from, to) in [("app.toml", "shop.toml"), ("shop.toml", "app.toml")] {
        proxy.sites().rename(from, to);
        proxy.wait_for(to);
        proxy.wait_gone(from);
    }
    is_over.store(true, Ordering::SeqCst);
    assert!(visitor.join().unwrap() > 0);
}

#[test]
fn wait_drained_returns_when_nothing_is_left_on_former_backends() {
    let old = Gate::new("old");
    let new = Backend::saying("new");
    let proxy = plan(format!("to = {}", old.app.port)).start();
    let wait = |time: &str| {
        let output = proxy.command(["wait", "app", "--drained", "--timeout", time]);
        output.status.code()
    };
    assert_eq!(wait("30s"), Some(0), "nothing was ever left");
    let asking = under_way(&proxy, 2);
    old.app.until_requests(2);
    assert_eq!(wait("30s"), Some(0), "its file names it");
    proxy.site("app.toml", site(new.port, ""));
    assert_eq!(proxy.get("app.test", "/").text(), "new");
    assert_eq!(wait("300ms"), Some(3));
    old.let_answer(1);
    assert_eq!(wait("300ms"), Some(3));
    old.let_answer(1);
    assert_eq!(wait("30s"), Some(0));
    for request in asking {
        assert_eq!(request.join().unwrap(), "old");
    }
}

#[test]
fn wait_drained_counts_tunnels_and_sites_that_are_gone() {
    let app = Backend::upgrading();
    let proxy = plan(format!("to = {}\ndrain = '1h'", app.port)).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
    assert_eq!(client.response_head().status, 101);
    proxy.sites().remove("app.toml");
    proxy.wait_gone("app.toml");
    let wait = |time: &str| {
        let output = proxy.command(["wait", "app", "--drained", "--timeout", time]);
        output.status.code()
    };
    assert_eq!(wait("300ms"), Some(3));
    drop(client);
    assert_eq!(wait("30s"), Some(0));
}

/// Sites are edited at random, among backends of which some are there. Whoever answers is one that the site's file names,
/// or, while those refuse, one that it named before and that no other site names.
#[test]
fn no_backend_of_another_site_is_ever_used() {
    const SITES: usize = 4;
    let seed = Random::seeded_by("ONEDOOR_SEED", 20_26);
    println!("ONEDOOR_SEED={seed}");
    let mut random = Random::new(seed);
    let mut apps: Vec<(u16, Option<Backend>)> = (0..7)
        .map(|_| {
            let port = free_port();
            (port, Some(Backend::saying_on_port(port, &port.to_string())))
        })
        .collect();
    let proxy = Proxy::plan().flag("--workers=1").start();
    let mut named: Vec<Vec<u16>> = vec![Vec::new(); SITES];
    let mut ever: Vec<Vec<u16>> = vec![Vec::new(); SITES];
    let mut fell_back = 0;
    for _ in 0..60 {
        if random.in_percent(40) {
            let (port, app) = &mut apps[random.below(7)];
            *app = match app.take() {
                Some(_) => None,
                None => Some(Backend::saying_on_port(*port, &port.to_string())),
            };
        }
        let edited = random.below(SITES);
        let mut ports: Vec<u16> = (0..1 + random.below(2))
            .map(|_| apps[random.below(7)].0)
            .collect();
        ports.dedup();
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        let text = format!(
            "host = 'site{edited}.test'\nto = [{}]\nhold = '50ms'",
            list.join(", ")
        );
        proxy.site(&format!("site{edited}.toml"), text);
        ever[edited].extend(&named[edited]);
        named[edited] = ports;
        for site in 0..SITES {
            let answer = proxy.get(&format!("site{site}.test"), "/");
            let Ok(by) = answer.text().parse::<u16>() else {
                let said = answer.said();
                let nobody = ["502 backend-refused", "421 no-site-for-host"];
                assert!(nobody.contains(&&*said), "{said}");
                continue;
            };
            if named[site].contains(&by) {
                continue;
            }
            fell_back += 1;
            assert!(ever[site].contains(&by), "site {site} never named {by}");
            let others = (0..SITES).filter(|other| *other != site);
            for other in others {
                assert!(!named[other].contains(&by), "{by} is of site {other}");
            }
        }
    }
    assert!(fell_back > 0, "the case occurs");
}
