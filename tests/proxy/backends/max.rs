use std::sync::atomic::Ordering;

use super::{Gate, plan, under_way};
use crate::harness::{Proxy, until};

#[test]
fn a_backend_sees_no_more_than_its_max_at_once_and_the_others_wait_in_line() {
    let gate = Gate::new("app");
    let proxy = plan(format!("to = {{ at = {}, max = 2 }}", gate.app.port)).start();
    let mut waiting = Vec::new();
    for count in 1..=6 {
        waiting.extend(under_way(&proxy, 1));
        if count <= 2 {
            gate.app.until_requests(count);
        }
    }
    for answered in 1..=6 {
        gate.let_answer(1);
        gate.app.until_requests((answered + 2).min(6));
    }
    for request in waiting {
        assert_eq!(request.join().unwrap(), "app");
    }
    assert_eq!(gate.most.load(Ordering::SeqCst), 2);
}

#[test]
fn who_came_first_has_its_turn_first() {
    let gate = Gate::new("app");
    let proxy = plan(format!("to = {{ at = {}, max = 1 }}", gate.app.port)).start();
    let mut clients = Vec::new();
    for number in 0..4 {
        let mut client = proxy.client();
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
        if number == 0 {
            gate.app.until_requests(1);
        } else {
            // On one worker requests are taken up in the order of coming.
            until("it has come", || {
                proxy.counters()["connections"].as_u64().unwrap() > number
            });
        }
        clients.push(client);
    }
    gate.let_answer(4);
    for client in &mut clients {
        assert_eq!(client.response().text(), "app");
    }
    let order = gate.app.requests();
    let order: Vec<&str> = order.iter().map(|request| request.target()).collect();
    assert_eq!(order, ["/0", "/1", "/2", "/3"]);
}

#[test]
fn the_max_holds_over_all_workers() {
    let gate = Gate::new("app");
    let proxy = Proxy::plan()
        .flag("--workers=4")
        .site(
            "app.toml",
            format!(
                "host = 'app.test'\nto = {{ at = {}, max = 3 }}",
                gate.app.port
            ),
        )
        .start();
    let waiting = under_way(&proxy, 24);
    gate.app.until_requests(3);
    gate.let_answer(24);
    for request in waiting {
        assert_eq!(request.join().unwrap(), "app");
    }
    assert_eq!(gate.most.load(Ordering::SeqCst), 3);
}

#[test]
fn a_full_line_is_503_and_so_is_a_turn_that_does_not_come() {
    let gate = Gate::new("app");
    let proxy = plan(format!(
        "to = {{ at = {}, max = 1 }}\n[limit]\nqueue = 1\n[timeout]\nqueue = '300ms'",
        gate.app.port
    ))
    .start();
    let first = under_way(&proxy, 1);
    gate.app.until_requests(1);
    let others: Vec<String> = under_way(&proxy, 2)
        .into_iter()
        .map(|request| request.join().unwrap())
        .collect();
    assert!(
        others.contains(&"503 queue-timeout".to_owned()),
        "{others:?}"
    );
    assert!(others.contains(&"503 queue-full".to_owned()), "{others:?}");
    let answer = proxy.get("app.test", "/");
    assert_eq!(answer.said(), "503 queue-timeout");
    assert_eq!(answer.value("retry-after"), "1");
    gate.let_answer(1);
    for request in first {
        assert_eq!(request.join().unwrap(), "app");
    }
}

/// Each client has an upstream of its own, which is no right to a turn.
#[test]
fn the_max_holds_for_upstreams_that_are_one_client_s_alone() {
    let gate = Gate::new("app");
    let proxy = plan(format!(
        "to = {{ at = {}, max = 1 }}\nsend_proxy = 'v1'\n[limit]\nqueue = 1",
        gate.app.port
    ))
    .start();
    let get = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let (mut one, mut two) = (proxy.client(), proxy.client());
    gate.let_answer(2);
    for client in [&mut one, &mut two] {
        client.send(get);
        assert_eq!(client.response().text(), "app");
    }
    one.send(get);
    gate.app.until_requests(3);
    two.send(get);
    proxy.until_answer("app.test", "the second one waits", |answer| {
        answer.said() == "503 queue-full"
    });
    gate.let_answer(2);
    for client in [&mut one, &mut two] {
        assert_eq!(client.response().text(), "app");
    }
    assert_eq!(gate.most.load(Ordering::SeqCst), 1);
}

#[test]
fn a_path_whose_backends_have_all_they_take_keeps_nobody_from_those_of_another() {
    let (busy, idle) = (Gate::new("busy"), Gate::new("idle"));
    let proxy = plan(format!(
        "[[path]]\nmatch = '/'\nto = {{ at = {}, max = 1 }}\n\
         [[path]]\nmatch = '/idle'\nto = {{ at = {}, max = 1 }}\n[limit]\nqueue = 2\n",
        busy.app.port, idle.app.port
    ))
    .start();
    let mut waiting = under_way(&proxy, 1);
    busy.app.until_requests(1);
    waiting.extend(under_way(&proxy, 3));
    // For the third there is no room, so two of them wait.
    until("the line is full", || {
        waiting.iter().any(|request| request.is_finished())
    });
    for _ in 0..10 {
        idle.let_answer(1);
        assert_eq!(proxy.get("app.test", "/idle").text(), "idle");
    }
    busy.let_answer(3);
    let said: Vec<String> = waiting.into_iter().map(|r| r.join().unwrap()).collect();
    let full = said.iter().filter(|said| *said == "503 queue-full");
    assert_eq!(full.count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|said| *said == "busy").count(), 3);
}
