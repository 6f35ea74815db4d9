//! PROXY headers: believed from load balancers that are named and from nobody else; sent to apps that want them.

use std::io::{Read, Write};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustls::ServerConnection;

use crate::harness::http2::{Http2, request};
use crate::harness::{
    Authority, Backend, Client, Conversation, Pair, Plan, Proxy, Tls, from_latin1, in_records, put,
    tls_app, until,
};

const V1: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n";
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Version 2, of 192.0.2.7:50000, who came to 198.51.100.1:443.
fn v2(command: u8) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend_from_slice(&[
        command, 0x11, 0, 12, 192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0x50, 1, 0xbb,
    ]);
    bytes
}

fn believing(app: &Backend) -> Plan {
    Proxy::plan()
        .daemon_file("[trust]\nproxy_protocol = '127.0.0.1'\n[timeout]\nopening = '2s'\n")
        .site(
            "app.toml",
            format!("host = 'app.example.com'\nto = {}\n", app.port),
        )
}

/// What the app is told of who asked, by a client that begins with `bytes`.
#[track_caller]
fn asker(proxy: &Proxy, bytes: impl AsRef<[u8]>) -> (String, String) {
    let mut client = proxy.client();
    client.send(bytes);
    let echoed = client.response().text();
    let value = |name: &str| {
        let line = echoed.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {echoed}"))
            .to_owned()
    };
    (value("X-Forwarded-For: "), value("X-Forwarded-Port: "))
}

#[test]
fn the_client_is_the_one_the_header_names() {
    let app = Backend::echoing();
    let proxy = believing(&app).start();
    let named = ("192.0.2.7".to_owned(), "443".to_owned());
    assert_eq!(asker(&proxy, format!("{V1}{GET}")), named);
    assert_eq!(asker(&proxy, [&v2(0x21), GET.as_bytes()].concat()), named);
    let six = format!("PROXY TCP6 2001:db8::7 2001:db8::1 50000 8443\r\n{GET}");
    assert_eq!(
        asker(&proxy, six),
        ("2001:db8::7".to_owned(), "8443".to_owned())
    );
}

#[test]
fn a_load_balancer_that_speaks_for_itself_is_the_client() {
    let app = Backend::echoing();
    let proxy = believing(&app).start();
    let own = ("127.0.0.1".to_owned(), proxy.address().port().to_string());
    assert_eq!(asker(&proxy, format!("PROXY UNKNOWN\r\n{GET}")), own);
    assert_eq!(asker(&proxy, [&v2(0x20), GET.as_bytes()].concat()), own);
}

#[test]
fn a_header_and_a_hello_may_come_byte_by_byte() {
    let hello = Tls::to("app.example.com").hello();
    let sent = in_records(&hello, [3, 100, 7]);
    for header in [V1.as_bytes().to_vec(), v2(0x21)] {
        let count = sent.len();
        let app = Backend::doing(move |conversation| {
            conversation.bytes(count);
            conversation.send("there");
        });
        let text = format!(
            "host = 'app.example.com'\nto = {}\ntls = 'passthrough'\nallow = '192.0.2.7'\n",
            app.port
        );
        let proxy = believing(&app).site("app.toml", text).start();
        let mut client = proxy.client();
        for byte in header.iter().chain(&sent) {
            client.send([*byte]);
        }
        assert_eq!(client.bytes(5), b"there");
        assert!(
            from_latin1(&app.raw_bytes()) == sent,
            "the header is not the app's"
        );
    }
}

#[test]
fn a_handshake_goes_through_behind_a_header() {
    let authority = Authority::new("test");
    let app = tls_app(&authority.pair(&["app.example.com"]), "hello");
    let text = format!(
        "host = 'app.example.com'\nto = {}\ntls = 'passthrough'\n",
        app.port
    );
    let proxy = believing(&app).site("app.toml", text).start();
    let tls = Tls::to("app.example.com").trusting(&authority.pem);
    let line = tls.shake_after(V1.as_bytes(), proxy.address()).unwrap();
    assert_eq!(Client::over(line).bytes(5), b"hello");
}

#[test]
fn without_a_name_the_site_is_that_of_the_address_the_client_came_to() {
    let app = Backend::recording();
    let plan = believing(&app);
    Authority::new("test")
        .pair(&["198.51.100.1"])
        .write(plan.sites().path(), "address");
    let proxy = plan
        .site("address.toml", "host = '198.51.100.1'\nrespond = 'x'\n[tls]\ncert = 'address.pem'\nkey = 'address.key'\n")
        .start();
    let nameless = Tls::to("127.0.0.1").hello();
    let mut client = proxy.client();
    client.send([V1.as_bytes(), &nameless].concat());
    assert_eq!(client.bytes(3), [22, 3, 3]);
    let mut client = proxy.client();
    client.send([b"PROXY UNKNOWN\r\n", &nameless[..]].concat());
    assert_eq!(client.rest(), UNRECOGNIZED_NAME);
}

#[test]
fn who_may_ask_is_asked_of_the_client_and_not_of_the_load_balancer() {
    let app = Backend::saying("app");
    let file = |allow: &str| {
        format!(
            "host = 'app.example.com'\nto = {}\nallow = '{allow}'\n",
            app.port
        )
    };
    let proxy = believing(&app)
        .site("app.toml", file("192.0.2.0/24"))
        .start();
    assert_eq!(proxy.ask(format!("{V1}{GET}")).text(), "app");
    proxy.site("app.toml", file("127.0.0.1"));
    assert_eq!(proxy.ask(format!("{V1}{GET}")).said(), "403 not-allowed");
}

#[test]
fn a_client_behind_a_load_balancer_has_its_share_of_connections_and_no_more() {
    let app = Backend::saying("app");
    let proxy = Proxy::plan()
        .daemon_file("[trust]\nproxy_protocol = '127.0.0.1'\n[limit]\nper_client = 2\n")
        .site(
            "app.toml",
            format!("host = 'app.example.com'\nto = {}\n", app.port),
        )
        .start();
    let open = |client: &str| {
        let mut connection = proxy.client();
        connection.send(format!("PROXY TCP4 {client} 198.51.100.1 1 443\r\n{GET}"));
        connection
    };
    let mut held = [open("192.0.2.7"), open("192.0.2.7"), open("192.0.2.8")];
    for client in &mut held {
        assert_eq!(client.response().text(), "app");
    }
    open("192.0.2.7").expect_close();
    proxy.until_counted("client-full", 1);
    let [first, ..] = held;
    drop(first);
    until("its place is free again", || {
        open("192.0.2.7").try_response("GET").is_ok()
    });
}

#[test]
fn only_a_trusted_client_behind_a_load_balancer_is_believed_further() {
    let app = Backend::echoing();
    let proxy = Proxy::plan()
        .daemon_file("[trust]\nproxy_protocol = '127.0.0.1'\nproxies = '192.0.2.7'\n")
        .site(
            "app.toml",
            format!("host = 'app.example.com'\nto = {}\n", app.port),
        )
        .start();
    let ask = |client: &str| {
        let header = format!("PROXY TCP4 {client} 198.51.100.1 1 443\r\n");
        let request =
            "GET / HTTP/1.1\r\nHost: app.example.com\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
        asker(&proxy, header + request).0
    };
    assert_eq!(ask("192.0.2.7"), "203.0.113.9, 192.0.2.7");
    assert_eq!(ask("192.0.2.8"), "192.0.2.8");
}

#[test]
fn a_load_balancer_that_does_not_say_who_it_is_for_is_refused() {
    let app = Backend::recording();
    let proxy = believing(&app).start();
    let too_long = [&v2(0x21)[..14], &[0xff, 0xff]].concat();
    let lies: [(&str, Vec<u8>); 9] = [
        ("no header, HTTP", GET.into()),
        ("no header, TLS", Tls::to("app.example.com").hello()),
        ("a word that is no number", V1.replace("443", "x").into()),
        ("a line without an end", "PROXY UNKNOWN ".repeat(9).into()),
        ("a bare line feed", V1.replace("\r\n", "\n").into()),
        ("UDP", V1.replace("TCP4", "UDP4").into()),
        ("version 3", [&v2(0x31)[..], GET.as_bytes()].concat()),
        ("a length beyond the limit", too_long),
        ("a checksum that is wrong", with_checksum([1, 2, 3, 4])),
    ];
    let count = lies.len() as u64;
    for (what, bytes) in lies {
        let mut client = proxy.client();
        client.send([&bytes[..], GET.as_bytes()].concat());
        assert_eq!(client.rest(), b"", "{what}");
    }
    proxy.until_counted("proxy-header", count);
    assert_eq!(app.accepted(), 0);
}

fn with_checksum(sum: [u8; 4]) -> Vec<u8> {
    let mut bytes = v2(0x21);
    bytes[15] += 7;
    bytes.extend_from_slice(&[3, 0, 4]);
    bytes.extend_from_slice(&sum);
    bytes
}

#[test]
fn half_a_header_is_closed_by_the_one_deadline() {
    let app = Backend::recording();
    let proxy = Proxy::plan()
        .daemon_file("[trust]\nproxy_protocol = '127.0.0.1'\n[timeout]\nopening = '500ms'\n")
        .site(
            "app.toml",
            format!("host = 'app.example.com'\nto = {}\n", app.port),
        )
        .start();
    for half in [&V1.as_bytes()[..20], &v2(0x21)[..20], V1.as_bytes(), b""] {
        let mut client = proxy.client();
        client.send(half);
        client.expect_close();
    }
    // Also when the header takes up most of the time, and the hello the rest.
    let mut client = proxy.client();
    let sent = [V1.as_bytes(), &Tls::to("app.example.com").hello()].concat();
    let mut sender = client.stream().try_clone().unwrap();
    let dripping = thread::spawn(move || {
        for byte in sent {
            if std::io::Write::write_all(&mut sender, &[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    client.expect_close();
    drop(client);
    dripping.join().unwrap();
    proxy.until_counted("opening-timeout", 5);
}

#[test]
fn a_header_may_be_left_out_where_that_is_allowed() {
    let app = Backend::echoing();
    let proxy = Proxy::plan()
        .daemon_file("[trust]\nproxy_protocol = { from = ['127.0.0.1'], optional = true }\n")
        .site(
            "app.toml",
            format!("host = 'app.example.com'\nto = {}\n", app.port),
        )
        .start();
    assert_eq!(asker(&proxy, format!("{V1}{GET}")).0, "192.0.2.7");
    assert_eq!(asker(&proxy, GET).0, "127.0.0.1");
    // What begins as a header must go on as one.
    let mut client = proxy.client();
    client.send(format!("{}{GET}", V1.replace("443", "x")));
    client.expect_close();
}

#[test]
fn a_header_from_anybody_else_is_never_believed() {
    let app = Backend::recording();
    let proxy = Proxy::plan()
        .daemon_file("[trust]\nproxy_protocol = '192.0.2.1'\nproxies = '127.0.0.1'\n")
        .site(
            "app.toml",
            format!("host = 'app.example.com'\nto = {}\n", app.port),
        )
        .start();
    assert_eq!(proxy.ask(format!("{V1}{GET}")).status, 400);
    assert_eq!(proxy.ask([&v2(0x21), GET.as_bytes()].concat()).status, 400);
    assert_eq!(app.accepted(), 0);
}

/// An app that is told by version 1 who is asking, and answers requests.
fn told_by_a_line() -> Backend {
    Backend::doing(|conversation| {
        read_line(conversation);
        while conversation.request().is_some() {
            conversation.answer("app");
        }
    })
}

/// The same behind TLS: the line comes first, in clear.
fn told_before_tls(pair: &Pair) -> Backend {
    let config = pair.server();
    Backend::doing(move |conversation| {
        read_line(conversation);
        let mut session = ServerConnection::new(config.clone()).unwrap();
        let mut line = rustls::Stream::new(&mut session, conversation);
        let (mut head, mut byte) = (Vec::new(), [0]);
        while matches!(line.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
            if head.ends_with(b"\r\n\r\n") {
                head.clear();
                let response = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\napp";
                line.write_all(response.as_bytes()).unwrap();
            }
        }
    })
}

fn read_line(conversation: &mut Conversation) {
    while conversation
        .bytes(1)
        .first()
        .is_some_and(|byte| *byte != b'\n')
    {}
}

fn sending(version: &str, app: &Backend) -> String {
    format!(
        "host = 'app.example.com'\nto = {}\nsend_proxy = '{version}'\n",
        app.port
    )
}

/// The line for this client connection.
fn line_of(client: &Client, proxy: &Proxy) -> String {
    let from = client.stream().local_addr().unwrap().port();
    let to = proxy.address().port();
    format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n")
}

#[test]
fn an_app_is_told_once_for_each_connection_and_clients_never_share_one() {
    let app = told_by_a_line();
    let proxy = Proxy::plan().site("app.toml", sending("v1", &app)).start();
    let mut first = proxy.client();
    assert_eq!(first.get("app.example.com", "/1").text(), "app");
    let mut second = proxy.client();
    for path in ["/2", "/3"] {
        assert_eq!(second.get("app.example.com", path).text(), "app");
    }
    assert_eq!(first.get("app.example.com", "/4").text(), "app");
    assert_eq!(app.accepted(), 2, "one for each client");
    let raw = app.raw_bytes();
    assert!(raw.starts_with(&line_of(&first, &proxy)), "{raw}");
    assert_eq!(raw.matches(&line_of(&second, &proxy)).count(), 1, "{raw}");
    assert_eq!(raw.matches("PROXY ").count(), 2, "{raw}");
    assert_eq!(raw.matches("GET /").count(), 4, "{raw}");
    // Nobody gets what a client leaves behind.
    drop(first);
    until("its connection is closed", || app.closed() == 1);
    assert_eq!(proxy.get("app.example.com", "/5").text(), "app");
    assert_eq!(app.accepted(), 3);
}

#[test]
fn upstreams_that_wait_for_a_client_of_http_2_count_in_pool_all() {
    let together = Barrier::new(3);
    let app = Backend::doing(move |conversation| {
        read_line(conversation);
        while conversation.request().is_some() {
            together.wait();
            conversation.answer("app");
        }
    });
    let plan = Proxy::plan().site("app.toml", sending("v1", &app));
    let plan = plan.daemon_file("[limit]\npool_all = 1\n");
    let proxy = plan.flag("--workers=1").start();
    let mut client = Http2::to(&proxy);
    let ask = request("GET", "app.example.com", "/", &[]);
    let asked = [0; 3].map(|_| client.ask(&ask));
    for stream in asked {
        assert_eq!(client.whole(stream).text(), "app");
    }
    until("all but one are closed", || app.closed() == 2);
}

#[test]
fn an_authenticated_upstream_stays_as_long_as_its_client_also_where_it_was_told_of_him() {
    let app = Backend::doing(|conversation| {
        read_line(conversation);
        let mut says = "200 OK\r\n";
        while conversation.request().is_some() {
            let number = conversation.number();
            conversation.send(format!(
                "HTTP/1.1 {says}X-Upstream: {number}\r\nContent-Length: 0\r\n\r\n"
            ));
            // Asked for on an upstream that was one of many before.
            says = "401 Unauthorized\r\nWWW-Authenticate: NTLM abc\r\n";
        }
    });
    let other = Backend::saying("other");
    let soon = "[timeout]\npool_idle = '1s'\n";
    let proxy = Proxy::plan()
        .site("app.toml", sending("v1", &app) + soon)
        .site(
            "other.toml",
            format!("host = 'other.example.com'\nto = {}\n{soon}", other.port),
        )
        .start();
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(client.get("app.example.com", "/").value("x-upstream"), "0");
    }
    // What was told to be kept as long as that, and later, is gone.
    assert_eq!(proxy.get("other.example.com", "/").text(), "other");
    until("an idle upstream is let go", || other.closed() == 1);
    assert_eq!(client.get("app.example.com", "/").value("x-upstream"), "0");
}

#[test]
fn an_app_behind_tls_is_told_in_front_of_the_hello_and_clients_never_share_one() {
    let authority = Authority::new("internal");
    let app = told_before_tls(&authority.pair(&["localhost"]));
    let plan = Proxy::plan();
    put(plan.sites().path(), "ca.pem", &authority.pem);
    let text = format!(
        "host = 'app.example.com'\nto = {{ at = 'https://localhost:{}', ca = 'ca.pem' }}\nsend_proxy = 'v1'\n",
        app.port
    );
    let proxy = plan.site("app.toml", text).start();
    let mut clients = [proxy.client(), proxy.client()];
    for which in [0, 1, 0, 1] {
        let response = clients[which].get("app.example.com", "/");
        assert_eq!(response.text(), "app");
    }
    assert_eq!(app.accepted(), 2, "one for each client");
    let raw = app.raw_bytes();
    for client in &clients {
        let told = line_of(client, &proxy) + "\u{16}\u{3}";
        assert_eq!(raw.matches(&told).count(), 1, "{raw}");
    }
    assert_eq!(raw.matches("PROXY ").count(), 2, "{raw}");
    assert!(!raw.contains("GET "), "{raw}");
}

#[test]
fn an_app_that_closes_between_requests_is_told_again() {
    let app = Backend::doing(|conversation| {
        read_line(conversation);
        if conversation.request().is_some() {
            conversation.answer("app");
        }
    });
    let proxy = Proxy::plan().site("app.toml", sending("v1", &app)).start();
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("app.example.com", "/").text(), "app");
    }
    assert_eq!(
        app.raw_bytes().matches(&line_of(&client, &proxy)).count(),
        3
    );
}

/// One each for as many requests as were open at once, and nobody else could have them.
#[test]
fn what_a_client_of_http_2_leaves_idle_is_a_few_as_long_as_they_are_open() {
    const AT_ONCE: usize = 30;
    const HOST: &str = "app.example.com";
    let asked = AtomicUsize::new(0);
    let app = Backend::doing(move |conversation| {
        read_line(conversation);
        while conversation.request().is_some() {
            asked.fetch_add(1, Ordering::SeqCst);
            until("all are open at once", || {
                asked.load(Ordering::SeqCst) >= AT_ONCE
            });
            conversation
                .send("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=100\r\nContent-Length: 1\r\n\r\nx");
        }
    });
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", sending("v1", &app))
        .start();
    let mut client = Http2::to(&proxy);
    client.settle();
    let before = proxy.sockets();
    let streams: Vec<u32> = (0..AT_ONCE)
        .map(|_| client.ask(&request("GET", HOST, "/", &[])))
        .collect();
    for stream in streams {
        assert_eq!(client.whole(stream).text(), "x");
    }
    until("a few are left", || proxy.sockets() <= before + 8);
    assert_eq!(client.get(HOST, "/").text(), "x");
    drop(app);
    until("the app has closed them", || proxy.sockets() == before);
}

#[test]
fn sites_that_tell_and_sites_that_do_not_share_no_connection() {
    let app = Backend::doing(|conversation| {
        let mut first = conversation.bytes(3);
        if first == b"PRO" {
            read_line(conversation);
            first.clear();
        }
        while let Some(request) = conversation.request() {
            let path = format!("{}{}", String::from_utf8_lossy(&first), request.head);
            conversation.answer(path.split(' ').nth(1).unwrap_or_default());
            first.clear();
        }
    });
    let proxy = Proxy::plan()
        .site("app.toml", sending("v1", &app))
        .site(
            "plain.toml",
            format!("host = 'plain.example.com'\nto = {}\n", app.port),
        )
        .start();
    let mut client = proxy.client();
    for (host, path) in [
        ("app.example.com", "/1"),
        ("plain.example.com", "/2"),
        ("app.example.com", "/3"),
        ("plain.example.com", "/4"),
    ] {
        assert_eq!(client.get(host, path).text(), path);
    }
    let raw = app.raw_bytes();
    assert_eq!(raw.matches(&line_of(&client, &proxy)).count(), 2, "{raw}");
    assert_eq!(
        app.accepted(),
        3,
        "two were told, and the one that was not is shared as ever"
    );
}

/// Version 2 for this client connection, with these extensions.
fn block_of(client: &Client, proxy: &Proxy, extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let mut addresses = [127, 0, 0, 1, 127, 0, 0, 1].to_vec();
    addresses.extend_from_slice(&client.stream().local_addr().unwrap().port().to_be_bytes());
    addresses.extend_from_slice(&proxy.address().port().to_be_bytes());
    for (kind, value) in extensions {
        addresses.push(*kind);
        addresses.extend_from_slice(&(value.len() as u16).to_be_bytes());
        addresses.extend_from_slice(value);
    }
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    bytes.extend_from_slice(&(addresses.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&addresses);
    bytes
}

const ALPN: u8 = 1;
const AUTHORITY: u8 = 2;

/// An app that is told by version 2 who is asking, and answers requests.
fn told_by_a_block() -> Backend {
    Backend::doing(|conversation| {
        let fixed = conversation.bytes(16);
        let Some(length) = fixed.get(14..16) else {
            return;
        };
        conversation.bytes(usize::from(u16::from_be_bytes([length[0], length[1]])));
        while conversation.request().is_some() {
            conversation.answer("app");
        }
    })
}

#[test]
fn version_2_says_the_name_and_the_protocol_of_tls_that_ends_here() {
    let app = told_by_a_block();
    let plan = Proxy::plan();
    Authority::new("test")
        .pair(&["app.example.com"])
        .write(plan.sites().path(), "app");
    let text = sending("v2", &app) + "[tls]\ncert = 'app.pem'\nkey = 'app.key'\nhttp = 'serve'\n";
    let proxy = plan.site("app.toml", text).start();
    let line = Tls::to("app.example.com")
        .alpn(&["http/1.1"])
        .shake(proxy.address())
        .unwrap();
    let mut over_tls = Client::over(line);
    assert_eq!(over_tls.get("app.example.com", "/").text(), "app");
    let told = block_of(
        &over_tls,
        &proxy,
        &[(AUTHORITY, b"app.example.com"), (ALPN, b"http/1.1")],
    );
    assert!(from_latin1(&app.raw_bytes()).starts_with(&told));
    app.forget();
    let mut in_clear = proxy.client();
    assert_eq!(in_clear.get("app.example.com", "/").text(), "app");
    let told = [&block_of(&in_clear, &proxy, &[])[..], b"GET / "].concat();
    assert!(from_latin1(&app.raw_bytes()).starts_with(&told));
}

#[test]
fn passed_through_the_header_goes_in_front_of_the_hello() {
    let hello = Tls::to("app.example.com").alpn(&["h2", "http/1.1"]).hello();
    for version in ["v1", "v2"] {
        let app = Backend::doing(|conversation| drop(conversation.rest()));
        let text = sending(version, &app) + "tls = 'passthrough'\n";
        let proxy = Proxy::plan().site("app.toml", text).start();
        let mut client = proxy.client();
        client.send(&hello);
        let header = match version {
            "v1" => line_of(&client, &proxy).into_bytes(),
            _ => block_of(
                &client,
                &proxy,
                &[
                    (AUTHORITY, b"app.example.com"),
                    (ALPN, b"\x02h2\x08http/1.1"),
                ],
            ),
        };
        let wanted = [&header[..], &hello].concat();
        let read = || from_latin1(&app.raw_bytes());
        until("the app has read all of it", || {
            read().len() >= wanted.len()
        });
        assert!(read() == wanted, "{version}");
    }
}

#[test]
fn a_client_that_came_through_a_load_balancer_is_named_to_the_app() {
    let app = told_by_a_line();
    let proxy = believing(&app)
        .site("app.toml", sending("v1", &app))
        .start();
    assert_eq!(proxy.ask(format!("{V1}{GET}")).text(), "app");
    assert!(app.raw_bytes().starts_with(V1), "{}", app.raw_bytes());
}
