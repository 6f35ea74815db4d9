//! Which site gets a request; several on one connection.

use std::net::TcpListener;

use crate::harness::{Backend, Proxy};

#[test]
fn two_apps_answer_on_one_port_by_host() {
    let (blog, shop) = (Backend::saying("blog"), Backend::saying("shop"));
    let proxy = Proxy::plan()
        .site(
            "blog.toml",
            format!("host = 'blog.test'\nto = {}", blog.port),
        )
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", shop.port),
        )
        .start();
    assert_eq!(proxy.get("blog.test", "/").text(), "blog");
    assert_eq!(proxy.get("shop.test", "/").text(), "shop");
}

#[test]
fn several_hosts_on_one_connection_each_get_their_own_app() {
    let (blog, shop) = (Backend::saying("blog"), Backend::saying("shop"));
    let proxy = Proxy::plan()
        .site(
            "blog.toml",
            format!("host = 'blog.test'\nto = {}", blog.port),
        )
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", shop.port),
        )
        .start();
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("blog.test", "/").text(), "blog");
        assert_eq!(client.get("shop.test", "/").text(), "shop");
    }
}

#[test]
fn pipelined_requests_for_two_apps_are_answered_in_order() {
    let (blog, shop) = (Backend::saying("blog"), Backend::saying("shop"));
    let proxy = Proxy::plan()
        .site(
            "blog.toml",
            format!("host = 'blog.test'\nto = {}", blog.port),
        )
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", shop.port),
        )
        .start();
    let mut client = proxy.client();
    let pair = "GET / HTTP/1.1\r\nHost: blog.test\r\n\r\nGET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    client.send(pair.repeat(5));
    for _ in 0..5 {
        assert_eq!(client.response().text(), "blog");
        assert_eq!(client.response().text(), "shop");
    }
}

#[test]
fn case_final_dot_and_port_of_a_host_never_matter() {
    let shop = Backend::saying("shop");
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'Shop.Test'\nto = {}", shop.port),
        )
        .start();
    for host in [
        "shop.test",
        "SHOP.test",
        "shop.test.",
        "shop.test:8080",
        "Shop.Test.:1",
    ] {
        assert_eq!(proxy.get(host, "/").text(), "shop", "{host}");
    }
}

#[test]
fn a_name_that_no_site_claims_is_refused_and_never_guessed() {
    let shop = Backend::recording();
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", shop.port),
        )
        .start();
    for host in [
        "other.test",
        "www.shop.test",
        "test",
        "shop.test.evil.test",
        "127.0.0.1",
    ] {
        let answer = proxy.get(host, "/");
        assert_eq!(answer.said(), "421 no-site-for-host", "{host}");
    }
    assert!(shop.requests().is_empty());
}

#[test]
fn the_connection_lives_on_after_a_host_that_nobody_claims() {
    let shop = Backend::saying("shop");
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", shop.port),
        )
        .start();
    let mut client = proxy.client();
    assert_eq!(client.get("other.test", "/").status, 421);
    assert_eq!(client.get("shop.test", "/").text(), "shop");
}

#[test]
fn a_site_answers_for_each_name_of_its_list() {
    let shop = Backend::saying("shop");
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = ['shop.test', 'store.test']\nto = {}", shop.port),
        )
        .start();
    assert_eq!(proxy.get("shop.test", "/").text(), "shop");
    assert_eq!(proxy.get("store.test", "/").text(), "shop");
}

#[test]
fn a_file_name_that_is_a_hostname_is_the_host() {
    let shop = Backend::saying("shop");
    let proxy = Proxy::plan()
        .site("shop.example.test.toml", format!("to = {}", shop.port))
        .start();
    assert_eq!(proxy.get("shop.example.test", "/").text(), "shop");
}

#[test]
fn an_international_name_is_asked_for_in_its_ascii_form() {
    let books = Backend::saying("books");
    let proxy = Proxy::plan()
        .site(
            "books.toml",
            format!("host = 'Bücher.test'\nto = {}", books.port),
        )
        .start();
    assert_eq!(proxy.get("xn--bcher-kva.test", "/").text(), "books");
}

#[test]
fn a_site_may_claim_an_address() {
    let shop = Backend::saying("shop");
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            format!("host = ['127.0.0.1', '::1']\nto = {}", shop.port),
        )
        .start();
    assert_eq!(proxy.get("127.0.0.1:8080", "/").text(), "shop");
    assert_eq!(proxy.get("[::1]:8080", "/").text(), "shop");
    assert_eq!(proxy.get("[0:0:0:0:0:0:0:1]", "/").text(), "shop");
}

#[test]
fn the_authority_of_an_absolute_target_decides() {
    let (blog, shop) = (Backend::saying("blog"), Backend::recording());
    let proxy = Proxy::plan()
        .site(
            "blog.toml",
            format!("host = 'blog.test'\nto = {}", blog.port),
        )
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", shop.port),
        )
        .start();
    let answer = proxy.ask("GET http://shop.test/a?b HTTP/1.1\r\nHost: blog.test\r\n\r\n");
    assert_eq!(answer.text(), "ok");
    let request = shop.only_request();
    assert_eq!(
        (request.target(), request.value("host").as_str()),
        ("/a?b", "shop.test")
    );
}

#[test]
fn every_spelling_of_loopback_reaches_the_app() {
    let shop = Backend::saying("shop");
    let port = shop.port;
    let spellings = [
        format!("{port}"),
        format!("'{port}'"),
        format!("':{port}'"),
        format!("'localhost:{port}'"),
        format!("'127.0.0.1:{port}'"),
        format!("'http://127.0.0.1:{port}'"),
        format!("{{ at = '{port}' }}"),
        format!("[{port}]"),
    ];
    let mut plan = Proxy::plan();
    for (number, to) in spellings.iter().enumerate() {
        plan = plan.site(
            &format!("s{number}.toml"),
            format!("host = 's{number}.test'\nto = {to}"),
        );
    }
    let proxy = plan.start();
    for (number, to) in spellings.iter().enumerate() {
        assert_eq!(
            proxy.get(&format!("s{number}.test"), "/").text(),
            "shop",
            "to = {to}"
        );
    }
}

#[test]
fn an_app_that_listens_only_on_ipv6_loopback_is_found_by_its_port() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return println!("left out: no IPv6 here");
    };
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            use std::io::{Read, Write};
            let read = stream.read(&mut [0; 4096]).unwrap_or(0);
            if read > 0 {
                stream
                    .write_all(
                        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nsix",
                    )
                    .unwrap();
            }
        }
    });
    let proxy = Proxy::plan()
        .site("six.toml", format!("host = 'six.test'\nto = {port}"))
        .start();
    assert_eq!(proxy.get("six.test", "/").text(), "six");
}

#[test]
fn an_app_may_listen_on_a_unix_socket() {
    let plan = Proxy::plan();
    let socket = plan.folder().join("shop.sock");
    let shop = Backend::saying_on_socket(&socket, "shop");
    let text = format!("host = 'shop.test'\nto = 'unix:{}'", socket.display());
    let proxy = plan.site("shop.toml", text).start();
    assert_eq!(proxy.get("shop.test", "/").text(), "shop");
    assert_eq!(shop.requests().len(), 1);
}

#[test]
fn several_backends_are_taken_in_turn() {
    let (one, two) = (Backend::saying("one"), Backend::saying("two"));
    // One worker: each worker counts its own turns.
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site(
            "shop.toml",
            format!(
                "host = 'shop.test'\nto = [{}, {}]\nbalance = 'round-robin'",
                one.port, two.port
            ),
        )
        .start();
    let answers: Vec<String> = (0..6).map(|_| proxy.get("shop.test", "/").text()).collect();
    assert_eq!(
        answers.iter().filter(|text| *text == "one").count(),
        3,
        "{answers:?}"
    );
    assert_eq!(
        answers.iter().filter(|text| *text == "two").count(),
        3,
        "{answers:?}"
    );
}

#[test]
fn every_listener_serves_every_site() {
    let shop = Backend::saying("shop");
    let proxy = Proxy::plan()
        .flag("--listen=127.0.0.1:0")
        .site(
            "shop.toml",
            format!("host = 'shop.test'\nto = {}", shop.port),
        )
        .start();
    crate::harness::until("it listens twice", || proxy.addresses().len() == 2);
    for address in proxy.addresses() {
        assert_eq!(
            crate::harness::Client::connect(address)
                .get("shop.test", "/")
                .text(),
            "shop"
        );
    }
}
