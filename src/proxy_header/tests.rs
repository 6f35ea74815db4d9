//! Headers that are read, refused and written.

use proptest::prelude::*;

use super::*;

fn ends(client: &str, local: &str) -> Ends {
    Ends {
        client: client.parse().expect("an address"),
        local: local.parse().expect("an address"),
    }
}

fn four() -> Ends {
    ends("192.0.2.7:50000", "198.51.100.1:443")
}

/// A header of version 2 as it must be, with these extensions.
fn v2(command: u8, family: u8, addresses: &[u8], extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = V2.to_vec();
    let extensions: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, value)| {
            [&[*kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
        })
        .collect();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&((addresses.len() + extensions.len()) as u16).to_be_bytes());
    bytes.extend_from_slice(addresses);
    bytes.extend_from_slice(&extensions);
    bytes
}

const FOUR: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0x50, 1, 0xbb];

/// What is asked of any bytes: a refusal is never taken back, and the answer does not depend on what follows.
fn is_steady(bytes: &[u8]) {
    let whole = read(bytes);
    let Ok(Parsed::Complete(header)) = whole else {
        let mut refused = None;
        for cut in 0..=bytes.len() {
            let now = read(&bytes[..cut]);
            assert!(
                !matches!(now, Ok(Parsed::Complete(_))),
                "complete only in the first {cut} bytes"
            );
            assert!(
                refused.is_none() || refused == now.err(),
                "{refused:?}, then {now:?}"
            );
            refused = now.err();
        }
        return;
    };
    for cut in 0..header.bytes {
        assert_eq!(
            read(&bytes[..cut]),
            Ok(Parsed::NeedMore),
            "the first {cut} bytes"
        );
    }
    assert_eq!(read(&bytes[..header.bytes]), whole);
    assert_eq!(
        read(&[&bytes[..header.bytes], b"GET / HTTP/1.1"].concat()),
        whole
    );
}

#[track_caller]
fn says(bytes: &[u8], ends: Option<Ends>) {
    is_steady(bytes);
    let header = ProxyHeader {
        ends,
        bytes: bytes.len(),
    };
    assert_eq!(
        read(bytes),
        Ok(Parsed::Complete(header)),
        "{}",
        bytes.escape_ascii()
    );
}

#[test]
fn a_header_says_who_the_client_is() {
    says(
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n",
        Some(four()),
    );
    says(
        b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 443\r\n",
        Some(ends("[2001:db8::7]:50000", "[2001:db8::1]:443")),
    );
    says(&v2(0x21, 0x11, &FOUR, &[]), Some(four()));
    let six: Vec<u8> = [&[0x20; 16][..], &[0x30; 16], &FOUR[8..]].concat();
    says(
        &v2(0x21, 0x21, &six, &[(0xea, b"amazon"), (4, b"")]),
        Some(ends(
            "[2020:2020:2020:2020:2020:2020:2020:2020]:50000",
            "[3030:3030:3030:3030:3030:3030:3030:3030]:443",
        )),
    );
}

#[test]
fn a_proxy_that_speaks_for_itself_or_does_not_know_is_the_client() {
    says(b"PROXY UNKNOWN\r\n", None);
    says(b"PROXY UNKNOWN ffff:f...f:ffff whatever 1\r\n", None);
    says(&v2(0x20, 0, &[], &[]), None);
    says(&v2(0x20, 0x11, &FOUR, &[]), None);
    says(&v2(0x20, 0x77, b"anything", &[]), None);
    says(&v2(0x21, 0, b"ignored", &[]), None);
    says(&v2(0x21, 0x31, &[0; 216], &[]), None);
}

#[test]
fn what_is_not_spelt_as_it_must_be_is_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 50000\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 50000 443 1\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 50000 443 \r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 50000 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 050000 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +5000 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 50000 443\r\n",
        "PROXY TCP4 192.0.02.7 198.51.100.1 50000 443\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::1 50000 443\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 50000 443\r\n",
        "PROXY TCP6 fe80::1%eth0 fe80::2 50000 443\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 50000 443\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 50000 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\rx",
        "PROXY TCP4\t192.0.2.7 198.51.100.1 50000 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\0\r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(NoHeader::Malformed), "{line:?}");
        is_steady(line.as_bytes());
    }
    for (what, bytes) in [
        ("another version", v2(0x11, 0x11, &FOUR, &[])),
        ("another command", v2(0x22, 0x11, &FOUR, &[])),
        ("UDP", v2(0x21, 0x12, &FOUR, &[])),
        ("too short for its family", v2(0x21, 0x21, &FOUR, &[])),
        (
            "an extension cut off",
            v2(0x21, 0x11, &[&FOUR[..], &[1, 0, 9, 1]].concat(), &[]),
        ),
        (
            "half an extension",
            v2(0x21, 0x11, &[&FOUR[..], &[1, 0]].concat(), &[]),
        ),
        ("a short checksum", v2(0x21, 0x11, &FOUR, &[(3, b"sum")])),
        ("a wrong checksum", v2(0x21, 0x11, &FOUR, &[(3, b"sum!")])),
    ] {
        assert_eq!(read(&bytes), Err(NoHeader::Malformed), "{what}");
        is_steady(&bytes);
    }
}

#[test]
fn what_begins_as_something_else_has_no_header() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PRI * HTTP/2.0",
        b"PROXYTCP4",
        b"proxy TCP4",
        b"\x16\x03\x01",
        b"\r\nGET",
    ] {
        assert_eq!(
            read(bytes),
            Err(NoHeader::Absent),
            "{}",
            bytes.escape_ascii()
        );
        is_steady(bytes);
    }
    // As long as it may still be one, it is waited for.
    for bytes in [&b""[..], b"P", b"PR", b"PROXY", b"\r", b"\r\n\r\n\0\r\nQ"] {
        assert_eq!(read(bytes), Ok(Parsed::NeedMore));
    }
}

#[test]
fn a_line_has_107_bytes_and_a_header_its_limit() {
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n";
    assert_eq!(longest.len(), 104);
    assert!(matches!(read(longest.as_bytes()), Ok(Parsed::Complete(_))));
    let unknown = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
    assert!(matches!(
        read(unknown(107).as_bytes()),
        Ok(Parsed::Complete(_))
    ));
    assert_eq!(read(unknown(108).as_bytes()), Err(NoHeader::Malformed));
    assert_eq!(
        read(&unknown(300).as_bytes()[..107]),
        Err(NoHeader::Malformed),
        "an endless line"
    );
    is_steady(unknown(107).as_bytes());
    is_steady(unknown(108).as_bytes());

    let filled = |bytes: usize| v2(0x21, 0x11, &FOUR, &[(4, &vec![0; bytes - 31])]);
    assert_eq!(filled(PROXY_HEADER_BYTES).len(), PROXY_HEADER_BYTES);
    says(&filled(PROXY_HEADER_BYTES), Some(four()));
    assert_eq!(
        read(&filled(PROXY_HEADER_BYTES + 1)[..16]),
        Err(NoHeader::TooLong),
        "by its length alone"
    );
}

#[test]
fn a_checksum_must_be_right_and_stand_there_once() {
    // RFC 3720 B.4.
    assert_eq!(crc32c([0; 32].iter()), 0x8a91_36aa);
    assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
    let unsummed = v2(0x21, 0x11, &FOUR, &[(3, &[0; 4]), (4, b"x")]);
    let sum = crc32c(unsummed.iter()).to_be_bytes();
    let summed = v2(0x21, 0x11, &FOUR, &[(3, &sum), (4, b"x")]);
    says(&summed, Some(four()));
    let changed = v2(0x21, 0x11, &FOUR, &[(3, &sum), (4, b"y")]);
    assert_eq!(read(&changed), Err(NoHeader::Malformed));
    assert_eq!(
        read(&v2(0x21, 0x11, &FOUR, &[(3, &sum), (3, &sum)])),
        Err(NoHeader::Malformed)
    );
}

fn written(version: SendProxy, ends: Ends, beside: Beside<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write(&mut out, version, ends, beside);
    out.split_off(6)
}

#[test]
fn a_backend_is_told_in_the_one_spelling() {
    assert_eq!(
        written(SendProxy::V1, four(), Beside::default()),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n"
    );
    let beside = Beside {
        sni: Some("a.test"),
        alpn: b"http/1.1",
    };
    assert_eq!(
        written(SendProxy::V2, four(), beside),
        v2(0x21, 0x11, &FOUR, &[(2, b"a.test"), (1, b"http/1.1")])
    );
    let mapped = ends("[::ffff:192.0.2.7]:50000", "198.51.100.1:443");
    assert_eq!(
        written(SendProxy::V2, mapped, Beside::default()),
        v2(0x21, 0x11, &FOUR, &[])
    );
    let mixed = ends("192.0.2.7:50000", "[2001:db8::1]:443");
    assert_eq!(
        written(SendProxy::V1, mixed, Beside::default()),
        b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 50000 443\r\n"
    );
}

#[test]
fn what_a_client_chose_cannot_make_a_header_too_long() {
    let sni = "a".repeat(253);
    let alpn = vec![b'x'; 16 << 10];
    let bytes = written(
        SendProxy::V2,
        four(),
        Beside {
            sni: Some(&sni),
            alpn: &alpn,
        },
    );
    assert_eq!(bytes, v2(0x21, 0x11, &FOUR, &[(2, sni.as_bytes())]));
}

/// The corpus of the fuzz target `proxy_header`, and what the target asks of it.
#[test]
fn the_fuzz_corpus_is_read_alike_however_it_arrives() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/proxy_header");
    let files: Vec<_> = std::fs::read_dir(folder).expect("a corpus").collect();
    assert!(files.len() > 5, "{}", files.len());
    for file in files {
        is_steady(&std::fs::read(file.expect("entry").path()).expect("corpus file"));
    }
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was_meant(
        client in address(),
        local in address(),
        sni in prop::option::of("[a-z.]{1,253}"),
        alpn in prop::collection::vec(any::<u8>(), 0..5000),
    ) {
        let meant = of_one_family(Ends { client, local });
        for version in [SendProxy::V1, SendProxy::V2] {
            let bytes = written(version, Ends { client, local }, Beside { sni: sni.as_deref(), alpn: &alpn });
            prop_assert!(bytes.len() <= PROXY_HEADER_BYTES);
            let header = ProxyHeader { ends: Some(meant), bytes: bytes.len() };
            prop_assert_eq!(read(&bytes), Ok(Parsed::Complete(header)));
            let behind = [&bytes[..], b"\x16\x03\x01"].concat();
            prop_assert_eq!(read(&behind), Ok(Parsed::Complete(header)));
        }
    }

    #[test]
    fn bytes_changed_are_read_alike_however_they_arrive(
        is_text: bool,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..4),
    ) {
        let mut bytes = if is_text {
            b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\nGET /".to_vec()
        } else {
            [&v2(0x21, 0x11, &FOUR, &[(2, b"a.test"), (1, b"h2")])[..], b"GET /"].concat()
        };
        for (at, byte, is_inserted) in edits {
            let at = at.index(bytes.len());
            if is_inserted {
                bytes.insert(at, byte);
            } else {
                bytes[at] = byte;
            }
        }
        is_steady(&bytes);
    }
}

#[test]
fn a_header_of_our_own_says_that_we_speak_for_ourselves() {
    for version in [SendProxy::V1, SendProxy::V2] {
        let mut header = Vec::new();
        write_own(&mut header, version);
        let bytes = header.len();
        header.extend_from_slice(b"GET / HTTP/1.1\r\n");
        let read = ProxyHeader { ends: None, bytes };
        assert_eq!(super::read(&header), Ok(Parsed::Complete(read)));
    }
}
