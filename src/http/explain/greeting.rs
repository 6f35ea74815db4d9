//! What a client hello for a name leads to: the same questions that the door asks, without a connection.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::observe::Reason;
use crate::site::Site;
use crate::site::tls::{MinVersion, Mode, Need};
use crate::tls::{CLIENT_FIELDS, Certificate, Choice, Keyring, Policy, Secure, is_near};

/// The TLS of a request, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// What the client hello asks for; `None` for an address, which has no place there.
    pub sni: Option<String>,
    /// What `tls` of the site comes to.
    pub mode: String,
    /// `1.2` or `1.3`.
    pub min_version: Option<String>,
    /// `required`, `optional`; `None`: not asked for.
    pub client_certificate: Option<String>,
    /// The file with the authorities that it must be of.
    pub client_ca: Option<String>,
    /// Which certificate is shown.
    pub certificate: Option<Shown>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Where it comes from.
    pub from: String,
    pub names: Vec<String>,
    /// Unix time.
    pub ends: Option<u64>,
}

impl Greeting {
    /// What stands behind an answer that only those get who show a certificate.
    pub(super) fn condition(&self) -> Option<String> {
        if self.client_certificate.as_deref() != Some(REQUIRED) {
            return None;
        }
        let file = self.client_ca.as_deref().map(Path::new);
        let file = file.and_then(Path::file_name).unwrap_or_default();
        Some(format!(
            ", if the client shows a certificate of {}; without one the handshake ends with the alert \
             certificate_required",
            file.display()
        ))
    }
}

const REQUIRED: &str = "required";

/// Why a local name is not served to somebody from far away.
pub(super) const FOR_NEAR: &str = "its certificate would be one of the local authority's, and the client is not of this \
                                   machine or its networks";

/// What follows a hello.
pub(super) enum Answered {
    /// Requests may be made inside. `only_its_name`: the certificate is one that is made for the name alone.
    Inside {
        secure: Secure,
        only_its_name: bool,
    },
    /// The site's backends get the connection.
    PassedThrough,
    Closed(Outcome),
}

/// What `site`, which answers for `name`, says to a hello from `client`.
pub(super) fn greet(
    site: Option<&Arc<Site>>,
    name: &str,
    client: IpAddr,
    keyring: &Keyring,
) -> (Greeting, Answered) {
    let mut greeting = Greeting {
        sni: name.parse::<IpAddr>().is_err().then(|| name.to_owned()),
        mode: site.map_or("none", |site| word(&site.tls.mode)).to_owned(),
        min_version: None,
        client_certificate: None,
        client_ca: None,
        certificate: None,
    };
    let closed = |reason: Reason, words: &str| Answered::Closed(Outcome::closed(reason, words));
    let Some(site) = site else {
        let words =
            "no site answers for that name: the alert unrecognized_name, and nobody's certificate";
        return (greeting, closed(Reason::UnrecognizedName, words));
    };
    match site.tls.mode {
        Mode::Passthrough => {
            let admitted = site.allow.as_ref().is_none_or(|allow| allow.admits(client));
            let answered = match admitted {
                true => Answered::PassedThrough,
                false => closed(
                    Reason::NotAllowed,
                    "this site does not serve your address: the alert access_denied",
                ),
            };
            return (greeting, answered);
        }
        Mode::Off => {
            return (
                greeting,
                closed(Reason::TlsOff, "this site is served in clear text only"),
            );
        }
        Mode::Auto | Mode::Local | Mode::Files(_) => {}
    }
    let (policy, from, certificates) = match keyring.choose(site, name, client) {
        Choice::Files {
            policy,
            certificates,
        } => (policy, "the files that the site names", certificates),
        Choice::Found {
            policy,
            certificates,
        } => (policy, "the daemon's certificates folders", certificates),
        Choice::Local { policy } => (
            policy,
            "the local authority, which `onedoor trust` makes known",
            Arc::default(),
        ),
        Choice::NotYet => {
            let words = "its certificate files are still being read; the handshake waits";
            return (greeting, closed(Reason::HandshakeTimeout, words));
        }
        Choice::Broken => {
            let words = "its certificate is missing or broken: the alert internal_error";
            return (greeting, closed(Reason::NoCertificate, words));
        }
        Choice::Nothing if keyring.is_for_near(site, name) && !is_near(client) => {
            let words = format!("{FOR_NEAR}: the alert unrecognized_name");
            return (greeting, closed(Reason::UnrecognizedName, &words));
        }
        Choice::Nothing => {
            let words = "there is no certificate for this name: the alert unrecognized_name";
            return (greeting, closed(Reason::UnrecognizedName, words));
        }
    };
    greeting.min_version = Some(
        match policy.min {
            MinVersion::Tls12 => "1.2",
            MinVersion::Tls13 => "1.3",
        }
        .to_owned(),
    );
    greeting.client_certificate = policy.client.map(|need| {
        match need {
            Need::Require => REQUIRED,
            Need::Optional => "optional",
        }
        .to_owned()
    });
    let authorities = site.tls.client.as_ref();
    greeting.client_ca = authorities.map(|client| super::shown(&client.ca));
    greeting.certificate = Some(shown(from, name, &certificates));
    let only_its_name = certificates.is_empty();
    let secure = secure(name, policy, certificates);
    let inside = Answered::Inside {
        secure,
        only_its_name,
    };
    (greeting, inside)
}

fn secure(name: &str, policy: Arc<Policy>, certificates: Arc<[Arc<Certificate>]>) -> Secure {
    Secure {
        name: name.into(),
        // Every client that is asked about here speaks the newest.
        version: MinVersion::Tls13,
        client: client_lines(policy.client),
        policy,
        certificates,
    }
}

/// What apps are told of a client's certificate, in words.
fn client_lines(need: Option<Need>) -> Box<[u8]> {
    let perhaps = match need {
        None => return Box::default(),
        Some(Need::Require) => "",
        Some(Need::Optional) => ", where the client shows one",
    };
    let about = [
        "the client's certificate in base64",
        "the SHA-256 of the client's certificate",
        "the subject of the client's certificate",
        "the serial number of the client's certificate",
    ];
    let fields = CLIENT_FIELDS.into_iter().zip(about);
    let lines = fields.map(|(name, about)| format!("{name}: ({about}{perhaps})\r\n"));
    lines.collect::<String>().into_bytes().into()
}

fn shown(from: &str, name: &str, certificates: &[Arc<Certificate>]) -> Shown {
    let names = certificates
        .iter()
        .flat_map(|certificate| certificate.names());
    let mut names: Vec<String> = names.map(ToString::to_string).collect();
    names.dedup();
    if certificates.is_empty() {
        names.push(name.to_owned());
    }
    let unix = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    };
    Shown {
        from: from.to_owned(),
        names,
        ends: certificates.first().map(|first| unix(first.not_after)),
    }
}

fn word(mode: &Mode) -> &'static str {
    match mode {
        Mode::Auto => "auto",
        Mode::Local => "local",
        Mode::Files(_) => "files",
        Mode::Passthrough => "passthrough",
        Mode::Off => "off",
    }
}
