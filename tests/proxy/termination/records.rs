//! Records that no library would send: by a client that has the keys and puts what it likes into them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use onedoor::tls::{Keys, Schedule, Session};
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::unbuffered::ConnectionState;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets,
    SupportedCipherSuite,
};

use super::{two_and_one, with_files};
use crate::harness::{Authority, PATIENCE, Proxy, Tls, with_secrets};

/// What the fuzz target `record` asks of a session.
#[path = "../../../fuzz/checks/record.rs"]
mod record;

#[test]
fn the_fuzz_corpus_of_records_gives_out_what_was_sent_and_nothing_else() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/record");
    let files: Vec<_> = fs::read_dir(folder).unwrap().collect();
    let mut wrong = 0;
    for file in &files {
        let bytes = fs::read(file.as_ref().unwrap().path()).unwrap();
        wrong += usize::from(record::check(&bytes).is_some());
    }
    let right = files.len() - wrong;
    assert!(right >= 5 && wrong >= 10, "{right} right, {wrong} wrong");
}

/// A connection whose records are made by hand.
struct Hand {
    tcp: TcpStream,
    keys: Keys,
    session: Session,
    held: Vec<u8>,
}

impl Hand {
    fn shaken(proxy: &Proxy, suite: SupportedCipherSuite) -> Hand {
        let mut tcp = TcpStream::connect(proxy.address()).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        let config = with_secrets(suite);
        let name = "shop.example.com".try_into().unwrap();
        let mut client = UnbufferedClientConnection::new(config, name).unwrap();
        let (mut held, mut out) = (Vec::new(), vec![0; 16 << 10]);
        loop {
            let status = client.process_tls_records(&mut held);
            let mut is_done = false;
            let mut waits = false;
            match status.state.unwrap() {
                ConnectionState::EncodeTlsData(mut message) => {
                    let length = message.encode(&mut out).unwrap();
                    tcp.write_all(&out[..length]).unwrap();
                }
                ConnectionState::TransmitTlsData(message) => message.done(),
                ConnectionState::BlockedHandshake => waits = true,
                ConnectionState::WriteTraffic(_) => is_done = true,
                other => panic!("{other:?}"),
            }
            let done = status.discard;
            held.drain(..done);
            if is_done {
                break;
            }
            if waits {
                let count = tcp.read(&mut out).unwrap();
                assert!(count > 0, "closed during the handshake");
                held.extend_from_slice(&out[..count]);
            }
        }
        let version = suite.version().version;
        let (secrets, kernel) = client.dangerous_into_kernel_connection().unwrap();
        let (number, tx) = secrets.tx;
        let (tx, again) = twice(tx);
        let secrets = ExtractedSecrets {
            tx: (number, again),
            rx: secrets.rx,
        };
        Hand {
            tcp,
            keys: Keys::new(version, (number, tx)).unwrap(),
            session: Session::new(Schedule::Client(kernel), secrets).unwrap(),
            held,
        }
    }

    fn sealed(&mut self, kind: ContentType, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; self.keys.sealed_bytes(payload.len())];
        let length = self.keys.seal(kind, payload, &mut out).unwrap();
        out.truncate(length);
        out
    }

    /// Says it `times`, and whatever comes of that: the other side may have closed.
    fn say(&mut self, times: usize, kind: ContentType, payload: &[u8]) {
        let records: Vec<u8> = (0..times)
            .flat_map(|_| self.sealed(kind, payload))
            .collect();
        self.tcp.write_all(&records).ok();
    }

    fn ask(&mut self) {
        let request = b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
        self.say(1, ContentType::ApplicationData, request);
    }

    /// What is read until it ends with `end`, or why nothing more comes. `None`: the connection is closed.
    fn read_until(&mut self, end: &str) -> Result<String, Option<Error>> {
        let mut text = Vec::new();
        loop {
            let mut room = vec![0; 64 << 10];
            let opened = self
                .session
                .open(&mut self.held, &mut room, &mut Vec::new());
            self.held.drain(..opened.sealed);
            text.extend_from_slice(&room[..opened.clear]);
            if text.ends_with(end.as_bytes()) {
                return Ok(String::from_utf8(text).unwrap());
            }
            if let Some(error) = opened.error {
                return Err(Some(error));
            }
            match self.tcp.read(&mut room) {
                Ok(count) if count > 0 => self.held.extend_from_slice(&room[..count]),
                _ => return Err(None),
            }
        }
    }
}

/// The library gives each key once. Of 32 bytes, as those of the suites below.
fn twice(
    secrets: ConnectionTrafficSecrets,
) -> (ConnectionTrafficSecrets, ConnectionTrafficSecrets) {
    let again = |key: &AeadKey, iv: &Iv| {
        let key: [u8; 32] = key.as_ref().try_into().unwrap();
        (AeadKey::from(key), Iv::copy(iv.as_ref()))
    };
    let other = match &secrets {
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => {
            let (key, iv) = again(key, iv);
            ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        }
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            let (key, iv) = again(key, iv);
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }
        }
        _ => panic!("a key of another length"),
    };
    (secrets, other)
}

/// CASES T-51: a few are borne with, and the connection goes on; a flood ends it, and the client is told.
fn a_few_and_then_a_flood(kind: ContentType, of_13: &[u8], of_12: &[u8]) {
    const A_FEW: usize = 20;
    let authority = Authority::new("test");
    let proxy = two_and_one(&authority);
    proxy.site("shop.toml", with_files("shop.example.com", "shop", "shop"));
    for (suite, payload) in [
        (cipher_suite::TLS13_AES_256_GCM_SHA384, of_13),
        (cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, of_13),
        (cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, of_12),
    ] {
        let mut client = Hand::shaken(&proxy, suite);
        client.say(A_FEW, kind, payload);
        client.ask();
        let answer = client.read_until("shop").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        client.say(200, kind, payload);
        let told = client.read_until("shop");
        let is_told = Error::AlertReceived(AlertDescription::UnexpectedMessage);
        assert_eq!(told, Err(Some(is_told)), "{suite:?}");
    }
    // Nobody else has noticed.
    let line = Tls::to("shop.example.com").shake(proxy.address()).unwrap();
    let mut client = crate::harness::Client::over(line);
    assert_eq!(client.get("shop.example.com", "/").text(), "shop");
}

#[test]
fn a_flood_of_empty_records_ends_the_connection() {
    a_few_and_then_a_flood(ContentType::ApplicationData, b"", b"");
}

#[test]
fn a_flood_of_warnings_ends_the_connection() {
    const WARNING: u8 = 1;
    let user_canceled = [WARNING, AlertDescription::UserCanceled.into()];
    let no_certificate = [WARNING, AlertDescription::NoCertificate.into()];
    a_few_and_then_a_flood(ContentType::Alert, &user_canceled, &no_certificate);
}
