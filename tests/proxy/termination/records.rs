//! Records that no library would send: by a client that has the keys and puts what it likes into them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::cipher::{make_tls12_aad, make_tls13_aad};
use rustls::unbuffered::ConnectionState;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite,
};

use crate::harness::{Authority, Backend, PATIENCE, Proxy, with_secrets};

/// A connection whose records are made by hand.
struct Hand {
    tcp: TcpStream,
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    number: u64,
    version: ProtocolVersion,
    /// The part of a nonce that goes with each record (RFC 5288 3).
    explicit: usize,
}

impl Hand {
    fn shaken(proxy: &Proxy, suite: SupportedCipherSuite) -> Hand {
        let mut tcp = TcpStream::connect(proxy.address()).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        let name = "shop.example.com".try_into().unwrap();
        let mut client = UnbufferedClientConnection::new(with_secrets(suite), name).unwrap();
        let (mut held, mut room) = (Vec::new(), vec![0; 16 << 10]);
        loop {
            let status = client.process_tls_records(&mut held);
            let (mut is_done, mut waits) = (false, false);
            match status.state.unwrap() {
                ConnectionState::EncodeTlsData(mut message) => {
                    let length = message.encode(&mut room).unwrap();
                    tcp.write_all(&room[..length]).unwrap();
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
                let count = tcp.read(&mut room).unwrap();
                assert!(count > 0, "closed during the handshake");
                held.extend_from_slice(&room[..count]);
            }
        }
        let version = suite.version().version;
        let (secrets, _) = client.dangerous_into_kernel_connection().unwrap();
        let (number, secrets) = secrets.tx;
        let (algorithm, key, iv, explicit) = match &secrets {
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv, 8),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&CHACHA20_POLY1305, key, iv, 0)
            }
            _ => panic!("a cipher that is not known here"),
        };
        let is_12 = version == ProtocolVersion::TLSv1_2;
        Hand {
            tcp,
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap()),
            iv: iv.as_ref().try_into().unwrap(),
            number,
            version,
            explicit: if is_12 { explicit } else { 0 },
        }
    }

    fn record(&mut self, kind: ContentType, payload: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, of_number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= of_number;
        }
        let mut sealed = payload.to_vec();
        let (outer, aad) = match self.version {
            ProtocolVersion::TLSv1_3 => {
                sealed.push(kind.into());
                let aad = make_tls13_aad(sealed.len() + 16).to_vec();
                (ContentType::ApplicationData, aad)
            }
            version => {
                let aad = make_tls12_aad(self.number, kind, version, payload.len());
                (kind, aad.to_vec())
            }
        };
        self.number += 1;
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(unique, Aad::from(aad), &mut sealed)
            .unwrap();
        let explicit = &nonce[NONCE_LEN - self.explicit..];
        let length = u16::try_from(explicit.len() + sealed.len()).unwrap();
        let [high, low] = length.to_be_bytes();
        [&[outer.into(), 3, 3, high, low], explicit, &sealed].concat()
    }

    /// Says it so many times, whatever comes of that: the other side may have closed.
    fn say(&mut self, times: usize, kind: ContentType, payload: &[u8]) {
        let records: Vec<u8> = (0..times)
            .flat_map(|_| self.record(kind, payload))
            .collect();
        self.tcp.write_all(&records).ok();
    }

    fn ask(&mut self) {
        let request = b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
        self.say(1, ContentType::ApplicationData, request);
    }

    fn until_closed(mut self) {
        let mut room = [0; 4096];
        loop {
            match self.tcp.read(&mut room) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("it is still open: {error}"),
            }
        }
    }
}

/// CASES T-51: a few are borne with, and the connection goes on; a flood ends it.
fn a_few_and_then_a_flood(kind: ContentType, of_13: &[u8], of_12: &[u8]) {
    const A_FEW: usize = 3;
    let authority = Authority::new("test");
    let app = Backend::saying("shop");
    let plan = Proxy::plan();
    authority
        .pair(&["shop.example.com"])
        .write(plan.sites().path(), "shop");
    let file = format!(
        "host = 'shop.example.com'\nto = {}\n[tls]\ncert = 'shop.pem'\nkey = 'shop.key'\n",
        app.port
    );
    let proxy = plan.site("shop.toml", file).start();
    for (suite, payload) in [
        (cipher_suite::TLS13_AES_256_GCM_SHA384, of_13),
        (cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, of_13),
        (cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, of_12),
        (
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            of_12,
        ),
    ] {
        app.forget();
        let mut client = Hand::shaken(&proxy, suite);
        client.say(A_FEW, kind, payload);
        client.ask();
        app.until_requests(1);
        client.say(200, kind, payload);
        client.ask();
        client.until_closed();
        assert_eq!(app.requests().len(), 1, "{suite:?}: asked behind a flood");
    }
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
