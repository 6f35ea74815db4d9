//! Clients that vanish, and backends: in every phase, by the hundred, and nothing of them is left.

use std::thread;

use crate::harness::{Backend, Client, Proxy, until};

/// How many vanish in each phase.
const MANY: usize = 500;
/// How many of them at once.
const AT_ONCE: usize = 50;

/// An app for every phase: half a response, none at all, an echo behind an upgrade, or `hello`.
fn app() -> Backend {
    Backend::doing(|conversation| {
        while let Some((_, head)) = conversation.request_head() {
            match head.target() {
                "/half" => {
                    conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf");
                    conversation.rest();
                    return;
                }
                "/never" | "/upload" => {
                    conversation.rest();
                    return;
                }
                "/upgrade" => {
                    conversation.send(
                        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
                    );
                    return conversation.echo();
                }
                _ => conversation.answer("hello"),
            }
        }
    })
}

/// Brings [`MANY`] clients to a point with `begin`, lets them vanish with `vanish`, and asks that nothing is left of
/// them: no slot, no socket, no connection of the backend, and that the next client is served.
fn nothing_is_left_of(begin: impl Fn(&mut Client), vanish: impl Fn(Client)) {
    let app = app();
    let site = format!(
        "host = 'app.test'\nto = {}\n[timeout]\npool_idle = '300ms'",
        app.port
    );
    let proxy = Proxy::plan().site("app.toml", site).start();
    let hello = || proxy.get("app.test", "/").text();
    assert_eq!(hello(), "hello");
    let is_quiet = || proxy.counters()["open"] == 0 && app.accepted() == app.closed();
    until("it is quiet before", is_quiet);
    let (before, memory) = (proxy.sockets(), proxy.peak_memory());
    for _ in 0..MANY / AT_ONCE {
        let mut clients: Vec<Client> = (0..AT_ONCE).map(|_| proxy.client()).collect();
        clients.iter_mut().for_each(&begin);
        clients.into_iter().for_each(&vanish);
    }
    until("it is quiet after", is_quiet);
    // Before, somebody who had asked for the counters may still have been there.
    until("no socket is left", || proxy.sockets() <= before);
    assert_eq!(hello(), "hello");
    let more = proxy.peak_memory() - memory;
    assert!(
        more < 16 << 20,
        "{more} bytes more for {AT_ONCE} clients at once"
    );
}

fn reset(client: Client) {
    client.reset();
}

#[test]
fn clients_that_connect_and_reset() {
    nothing_is_left_of(|_| {}, reset);
}

#[test]
fn clients_that_reset_in_the_middle_of_a_head() {
    nothing_is_left_of(
        |client| client.send("GET / HTTP/1.1\r\nHost: app.te"),
        reset,
    );
}

#[test]
fn clients_that_reset_in_the_middle_of_a_body() {
    let begin = |client: &mut Client| {
        client.send("POST /upload HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000\r\n\r\nhalf");
    };
    nothing_is_left_of(begin, reset);
}

#[test]
fn clients_that_reset_in_the_middle_of_a_chunk() {
    let begin = |client: &mut Client| {
        client.send(
            "POST /upload HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nha",
        );
    };
    nothing_is_left_of(begin, reset);
}

#[test]
fn clients_that_reset_while_they_wait_for_a_response() {
    nothing_is_left_of(
        |client| client.send("GET /never HTTP/1.1\r\nHost: app.test\r\n\r\n"),
        reset,
    );
}

fn to_the_middle_of_a_response(client: &mut Client) {
    client.send("GET /half HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.response_head().status, 200);
    assert_eq!(client.bytes(4), b"half");
}

#[test]
fn clients_that_reset_in_the_middle_of_a_response() {
    nothing_is_left_of(to_the_middle_of_a_response, reset);
}

#[test]
fn clients_that_close_in_the_middle_of_a_response() {
    nothing_is_left_of(to_the_middle_of_a_response, drop);
}

#[test]
fn clients_that_reset_between_two_requests() {
    let begin = |client: &mut Client| assert_eq!(client.get("app.test", "/").text(), "hello");
    nothing_is_left_of(begin, reset);
}

fn to_the_middle_of_a_tunnel(client: &mut Client) {
    client.send(
        "GET /upgrade HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
    );
    assert_eq!(client.response_head().status, 101);
    client.send("ping");
    assert_eq!(client.bytes(4), b"ping");
}

#[test]
fn clients_that_reset_in_a_tunnel() {
    nothing_is_left_of(to_the_middle_of_a_tunnel, reset);
}

#[test]
fn clients_that_half_close_in_a_tunnel_and_are_gone() {
    let vanish = |mut client: Client| {
        client.finish_sending();
        client.reset();
    };
    nothing_is_left_of(to_the_middle_of_a_tunnel, vanish);
}

#[test]
fn clients_that_half_close_and_wait() {
    let begin = |client: &mut Client| {
        client.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
    };
    nothing_is_left_of(begin, |mut client: Client| {
        client.finish_sending();
        drop(client.rest());
    });
}

#[test]
fn backends_that_reset_in_every_phase_leave_nothing_either() {
    let app = Backend::doing(|conversation| {
        let number = conversation.number();
        if number % 4 == 0 {
            return conversation.reset();
        }
        let Some((_, head)) = conversation.request_head() else {
            return;
        };
        if number % 4 == 1 {
            return conversation.reset();
        }
        if head.target() == "/upgrade" {
            conversation.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhi",
            );
        } else {
            conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf");
        }
        conversation.reset();
    });
    let site = format!("host = 'app.test'\nto = {}", app.port);
    let proxy = Proxy::plan().site("app.toml", site).start();
    drop(proxy.client().try_send("x"));
    until("it is quiet before", || proxy.counters()["open"] == 0);
    let before = proxy.sockets();
    thread::scope(|scope| {
        for number in 0..4 {
            let (proxy, target) = (&proxy, if number % 2 == 0 { "/" } else { "/upgrade" });
            scope.spawn(move || {
                for _ in 0..MANY / 4 {
                    let mut client = proxy.client();
                    client.send(format!(
                        "GET {target} HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
                    ));
                    // A 502, half of a body, or two bytes of a tunnel: never anything that looks whole.
                    if let Ok(response) = client.try_response("GET") {
                        assert!(matches!(response.status, 101 | 502), "{response:?}");
                    }
                }
            });
        }
    });
    until("it is quiet after", || proxy.counters()["open"] == 0);
    // Before, somebody who had asked for the counters may still have been there.
    until("no socket is left", || proxy.sockets() <= before);
}
