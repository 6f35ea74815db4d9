//! The files that a site names -> certificates and authorities, or what is wrong with them.
//!
//! Blocks on the disk. Never says what a file contains, only where it is and what it is not.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

use super::advice;
use super::certificate::Certificate;
use super::identity::Terms;
use super::pair::{Mismatch, match_up};
use super::revoked::{self, Lists};
use super::{sha256, system};
use crate::site::backend_tls::{BackendTls, Verify};
use crate::site::fence::{Around, Fence, FileError, read_regular};
use crate::site::file::Rules;
use crate::site::tls::{Mode, PairFiles};
use crate::site::{Hostname, Site};

/// A chain with a few hundred names is 20 KiB; a bundle of authorities is 250.
const PEM_BYTES: u64 = 1 << 20;

/// What the files of one site gave.
#[derive(Debug, Default)]
pub struct Loaded {
    /// ECDSA first. Empty where the site names no files.
    pub certificates: Box<[Arc<Certificate>]>,
    /// The authorities of `[tls.client]`.
    pub authorities: Option<Authorities>,
    /// Of the `https://` backends, in the order of the file.
    pub backends: Vec<Terms>,
    /// What an operator should know, and what does not stop the site.
    pub warnings: Vec<String>,
}

/// Whose certificates are good.
#[derive(Clone, Debug)]
pub struct Authorities {
    pub(super) roots: Arc<RootCertStore>,
    /// What they have taken back. Empty: nobody asks.
    pub(super) lists: Lists,
    /// What tells one set from another.
    pub(super) digest: Box<[u8]>,
}

impl Authorities {
    /// `made_of` is what `roots` are, in DER.
    pub(super) fn new(roots: RootCertStore, made_of: &[CertificateDer<'_>]) -> Authorities {
        let mut der = Vec::new();
        for certificate in made_of {
            der.extend_from_slice(&(certificate.len() as u64).to_be_bytes());
            der.extend_from_slice(certificate);
        }
        Authorities {
            roots: Arc::new(roots),
            lists: Lists::default(),
            digest: sha256(&der),
        }
    }

    /// The same authorities with these lists are others: whoever got in under old lists is asked again.
    fn with_lists(mut self, lists: Lists) -> Authorities {
        let mut made_of = self.digest.to_vec();
        for list in lists.der.iter() {
            made_of.extend_from_slice(&sha256(list));
        }
        self.digest = sha256(&made_of);
        self.lists = lists;
        self
    }
}

/// Why a site cannot have its TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// A file is not there: it may be on its way.
    Missing(PathBuf),
    Broken {
        path: PathBuf,
        why: String,
    },
    /// The system trusts nobody.
    NoSystemStore(String),
    /// A hostname, and yet none that TLS can ask for.
    NoName(Hostname),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::Missing(path) => write!(f, "{} is not there yet", path.display()),
            LoadError::Broken { path, why } => write!(f, "{}: {why}", path.display()),
            LoadError::NoSystemStore(why) => write!(
                f,
                "this system trusts no certificate authority; install ca-certificates, or name one with \"ca\": {why}"
            ),
            LoadError::NoName(name) => {
                write!(
                    f,
                    "no certificate can be for {name}; \"server_name\" says another name"
                )
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// Reads all the files that the TLS of `site` needs, towards clients and towards backends.
///
/// # Errors
/// The first file that cannot be used.
pub fn load(site: &Site, rules: &Rules) -> Result<Loaded, LoadError> {
    let mut loaded = load_shown(site, rules)?;
    let towards_backends = load_backends(site, rules)?;
    loaded.backends = towards_backends.backends;
    loaded.warnings.extend(towards_backends.warnings);
    Ok(loaded)
}

/// Only what clients are shown and asked for.
///
/// # Errors
/// As [`load`].
pub fn load_shown(site: &Site, rules: &Rules) -> Result<Loaded, LoadError> {
    let (tls, claims) = (&site.tls, &site.claims);
    let fence = &fence(rules);
    let mut loaded = Loaded::default();
    if let Mode::Files(pairs) = &tls.mode {
        let mut certificates = Vec::new();
        for pair in pairs {
            let pair = read_pair(pair, fence, &mut loaded.warnings)?;
            certificates.push(Arc::new(pair));
        }
        certificates.sort_by_key(|certificate| !certificate.is_ecdsa());
        let of_names = advice::of_names(&certificates, claims);
        loaded.warnings.extend(of_names);
        loaded.certificates = certificates.into();
    }
    if let Some(client) = &tls.client {
        let own = rules.defaults.tls.client.as_ref();
        let is_own = |path: &Path| own.is_some_and(|own| own.files().any(|file| file == path));
        // The daemon file's own are the operator's: no fence around them.
        let fence = |path: &Path| match is_own(path) {
            true => Fence {
                files_under: &[],
                ..*fence
            },
            false => *fence,
        };
        let authorities = read_authorities(&client.ca, &fence(&client.ca))?;
        let mut lists = Vec::new();
        for path in &client.crls {
            lists.extend(revoked::read(
                path,
                &read(path, &fence(path))?,
                &authorities,
            )?);
        }
        let lists = Lists::new(lists);
        loaded.warnings.extend(lists.advice());
        loaded.authorities = Some(authorities.with_lists(lists));
    }
    Ok(loaded)
}

/// Only what backends are asked for and shown.
///
/// # Errors
/// As [`load`].
pub fn load_backends(site: &Site, rules: &Rules) -> Result<Loaded, LoadError> {
    let fence = &fence(rules);
    let mut loaded = Loaded::default();
    let mut known = HashMap::new();
    for tls in site.backends().filter_map(|backend| backend.tls.as_deref()) {
        let terms = terms(tls, fence, &mut known, &mut loaded.warnings)?;
        loaded.backends.push(terms);
    }
    Ok(loaded)
}

fn terms(
    tls: &BackendTls,
    fence: &Fence<'_>,
    known: &mut HashMap<PathBuf, Authorities>,
    warnings: &mut Vec<String>,
) -> Result<Terms, LoadError> {
    let name = ServerName::try_from(tls.server_name.as_str().to_owned())
        .map_err(|_| LoadError::NoName(tls.server_name.clone()))?;
    let authorities = match &tls.verify {
        Verify::System => Some(system::authorities()?),
        Verify::Authorities(path) => Some(read_once(path, fence, known)?),
        Verify::Off => None,
    };
    let own = match &tls.own {
        Some(pair) => {
            let own = read_pair(pair, fence, warnings)?;
            Some(Arc::new(own))
        }
        None => None,
    };
    Ok(Terms {
        name,
        authorities,
        own,
    })
}

fn fence(rules: &Rules) -> Fence<'_> {
    Fence {
        // Paths of a site start where its file lies already.
        folder: Path::new(""),
        around: Around::Sites(&rules.sites),
        files_under: &rules.files_under,
        sockets_under: None,
    }
}

fn read_pair(
    pair: &PairFiles,
    fence: &Fence<'_>,
    warnings: &mut Vec<String>,
) -> Result<Certificate, LoadError> {
    let chain = read(&pair.cert, fence)?;
    let key = read(&pair.key, fence)?;
    warnings.extend(advice::of_key(&pair.key));
    let certificate = match_up(&chain, &key).map_err(|Mismatch { of_key, why }| {
        let path = if of_key { &pair.key } else { &pair.cert };
        broken(path, why)
    })?;
    Ok(certificate.of_file(&pair.cert))
}

/// A thousand backends of one site come to the same authorities: these are read and held once.
fn read_once(
    path: &Path,
    fence: &Fence<'_>,
    known: &mut HashMap<PathBuf, Authorities>,
) -> Result<Authorities, LoadError> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if let Some(authorities) = known.get(&real) {
        return Ok(authorities.clone());
    }
    let authorities = read_authorities(path, fence)?;
    known.insert(real, authorities.clone());
    Ok(authorities)
}

fn read_authorities(path: &Path, fence: &Fence<'_>) -> Result<Authorities, LoadError> {
    let text = read(path, fence)?;
    let mut roots = RootCertStore::empty();
    let mut made_of = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|_| broken(path, "the PEM in it is damaged"))?;
        made_of.push(certificate.clone());
        roots
            .add(certificate)
            .map_err(|_| broken(path, "a certificate in it cannot be an authority"))?;
    }
    if roots.is_empty() {
        return Err(broken(path, "there is no certificate in it"));
    }
    Ok(Authorities::new(roots, &made_of))
}

/// Nothing of these files is ever shown or sent, and the usual places are /etc/letsencrypt and /etc/ssl: so they may be
/// anywhere, unless the daemon file says what files may be pointed at.
fn read(path: &Path, fence: &Fence<'_>) -> Result<Vec<u8>, LoadError> {
    let read = if fence.files_under.is_empty() {
        read_regular(path, PEM_BYTES)
    } else {
        fence.read(path, PEM_BYTES)
    };
    read.map_err(|error| match error {
        FileError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            LoadError::Missing(path.to_owned())
        }
        error => LoadError::Broken {
            path: path.to_owned(),
            why: format!("it {error}"),
        },
    })
}

pub(super) fn broken(path: &Path, why: impl Into<Cow<'static, str>>) -> LoadError {
    LoadError::Broken {
        path: path.to_owned(),
        why: why.into().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{SiteDocument, SiteName, file};
    use crate::tls::authority::{Authority, root_path};

    #[test]
    fn backends_of_one_site_hold_their_authorities_once() {
        let state = std::env::temp_dir().join(format!("onedoor-roots-{}", std::process::id()));
        std::fs::create_dir_all(&state).expect("folder");
        Authority::open(&state).expect("made");
        let ca = root_path(&state);
        let text = format!(
            "host = 'a.test'\nto = [{{ at = 'https://10.0.0.1', ca = '{0}' }}, {{ at = 'https://10.0.0.2', ca = '{1}' }}]\n",
            ca.display(),
            // The same by another way.
            ca.parent()
                .unwrap_or(&ca)
                .join(".")
                .join(ca.file_name().unwrap_or_default())
                .display(),
        );
        let document = SiteDocument {
            name: SiteName::new("a"),
            text,
            origin: "sites.d/a.toml".into(),
            real: "sites.d/a.toml".into(),
        };
        let rules = Rules::default();
        let site = file::read(&document, &rules).expect("a site").site;
        let loaded = load_backends(&site, &rules).expect("read");
        let roots: Vec<_> = (loaded.backends.iter())
            .filter_map(|terms| terms.authorities.as_ref())
            .map(|authorities| &authorities.roots)
            .collect();
        assert!(roots.len() == 2 && Arc::ptr_eq(roots[0], roots[1]));
        std::fs::remove_dir_all(&state).expect("gone");
    }
}
