//! What a client hello says, asked of real ones, of made ones, and of rustls.

use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore, version};

use super::*;
use crate::door::alert::Alert;
use crate::limits::{HELLO_EXTENSIONS, HELLO_RECORDS};

const MOST: usize = 16 << 10;

/// What a hello said, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    sni: Option<String>,
    alpn: Vec<Vec<u8>>,
    bytes: usize,
}

fn said(bytes: &[u8]) -> Result<Option<Said>, HelloRefusal> {
    let mut room = Room::default();
    Ok(match read(bytes, MOST, &mut room)? {
        Parsed::NeedMore => None,
        Parsed::Complete(hello) => Some(Said {
            sni: hello.sni.map(str::to_owned),
            alpn: hello.alpn.names().map(<[u8]>::to_vec).collect(),
            bytes: hello.bytes,
        }),
    })
}

/// The first bytes of a rustls client that asks for `name`.
fn recorded(
    name: &str,
    alpn: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory takes it");
    bytes
}

/// As today's clients send them.
fn modern() -> Vec<u8> {
    recorded(
        "Shop.Example.com",
        &["h2", "http/1.1"],
        rustls::ALL_VERSIONS,
    )
}

/// What stands in the one record of a recorded hello.
fn message_of(hello: &[u8]) -> &[u8] {
    &hello[5..]
}

/// `message` in records of these sizes, and one for the rest.
fn in_records(message: &[u8], sizes: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = message;
    for size in sizes {
        let (fragment, behind) = rest.split_at(size.min(rest.len()));
        rest = behind;
        if !fragment.is_empty() {
            push_record(&mut bytes, fragment);
        }
    }
    if !rest.is_empty() {
        push_record(&mut bytes, rest);
    }
    bytes
}

fn push_record(bytes: &mut Vec<u8>, fragment: &[u8]) {
    bytes.extend_from_slice(&[22, 3, 1]);
    bytes.extend_from_slice(&(fragment.len() as u16).to_be_bytes());
    bytes.extend_from_slice(fragment);
}

type Extension = (u16, Vec<u8>);

/// A hello as plain as can be, with these extensions.
fn made(extensions: &[Extension]) -> Vec<u8> {
    in_records(&message(&[0x13, 0x01], &[0], extensions), [1 << 14])
}

fn message(suites: &[u8], compressions: &[u8], extensions: &[Extension]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&counted(suites));
    body.push(compressions.len() as u8);
    body.extend_from_slice(compressions);
    let list: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, body)| [&kind.to_be_bytes()[..], &counted(body)].concat())
        .collect();
    body.extend_from_slice(&counted(&list));
    let mut message = vec![1];
    message.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend_from_slice(&body);
    message
}

/// Behind its length in two bytes.
fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn names(list: &[(u8, &[u8])]) -> Extension {
    let list: Vec<u8> = list
        .iter()
        .flat_map(|(kind, name)| [&[*kind][..], &counted(name)].concat())
        .collect();
    (0, counted(&list))
}

fn name(name: &[u8]) -> Extension {
    names(&[(0, name)])
}

fn protocols(list: &[&[u8]]) -> Extension {
    let list: Vec<u8> = list
        .iter()
        .flat_map(|name| [&[name.len() as u8][..], name].concat())
        .collect();
    (16, counted(&list))
}

fn signatures() -> Extension {
    (13, vec![0, 2, 4, 3])
}

#[test]
fn a_hello_says_which_name_it_asks_for_and_what_it_speaks() {
    let bytes = modern();
    assert!(bytes.len() > 1200, "no post-quantum key in {}", bytes.len());
    let said = said(&bytes).expect("well formed").expect("whole");
    assert_eq!(said.sni.as_deref(), Some("shop.example.com"));
    assert_eq!(said.alpn, [&b"h2"[..], b"http/1.1"]);
    assert_eq!(said.bytes, bytes.len());
}

#[test]
fn a_hello_of_tls_1_2_and_one_without_a_name_are_read_too() {
    let old = recorded("a.test", &[], &[&version::TLS12]);
    assert_eq!(
        said(&old).map(|said| said.and_then(|said| said.sni)),
        Ok(Some("a.test".into()))
    );
    // An address is never sent as a name (RFC 6066 3).
    let nameless = recorded("127.0.0.1", &["h2"], rustls::ALL_VERSIONS);
    let said = said(&nameless).expect("well formed").expect("whole");
    assert_eq!((said.sni, said.alpn), (None, vec![b"h2".to_vec()]));
}

#[test]
fn a_hello_without_extensions_has_no_name() {
    let mut message = message(&[0x13, 0x01], &[0], &[]);
    message.truncate(message.len() - 2);
    message[3] -= 2;
    let said = said(&in_records(&message, []))
        .expect("well formed")
        .expect("whole");
    assert_eq!((said.sni, said.alpn.len()), (None, 0));
}

#[test]
fn a_hello_that_offers_nothing_above_tls_1_1_is_outdated() {
    let is_outdated = |version: u16, extensions: &[Extension]| {
        let mut message = message(&[0x13, 0x01], &[0], extensions);
        message[4..6].copy_from_slice(&version.to_be_bytes());
        let bytes = in_records(&message, []);
        let mut room = Room::default();
        match read(&bytes, MOST, &mut room) {
            Ok(Parsed::Complete(hello)) => hello.is_outdated,
            other => panic!("{other:?}"),
        }
    };
    let offering = |versions: &[u8]| {
        let list = [&[versions.len() as u8][..], versions].concat();
        [name(b"a.test"), (43, list)]
    };
    for (version, is_old) in [
        (0x0300, true),
        (0x0301, true),
        (0x0302, true),
        (0x0303, false),
    ] {
        assert_eq!(
            is_outdated(version, &[name(b"a.test")]),
            is_old,
            "{version:x}"
        );
        // What is offered counts, whatever is said besides; GREASE is nothing (RFC 8701).
        assert!(!is_outdated(version, &offering(&[0x3a, 0x3a, 3, 4, 3, 1])));
        assert!(!is_outdated(version, &offering(&[3, 2, 3, 3])));
        assert!(is_outdated(version, &offering(&[0x3a, 0x3a, 3, 2, 3, 1])));
        // Of a list that is none the library tells what is wrong.
        assert!(!is_outdated(
            version,
            &[name(b"a.test"), (43, vec![9, 3, 1])]
        ));
    }
}

/// What is asked of any bytes: a refusal is never taken back, and the answer does not depend on what follows.
fn is_steady(bytes: &[u8]) {
    let whole = said(bytes);
    let Ok(Some(hello)) = &whole else {
        let mut refused = None;
        for cut in 0..=bytes.len() {
            let now = said(&bytes[..cut]);
            assert!(
                !matches!(now, Ok(Some(_))),
                "complete only in the first {cut} bytes"
            );
            let now = now.err();
            assert!(
                refused.is_none() || refused == now,
                "{refused:?}, then {now:?}"
            );
            refused = now;
        }
        return;
    };
    for cut in 0..hello.bytes {
        assert_eq!(said(&bytes[..cut]), Ok(None), "the first {cut} bytes");
    }
    assert_eq!(&said(&bytes[..hello.bytes]), &whole);
    assert_eq!(
        &said(&[&bytes[..hello.bytes], b"\x17\x03\x03 early"].concat()),
        &whole
    );
}

#[test]
fn every_prefix_needs_more_and_what_follows_changes_nothing() {
    is_steady(&modern());
    is_steady(&in_records(message_of(&modern()), [1, 1, 1, 1, 1, 60, 9]));
    is_steady(&made(&[name(b"a.test."), signatures()]));
    is_steady(&made(&[name(b"a.test"), name(b"b.test")]));
}

#[test]
fn a_hello_in_many_records_is_the_same_hello() {
    let bytes = modern();
    let message = message_of(&bytes);
    let whole = said(&bytes).expect("well formed").expect("whole");
    for count in 2..=50 {
        let size = message.len().div_ceil(count);
        let cut = in_records(message, (0..count).map(|_| size));
        let again = said(&cut).expect("well formed").expect("whole");
        assert_eq!(
            (again.sni, again.alpn),
            (whole.sni.clone(), whole.alpn.clone())
        );
        assert_eq!(again.bytes, cut.len());
    }
    // Wherever the one cut is: inside of the header, of a length, of the name.
    for at in 1..message.len() {
        let cut = in_records(message, [at]);
        let again = said(&cut).expect("well formed").expect("whole");
        assert_eq!(again.sni, whole.sni, "cut at {at}");
    }
}

#[test]
fn a_hello_may_have_16_kib_and_no_more() {
    let filled = |bytes: usize| {
        let empty = message(
            &[0x13, 0x01],
            &[0],
            &[name(b"a.test"), (0x2a2a, Vec::new())],
        );
        let padding = vec![0; 4 + bytes - empty.len()];
        let message = message(&[0x13, 0x01], &[0], &[name(b"a.test"), (0x2a2a, padding)]);
        in_records(&message, [1 << 14])
    };
    let said_of_largest = said(&filled(MOST)).expect("allowed").expect("whole");
    assert_eq!(said_of_largest.sni.as_deref(), Some("a.test"));
    assert_eq!(said(&filled(MOST + 1)), Err(HelloRefusal::TooLong));
    assert_eq!(
        said(&filled(MOST + 1)[..9]),
        Err(HelloRefusal::TooLong),
        "by its length alone"
    );
    assert_eq!(
        said(&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]),
        Err(HelloRefusal::TooLong)
    );
}

#[test]
fn what_is_no_client_hello_is_refused_with_the_alert_for_it() {
    let message = message_of(&modern()).to_vec();
    let with = |at: usize, byte: u8| {
        let mut bytes = modern();
        bytes[at] = byte;
        bytes
    };
    let mut interrupted = in_records(&message[..20], []);
    interrupted.extend_from_slice(&[21, 3, 3, 0, 2, 1, 0]);
    let mut empty_between = in_records(&message[..20], []);
    empty_between.extend_from_slice(&[22, 3, 1, 0, 0]);
    let behind = in_records(&[&message[..], b"\x0b"].concat(), [1 << 14]);
    let pieces = in_records(&message, vec![1; HELLO_RECORDS + 1]);
    for (what, bytes, refusal, alert) in [
        (
            "an alert",
            vec![21, 3, 3, 0, 2, 1, 0],
            HelloRefusal::Unexpected,
            Alert::UnexpectedMessage,
        ),
        (
            "application data",
            with(0, 23),
            HelloRefusal::Unexpected,
            Alert::UnexpectedMessage,
        ),
        (
            "a change of cipher",
            with(0, 20),
            HelloRefusal::Unexpected,
            Alert::UnexpectedMessage,
        ),
        (
            "a server hello",
            with(5, 2),
            HelloRefusal::Unexpected,
            Alert::UnexpectedMessage,
        ),
        (
            "an alert in the middle",
            interrupted,
            HelloRefusal::Unexpected,
            Alert::UnexpectedMessage,
        ),
        (
            "more behind it",
            behind,
            HelloRefusal::Unexpected,
            Alert::UnexpectedMessage,
        ),
        (
            "another protocol",
            with(1, 2),
            HelloRefusal::Version,
            Alert::ProtocolVersion,
        ),
        (
            "a long record",
            vec![22, 3, 1, 0x40, 1],
            HelloRefusal::RecordTooLong,
            Alert::RecordOverflow,
        ),
        (
            "an empty record",
            vec![22, 3, 1, 0, 0],
            HelloRefusal::EmptyRecord,
            Alert::DecodeError,
        ),
        (
            "one in the middle",
            empty_between,
            HelloRefusal::EmptyRecord,
            Alert::DecodeError,
        ),
        (
            "too many records",
            pieces,
            HelloRefusal::TooManyRecords,
            Alert::DecodeError,
        ),
    ] {
        assert_eq!(said(&bytes), Err(refusal), "{what}");
        assert_eq!(refusal.alert(), alert, "{what}");
    }
}

#[test]
fn a_message_whose_lengths_do_not_fit_is_malformed() {
    let good = message(&[0x13, 0x01], &[0], &[name(b"a.test")]);
    let longer = |by: &[u8]| {
        let mut message = [&good[..], by].concat();
        message[3] += by.len() as u8;
        in_records(&message, [])
    };
    assert_eq!(said(&longer(b"x")), Err(HelloRefusal::Malformed));
    let many: Vec<Extension> = (0..=HELLO_EXTENSIONS as u16)
        .map(|n| (1000 + n, vec![]))
        .collect();
    for (what, message, refusal) in [
        (
            "no suites",
            message(&[], &[0], &[]),
            HelloRefusal::Malformed,
        ),
        (
            "half a suite",
            message(&[1, 2, 3], &[0], &[]),
            HelloRefusal::Malformed,
        ),
        (
            "no compression list",
            message(&[1, 2], &[], &[]),
            HelloRefusal::Malformed,
        ),
        (
            "only compressed",
            message(&[1, 2], &[1], &[]),
            HelloRefusal::Compression,
        ),
        (
            "too many extensions",
            message(&[1, 2], &[0], &many),
            HelloRefusal::TooManyExtensions,
        ),
        (
            "an extension twice",
            message(&[1, 2], &[0], &[(7, vec![]), (7, vec![])]),
            HelloRefusal::Twice,
        ),
        (
            "a key not last",
            message(&[1, 2], &[0], &[(41, vec![]), (7, vec![])]),
            HelloRefusal::KeyNotLast,
        ),
        (
            "a name cut off",
            message(&[1, 2], &[0], &[(0, vec![0, 9, 0, 0, 6, b'a'])]),
            HelloRefusal::Malformed,
        ),
        (
            "no names",
            message(&[1, 2], &[0], &[names(&[])]),
            HelloRefusal::Malformed,
        ),
        (
            "nothing at all",
            message(&[1, 2], &[0], &[(0, vec![])]),
            HelloRefusal::Malformed,
        ),
        (
            "no protocols",
            message(&[1, 2], &[0], &[protocols(&[])]),
            HelloRefusal::Malformed,
        ),
        (
            "a protocol without a name",
            message(&[1, 2], &[0], &[protocols(&[b"h2", b""])]),
            HelloRefusal::Malformed,
        ),
    ] {
        assert_eq!(said(&in_records(&message, [])), Err(refusal), "{what}");
    }
}

#[test]
fn a_name_is_one_that_a_site_could_have_or_refused() {
    let long = [
        b"a".repeat(63),
        b"a".repeat(63),
        b"a".repeat(63),
        b"a".repeat(61),
    ]
    .join(&b'.');
    assert_eq!(long.len(), 253);
    for good in [
        &b"a.test"[..],
        b"A.Test",
        b"localhost",
        b"_x.test",
        b"xn--bcher-kva.test",
        &long,
    ] {
        let said = said(&made(&[name(good)]))
            .expect("a good name")
            .expect("whole");
        assert_eq!(
            said.sni.map(String::into_bytes),
            Some(good.to_ascii_lowercase())
        );
    }
    let too_long = [&long[..], b"a"].concat();
    for bad in [
        &b""[..],
        b".",
        b"a.test.",
        b"a..test",
        b".test",
        b"a.test:443",
        b"a.test:",
        b"a\0.test",
        b"a\n.test",
        b"b\xfccher.test",
        b"a b.test",
        b"*.test",
        b"127.0.0.1",
        b"[::1]",
        b"::1",
        b"10.0",
        b"1",
        &too_long,
        &b"a".repeat(64),
    ] {
        assert_eq!(
            said(&made(&[name(bad)])),
            Err(HelloRefusal::Name),
            "{}",
            bad.escape_ascii()
        );
    }
    assert_eq!(HelloRefusal::Name.alert(), Alert::IllegalParameter);
}

#[test]
fn two_names_are_never_a_choice() {
    let twice = |extensions: &[Extension]| said(&made(extensions));
    assert_eq!(
        twice(&[name(b"a.test"), name(b"b.test")]),
        Err(HelloRefusal::Twice)
    );
    assert_eq!(
        twice(&[names(&[(0, b"a.test"), (0, b"b.test")])]),
        Err(HelloRefusal::Twice)
    );
    assert_eq!(
        twice(&[names(&[(0, b"a.test"), (7, b"b.test")])]),
        Err(HelloRefusal::NameType)
    );
    assert_eq!(
        twice(&[names(&[(7, b"a.test")])]),
        Err(HelloRefusal::NameType)
    );
}

#[test]
fn grease_and_an_encrypted_hello_change_nothing() {
    let grease = |n: u16| (0x0a0a + 0x1010 * n, vec![0; usize::from(n)]);
    let message = message(
        &[0x2a, 0x2a, 0x13, 0x01],
        &[0],
        &[
            grease(3),
            (0xfe0d, vec![0; 200]),
            name(b"public.test"),
            protocols(&[b"\x0a\x0a", b"h2"]),
            (43, vec![4, 0x3a, 0x3a, 3, 4]),
            grease(9),
        ],
    );
    let said = said(&in_records(&message, []))
        .expect("well formed")
        .expect("whole");
    assert_eq!(said.sni.as_deref(), Some("public.test"), "the outer name");
    assert_eq!(said.alpn, [&b"\x0a\x0a"[..], b"h2"]);
}

/// The corpus of the fuzz target `client_hello`, and what the target asks of it.
#[test]
fn the_fuzz_corpus_is_read_alike_however_it_arrives() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/client_hello");
    let files: Vec<_> = std::fs::read_dir(folder).expect("a corpus").collect();
    assert!(files.len() > 10, "{}", files.len());
    for file in files {
        let bytes = std::fs::read(file.expect("entry").path()).expect("corpus file");
        is_steady(&bytes);
        agrees_with_rustls(&bytes);
    }
}

/// What rustls reads from the same bytes.
fn oracle(mut bytes: &[u8]) -> Result<Option<Said>, rustls::Error> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).expect("memory gives it");
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return Ok(Some(Said {
                    sni: hello.server_name().map(str::to_owned),
                    alpn: hello
                        .alpn()
                        .into_iter()
                        .flatten()
                        .map(<[u8]>::to_vec)
                        .collect(),
                    bytes: 0,
                }));
            }
            Err((error, _)) => return Err(error),
        }
    }
    Ok(None)
}

/// What we accept rustls reads with the same name and protocols. Each way in which the two may differ is listed.
fn agrees_with_rustls(bytes: &[u8]) {
    let ours = said(bytes);
    let theirs = oracle(bytes);
    match (&ours, &theirs) {
        (Ok(Some(ours)), Ok(Some(theirs))) => {
            assert_eq!((&ours.sni, &ours.alpn), (&theirs.sni, &theirs.alpn));
        }
        // It reads more of a hello than we do: what is left when the rest is taken out must be the same.
        (Ok(Some(ours)), Err(error)) => match oracle(&bare(bytes)) {
            Ok(theirs) => {
                let theirs = theirs.expect("whole");
                assert_eq!(
                    (&ours.sni, &ours.alpn),
                    (&theirs.sni, &theirs.alpn),
                    "{error}"
                );
            }
            Err(error) => {
                let no_name = rustls::PeerMisbehaved::ServerNameMustContainOneHostName;
                assert_eq!(error, no_name.into());
                assert!(
                    ours.sni.as_deref().is_some_and(only_a_site_could_have),
                    "{ours:?}"
                );
            }
        },
        (Err(refusal), Ok(Some(theirs))) => assert!(
            match refusal {
                // Bounds of ours.
                HelloRefusal::TooLong
                | HelloRefusal::TooManyRecords
                | HelloRefusal::TooManyExtensions => true,
                // It reads past empty records, and past names of unknown types.
                HelloRefusal::EmptyRecord | HelloRefusal::NameType => true,
                // It takes an address for no name, and a final dot for none of its business.
                HelloRefusal::Name => theirs
                    .sni
                    .as_ref()
                    .is_none_or(|name| has(bytes, &format!("{name}."))),
                _ => false,
            },
            "{refusal:?} is {theirs:?} to rustls"
        ),
        (Ok(None), Ok(Some(theirs))) => panic!("not whole, and {theirs:?} to rustls"),
        (Ok(Some(ours)), Ok(None)) => panic!("{ours:?}, and not whole to rustls"),
        (Err(_) | Ok(None), Ok(None) | Err(_)) => {}
    }
}

/// Whether this text stands in the message, in any case.
fn has(bytes: &[u8], text: &str) -> bool {
    let mut room = Vec::new();
    match records::reassemble(bytes, MOST, &mut room) {
        Ok(Parsed::Complete((body, _))) => {
            let body = body.to_ascii_lowercase();
            body.windows(text.len()).any(|part| part == text.as_bytes())
        }
        _ => false,
    }
}

/// Names that may be asked for in Host, and that rustls takes for none: a hyphen at the end of a label, a last label
/// that some take for a number. No harm where bytes are passed through; where rustls ends TLS it says so itself.
fn only_a_site_could_have(name: &str) -> bool {
    name.split('.')
        .any(|label| label.starts_with('-') || label.ends_with('-'))
        || name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.starts_with("0x"))
}

/// The same hello with no extensions but those we read, and one that rustls wants.
fn bare(bytes: &[u8]) -> Vec<u8> {
    let mut room = Vec::new();
    let Ok(Parsed::Complete((body, _))) = records::reassemble(bytes, MOST, &mut room) else {
        panic!("accepted and not whole");
    };
    let mut kept = vec![signatures()];
    if let (_, Some(mut list)) = parts(body).expect("accepted") {
        while let Ok(kind) = list.number::<2>() {
            let extension = (kind as u16, list.list::<2>().expect("accepted").0.to_vec());
            if matches!(kind, 0 | 16) {
                kept.push(extension);
            }
        }
    }
    made(&kept)
}

/// Hellos to begin with, made once.
fn bases() -> &'static [Vec<u8>] {
    static BASES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    BASES.get_or_init(|| {
        vec![
            modern(),
            recorded("a.test", &["h2"], &[&version::TLS12]),
            made(&[
                name(b"a.test"),
                protocols(&[b"h2", b"http/1.1"]),
                signatures(),
            ]),
            in_records(
                &message(&[1, 2], &[0], &[name(b"a.test"), signatures()]),
                [4, 20, 24, 6],
            ),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_hello_with_bytes_changed_is_the_same_to_rustls_or_refused(
        base in 0..4usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8, any::<bool>()), 0..4),
        cuts in prop::collection::vec(1..400usize, 0..8),
        is_cut: bool,
    ) {
        let mut bytes = bases()[base].clone();
        for (at, byte, kind, is_early) in edits {
            // The end of a large hello is one long key; most of what can go wrong stands in front of it.
            let at = at.index(if is_early { bytes.len().min(300) } else { bytes.len() });
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        if is_cut && bytes.len() > 5 {
            bytes = in_records(&bytes[5..], cuts);
        }
        is_steady(&bytes);
        agrees_with_rustls(&bytes);
    }

    #[test]
    fn whatever_stands_in_a_hello_it_is_the_same_to_rustls_or_refused(
        asked in prop::collection::vec(prop_oneof![
            "[a-zA-Z0-9_-]{1,5}([.][a-zA-Z0-9_-]{1,5}){0,3}[.]?",
            "[0-9a-fx:.\\[\\]]{1,9}",
            "(a\\.b|0x1f|-a\\.test|a-\\.test|127\\.0\\.0\\.1|x\\.1)",
            "\\PC{0,5}",
        ], 0..3),
        name_types in prop::collection::vec(prop_oneof![9 => Just(0u8), 1 => any::<u8>()], 3),
        offered in prop::option::of(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..4)),
        others in prop::collection::vec((prop_oneof![
            (0..16u16).prop_map(|n| 0x0a0a + 0x1010 * n), 1000..1010u16, Just(41u16), Just(0xfe0d)
        ], prop::collection::vec(any::<u8>(), 0..9)), 0..4),
        order in any::<prop::sample::Index>(),
        with_signatures in prop::bool::weighted(0.9),
        cuts in prop::collection::vec(1..40usize, 0..70),
    ) {
        let asked: Vec<(u8, &[u8])> = asked.iter().zip(&name_types).map(|(name, kind)| (*kind, name.as_bytes())).collect();
        let mut extensions = others;
        extensions.push(names(&asked));
        if let Some(offered) = &offered {
            let offered: Vec<&[u8]> = offered.iter().map(Vec::as_slice).collect();
            extensions.push(protocols(&offered));
        }
        if with_signatures {
            extensions.push(signatures());
        }
        let at = order.index(extensions.len());
        extensions.rotate_left(at);
        let bytes = in_records(&message(&[0x13, 0x01], &[0], &extensions), cuts);
        is_steady(&bytes);
        agrees_with_rustls(&bytes);
    }
}
