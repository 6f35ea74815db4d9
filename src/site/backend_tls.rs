//! How TLS is spoken to a backend: whose certificate it must show, whom we believe, who we are.
//!
//! Values only, like [`super::tls`]: the files are read, and hands are shaken, by `tls`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::hostname::Hostname;
use super::tls::PairFiles;

/// What stands behind `https://` in a site file.
#[derive(Clone, Debug)]
pub struct BackendTls {
    /// The host of the address, unless the file says another one; a hostname or an IP address.
    pub server_name: Hostname,
    pub verify: Verify,
    /// The certificate we show when we are asked for one.
    pub own: Option<PairFiles>,
    /// What it comes to once the files have been read, or why it comes to nothing. Given by `tls`, before the site is
    /// published or, early in a start, soon after.
    pub identity: OnceLock<Result<TlsIdentity, Box<str>>>,
}

/// Whose word counts for a backend's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Verify {
    /// The authorities that the system trusts.
    #[default]
    System,
    /// Those in this file, in PEM, and nobody else.
    Authorities(PathBuf),
    /// Nobody's: whoever answers is believed.
    Off,
}

/// Stands for one way of speaking TLS to backends: the same number for the same name, authorities, client certificate
/// and verification, whichever site it is. `tls` keeps what it stands for as long as anybody has this.
#[derive(Clone, Debug)]
pub struct TlsIdentity(pub Arc<NonZeroU32>);

impl TlsIdentity {
    pub fn number(&self) -> NonZeroU32 {
        *self.0
    }
}

impl BackendTls {
    pub fn to(server_name: Hostname) -> BackendTls {
        BackendTls {
            server_name,
            verify: Verify::System,
            own: None,
            identity: OnceLock::new(),
        }
    }
}

/// By what the file says.
impl PartialEq for BackendTls {
    fn eq(&self, other: &BackendTls) -> bool {
        self.server_name == other.server_name
            && self.verify == other.verify
            && self.own == other.own
    }
}

impl Eq for BackendTls {}
