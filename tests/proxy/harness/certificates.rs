//! Makes certificates on the fly.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::{ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion};
use x509_parser::prelude::{FromDer, X509Certificate};

const A_YEAR: time::Duration = time::Duration::days(365);

/// An authority of a test's own.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A chain and its key, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        Authority::made(name, CertificateParams::default())
    }

    /// One that was over yesterday.
    pub(crate) fn former(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(30);
        params.not_after = now - time::Duration::days(1);
        Authority::made(name, params)
    }

    /// One that is over in so many days.
    pub(crate) fn for_days(name: &str, days: i64) -> Authority {
        let mut params = CertificateParams::default();
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days);
        Authority::made(name, params)
    }

    /// Somebody else's, whose key has been got hold of.
    pub(crate) fn of(pem: &str, key: &str) -> Authority {
        let key = KeyPair::from_pem(key).unwrap();
        Authority {
            pem: pem.to_owned(),
            issuer: Issuer::from_ca_cert_pem(pem, key).unwrap(),
        }
    }

    fn made(name: &str, mut params: CertificateParams) -> Authority {
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// For a server that answers to `names`.
    pub(crate) fn pair(&self, names: &[&str]) -> Pair {
        self.sign(names, KeyPair::generate().unwrap(), A_YEAR)
    }

    /// The same with the policy that authorities of the web put into theirs (CA/Browser Forum: domain validated).
    pub(crate) fn pair_of_the_web(&self, names: &[&str]) -> Pair {
        let policies = [48, 10, 48, 8, 6, 6, 0x67, 0x81, 0x0C, 1, 2, 1];
        let policies = CustomExtension::from_oid_content(&[2, 5, 29, 32], policies.to_vec());
        self.sign_with(names, KeyPair::generate().unwrap(), A_YEAR, |params| {
            params.custom_extensions.push(policies);
        })
    }

    /// The same with an RSA key.
    pub(crate) fn rsa_pair(&self, names: &[&str]) -> Pair {
        self.sign(
            names,
            KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(),
            A_YEAR,
        )
    }

    /// One that is good until so many days from now; a negative number is over.
    pub(crate) fn pair_for_days(&self, names: &[&str], days: i64) -> Pair {
        self.pair_for(names, time::Duration::days(days))
    }

    pub(crate) fn pair_for(&self, names: &[&str], span: time::Duration) -> Pair {
        self.sign(names, KeyPair::generate().unwrap(), span)
    }

    /// The same pair with those that vouch for it.
    pub(crate) fn whole_pair(&self, names: &[&str]) -> Pair {
        let Pair { cert, key } = self.pair(names);
        let cert = format!("{cert}{}", self.pem);
        Pair { cert, key }
    }

    fn sign(&self, names: &[&str], key: KeyPair, span: time::Duration) -> Pair {
        self.sign_with(names, key, span, |_| {})
    }

    fn sign_with(
        &self,
        names: &[&str],
        key: KeyPair,
        span: time::Duration,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(30);
        params.not_after = now + span;
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Its own certificate, as if it were a server's.
    pub(crate) fn own_pair(&self) -> Pair {
        Pair {
            cert: self.pem.clone(),
            key: self.issuer.key().serialize_pem(),
        }
    }

    /// For a client that calls itself `name`.
    pub(crate) fn client(&self, name: &str) -> Pair {
        self.client_with(name, |_| {})
    }

    /// One that was over yesterday.
    pub(crate) fn former_client(&self, name: &str) -> Pair {
        self.client_with(name, |params| {
            let now = time::OffsetDateTime::now_utc();
            params.not_before = now - time::Duration::days(30);
            params.not_after = now - time::Duration::days(1);
        })
    }

    /// One whose second name has a NUL in it.
    pub(crate) fn client_of_two_readings(&self, name: &str) -> Pair {
        self.client_with(name, |params| {
            let second = "ann.example.com\0.evil.example.com".try_into().unwrap();
            params.subject_alt_names = vec![SanType::DnsName(second)];
        })
    }

    /// The list (CRL) of what it has taken back, good for so many days from now, in PEM.
    pub(crate) fn revoking(&self, pairs: &[&Pair], days: i64) -> String {
        let now = time::OffsetDateTime::now_utc();
        let revoked = |pair: &&Pair| {
            let der = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
            let (_, certificate) = X509Certificate::from_der(&der).unwrap();
            RevokedCertParams {
                serial_number: SerialNumber::from_slice(certificate.raw_serial()),
                revocation_time: now - time::Duration::days(1),
                reason_code: None,
                invalidity_date: None,
            }
        };
        let params = CertificateRevocationListParams {
            this_update: now - time::Duration::days(10),
            next_update: now + time::Duration::days(days),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: pairs.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    fn client_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Pair {
    /// How a server speaks TLS that shows this.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        self.shown_by(builder)
    }

    /// The same, asking for client certificates of `authority`.
    pub(crate) fn server_demanding(
        &self,
        authority: &Authority,
        version: &'static SupportedProtocolVersion,
    ) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
        roots.add(root).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap());
        self.shown_by(builder)
    }

    fn shown_by(&self, builder: ConfigBuilder<ServerConfig, WantsServerCert>) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_slice_iter(self.cert.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let config = builder.with_single_cert(chain.map(Result::unwrap).collect(), key);
        Arc::new(config.unwrap())
    }

    /// Writes `NAME.pem` and `NAME.key` into a folder, each beside and then renamed.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        put(folder, &format!("{name}.key"), &self.key);
        put(folder, &format!("{name}.pem"), &self.cert);
    }
}

/// As an operator's tool would: nobody ever sees half of it, and a key is its owner's alone.
pub(crate) fn put(folder: &Path, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let beside = folder.join(format!(".{name}.new"));
    std::fs::write(&beside, text).unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(beside, folder.join(name)).unwrap();
}
