//! Whatever somebody makes of good records on their way, or says in good records that is not good to say: nothing is
//! given out that was not sent, in its order, and nothing at all behind an error.
//!
//! Used by the fuzz target `record` and, with its corpus, by `tests/proxy/termination/records.rs`.

use std::sync::{Arc, LazyLock};

use onedoor::tls::{ALERT_BYTES, Keys, Schedule, Session, alert_for};
use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{
    AlertDescription, ClientConfig, ContentType, DigitallySignedStruct, Error, ProtocolVersion,
    ServerConfig, SignatureScheme, SupportedCipherSuite,
};

/// Idle talk that is borne with at once; see the allowance of a session.
const AT_ONCE: usize = 32;
const CLEAR_BYTES: usize = 16 << 10;
const MOST_RECORDS: usize = 200;

/// Reads `input` as what somebody does, and panics where it is taken for more than it is. What was wrong with it.
pub(crate) fn check(input: &[u8]) -> Option<Error> {
    let mut input = Input(input);
    let form = input.byte();
    let suite = match form & 3 {
        0 => cipher_suite::TLS13_AES_128_GCM_SHA256,
        1 => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        2 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        _ => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    };
    let (mut ours, other) = ends(suite, form & 4 == 0);
    let piece = 1 + input.number() % 5000;
    let room = 1 + input.number() % 20_000;
    let wire = Wire::made_by(other, &mut input);

    let (mut held, mut clear) = (Vec::new(), Vec::new());
    let mut wrong: Option<Error> = None;
    for piece in wire.records.concat().chunks(piece) {
        held.extend_from_slice(piece);
        loop {
            let (mut to, mut over) = (vec![0; room], Vec::new());
            let opened = ours.open(&mut held, &mut to, &mut over);
            if let Some(before) = &wrong {
                let is_as_before = opened.error.as_ref() == Some(before);
                assert!(
                    is_as_before && opened.clear == 0 && opened.sealed == 0,
                    "{opened:?}"
                );
                assert!(over.is_empty());
            }
            held.drain(..opened.sealed);
            clear.extend_from_slice(&to[..opened.clear]);
            clear.extend_from_slice(&over);
            if let Some(error) = opened.error {
                wrong = Some(error);
                held.clear();
                break;
            }
            if opened.sealed == 0 {
                break;
            }
        }
        assert!(
            held.len() < 5 + CLEAR_BYTES + 2048,
            "{} bytes are held",
            held.len()
        );
    }
    assert!(
        wire.sent.starts_with(&clear),
        "{} bytes that were not sent",
        clear.len()
    );
    if wire.is_good {
        assert_eq!(wrong, None);
        assert!(
            clear == wire.sent,
            "{} of {} bytes came",
            clear.len(),
            wire.sent.len()
        );
        assert_eq!(ours.peer_has_ended(), wire.is_over);
    }
    // And the other way: an answer, or why there is none.
    assert_eq!(
        ours.seal(b"answer", &mut [0; 1024]).is_err(),
        wrong.is_some()
    );
    let alert = wrong.as_ref().and_then(alert_for);
    let last = ours.end(
        alert.unwrap_or(AlertDescription::CloseNotify),
        &mut [0; ALERT_BYTES],
    );
    assert_eq!(last > 0, wrong.is_none() || alert.is_some());
    assert!(ours.seal(b"more", &mut [0; 1024]).is_err());
    wrong
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    /// 0 when there are no more.
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    fn number(&mut self) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()]))
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

/// What comes out at the other end of it.
struct Wire {
    records: Vec<Vec<u8>>,
    /// The clear text in them, in the order it was sealed in.
    sent: Vec<u8>,
    /// Nothing was done to them, and nothing said that must not be.
    is_good: bool,
    /// There is a goodbye.
    is_over: bool,
}

impl Wire {
    fn made_by(mut other: Other, input: &mut Input<'_>) -> Wire {
        let mut wire = Wire {
            records: Vec::new(),
            sent: Vec::new(),
            is_good: true,
            is_over: false,
        };
        let mut idle_talk = 0;
        while !input.0.is_empty() && wire.records.len() < MOST_RECORDS {
            let what = input.byte() % 14;
            match what {
                0 => wire.text(&mut other, input.number() % (CLEAR_BYTES + 1)),
                1 => wire.text(&mut other, 1 + usize::from(input.byte())),
                2 => {
                    wire.records
                        .push(other.seal(ContentType::ApplicationData, b""));
                    idle_talk += 1;
                }
                3 if other.is_13() => {
                    // As padding looks: the last zero takes the place of the type.
                    let mut padded = b"padded\x17".to_vec();
                    padded.resize(padded.len() + input.number() % 16_000, 0);
                    wire.records.push(other.seal(ContentType::from(0), &padded));
                    wire.sent_unless_over(b"padded");
                }
                4 if other.is_13() => {
                    wire.records.extend(other.key_update(input.byte() & 1));
                    idle_talk += 1;
                }
                5 => {
                    wire.records.push(other.seal(ContentType::Alert, &[1, 90]));
                    idle_talk += 1;
                }
                6 => {
                    wire.records.push(other.seal(ContentType::Alert, &[1, 0]));
                    wire.is_over = true;
                }
                7 => {
                    let kind = ContentType::from(input.byte());
                    let length = usize::from(input.byte());
                    let payload = input.bytes(length);
                    wire.records.push(other.seal(kind, &payload));
                    wire.is_good = false;
                    wire.sent_unless_over(other.text_in(kind, &payload));
                }
                _ => wire.is_good &= !wire.alter(what, input),
            }
        }
        wire.is_good &= idle_talk <= AT_ONCE;
        wire
    }

    fn text(&mut self, other: &mut Other, length: usize) {
        let at = self.sent.len();
        let text: Vec<u8> = (at..at + length.max(1)).map(|n| (n / 3) as u8).collect();
        self.records
            .push(other.seal(ContentType::ApplicationData, &text));
        self.sent_unless_over(&text);
    }

    fn sent_unless_over(&mut self, text: &[u8]) {
        if !self.is_over {
            self.sent.extend_from_slice(text);
        }
    }

    /// What somebody may do who has no keys. Whether anything is another one.
    fn alter(&mut self, what: u8, input: &mut Input<'_>) -> bool {
        let count = self.records.len();
        if count == 0 {
            return false;
        }
        let at = input.number() % count;
        match what {
            8 => {
                let place = input.number();
                let record = &mut self.records[at];
                let length = record.len().max(1);
                if let Some(byte) = record.get_mut(place % length) {
                    *byte ^= 1 << (input.byte() % 8);
                }
            }
            9 => drop(self.records.remove(at)),
            10 => self.records.insert(at, self.records[at].clone()),
            11 => self.records.swap(at, count - 1),
            12 => {
                let length = input.number();
                self.records[at].truncate(length);
            }
            _ => {
                let length = usize::from(input.byte());
                let bytes = input.bytes(length);
                self.records.insert(at, bytes);
            }
        }
        true
    }
}

/// Whoever has the keys at the other end.
struct Other {
    schedule: Schedule,
    version: ProtocolVersion,
    keys: Keys,
}

impl Other {
    fn is_13(&self) -> bool {
        self.version == ProtocolVersion::TLSv1_3
    }

    fn seal(&mut self, kind: ContentType, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; self.keys.sealed_bytes(payload.len())];
        let length = self.keys.seal(kind, payload, &mut out).expect("sealed");
        out.truncate(length);
        out
    }

    /// In three records at times: a message may be.
    fn key_update(&mut self, is_asking: u8) -> Vec<Vec<u8>> {
        let message = [24, 0, 0, 1, is_asking];
        let records = match is_asking {
            0 => vec![self.seal(ContentType::Handshake, &message)],
            _ => message
                .chunks(2)
                .map(|part| self.seal(ContentType::Handshake, part))
                .collect(),
        };
        let next = match &mut self.schedule {
            Schedule::Client(kernel) => kernel.update_tx_secret(),
            Schedule::Server(kernel) => kernel.update_tx_secret(),
        };
        self.keys = Keys::new(self.version, next.expect("next")).expect("keys");
        records
    }

    /// With TLS 1.3 a type of zero is padding, and the type is what is before.
    fn text_in<'p>(&self, kind: ContentType, payload: &'p [u8]) -> &'p [u8] {
        if kind == ContentType::ApplicationData {
            return payload;
        }
        let end = payload.iter().rposition(|&byte| byte != 0);
        match end {
            Some(end) if self.is_13() && u8::from(kind) == 0 && payload[end] == 23 => {
                &payload[..end]
            }
            _ => b"",
        }
    }
}

/// Both ends of a connection that have shaken hands: ours, and the other.
fn ends(suite: SupportedCipherSuite, ours_is_server: bool) -> (Session, Other) {
    let (client, server) = configs(suite);
    let name = ServerName::try_from("shop.test").expect("a name");
    let mut client = UnbufferedClientConnection::new(client, name).expect("a client");
    let mut server = UnbufferedServerConnection::new(server).expect("a server");
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    while client.is_handshaking() || server.is_handshaking() {
        loop {
            let (done, is_on) = step(client.process_tls_records(&mut to_client), &mut to_server);
            to_client.drain(..done);
            if !is_on {
                break;
            }
        }
        loop {
            let (done, is_on) = step(server.process_tls_records(&mut to_server), &mut to_client);
            to_server.drain(..done);
            if !is_on {
                break;
            }
        }
    }
    assert!(to_client.is_empty() && to_server.is_empty());
    let version = suite.version().version;
    let (of_client, client) = client.dangerous_into_kernel_connection().expect("secrets");
    let (of_server, server) = server.dangerous_into_kernel_connection().expect("secrets");
    let (client, server) = (Schedule::Client(client), Schedule::Server(server));
    let (ours, other) = match ours_is_server {
        true => ((server, of_server), (client, of_client)),
        false => ((client, of_client), (server, of_server)),
    };
    let session = Session::new(ours.0, ours.1).expect("a session");
    let keys = Keys::new(version, other.1.tx).expect("keys");
    let schedule = other.0;
    (
        session,
        Other {
            schedule,
            version,
            keys,
        },
    )
}

/// One step of a handshake: how many bytes are done with, and whether there may be another.
fn step<Data>(status: UnbufferedStatus<'_, '_, Data>, out: &mut Vec<u8>) -> (usize, bool) {
    let is_on = match status.state.expect("a handshake") {
        ConnectionState::EncodeTlsData(mut message) => {
            let mut room = vec![0; 16 << 10];
            let length = message.encode(&mut room).expect("room");
            out.extend_from_slice(&room[..length]);
            true
        }
        ConnectionState::TransmitTlsData(message) => {
            message.done();
            true
        }
        _ => false,
    };
    (status.discard, is_on)
}

type Configs = (Arc<ClientConfig>, Arc<ServerConfig>);

fn configs(suite: SupportedCipherSuite) -> Configs {
    static SHOWN: LazyLock<(CertificateDer<'static>, PrivateKeyDer<'static>)> =
        LazyLock::new(|| {
            let shown =
                rcgen::generate_simple_self_signed(["shop.test".to_owned()]).expect("a pair");
            let key = PrivateKeyDer::try_from(shown.signing_key.serialize_der()).expect("a key");
            (shown.cert.der().clone(), key)
        });
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![suite],
        ..aws_lc_rs::default_provider()
    });
    let versions = [suite.version()];
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![SHOWN.0.clone()], SHOWN.1.clone_key())
        .expect("a certificate");
    server.enable_secret_extraction = true;
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .expect("a version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    (Arc::new(client), Arc::new(server))
}

/// Who it is does not matter here.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
