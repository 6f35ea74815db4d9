//! Limits on number: connections, and the descriptors they need.

use std::time::Duration;

use super::with_limits;
use crate::harness::{Backend, Proxy, until};

#[test]
fn no_more_connections_are_served_than_the_limit_says() {
    let app = Backend::saying("x");
    let proxy = with_limits(
        "[limit]\nconnections = 4\nper_client = 4\n[timeout]\nidle = '20s'\n",
        &app,
    );
    let mut open: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut open {
        assert_eq!(client.get("app.test", "/").text(), "x");
    }
    // The fifth is refused, or waits until one of the four goes; it is not served beside them.
    let mut fifth = proxy.client();
    fifth
        .stream()
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    drop(fifth.try_send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"));
    let answer = fifth.try_response("GET");
    assert!(answer.is_err() || answer.unwrap().status == 503);
    drop((fifth, open));
    until("there is room again", || {
        let mut client = proxy.client();
        client
            .try_send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            .is_ok()
            && client
                .try_response("GET")
                .is_ok_and(|response| response.status == 200)
    });
}

#[test]
fn one_address_does_not_get_all_connections_but_this_machine_may() {
    // Loopback is exempt, so the limit must not show here.
    let app = Backend::saying("x");
    let proxy = with_limits("[limit]\nconnections = 50\nper_client = 2\n", &app);
    let mut open: Vec<_> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut open {
        assert_eq!(client.get("app.test", "/").text(), "x");
    }
}

#[test]
fn few_descriptors_lower_the_number_of_connections_and_it_says_so() {
    if !crate::harness::found("prlimit") {
        return;
    }
    let app = Backend::saying("x");
    let proxy = Proxy::plan()
        .under(["prlimit", "--nofile=64:64"])
        .daemon_file("[limit]\nconnections = 1000\n")
        .site("app.toml", format!("host = 'app.test'\nto = {}", app.port))
        .start();
    proxy.until_logged("descriptors");
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
