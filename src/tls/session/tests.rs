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
    InvalidMessage, PeerMisbehaved, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion,
    version,
};

use super::allowance::AT_ONCE;
use super::{ALERT_BYTES, Opened, Schedule, Session, alert_for};
use crate::tls::record::Keys;
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
    server.enable_secret_extraction = true;
    let mut roots = RootCertStore::empty();
    roots.add(cert).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
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
    let (schedule, secrets) = server.finish().unwrap();
    (Session::new(schedule, secrets).unwrap(), client)
}

/// Our session on both sides: the client, the server.
fn both(suite: SupportedCipherSuite) -> (Session, Session) {
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
    let (schedule, secrets) = client.finish().unwrap();
    let mut client = Session::new(schedule, secrets).unwrap();
    let (schedule, secrets) = server.finish().unwrap();
    let server = Session::new(schedule, secrets).unwrap();
    let opened = open(&mut client, &mut late, &mut Vec::new());
    assert_eq!(opened.error, None);
    (client, server)
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
    let (taken, length) = session.seal(clear, &mut out).unwrap();
    assert_eq!(taken, clear.len());
    out.truncate(length);
    out
}

/// A record of any kind.
fn record(session: &mut Session, kind: ContentType, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; payload.len() + 256];
    let length = session.sealing.seal(kind, payload, &mut out).unwrap();
    out.truncate(length);
    out
}

fn key_update(session: &mut Session) -> Vec<u8> {
    let update = [HandshakeType::KeyUpdate.into(), 0, 0, 1, 1];
    let sealed = record(session, ContentType::Handshake, &update);
    let Schedule::Client(kernel) = &mut session.schedule else {
        panic!("only clients do this here");
    };
    let next = kernel.update_tx_secret().unwrap();
    session.sealing = Keys::new(session.version, next).unwrap();
    sealed
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
                let (taken, length) = ours.seal(rest, &mut out).unwrap();
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
        let mut goodbye = [0; ALERT_BYTES];
        let length = ours.end(AlertDescription::CloseNotify, &mut goodbye);
        theirs.read_tls(&mut &goodbye[..length]).unwrap();
        prop_assert!(theirs.process_new_packets().unwrap().peer_has_closed());
        prop_assert!(read == texts.concat());
    }

    #[test]
    fn whatever_a_peer_says_is_read_or_refused(
        suite in suites(),
        is_client in any::<bool>(),
        said in proptest::collection::vec((20u8..=23, proptest::collection::vec(any::<u8>(), 0..40)), 1..8),
    ) {
        let (client, server) = both(suite);
        let (mut from, mut to) = if is_client { (client, server) } else { (server, client) };
        let mut sealed = Vec::new();
        for (kind, payload) in &said {
            sealed.extend(record(&mut from, ContentType::from(*kind), payload));
        }
        let mut clear = Vec::new();
        let opened = open(&mut to, &mut sealed, &mut clear);
        prop_assert!(opened.sealed == sealed.len() || opened.error.is_some());
        let texts = said.iter().take_while(|(kind, _)| *kind == 23);
        let first: Vec<u8> = texts.flat_map(|(_, text)| text.clone()).collect();
        prop_assert!(clear.starts_with(&first));
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
        sealed.extend(record(&mut client, ContentType::Alert, &[1, 0]));
        sealed.extend(b"whatever this is");
        let mut clear = Vec::new();
        let opened = open(&mut server, &mut sealed, &mut clear);
        assert_eq!(opened.error, None);
        assert_eq!(opened.sealed, sealed.len());
        assert_eq!(clear, b"all");
        assert!(server.peer_has_ended());
        // And the other way is still open.
        let mut back = seal(&mut server, b"half-closed");
        let mut clear = Vec::new();
        assert_eq!(open(&mut client, &mut back, &mut clear).error, None);
        assert_eq!(clear, b"half-closed");
    }
}

/// The same thing, with a byte of clear text between.
fn flood(mut one: impl FnMut(&mut Session) -> Vec<u8>, suite: SupportedCipherSuite) -> Error {
    let (mut client, mut server) = both(suite);
    for count in 0..3 * AT_ONCE {
        let mut sealed = one(&mut client);
        sealed.extend(seal(&mut client, b"x"));
        if let Some(error) = open(&mut server, &mut sealed, &mut Vec::new()).error {
            assert!(count >= AT_ONCE, "{error} after {count}");
            return error;
        }
    }
    panic!("there was no end to it");
}

#[test]
fn a_flood_of_new_keys_is_cut() {
    let error = flood(key_update, tls13());
    assert_eq!(error, PeerMisbehaved::TooManyKeyUpdateRequests.into());
}

#[test]
fn a_flood_of_empty_records_is_cut() {
    for suite in [tls13(), tls12()] {
        let empty = |client: &mut Session| record(client, ContentType::ApplicationData, b"");
        assert_eq!(
            flood(empty, suite),
            PeerMisbehaved::TooManyEmptyFragments.into()
        );
    }
}

#[test]
fn a_flood_of_warnings_is_cut() {
    let warning = |alert: AlertDescription| {
        move |client: &mut Session| record(client, ContentType::Alert, &[1, alert.into()])
    };
    let error = flood(warning(AlertDescription::UserCanceled), tls13());
    assert_eq!(error, PeerMisbehaved::TooManyWarningAlertsReceived.into());
    let error = flood(warning(AlertDescription::NoCertificate), tls12());
    assert_eq!(error, PeerMisbehaved::TooManyWarningAlertsReceived.into());
}

#[test]
fn a_message_that_does_not_end_is_cut() {
    let (mut server, mut client) = {
        let (client, server) = both(tls13());
        (server, client)
    };
    // A ticket of 16 MiB, for a client; a server takes none at all.
    let mut sealed = record(&mut server, ContentType::Handshake, &[4, 255, 255, 255]);
    let error = open(&mut client, &mut sealed, &mut Vec::new()).error;
    assert!(matches!(error, Some(Error::InvalidMessage(_))), "{error:?}");
    let (mut client, mut server) = both(tls13());
    let mut sealed = record(&mut client, ContentType::Handshake, &[4, 0, 0, 1]);
    let error = open(&mut server, &mut sealed, &mut Vec::new()).error;
    assert!(
        matches!(error, Some(Error::InappropriateHandshakeMessage { .. })),
        "{error:?}"
    );
}

/// What a server says to `payload` in a record of `kind`, by name and by alert, and whether it goes on.
fn refusal(
    suite: SupportedCipherSuite,
    kind: ContentType,
    payload: &[u8],
) -> Option<(Error, Option<AlertDescription>)> {
    let (mut client, mut server) = both(suite);
    let mut sealed = record(&mut client, kind, payload);
    sealed.extend(seal(&mut client, b"behind"));
    let mut clear = Vec::new();
    let error = open(&mut server, &mut sealed, &mut clear).error?;
    assert_eq!(clear, b"", "given out behind {error}");
    // Nothing is opened any more, and nothing sealed but why.
    let mut good = seal(&mut client, b"as if nothing were");
    let again = open(&mut server, &mut good, &mut clear);
    assert_eq!((again.error.as_ref(), again.sealed), (Some(&error), 0));
    assert_eq!(server.failed(), Some(&error));
    assert!(server.seal(b"answer", &mut [0; 1024]).is_err());
    let alert = alert_for(&error);
    let mut last = [0; ALERT_BYTES];
    let length = server.end(alert.unwrap_or(AlertDescription::CloseNotify), &mut last);
    assert_eq!(length > 0, alert.is_some(), "last words behind {error}");
    Some((error, alert))
}

#[test]
fn each_thing_that_must_not_be_said_has_its_alert() {
    use AlertDescription::{
        DecodeError, HandshakeFailure, IllegalParameter, InternalError, UnexpectedMessage,
    };
    use ContentType::{Alert, ChangeCipherSpec, Handshake, Heartbeat};
    let (new, old) = (tls13(), tls12());
    let key_update = HandshakeType::KeyUpdate.into();
    let client_hello = HandshakeType::ClientHello.into();
    let finished = HandshakeType::Finished.into();
    for (suite, kind, payload, alert) in [
        // RFC 8446 5: none behind the handshake.
        (new, ChangeCipherSpec, &[1][..], Some(UnexpectedMessage)),
        (old, ChangeCipherSpec, &[1], Some(UnexpectedMessage)),
        (new, Heartbeat, &[1, 0, 0], Some(UnexpectedMessage)),
        // 5.4, RFC 5246 6.2.1: no empty pieces.
        (new, Handshake, &[], Some(UnexpectedMessage)),
        (old, Handshake, &[], Some(UnexpectedMessage)),
        (new, Alert, &[], Some(UnexpectedMessage)),
        (old, Alert, &[], Some(UnexpectedMessage)),
        // 5.1: neither in pieces nor several.
        (new, Alert, &[1], Some(DecodeError)),
        (new, Alert, &[1, 90, 1, 90], Some(DecodeError)),
        (old, Alert, &[1, 90, 1], Some(DecodeError)),
        (new, Alert, &[0, 0], Some(DecodeError)),
        (old, Alert, &[3, 0], Some(DecodeError)),
        // 6.2: fatal whatever its level says, and not answered; nor is one that nobody knows.
        (new, Alert, &[2, 40], None),
        (new, Alert, &[1, 40], None),
        (new, Alert, &[1, 199], None),
        (old, Alert, &[2, 40], None),
        // 4.6.3
        (
            new,
            Handshake,
            &[key_update, 0, 0, 1, 2],
            Some(IllegalParameter),
        ),
        (new, Handshake, &[key_update, 0, 0, 0], Some(DecodeError)),
        (new, Handshake, &[key_update, 0, 0, 2], Some(DecodeError)),
        (
            new,
            Handshake,
            &[key_update, 0, 0, 1, 0, 1],
            Some(UnexpectedMessage),
        ),
        (
            old,
            Handshake,
            &[key_update, 0, 0, 1, 0],
            Some(UnexpectedMessage),
        ),
        // 4.1.2, 4.6.1: no new beginning, no tickets from clients.
        (
            new,
            Handshake,
            &[client_hello, 0, 0, 0],
            Some(UnexpectedMessage),
        ),
        (new, Handshake, &[4, 0, 0, 0], Some(UnexpectedMessage)),
        (old, Handshake, &[0, 0, 0, 0], Some(UnexpectedMessage)),
        (old, Handshake, &[client_hello, 0, 64, 1], Some(DecodeError)),
        (
            new,
            Handshake,
            &[finished, 0, 0, 0],
            Some(UnexpectedMessage),
        ),
        (
            old,
            Handshake,
            &[finished, 0, 0, 0],
            Some(UnexpectedMessage),
        ),
    ] {
        let refused = refusal(suite, kind, payload);
        let told = refused.as_ref().map(|(_, alert)| *alert);
        assert_eq!(told, Some(alert), "{kind:?} {payload:?}: {refused:?}");
        if alert.is_none() {
            assert!(matches!(refused, Some((Error::AlertReceived(_), _))));
        }
    }
    // And what is borne with.
    assert_eq!(refusal(new, Alert, &[1, 90]), None);
    assert_eq!(refusal(old, Alert, &[1, 90]), None);
    assert_eq!(refusal(old, Alert, &[1, HandshakeFailure.into()]), None);
    assert_eq!(refusal(new, Handshake, &[key_update]), interleaved());
    assert_eq!(alert_for(&Error::EncryptError), Some(InternalError));
}

/// What is behind a piece of a message must be its next piece.
fn interleaved() -> Option<(Error, Option<AlertDescription>)> {
    let error = PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into();
    Some((error, Some(AlertDescription::UnexpectedMessage)))
}

#[test]
fn what_is_no_record_has_its_alert() {
    for (header, alert) in [
        ([24, 3, 3, 0, 20], AlertDescription::UnexpectedMessage),
        ([23, 2, 3, 0, 20], AlertDescription::ProtocolVersion),
        ([23, 3, 3, 0x48, 1], AlertDescription::RecordOverflow),
        // In clear text, as if hands had not been shaken.
        ([20, 3, 3, 0, 1], AlertDescription::UnexpectedMessage),
        ([21, 3, 3, 0, 2], AlertDescription::UnexpectedMessage),
        ([22, 3, 3, 0, 4], AlertDescription::UnexpectedMessage),
        ([23, 3, 3, 0, 0], AlertDescription::BadRecordMac),
        ([23, 3, 3, 0x41, 1], AlertDescription::RecordOverflow),
    ] {
        let (_, mut server) = both(tls13());
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let mut sealed = header.to_vec();
        sealed.resize(header.len() + length, 1);
        let opened = open(&mut server, &mut sealed, &mut Vec::new());
        let told = opened.error.as_ref().and_then(alert_for);
        assert_eq!(told, Some(alert), "{header:?}");
    }
}

#[test]
fn nothing_is_kept_of_a_message_that_is_refused() {
    let (mut client, mut server) = both(tls13());
    // 64 KiB of new keys: only their beginning is ever looked at.
    let mut sealed = record(
        &mut client,
        ContentType::Handshake,
        &[24, 0, 255, 255, 1, 1],
    );
    let error = open(&mut server, &mut sealed, &mut Vec::new()).error;
    let too_long = Error::InvalidMessage(InvalidMessage::MessageTooLarge);
    assert_eq!(error, Some(too_long));
    assert!(server.message.capacity() < 64);
}

#[test]
fn many_wishes_for_new_keys_are_one_answer() {
    let (mut client, mut server) = both(tls13());
    for _ in 0..AT_ONCE / 2 {
        let mut sealed = key_update(&mut client);
        assert_eq!(open(&mut server, &mut sealed, &mut Vec::new()).error, None);
    }
    // What would be said if there were room: one message, in front of the text.
    let mut back = seal(&mut server, b"x");
    let one = server.sealing.sealed_bytes(1);
    assert_eq!(back.len(), server.sealing.sealed_bytes(5) + one);
    let mut clear = Vec::new();
    assert_eq!(open(&mut client, &mut back, &mut clear).error, None);
    assert_eq!(clear, b"x");
    assert_eq!(seal(&mut server, b"x").len(), one);
}

#[test]
fn no_record_comes_between_the_pieces_of_a_message() {
    let (mut client, mut server) = both(tls13());
    let mut sealed = record(&mut client, ContentType::Handshake, &[24, 0]);
    sealed.extend(seal(&mut client, b"between"));
    let error = open(&mut server, &mut sealed, &mut Vec::new()).error;
    assert_eq!(
        error,
        Some(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into())
    );
    // In pieces of a byte it is understood.
    let (mut client, mut server) = both(tls13());
    let before = server.opening.used();
    let mut sealed = Vec::new();
    for byte in [24, 0, 0, 1, 0] {
        sealed.extend(record(&mut client, ContentType::Handshake, &[byte]));
    }
    assert_eq!(open(&mut server, &mut sealed, &mut Vec::new()).error, None);
    assert_eq!((before, server.opening.used()), (0, 0));
}

#[test]
fn nobody_begins_anew() {
    let (mut client, mut server) = both(tls12());
    let hello = [HandshakeType::ClientHello.into(), 0, 0, 0];
    let mut sealed = record(&mut client, ContentType::Handshake, &hello);
    assert_eq!(open(&mut server, &mut sealed, &mut Vec::new()).error, None);
    // It is told so, and may go on.
    let mut back = seal(&mut server, b"no");
    let mut clear = Vec::new();
    assert_eq!(open(&mut client, &mut back, &mut clear).error, None);
    assert_eq!(clear, b"no");
    let mut sealed = record(&mut client, ContentType::Handshake, &hello);
    let error = open(&mut server, &mut sealed, &mut Vec::new()).error;
    assert_eq!(
        error,
        Some(PeerMisbehaved::TooManyRenegotiationRequests.into())
    );
}

#[test]
fn keys_are_renewed_before_they_are_used_up() {
    let (mut client, mut server) = both(tls13());
    client.most_records = 3;
    let mut clear = Vec::new();
    for _ in 0..10 {
        let mut sealed = seal(&mut client, b"x");
        assert_eq!(open(&mut server, &mut sealed, &mut clear).error, None);
        assert!(client.sealing.used() < 3);
    }
    assert_eq!(clear, b"xxxxxxxxxx");
    // TLS 1.2 has no such thing: it is over.
    let (mut client, _) = both(tls12());
    client.most_records = 3;
    let mut out = vec![0; 1024];
    let sealed: Vec<_> = (0..3)
        .map(|_| client.seal(b"x", &mut out).is_ok())
        .collect();
    assert!(sealed[0] && !sealed[2], "{sealed:?}");
}
