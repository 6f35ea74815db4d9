//! What a site does about TLS. Values only: certificates are read, and kept, by `tls`.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// `tls` of a site file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tls {
    pub mode: Mode,
    /// What clear text gets. `None`: what fits the certificate (see [`ClearText`]).
    pub clear_text: Option<ClearText>,
    /// The port that clear text is sent on to. `None`: the one the client named, or none where that was 80.
    pub https_port: Option<u16>,
    /// How long browsers shall remember to come by TLS only (RFC 6797). Sent on TLS connections only.
    pub hsts: Option<Duration>,
    pub min: MinVersion,
    pub http2: Http2,
    /// Whom a client certificate must come from.
    pub client: Option<ClientAuth>,
}

/// Who ends TLS, and with which certificate.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// We do, with a pair found in the daemon's folders, or one of the local authority for names that are local.
    /// A name with neither is served in clear text only.
    #[default]
    Auto,
    /// We do, with a certificate of the local authority.
    Local,
    /// We do, with these. Never empty.
    Files(Box<[PairFiles]>),
    /// The app does; its bytes are relayed unopened.
    Passthrough,
    /// Nobody: clear text only.
    Off,
}

/// Where a certificate chain and its key are, before symlinks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PairFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What a client gets that asks a site in clear text although it has TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearText {
    /// 308 to https. The default for files, found pairs and passthrough.
    Redirect,
    /// The same as over TLS. The default for the local authority: nobody trusts it before they are asked to.
    Serve,
    /// 421.
    Refuse,
}

/// Whether HTTP/2 is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Http2 {
    #[default]
    Offered,
    Off,
}

/// The oldest version of TLS that is spoken. Older ones than 1.2 are not spoken at all (RFC 8996).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum MinVersion {
    #[default]
    Tls12,
    Tls13,
}

/// `[tls.client]`: who may speak with the site at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// PEM with the authorities that are trusted, and nobody else.
    pub ca: PathBuf,
    /// Lists of what these have taken back, one of each authority; without any nobody is asked.
    pub crls: Box<[PathBuf]>,
    pub need: Need,
    /// Whether the app is told whose certificate it was (X-Client-Cert-...).
    pub forward: bool,
}

impl ClientAuth {
    /// What it is read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let crls = self.crls.iter().map(PathBuf::as_path);
        std::iter::once(self.ca.as_path()).chain(crls)
    }
}

/// Whether a client must show a certificate. One that it shows must be good either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Need {
    #[default]
    Require,
    Optional,
}

impl Tls {
    /// Whether we tell the app whose certificate a client showed.
    pub fn tells_certificates(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.forward)
    }

    /// Whether we end TLS for this site.
    pub fn is_terminated(&self) -> bool {
        matches!(self.mode, Mode::Auto | Mode::Local | Mode::Files(_))
    }
}
