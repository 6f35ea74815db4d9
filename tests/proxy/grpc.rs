//! gRPC from end to end, with the client and the server that people use (CASES G-01 to G-08).

use crate::harness::{Authority, Plan, Proxy, Script, has_package, put, until};

/// Whether Python has what these tests need.
fn has_grpc() -> bool {
    has_package("grpc")
}

fn app() -> (Script, u16) {
    Script::serve("grpc/server.py", &[])
}

fn in_front_of(port: u16) -> Plan {
    Proxy::plan().site(
        "app.toml",
        format!("host = 'grpc.test'\nto = 'h2c://127.0.0.1:{port}'"),
    )
}

fn call(proxy: &Proxy, what: &str) -> Script {
    Script::run(
        "grpc/client.py",
        &[&proxy.address().to_string(), "grpc.test", what],
    )
}

/// CASES G-01, G-02, G-06.
#[test]
fn calls_of_all_four_kinds() {
    if !has_grpc() {
        return;
    }
    let (_app, port) = app();
    let proxy = in_front_of(port).start();
    let said = [
        "unary hello mine",
        "client-stream 42",
        "server-stream 0,1,2,3,4",
        "bidi ['you said 0', 'you said 1', 'you said 2']",
    ];
    assert_eq!(call(&proxy, "kinds").rest(), said);
}

/// Over TLS the app and we agree on HTTP/2 by ALPN. What it is called by is not what its clients ask for.
#[test]
fn calls_reach_an_app_behind_tls() {
    if !has_grpc() {
        return;
    }
    let plan = Proxy::plan();
    let authority = Authority::new("test");
    let folder = plan.sites().path().to_owned();
    authority.pair(&["localhost"]).write(&folder, "app");
    put(&folder, "ca.pem", &authority.pem);
    let words = ["app.pem", "app.key"].map(|name| folder.join(name));
    let words = words.each_ref().map(|path| path.to_str().unwrap());
    let (mut app, port) = Script::serve("grpc/server.py", &words);
    let text =
        format!("host = 'grpc.test'\nto = {{ at = 'https://localhost:{port}', ca = 'ca.pem' }}");
    let proxy = plan.site("app.toml", text).start();
    let said = [
        "unary hello mine",
        "client-stream 42",
        "server-stream 0,1,2,3,4",
        "bidi ['you said 0', 'you said 1', 'you said 2']",
    ];
    assert_eq!(call(&proxy, "kinds").rest(), said);
    let said = ["large True", "large-bidi [4194313, 4194313, 4194313]"];
    assert_eq!(call(&proxy, "large").rest(), said);
    let client = call(&proxy, "deadline");
    assert_eq!(app.line(), "hanging");
    assert_eq!(app.line(), "cancelled");
    assert_eq!(client.rest(), ["deadline DEADLINE_EXCEEDED"]);
}

/// CASES G-01: answers that are only trailers, and trailers behind a beginning.
#[test]
fn a_status_arrives_as_it_was_said() {
    if !has_grpc() {
        return;
    }
    let (_app, port) = app();
    let proxy = in_front_of(port).start();
    let said = [
        "fail NOT_FOUND nothing here",
        "unknown UNIMPLEMENTED",
        "half ['first'] RESOURCE_EXHAUSTED no more",
    ];
    assert_eq!(call(&proxy, "statuses").rest(), said);
}

/// CASES G-07.
#[test]
fn messages_of_4_mib_pass_both_ways() {
    if !has_grpc() {
        return;
    }
    let (_app, port) = app();
    let proxy = in_front_of(port).start();
    let said = call(&proxy, "large").rest();
    assert_eq!(
        said,
        ["large True", "large-bidi [4194313, 4194313, 4194313]"]
    );
}

/// CASES G-03.
#[test]
fn a_deadline_ends_the_call_at_the_app_too() {
    if !has_grpc() {
        return;
    }
    let (mut app, port) = app();
    let proxy = in_front_of(port).start();
    let client = call(&proxy, "deadline");
    assert_eq!(app.line(), "hanging");
    assert_eq!(app.line(), "cancelled");
    assert_eq!(client.rest(), ["deadline DEADLINE_EXCEEDED"]);
}

/// CASES G-04.
#[test]
fn a_cancelled_call_is_cancelled_at_the_app_and_others_go_on() {
    if !has_grpc() {
        return;
    }
    let (mut app, port) = app();
    let proxy = in_front_of(port).start();
    let mut client = call(&proxy, "cancel");
    assert_eq!(client.line(), "called");
    assert_eq!(app.line(), "hanging");
    client.tell();
    assert_eq!(app.line(), "cancelled");
    assert_eq!(client.rest(), ["cancelled", "after fine"]);
}

/// CASES G-05.
#[test]
fn an_app_that_is_down_is_unavailable() {
    if !has_grpc() {
        return;
    }
    let proxy = in_front_of(1).start();
    assert_eq!(call(&proxy, "down").rest(), ["down UNAVAILABLE"]);
}

/// CASES G-08: the calls share connections, which the app may end.
#[test]
fn calls_go_on_while_site_files_change() {
    if !has_grpc() {
        return;
    }
    let (_app, port) = app();
    let proxy = in_front_of(port).start();
    let mut client = call(&proxy, "many");
    assert_eq!(client.line(), "calling");
    for number in 0..5 {
        proxy.site(
            "other.toml",
            format!("host = 'other.test'\nto = {}", 5000 + number),
        );
        proxy.site(
            "app.toml",
            format!("# {number}\nhost = 'grpc.test'\nto = 'h2c://127.0.0.1:{port}'"),
        );
    }
    client.tell();
    assert_eq!(client.rest(), ["many True []"]);
    until("one connection served them", || {
        proxy.counted("backend-failed") == 0
    });
}
