//! A client that speaks TLS the way a test wants it to.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, NamedGroup,
    ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, SignatureScheme, StreamOwned,
    SupportedCipherSuite, SupportedProtocolVersion, version,
};

use super::backend::Backend;
use super::certificates::Pair;
use super::wait::PATIENCE;

/// Whom to ask for, and how.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    name: String,
    trust: Vec<String>,
    versions: Vec<&'static SupportedProtocolVersion>,
    own: Option<Pair>,
    alpn: Vec<Vec<u8>>,
    sessions: Option<Resumption>,
    /// Made once: the library resumes a session only for the very configuration it was made under.
    made: Arc<OnceLock<Arc<ClientConfig>>>,
}

/// A connection whose handshake is over.
pub(crate) type TlsLine = StreamOwned<ClientConnection, TcpStream>;

impl Tls {
    /// Asks for `name`, and takes whatever certificate it gets.
    pub(crate) fn to(name: &str) -> Tls {
        Tls {
            name: name.to_owned(),
            trust: Vec::new(),
            versions: vec![&version::TLS13, &version::TLS12],
            own: None,
            alpn: Vec::new(),
            sessions: None,
            made: Arc::default(),
        }
    }

    /// Takes only certificates for the name, by this authority.
    pub(crate) fn trusting(mut self, pem: &str) -> Tls {
        self.trust.push(pem.to_owned());
        self.made = Arc::default();
        self
    }

    pub(crate) fn version(mut self, version: &'static SupportedProtocolVersion) -> Tls {
        self.versions = vec![version];
        self.made = Arc::default();
        self
    }

    pub(crate) fn showing(mut self, own: &Pair) -> Tls {
        self.own = Some(own.clone());
        self.made = Arc::default();
        self
    }

    pub(crate) fn alpn(mut self, protocols: &[&str]) -> Tls {
        self.alpn = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self.made = Arc::default();
        self
    }

    /// Keeps sessions, and offers them when it connects again.
    pub(crate) fn resuming(mut self) -> Tls {
        self.sessions = Some(Resumption::in_memory_sessions(32));
        self.made = Arc::default();
        self
    }

    /// Offers any session to anybody, whoever it was made with.
    pub(crate) fn mixing_sessions_up(mut self) -> Tls {
        self.sessions = Some(Resumption::store(Arc::new(Mixed(
            ClientSessionMemoryCache::new(32),
        ))));
        self.made = Arc::default();
        self
    }

    /// The same client, with the same sessions, asking for another name.
    pub(crate) fn now_to(&self, name: &str) -> Tls {
        Tls {
            name: name.to_owned(),
            ..self.clone()
        }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// What either side has against it.
    pub(crate) fn shake(&self, address: SocketAddr) -> io::Result<TlsLine> {
        self.shake_after(b"", address)
    }

    /// The same, after something else has been said in clear.
    pub(crate) fn shake_after(&self, first: &[u8], address: SocketAddr) -> io::Result<TlsLine> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(first)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(self.name.clone()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(self.config(), name).map_err(io::Error::other)?;
        let mut line = StreamOwned::new(connection, stream);
        while line.conn.is_handshaking() {
            line.conn.complete_io(&mut line.sock)?;
        }
        Ok(line)
    }

    /// The first bytes it would send.
    pub(crate) fn hello(&self) -> Vec<u8> {
        let name = ServerName::try_from(self.name.clone()).unwrap();
        let mut connection = ClientConnection::new(self.config(), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    fn config(&self) -> Arc<ClientConfig> {
        self.made.get_or_init(|| Arc::new(self.make())).clone()
    }

    fn make(&self) -> ClientConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.versions)
            .unwrap();
        let builder = if self.trust.is_empty() {
            let anybody = Arc::new(Anybody(provider));
            builder
                .dangerous()
                .with_custom_certificate_verifier(anybody)
        } else {
            let mut roots = RootCertStore::empty();
            for pem in &self.trust {
                let root = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
                roots.add(root).unwrap();
            }
            builder.with_root_certificates(roots)
        };
        let mut config = match &self.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_slice_iter(own.cert.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
                    .unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = self.sessions.clone().unwrap_or_else(Resumption::disabled);
        config
    }
}

/// For a client that trusts everybody and gets the keys of its connection, of this one kind.
pub(crate) fn with_secrets(suite: SupportedCipherSuite) -> Arc<ClientConfig> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![suite],
        ..aws_lc_rs::default_provider()
    });
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    Arc::new(config)
}

/// An app that ends TLS itself: says `text` to whoever has shaken hands, then sends back what it gets.
pub(crate) fn tls_app(pair: &Pair, text: &str) -> Backend {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_slice_iter(pair.cert.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    let (config, text) = (Arc::new(config), text.to_owned());
    Backend::doing(move |conversation| {
        let mut session = ServerConnection::new(config.clone()).unwrap();
        let mut line = rustls::Stream::new(&mut session, conversation);
        if line.write_all(text.as_bytes()).is_err() {
            return;
        }
        let mut piece = [0; 16 << 10];
        while let Ok(count) = line.read(&mut piece) {
            if count == 0 || line.write_all(&piece[..count]).is_err() {
                return;
            }
        }
    })
}

/// A recorded hello in other records: of these sizes, and one for the rest.
pub(crate) fn in_records(hello: &[u8], sizes: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = &hello[5..];
    for size in sizes.into_iter().chain([rest.len()]) {
        let (fragment, behind) = rest.split_at(size.min(rest.len()));
        rest = behind;
        if !fragment.is_empty() {
            bytes.extend_from_slice(&[22, 3, 1]);
            bytes.extend_from_slice(&u16::try_from(fragment.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(fragment);
        }
    }
    bytes
}

/// What a handshake came to.
pub(crate) trait Agreed {
    /// The certificate that was shown, in DER.
    fn shown(&self) -> Vec<u8>;
    fn version(&self) -> ProtocolVersion;
    fn was_resumed(&self) -> bool;
}

impl Agreed for TlsLine {
    fn shown(&self) -> Vec<u8> {
        self.conn.peer_certificates().unwrap()[0].to_vec()
    }

    fn version(&self) -> ProtocolVersion {
        self.conn.protocol_version().unwrap()
    }

    fn was_resumed(&self) -> bool {
        self.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

/// Whether `pem` is the certificate in `der`.
pub(crate) fn is_same(pem: &str, der: &[u8]) -> bool {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .as_ref()
        == der
}

/// Keeps all sessions under one name.
#[derive(Debug)]
struct Mixed(ClientSessionMemoryCache);

fn nobody() -> ServerName<'static> {
    ServerName::try_from("mixed.test").unwrap()
}

impl ClientSessionStore for Mixed {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(nobody(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&nobody())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(nobody(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&nobody())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&nobody());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(nobody(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&nobody())
    }
}

/// Trusts everybody: for tests that look at the certificate themselves.
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
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What a [`super::Client`] speaks over.
#[derive(Debug)]
pub(crate) enum Line {
    Clear(TcpStream),
    Tls(Box<TlsLine>),
}

impl Line {
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Line::Clear(stream) => stream,
            Line::Tls(line) => &line.sock,
        }
    }
}

impl Read for Line {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Clear(stream) => stream.read(buf),
            Line::Tls(line) => line.read(buf),
        }
    }
}

impl Write for Line {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Line::Clear(stream) => stream.write(buf),
            Line::Tls(line) => line.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Line::Clear(stream) => stream.flush(),
            Line::Tls(line) => line.flush(),
        }
    }
}
