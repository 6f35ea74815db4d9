//! The local authority: certificates for names that nobody else would give one for, trusted by this machine alone.
//!
//! Its key is made once, in the state directory. It can only ever vouch for names under localhost, test, internal
//! and home.arpa and for loopback addresses: its own certificate says so, and every client that trusts it checks.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType,
};
use rustix::process::geteuid;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::Certificate;
use super::sha256;
use crate::site::local::SUFFIXES;

/// Where it is in the state directory.
const FOLDER: &str = "authority";
const CERTIFICATE: &str = "root.pem";
const KEY: &str = "root.key";
/// Ten years: whoever trusted it once should not have to do so again soon.
const ROOT_DAYS: i64 = 3650;
/// With less left it is said: everybody who trusts it has to trust another.
const ROOT_ENDS_DAYS: i64 = 60;
/// Short, because it is made anew without anybody noticing, and below what Apple's clients take (825 days).
const LEAF_DAYS: i64 = 90;
/// A leaf with less time left is made anew.
const RENEW: Duration = Duration::from_secs(30 * 86_400);
/// Clocks of clients go wrong.
const SKEW_DAYS: i64 = 1;
/// A wildcard site can be asked for any number of names; each costs 2 KiB.
const MOST_LEAVES: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Authority {
    pub root_pem: String,
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
    /// Of the root.
    valid: Validity,
    /// One for all leaves: a certificate then costs one signature.
    leaf_key: KeyPair,
    leaves: DashMap<Box<str>, Arc<Certificate>>,
}

impl Authority {
    /// The authority of this state directory, made if there is none yet.
    ///
    /// # Errors
    /// When it can be neither read nor made; the text says which file and why.
    pub fn open(state: &Path) -> Result<Authority, String> {
        let folder = state.join(FOLDER);
        if !folder.join(CERTIFICATE).exists() {
            make(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        }
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        let root_pem = read(CERTIFICATE)?;
        let of_folder = |what: rcgen::Error| format!("{} is damaged: {what}", folder.display());
        let key = KeyPair::from_pem(&read(KEY)?).map_err(of_folder)?;
        Ok(Authority {
            issuer: Issuer::from_ca_cert_pem(&root_pem, key).map_err(of_folder)?,
            valid: Validity::of(&root_pem)
                .ok_or_else(|| format!("{} is damaged", root_path(state).display()))?,
            leaf_key: KeyPair::generate().map_err(|error| error.to_string())?,
            leaves: DashMap::new(),
            root_pem,
            folder,
        })
    }

    /// What an operator should know of the root: nobody is shown that it is over but clients.
    pub(super) fn advice(&self, now: SystemTime) -> Option<String> {
        let wrong = self.valid.complaint(OffsetDateTime::from(now))?;
        Some(format!(
            "the certificate of the local authority {wrong}; remove {} and restart onedoor for a new one, and `onedoor trust` it",
            self.folder.display()
        ))
    }

    /// A certificate for `host`, which must be a local name. Costs a signature the first time.
    pub(super) fn leaf(&self, host: &str) -> Option<Arc<Certificate>> {
        self.leaf_at(host, SystemTime::now())
    }

    fn leaf_at(&self, host: &str, now: SystemTime) -> Option<Arc<Certificate>> {
        if let Some(leaf) = self.leaves.get(host)
            && leaf.not_after > now + RENEW
            // Not after the clock was set back.
            && leaf.not_before <= now
        {
            return Some(Arc::clone(&leaf));
        }
        let leaf = Arc::new(self.sign(host, now)?);
        if self.leaves.len() >= MOST_LEAVES {
            self.leaves.clear();
        }
        self.leaves.insert(host.into(), Arc::clone(&leaf));
        Some(leaf)
    }

    fn sign(&self, host: &str, now: SystemTime) -> Option<Certificate> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![match host.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName(host.try_into().ok()?),
        }];
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, now.into(), LEAF_DAYS);
        let certificate = params.signed_by(&self.leaf_key, &self.issuer).ok()?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let key = any_ecdsa_type(&key).ok()?;
        Certificate::new(CertifiedKey::new(vec![certificate.der().clone()], key)).ok()
    }
}

/// From when to when a certificate is good.
#[derive(Clone, Copy, Debug)]
struct Validity {
    from: OffsetDateTime,
    until: OffsetDateTime,
}

impl Validity {
    /// `None`: it is no certificate.
    fn of(pem: &str) -> Option<Validity> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let validity = parsed.validity();
        Some(Validity {
            from: validity.not_before.to_datetime(),
            until: validity.not_after.to_datetime(),
        })
    }

    /// What is wrong with it, or soon will be.
    fn complaint(&self, now: OffsetDateTime) -> Option<String> {
        let days = |span: time::Duration| match span.whole_days() {
            1 => "1 day".to_owned(),
            days => format!("{days} days"),
        };
        if now < self.from {
            // A clock that was wrong when it was made, or is now.
            return Some(format!("begins in {} by this clock", days(self.from - now)));
        }
        if now >= self.until {
            return Some(format!("ended {} ago", days(now - self.until)));
        }
        let left = self.until - now;
        (left.whole_days() < ROOT_ENDS_DAYS).then(|| format!("ends in {}", days(left)))
    }
}

/// Where the root's certificate is, made or not.
pub fn root_path(state: &Path) -> PathBuf {
    state.join(FOLDER).join(CERTIFICATE)
}

/// What tells this root from others, short enough for the name of a file. `None`: it is no certificate.
pub fn fingerprint(root_pem: &str) -> Option<String> {
    let der = CertificateDer::from_pem_slice(root_pem.as_bytes()).ok()?;
    Some(HEXLOWER.encode(sha256(&der).first_chunk::<8>()?))
}

/// Whether a client is near enough to be shown a certificate of the local authority: nobody on the internet has a
/// reason to ask for such a name.
pub fn is_near(client: IpAddr) -> bool {
    match client.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // RFC 1918, RFC 3927, and RFC 6598, which overlay networks use.
            ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Written beside and renamed, so that nobody ever sees half of it; whoever comes second uses the first one's.
fn make(folder: &Path) -> io::Result<()> {
    let beside = folder.with_extension(format!("tmp-{}", std::process::id()));
    // Left by one that was killed half-way: in a container the next has its number.
    match fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    DirBuilder::new().mode(0o700).create(&beside)?;
    let made = make_in(&beside)
        .and_then(|()| give_away(&beside))
        .and_then(|()| fs::rename(&beside, folder));
    if let Err(error) = made {
        // What cannot be removed is in nobody's way.
        drop(fs::remove_dir_all(&beside));
        if !folder.join(CERTIFICATE).exists() {
            return Err(error);
        }
    }
    Ok(())
}

fn make_in(folder: &Path) -> io::Result<()> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = root()
        .and_then(|root| root.self_signed(&key))
        .map_err(io::Error::other)?;
    let write = |name: &str, text: &str, mode: u32| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(folder.join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write(KEY, &key.serialize_pem(), 0o600)?;
    write(CERTIFICATE, &certificate.pem(), 0o644)
}

/// Gives what root has made (`sudo onedoor trust`) to whom the state directory belongs, who could not read it otherwise.
fn give_away(folder: &Path) -> io::Result<()> {
    let Some(state) = folder.parent().filter(|_| geteuid().is_root()) else {
        return Ok(());
    };
    let owner = fs::metadata(state)?;
    for path in [folder, &folder.join(KEY), &folder.join(CERTIFICATE)] {
        chown(path, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

fn root() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(
        DnType::CommonName,
        format!("onedoor local authority ({host})"),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let names = SUFFIXES.map(|suffix| GeneralSubtree::DnsName(suffix.to_owned()));
    let loopback = [
        CidrSubnet::from_addr_prefix(Ipv4Addr::LOCALHOST.into(), 8),
        CidrSubnet::from_addr_prefix(Ipv6Addr::LOCALHOST.into(), 128),
    ];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: names
            .into_iter()
            .chain(loopback.map(GeneralSubtree::IpAddress))
            .collect(),
        excluded_subtrees: Vec::new(),
    });
    valid_for(&mut params, OffsetDateTime::now_utc(), ROOT_DAYS);
    Ok(params)
}

fn valid_for(params: &mut CertificateParams, now: OffsetDateTime, days: i64) {
    params.not_before = now - time::Duration::days(SKEW_DAYS);
    params.not_after = now + time::Duration::days(days);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str) -> PathBuf {
        let state = std::env::temp_dir().join(format!("onedoor-{name}-{}", std::process::id()));
        fs::create_dir_all(&state).expect("folder");
        state
    }

    #[test]
    fn a_leaf_is_made_anew_in_time_and_when_the_clock_was_set_back() {
        let state = state("leaf");
        let authority = Authority::open(&state).expect("authority");
        let day = Duration::from_secs(86_400);
        let start = SystemTime::now();
        let leaf = |now| authority.leaf_at("blue.localhost", now).expect("leaf");
        let first = leaf(start);
        assert!(Arc::ptr_eq(&first, &leaf(start + 59 * day)));
        let second = leaf(start + 61 * day);
        assert!(second.not_after > first.not_after + 60 * day);
        let back = start - 40 * day;
        assert!(leaf(back).not_before <= back && leaf(back).not_after > back + RENEW);
        fs::remove_dir_all(&state).expect("gone");
    }

    #[test]
    fn what_somebody_left_who_was_killed_is_not_in_the_way() {
        let state = state("leftover");
        let left = state.join(format!("{FOLDER}.tmp-{}", std::process::id()));
        fs::create_dir_all(left.join("deeper")).expect("folder");
        Authority::open(&state).expect("authority");
        assert!(!left.exists());
        fs::remove_dir_all(&state).expect("gone");
    }

    #[test]
    fn dates_that_the_clock_does_not_fit_are_told() {
        let valid = Validity {
            from: OffsetDateTime::UNIX_EPOCH,
            until: OffsetDateTime::UNIX_EPOCH + time::Duration::days(ROOT_DAYS),
        };
        let complaint = |days| valid.complaint(valid.until + time::Duration::days(days));
        assert_eq!(complaint(-ROOT_ENDS_DAYS), None);
        assert_eq!(
            complaint(1 - ROOT_ENDS_DAYS).as_deref(),
            Some("ends in 59 days")
        );
        assert_eq!(complaint(1).as_deref(), Some("ended 1 day ago"));
        assert_eq!(
            complaint(-ROOT_DAYS - 2).as_deref(),
            Some("begins in 2 days by this clock")
        );
    }

    #[test]
    fn only_private_clients_are_near() {
        for client in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.9",
            "172.16.0.1",
            "100.100.1.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_near(client.parse().expect("address")), "{client}");
        }
        for client in [
            "8.8.8.8",
            "100.128.0.1",
            "172.32.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!is_near(client.parse().expect("address")), "{client}");
        }
    }
}
