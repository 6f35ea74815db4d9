//! Which site gets a TLS connection, however its hello arrives, and what a client is told that gets none.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS12;

use crate::harness::{Authority, Client, Plan, Proxy, Tls, in_records, until};

const UNEXPECTED_MESSAGE: u8 = 10;
const RECORD_OVERFLOW: u8 = 22;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;
const UNRECOGNIZED_NAME: u8 = 112;

/// A fatal alert, and nothing but it.
fn alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// Sites with certificates of their own, each for one host; the certificate stands in `sites.d/NAME.pem`.
fn with_sites(sites: &[(&str, &str)]) -> Plan {
    let authority = Authority::new("test");
    sites.iter().fold(Proxy::plan(), |plan, (name, host)| {
        authority.pair(&[host]).write(plan.sites().path(), name);
        let text = format!(
            "host = '{host}'\nrespond = '{name}'\n[tls]\ncert = '{name}.pem'\nkey = '{name}.key'\n"
        );
        plan.site(&format!("{name}.toml"), text)
    })
}

fn shop_and_blog() -> Proxy {
    with_sites(&[("shop", "shop.test"), ("blog", "*.blog.test")]).start()
}

/// TLS 1.2 shows the certificate in clear.
fn open_to(name: &str) -> Tls {
    Tls::to(name).version(&TLS12)
}

/// Whose certificate the server's first flight carries.
#[track_caller]
fn shown(proxy: &Proxy, client: &mut Client) -> String {
    let mut flight = Vec::new();
    loop {
        let header = client.bytes(5);
        assert_eq!(header[..3], [22, 3, 3], "no handshake but {header:?}");
        flight.extend_from_slice(
            &client.bytes(usize::from(u16::from_be_bytes([header[3], header[4]]))),
        );
        for site in ["shop", "blog", "any", "address"] {
            let Ok(pem) = fs::read(proxy.sites().join(&format!("{site}.pem"))) else {
                continue;
            };
            let der = CertificateDer::from_pem_slice(&pem).unwrap();
            if flight.windows(der.len()).any(|part| part == der.as_ref()) {
                return site.to_owned();
            }
        }
    }
}

/// What a client gets that begins with these bytes and waits.
#[track_caller]
fn told(proxy: &Proxy, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut client = proxy.client();
    client.send(bytes);
    client.rest()
}

#[test]
fn a_hello_in_one_byte_segments_is_routed_as_in_one() {
    let proxy = shop_and_blog();
    let mut client = proxy.client();
    for byte in open_to("shop.test").hello() {
        client.send([byte]);
    }
    assert_eq!(shown(&proxy, &mut client), "shop");
}

#[test]
fn a_hello_in_up_to_fifty_records_is_routed_as_in_one() {
    let proxy = shop_and_blog();
    let hello = open_to("a.blog.test").hello();
    for count in [2, 3, 10, 50] {
        let size = (hello.len() - 5).div_ceil(count);
        let mut client = proxy.client();
        client.send(in_records(&hello, vec![size; count]));
        assert_eq!(shown(&proxy, &mut client), "blog", "in {count}");
    }
    let inside = hello
        .windows(11)
        .position(|part| part == b"a.blog.test")
        .unwrap();
    let mut client = proxy.client();
    client.send(in_records(&hello, [inside - 5 + 4, 1]));
    assert_eq!(shown(&proxy, &mut client), "blog", "cut inside of the name");
}

#[test]
fn a_hello_with_a_post_quantum_key_may_come_in_two_halves() {
    let proxy = shop_and_blog();
    let hello = Tls::to("shop.test").hello();
    assert!(hello.len() > 1200, "{}", hello.len());
    let mut client = proxy.client();
    let (first, second) = hello.split_at(hello.len() / 2);
    client.send(first);
    // A whole exchange on another connection: the first half has been read by then.
    assert_eq!(proxy.get("nobody.test", "/").status, 421);
    client.send(second);
    let header = client.bytes(5);
    assert_eq!(header[..3], [22, 3, 3]);
}

#[test]
fn case_means_nothing_in_a_name() {
    let proxy = shop_and_blog();
    for (name, site) in [("SHOP.test", "shop"), ("A.Blog.TEST", "blog")] {
        let mut client = proxy.client();
        // rustls would send it in lower case.
        let lower = name.to_ascii_lowercase();
        let mut hello = open_to(&lower).hello();
        let at = hello
            .windows(name.len())
            .position(|part| part == lower.as_bytes())
            .unwrap();
        hello[at..at + name.len()].copy_from_slice(name.as_bytes());
        client.send(&hello);
        assert_eq!(shown(&proxy, &mut client), site);
    }
}

#[test]
fn a_name_before_the_wildcard_above_it_whoever_came_first() {
    for names in [["shop", "blog"], ["blog", "shop"]] {
        let proxy = Proxy::plan().start();
        let authority = Authority::new("test");
        for name in names {
            let host = if name == "shop" {
                "www.shop.test"
            } else {
                "*.shop.test"
            };
            authority.pair(&[host]).write(proxy.sites().path(), name);
            let text = format!(
                "host = '{host}'\nrespond = '{name}'\n[tls]\ncert = '{name}.pem'\nkey = '{name}.key'\n"
            );
            proxy.site(&format!("{name}.toml"), text);
        }
        for (asked, answers) in [("www.shop.test", "shop"), ("api.shop.test", "blog")] {
            let mut client = proxy.client();
            client.send(open_to(asked).hello());
            assert_eq!(shown(&proxy, &mut client), answers, "{asked}");
        }
        assert_eq!(
            told(&proxy, open_to("a.b.shop.test").hello()),
            alert(UNRECOGNIZED_NAME)
        );
    }
}

#[test]
fn a_hello_may_have_almost_sixteen_kilobytes() {
    let proxy = shop_and_blog();
    let protocols: Vec<String> = (0..60).map(|n| format!("{n:0250}")).collect();
    let mut protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
    protocols.push("http/1.1");
    let hello = open_to("shop.test").alpn(&protocols).hello();
    assert!((15_000..16_384).contains(&hello.len()), "{}", hello.len());
    let mut client = proxy.client();
    client.send(hello);
    assert_eq!(shown(&proxy, &mut client), "shop");
}

#[test]
fn a_name_nobody_claims_gets_an_alert_and_nobodys_certificate() {
    let proxy = shop_and_blog();
    for name in ["other.test", "blog.test", "a.b.blog.test", "sub.shop.test"] {
        assert_eq!(
            told(&proxy, Tls::to(name).hello()),
            alert(UNRECOGNIZED_NAME),
            "{name}"
        );
    }
    // A library understands it.
    let error = Tls::to("other.test").shake(proxy.address()).unwrap_err();
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
}

#[test]
fn without_a_name_the_site_is_that_of_the_address_or_of_every_name_or_none() {
    let nameless = open_to("127.0.0.1").hello();
    let proxy = shop_and_blog();
    assert_eq!(told(&proxy, &nameless), alert(UNRECOGNIZED_NAME));
    let any = with_sites(&[("shop", "shop.test"), ("any", "*")])
        .flag("--catch-all")
        .flag("any")
        .start();
    let mut client = any.client();
    client.send(&nameless);
    assert_eq!(shown(&any, &mut client), "any");
    let both = with_sites(&[("any", "*"), ("address", "127.0.0.1")])
        .flag("--catch-all")
        .flag("any")
        .start();
    let mut client = both.client();
    client.send(&nameless);
    assert_eq!(shown(&both, &mut client), "address");
}

#[test]
fn a_site_without_tls_closes_and_shows_nobodys_certificate() {
    let proxy = with_sites(&[("any", "*")])
        .flag("--catch-all")
        .flag("any")
        .site(
            "plain.toml",
            "host = 'plain.test'\nrespond = 'plain'\ntls = 'off'\n",
        )
        .start();
    assert_eq!(told(&proxy, Tls::to("plain.test").hello()), b"");
    proxy.until_counted("tls-off", 1);
    assert_eq!(proxy.get("plain.test", "/").text(), "plain");
}

#[test]
fn what_is_no_hello_gets_the_alert_for_it() {
    let proxy = shop_and_blog();
    let hello = Tls::to("shop.test").hello();
    let named = |name: &[u8]| {
        let mut hello = hello.clone();
        let at = hello
            .windows(9)
            .position(|part| part == b"shop.test")
            .unwrap();
        hello[at..at + 9].copy_from_slice(name);
        hello
    };
    let mut server_hello = hello.clone();
    server_hello[5] = 2;
    let mut interrupted = in_records(&hello[..205], []);
    interrupted.extend_from_slice(&[21, 3, 3, 0, 2, 1, 0]);
    for (what, bytes, description) in [
        ("a final dot", named(b"shop.tes."), ILLEGAL_PARAMETER),
        ("a port", named(b"shop.t:44"), ILLEGAL_PARAMETER),
        ("a NUL", named(b"shop\0test"), ILLEGAL_PARAMETER),
        ("an address", named(b"127.0.0.1"), ILLEGAL_PARAMETER),
        ("another message", server_hello, UNEXPECTED_MESSAGE),
        ("an alert in the middle", interrupted, UNEXPECTED_MESSAGE),
        ("an empty record", vec![22, 3, 1, 0, 0], DECODE_ERROR),
        (
            "16 MiB announced",
            vec![22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
            DECODE_ERROR,
        ),
        (
            "a record too long",
            vec![22, 3, 1, 0x40, 1],
            RECORD_OVERFLOW,
        ),
        ("no version of TLS", vec![22, 2], PROTOCOL_VERSION),
    ] {
        assert_eq!(told(&proxy, bytes), alert(description), "{what}");
    }
    proxy.until_counted("malformed-hello", 10);
    for (what, first) in [
        ("an alert", 21u8),
        ("a change of cipher", 20),
        ("SSL 2", 0x80),
        ("data", 23),
    ] {
        assert_eq!(told(&proxy, [first, 3, 1, 0, 2, 1, 0]), b"", "{what}");
    }
}

#[test]
fn a_hello_that_drips_has_one_deadline_for_all_of_it() {
    let proxy = with_sites(&[("shop", "shop.test")])
        .daemon_file("[timeout]\nopening = '500ms'\n")
        .start();
    let mut client = proxy.client();
    let begun = Instant::now();
    let mut sender = client.stream().try_clone().unwrap();
    let hello = Tls::to("shop.test").hello();
    let dripping = thread::spawn(move || {
        // Each byte comes well within the time; all of them do not.
        for byte in hello {
            if sender.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(client.rest(), b"");
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "after {:?}",
        begun.elapsed()
    );
    drop(client);
    dripping.join().unwrap();
}

#[test]
fn a_hello_beyond_the_limit_is_refused_by_its_length() {
    let proxy = with_sites(&[("shop", "shop.test")])
        .daemon_file("[limit]\nhello = '1kb'\n")
        .start();
    let large = Tls::to("shop.test").hello();
    assert!(large.len() > 1200);
    assert_eq!(told(&proxy, &large[..9]), alert(DECODE_ERROR));
    let mut client = proxy.client();
    client.send(open_to("shop.test").hello());
    assert_eq!(shown(&proxy, &mut client), "shop");
}

#[test]
fn connections_that_wait_for_their_hello_hold_what_came_and_no_more() {
    const WAITING: usize = 400;
    let proxy = with_sites(&[("shop", "shop.test"), ("blog", "*.blog.test")])
        .daemon_file("[timeout]\nopening = '10m'\n")
        .start();
    assert_eq!(proxy.get("nobody.test", "/").status, 421);
    let before = proxy.peak_memory();
    let hello = Tls::to("shop.test").hello();
    let waiting: Vec<Client> = (0..WAITING)
        .map(|_| {
            let mut client = proxy.client();
            client.send(&hello[..hello.len() - 1]);
            client
        })
        .collect();
    // A block each would be 27 MiB.
    assert_eq!(proxy.get("nobody.test", "/").status, 421);
    let grown = proxy.peak_memory() - before;
    assert!(grown < 12 << 20, "{} KiB for {WAITING}", grown >> 10);
    for mut client in waiting {
        client.send(&hello[hello.len() - 1..]);
        assert_eq!(client.bytes(3), [22, 3, 3]);
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_hello_is_forgotten() {
    let proxy = shop_and_blog();
    let hello = Tls::to("shop.test").hello();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        stream.write_all(&hello[..300]).unwrap();
    }
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", proxy.id()))
            .unwrap()
            .count()
    };
    until("their descriptors are closed", || descriptors() < 50);
}
