//! What one client address may take, so that the others have theirs. This machine itself is exempt, so these tests
//! need addresses that are not loopback, in a network of their own.

use std::net::IpAddr;

use crate::harness::{Backend, Client, Proxy, in_a_network_of_its_own};

const DOOR: &str = "192.0.2.1";
const NETWORK: [&str; 2] = ["192.0.2.1/32", "192.0.2.2/32"];

fn with_limits(daemon_file: &str, app: &Backend) -> Proxy {
    Proxy::plan()
        .no_listen()
        .flag("--listen")
        .flag(format!("{DOOR}:0"))
        .daemon_file(daemon_file)
        .site(
            "app.toml",
            format!("host = 'app.test'\ntls = 'off'\nto = {}", app.port),
        )
        .start()
}

fn from(address: &str, proxy: &Proxy) -> Client {
    let address: IpAddr = address.parse().unwrap();
    Client::connect_from(address, proxy.address())
}

#[test]
fn one_address_gets_its_share_of_connections_and_others_get_theirs() {
    let name = "limits::client::one_address_gets_its_share_of_connections_and_others_get_theirs";
    in_a_network_of_its_own(name, &NETWORK, || {
        let app = Backend::saying("x");
        let proxy = with_limits("[limit]\nper_client = 2\n", &app);
        let mut open: Vec<Client> = (0..2).map(|_| from("192.0.2.2", &proxy)).collect();
        for client in &mut open {
            assert_eq!(client.get("app.test", "/").text(), "x");
        }
        from("192.0.2.2", &proxy).expect_close();
        proxy.until_counted("client-full", 1);
        let mut other = from("192.0.2.1", &proxy);
        assert_eq!(other.get("app.test", "/").text(), "x");
        // Who was there is not disturbed, and who leaves makes room.
        assert_eq!(open[0].get("app.test", "/").text(), "x");
        drop(open.pop());
        crate::harness::until("there is room again", || {
            let mut client = from("192.0.2.2", &proxy);
            client
                .try_send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
                .is_ok()
                && client.try_response("GET").is_ok()
        });
    });
}

#[test]
fn a_trusted_proxy_brings_as_many_as_it_likes() {
    let name = "limits::client::a_trusted_proxy_brings_as_many_as_it_likes";
    in_a_network_of_its_own(name, &NETWORK, || {
        let app = Backend::saying("x");
        let proxy = with_limits(
            "[limit]\nper_client = 1\n[trust]\nproxies = '192.0.2.2'\n",
            &app,
        );
        let mut open: Vec<Client> = (0..5).map(|_| from("192.0.2.2", &proxy)).collect();
        for client in &mut open {
            assert_eq!(client.get("app.test", "/").text(), "x");
        }
        let first = from("192.0.2.1", &proxy).get("app.test", "/");
        assert_eq!(first.text(), "x");
        assert_eq!(proxy.counted("client-full"), 0);
    });
}
