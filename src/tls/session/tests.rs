//! Against the library's own connections, and against itself, in memory.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ServerConfig, UnbufferedServerConnection};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, ContentType, Error, HandshakeType,
    PeerMisbehaved, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion, version,
};

use super::forge::Forge;
use super::{BESIDE_BYTES, Opened, Session};
use crate::tls::shake::{Handshake, Step};

/// A version and a cipher.
pub(in crate::tls) fn suites() -> impl Strategy<Value = SupportedCipherSuite> {
    proptest::sample::select(aws_lc_rs::ALL_CIPHER_SUITES.to_vec())
}

/// A certificate and its key.
struct Shown(CertificateDer<'static>, PrivateKeyDer<'static>);

fn shown(key: &rcgen::KeyPair) -> Shown {
    let params = rcgen::CertificateParams::new(["shop.test".to_owned()]).expect("names");
    let cert = params.self_signed(key).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    Shown(cert.der().clone(), key)
}

static ECDSA: LazyLock<Shown> =
    LazyLock::new(|| shown(&rcgen::KeyPair::generate().expect("a key")));
static RSA: LazyLock<Shown> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    shown(&key.expect("a key"))
});

/// Both configurations, for this one cipher.
pub(in crate::tls) fn configs(
    suite: SupportedCipherSuite,
) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let Shown(cert, key) = match format!("{:?}", suite.suite()).contains("_RSA_") {
        true => &*RSA,
        false => &*ECDSA,
    };
    let (cert, key) = (cert.clone(), key.clone_key());
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![suite],
        ..aws_lc_rs::default_provider()
    });
    let versions: &[&SupportedProtocolVersion] = &[suite.version()];
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key)
        .unwrap();
    server.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // For those that are forged.
    client.enable_secret_extraction = true;
    (Arc::new(client), Arc::new(server))
}

pub(in crate::tls) fn shop() -> ServerName<'static> {
    ServerName::try_from("shop.test").unwrap()
}

/// Our session as the server, and the library's client.
fn with_a_client_of_the_library(suite: SupportedCipherSuite) -> (Session, ClientConnection) {
    let (client, server) = configs(suite);
    let mut client = ClientConnection::new(client, shop()).unwrap();
    let mut server = UnbufferedServerConnection::new(server).unwrap();
    let mut held = Vec::new();
    while client.is_handshaking() || server.common().is_handshaking() {
        let out = answer(&mut server, &mut held);
        client.read_tls(&mut &out[..]).unwrap();
        client.process_new_packets().unwrap();
        while client.wants_write() {
            client.write_tls(&mut held).unwrap();
        }
    }
    let out = answer(&mut server, &mut held);
    client.read_tls(&mut &out[..]).unwrap();
    client.process_new_packets().unwrap();
    assert!(held.is_empty());
    (Session::new(server.finish()), client)
}

/// Both have shaken hands; what the server says behind it has come to the client.
fn shaken(
    suite: SupportedCipherSuite,
) -> (
    UnbufferedClientConnection,
    UnbufferedServerConnection,
    Vec<u8>,
) {
    let (client, server) = configs(suite);
    let mut client = UnbufferedClientConnection::new(client, shop()).unwrap();
    let mut server = UnbufferedServerConnection::new(server).unwrap();
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    let mut late = Vec::new();
    for _ in 0..5 {
        if client.common().is_handshaking() {
            to_server.extend(answer(&mut client, &mut to_client));
        } else {
            // Tickets.
            late.append(&mut to_client);
        }
        to_client.extend(answer(&mut server, &mut to_server));
    }
    late.append(&mut to_client);
    (client, server, late)
}

/// Our session on both sides: the client, the server.
fn both(suite: SupportedCipherSuite) -> (Session, Session) {
    let (client, server, mut late) = shaken(suite);
    let mut client = Session::new(client.finish());
    let opened = open(&mut client, &mut late, &mut Vec::new());
    assert_eq!(opened.error, None);
    assert_eq!(opened.sealed, late.len());
    (client, Session::new(server.finish()))
}

/// A client that says what it likes, and our session as the server.
fn forged(suite: SupportedCipherSuite) -> (Forge, Session) {
    let (client, server, _) = shaken(suite);
    (Forge::of(client), Session::new(server.finish()))
}

fn answer(handshake: &mut impl Handshake, held: &mut Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let (done, step) = handshake.step(held, &mut out);
        held.drain(..done);
        if step.unwrap() == Step::Wait {
            return out;
        }
    }
}

fn open(session: &mut Session, sealed: &mut [u8], clear: &mut Vec<u8>) -> Opened {
    let mut to = vec![0; 64 << 10];
    let opened = session.open(sealed, &mut to, &mut Vec::new());
    clear.extend_from_slice(&to[..opened.clear]);
    opened
}

fn seal(session: &mut Session, clear: &[u8]) -> Vec<u8> {
    let mut out = vec![0; clear.len() * 2 + (64 << 10)];
    let (taken, length) = session.seal(clear, &mut out, &mut []).unwrap();
    assert_eq!(taken, clear.len());
    out.truncate(length);
    out
}

pub(in crate::tls) fn tls13() -> SupportedCipherSuite {
    aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384
}

pub(in crate::tls) fn tls12() -> SupportedCipherSuite {
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_client_of_the_library_is_read_in_any_pieces(
        suite in suites(),
        texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40_000), 1..4),
        cuts in proptest::collection::vec(1usize..20_000, 1..20),
        rooms in proptest::collection::vec(1usize..40_000, 1..20),
        new_keys in any::<bool>(),
    ) {
        let (mut ours, mut theirs) = with_a_client_of_the_library(suite);
        let mut wire = Vec::new();
        for text in &texts {
            theirs.set_buffer_limit(None);
            theirs.writer().write_all(text).unwrap();
            while theirs.wants_write() {
                theirs.write_tls(&mut wire).unwrap();
            }
            if new_keys && suite.version() == &version::TLS13 {
                theirs.refresh_traffic_keys().unwrap();
            }
        }
        theirs.send_close_notify();
        while theirs.wants_write() {
            theirs.write_tls(&mut wire).unwrap();
        }
        let mut held = Vec::new();
        let mut clear = Vec::new();
        let mut rooms = rooms.iter().cycle();
        let mut cuts = cuts.iter().cycle();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            rest = behind;
            held.extend_from_slice(piece);
            loop {
                let mut to = vec![0; *rooms.next().unwrap()];
                let mut over = Vec::new();
                let opened = ours.open(&mut held, &mut to, &mut over);
                prop_assert_eq!(opened.error, None);
                held.drain(..opened.sealed);
                clear.extend_from_slice(&to[..opened.clear]);
                clear.extend_from_slice(&over);
                if opened.sealed == 0 {
                    break;
                }
            }
            prop_assert!(held.len() < (16 << 10) + 256 + 5, "{} bytes held", held.len());
        }
        prop_assert!(ours.peer_has_ended());
        prop_assert!(clear == texts.concat());
    }

    #[test]
    fn a_client_of_the_library_reads_what_is_sealed_into_any_room(
        suite in suites(),
        texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40_000), 1..4),
        rooms in proptest::collection::vec(300usize..40_000, 1..20),
        new_keys in any::<bool>(),
    ) {
        let (mut ours, mut theirs) = with_a_client_of_the_library(suite);
        let mut rooms = rooms.iter().cycle();
        let mut read = Vec::new();
        for text in &texts {
            if new_keys && suite.version() == &version::TLS13 {
                // It asks for ours too, and they come before anything else.
                theirs.refresh_traffic_keys().unwrap();
                let mut wire = Vec::new();
                while theirs.wants_write() {
                    theirs.write_tls(&mut wire).unwrap();
                }
                prop_assert_eq!(open(&mut ours, &mut wire, &mut Vec::new()).error, None);
            }
            let mut rest = &text[..];
            while !rest.is_empty() {
                let mut out = vec![0; *rooms.next().unwrap()];
                let (taken, length) = ours.seal(rest, &mut out, &mut []).unwrap();
                prop_assert!(taken > 0);
                rest = &rest[taken..];
                let mut wire = &out[..length];
                while !wire.is_empty() {
                    theirs.read_tls(&mut wire).unwrap();
                    theirs.process_new_packets().unwrap();
                    // Until there is no more for now.
                    drop(theirs.reader().read_to_end(&mut read));
                }
            }
        }
        let mut goodbye = [0; BESIDE_BYTES];
        let length = ours.end(&mut goodbye, &mut []);
        theirs.read_tls(&mut &goodbye[..length]).unwrap();
        prop_assert!(theirs.process_new_packets().unwrap().peer_has_closed());
        prop_assert!(read == texts.concat());
    }

    #[test]
    fn whatever_a_peer_says_is_read_or_refused(
        suite in suites(),
        said in proptest::collection::vec((20u8..=23, proptest::collection::vec(any::<u8>(), 0..40)), 1..8),
    ) {
        let (mut from, mut to) = forged(suite);
        let mut sealed = Vec::new();
        for (kind, payload) in &said {
            sealed.extend(from.record(ContentType::from(*kind), payload));
        }
        let mut clear = Vec::new();
        let opened = open(&mut to, &mut sealed, &mut clear);
        let left = sealed.len() - opened.sealed;
        prop_assert!(opened.error.is_some() || left == to.seen, "{opened:?}");
        let texts = said.iter().take_while(|(kind, _)| *kind == 23);
        let first: Vec<u8> = texts.flat_map(|(_, text)| text.clone()).collect();
        prop_assert!(clear.starts_with(&first));
    }

    /// Whoever has no keys can do this: turn bits about, leave out, repeat, swap, cut, and put something between.
    #[test]
    fn of_records_that_are_meddled_with_a_beginning_of_what_was_sent_is_given_out_and_nothing_behind_an_error(
        suite in suites(),
        texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..5000), 1..6),
        meddling in proptest::collection::vec((0..6u8, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
        cuts in proptest::collection::vec(1usize..6000, 1..20),
        rooms in proptest::collection::vec(1usize..10_000, 1..20),
    ) {
        let (mut from, mut ours) = forged(suite);
        let mut records: Vec<Vec<u8>> =
            texts.iter().map(|text| from.record(ContentType::ApplicationData, text)).collect();
        let good = records.concat();
        for (what, at, other) in &meddling {
            let at = at.index(records.len());
            let (place, count) = (other.index(records[at].len().max(1)), records.len());
            match what {
                0 => records[at].get_mut(place).into_iter().for_each(|byte| *byte ^= 1 << (place % 8)),
                1 => records[at].clear(),
                2 => records.insert(at, records[at].clone()),
                3 => records.swap(at, other.index(count)),
                4 => records[at].truncate(place),
                _ => records.insert(at, [23, 3, 3, 0, 20].repeat(1 + place % 5)),
            }
        }
        let wire = records.concat();
        let (mut held, mut clear, mut error) = (Vec::new(), Vec::new(), None);
        let (mut rooms, mut cuts) = (rooms.iter().cycle(), cuts.iter().cycle());
        let mut rest = &wire[..];
        while !rest.is_empty() && error.is_none() {
            let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            rest = behind;
            held.extend_from_slice(piece);
            while error.is_none() {
                let (mut to, mut over) = (vec![0; *rooms.next().unwrap()], Vec::new());
                let opened = ours.open(&mut held, &mut to, &mut over);
                held.drain(..opened.sealed);
                clear.extend_from_slice(&to[..opened.clear]);
                clear.extend_from_slice(&over);
                error = opened.error;
                if opened.sealed == 0 {
                    break;
                }
            }
        }
        prop_assert!(texts.concat().starts_with(&clear), "{} bytes nobody sent", clear.len());
        // The other way round it need not be: a record's version is ignored (RFC 8446 5.1), and half a record at the end
        // waits for its rest.
        prop_assert!(wire != good || (error.is_none() && clear == texts.concat()));
        if error.is_some() {
            let (mut over, mut good) = (Vec::new(), from.record(ContentType::ApplicationData, b"good"));
            held.extend_from_slice(rest);
            for sealed in [&mut held, &mut good] {
                let opened = ours.open(sealed, &mut [0; 9999], &mut over);
                prop_assert!(opened.clear == 0 && over.is_empty(), "{opened:?}");
            }
            prop_assert!(ours.seal(b"answer", &mut [0; 1024], &mut []).is_err());
        }
    }

    #[test]
    fn one_other_bit_is_noticed(suite in suites(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let (mut client, mut server) = both(suite);
        let mut sealed = seal(&mut client, b"GET / HTTP/1.1\r\n\r\n");
        let at = at.index(sealed.len());
        sealed[at] ^= 1u8 << bit;
        let mut clear = Vec::new();
        let opened = open(&mut server, &mut sealed, &mut clear);
        // A length that became longer waits for the rest.
        prop_assert!(opened.error.is_some() || opened.sealed == 0 || at < 5, "{opened:?}");
        prop_assert!(clear.is_empty() || at < 5);
    }
}

#[test]
fn a_record_that_is_said_twice_is_refused() {
    for suite in [tls13(), tls12()] {
        let (mut client, mut server) = both(suite);
        let sealed = seal(&mut client, b"once");
        let mut clear = Vec::new();
        assert_eq!(
            open(&mut server, &mut sealed.clone(), &mut clear).error,
            None
        );
        let again = open(&mut server, &mut sealed.clone(), &mut clear);
        assert_eq!(again.error, Some(Error::DecryptError));
        assert_eq!(clear, b"once");
    }
}

#[test]
fn what_came_before_an_error_is_read_first() {
    let (mut client, mut server) = both(tls13());
    let mut sealed = seal(&mut client, b"whole");
    let mut bad = seal(&mut client, b"bad");
    bad[10] ^= 1;
    sealed.extend_from_slice(&bad);
    let mut clear = Vec::new();
    let opened = open(&mut server, &mut sealed, &mut clear);
    assert_eq!(opened.error, Some(Error::DecryptError));
    assert_eq!(clear, b"whole");
}

#[test]
fn nothing_is_read_behind_the_end() {
    for suite in [tls13(), tls12()] {
        let (mut client, mut server) = both(suite);
        let mut sealed = seal(&mut client, b"all");
        let mut goodbye = [0; BESIDE_BYTES];
        let length = client.end(&mut goodbye, &mut []);
        sealed.extend_from_slice(&goodbye[..length]);
        sealed.extend(b"whatever this is");
        let mut clear = Vec::new();
        let opened = open(&mut server, &mut sealed, &mut clear);
        assert_eq!(opened.error, None);
        assert_eq!(opened.sealed, sealed.len());
        assert_eq!(clear, b"all");
        assert!(server.peer_has_ended());
        assert_eq!(client.end(&mut goodbye, &mut []), 0, "said once");
        // And the other way is still open.
        let mut back = seal(&mut server, b"half-closed");
        let mut clear = Vec::new();
        assert_eq!(open(&mut client, &mut back, &mut clear).error, None);
        assert_eq!(clear, b"half-closed");
    }
}

/// The same thing again and again.
fn flood(mut one: impl FnMut(&mut Forge) -> Vec<u8>, suite: SupportedCipherSuite) -> Error {
    let (mut client, mut server) = forged(suite);
    for _ in 0..100 {
        let mut sealed = one(&mut client);
        if let Some(error) = open(&mut server, &mut sealed, &mut Vec::new()).error {
            return error;
        }
    }
    panic!("there was no end to it");
}

#[test]
fn a_flood_of_empty_records_is_cut() {
    for suite in [tls13(), tls12()] {
        let empty = |client: &mut Forge| client.record(ContentType::ApplicationData, b"");
        assert_eq!(
            flood(empty, suite),
            PeerMisbehaved::TooManyEmptyFragments.into()
        );
    }
}

#[test]
fn a_flood_of_warnings_is_cut() {
    let warning = |alert: AlertDescription| {
        move |client: &mut Forge| client.record(ContentType::Alert, &[1, alert.into()])
    };
    let error = flood(warning(AlertDescription::UserCanceled), tls13());
    assert_eq!(error, PeerMisbehaved::TooManyWarningAlertsReceived.into());
    let error = flood(warning(AlertDescription::NoCertificate), tls12());
    assert_eq!(error, PeerMisbehaved::TooManyWarningAlertsReceived.into());
}

#[test]
fn a_message_in_pieces_waits_for_the_rest_and_stops_nobody() {
    let (mut client, mut server) = forged(tls13());
    let update = [HandshakeType::KeyUpdate.into(), 0, 0, 1, 0];
    let mut held = Vec::new();
    for &byte in &update[..4] {
        held.extend(client.record(ContentType::Handshake, &[byte]));
        let opened = open(&mut server, &mut held, &mut Vec::new());
        assert_eq!(opened.error, None);
        held.drain(..opened.sealed);
        // There is nothing to open until more comes, and answers leave all the same.
        assert!(!server.can_open(&held));
        let mut out = [0; 1024];
        let sealed = server.seal(b"an answer", &mut out, &mut held);
        assert_eq!(sealed.unwrap().0, 9);
    }
    held.extend(client.record(ContentType::Handshake, &update[4..]));
    assert!(server.can_open(&held));
    let opened = open(&mut server, &mut held, &mut Vec::new());
    assert_eq!((opened.error, opened.sealed), (None, held.len()));
}

#[test]
fn a_client_whose_message_takes_more_room_than_any_it_may_send_is_cut() {
    let (mut client, mut server) = forged(tls13());
    let mut held = client.record(ContentType::Handshake, &[24, 0, 100, 0]);
    for _ in 0..1000 {
        let opened = open(&mut server, &mut held, &mut Vec::new());
        held.drain(..opened.sealed);
        if opened.error.is_some() {
            assert!(held.len() < 5 << 10, "{} bytes held", held.len());
            return;
        }
        held.extend(client.record(ContentType::Handshake, &[0; 16]));
    }
    panic!("there was no end to it");
}

#[test]
fn a_message_that_does_not_end_is_cut() {
    // A session ticket of 16 MiB: too long, and none that a client may send.
    let (mut client, mut server) = forged(tls13());
    let mut sealed = client.record(ContentType::Handshake, &[4, 255, 255, 255]);
    let error = open(&mut server, &mut sealed, &mut Vec::new()).error;
    assert!(matches!(error, Some(Error::InvalidMessage(_))), "{error:?}");
}

#[test]
fn no_record_comes_between_the_pieces_of_a_message() {
    let (mut client, mut server) = forged(tls13());
    let mut sealed = client.record(ContentType::Handshake, &[24, 0]);
    sealed.extend(client.record(ContentType::ApplicationData, b"between"));
    let error = open(&mut server, &mut sealed, &mut Vec::new()).error;
    assert_eq!(
        error,
        Some(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into())
    );
    // Nothing leaves any more that is not the last word.
    assert!(server.seal(b"x", &mut [0; 1024], &mut sealed).is_err());
    server.end(&mut [0; BESIDE_BYTES], &mut sealed);
}

#[test]
fn nobody_begins_anew() {
    let (mut client, mut server) = forged(tls12());
    let hello = [HandshakeType::ClientHello.into(), 0, 0, 0];
    let mut sealed = client.record(ContentType::Handshake, &hello);
    let opened = open(&mut server, &mut sealed, &mut Vec::new());
    if opened.error.is_none() {
        // It is told no, before anything else, and may go on.
        let back = seal(&mut server, b"x");
        assert_eq!(back[0], 21, "an alert");
        let mut sealed = client.record(ContentType::Handshake, &hello);
        let again = open(&mut server, &mut sealed, &mut Vec::new());
        assert!(again.error.is_some());
    }
}
