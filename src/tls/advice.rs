//! What an operator should know of a certificate and its key, and what stops nobody from showing it.

use std::fmt::Display;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::certificate::{Certificate, Issuer};
use crate::site::{Claim, directory};

/// From then on a certificate is said to end soon: Let's Encrypt renews 30 days before, so this one was not.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// Why it is refused, or soon will be, as of `now`. `audience` is who looks at it.
pub(super) fn of_certificate(
    certificate: &Certificate,
    audience: &str,
    now: SystemTime,
) -> impl Iterator<Item = String> + use<> {
    let of_dates = of_dates(certificate, audience, now);
    of_dates.into_iter().chain(of_issuer(certificate, audience))
}

/// That it comes without what clients need to check it.
fn of_issuer(certificate: &Certificate, audience: &str) -> Option<String> {
    let Issuer::Lacking(issuer) = &certificate.issuer else {
        return None;
    };
    let path = certificate.file.display();
    Some(format!(
        "{path}: the certificate comes without the intermediate of its issuer {issuer:?}; {audience} may refuse it, even where \
         browsers do not; the file should be the full chain (fullchain.pem)"
    ))
}

/// That it has ended, ends soon or has not begun.
fn of_dates(certificate: &Certificate, audience: &str, now: SystemTime) -> Option<String> {
    let path = certificate.file.display();
    let which = match certificate.issuer {
        Issuer::EndsFirst => "the intermediate of the certificate",
        Issuer::Fine | Issuer::Lacking(_) => "the certificate",
    };
    if let Ok(ago) = now.duration_since(certificate.not_after) {
        let ago = days(ago);
        return Some(format!(
            "{path}: {which} ended {ago} ago; {audience} will refuse it"
        ));
    }
    if let Ok(until) = certificate.not_before.duration_since(now)
        && !until.is_zero()
    {
        let until = days(until);
        return Some(format!(
            "{path}: the certificate begins in {until}; {audience} will refuse it until then"
        ));
    }
    let left = certificate.not_after.duration_since(now).ok()?;
    (left < SOON).then(|| format!("{path}: {which} ends in {}", days(left)))
}

/// Less than one is told in hours: that is for today.
fn days(span: Duration) -> String {
    let (number, word) = match span.as_secs() / 86_400 {
        0 => (span.as_secs() / 3600, "hour"),
        days => (days, "day"),
    };
    match number {
        0 => "less than an hour".to_owned(),
        1 => format!("1 {word}"),
        number => format!("{number} {word}s"),
    }
}

/// Like sshd: a key that others can read, or put another in place of, is no secret (CASES T-60). Said with the command that
/// helps, which follows a link as the look at it has.
pub(super) fn of_key(key: &Path) -> Option<String> {
    let metadata = key.metadata().ok()?;
    let path = key.display();
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != own {
        let uid = metadata.uid();
        return Some(format!(
            "{path}: the key belongs to user {uid}, who is neither root nor who runs onedoor and can change it; `chown` \
             gives it to one of them"
        ));
    }
    let who = match metadata.mode() & 0o077 {
        0 => None,
        bits if bits & 0o007 != 0 => Some("everybody"),
        // A group made for those who may: ssl-cert on Debian.
        bits if bits & 0o070 == 0o040 => None,
        _ => Some("the group"),
    };
    if let Some(who) = who {
        return Some(format!(
            "{path}: {who} can read or change the key; `chmod 600` keeps it to its owner"
        ));
    }
    let folder = directory::replaceable_in(key)?;
    let folder = folder.display();
    Some(format!(
        "{path}: everybody can put another key in its place, in {folder}; `chmod o-w '{folder}'` ends that"
    ))
}

/// Hosts that clients would be shown a certificate of another name for.
pub(super) fn of_names<'c>(
    certificates: &'c [Arc<Certificate>],
    claims: &'c [Claim],
) -> impl Iterator<Item = String> + 'c {
    let is_covered = |claim: &&Claim| {
        let mut certificates = certificates.iter();
        certificates.any(|certificate| certificate.covers_pattern(&claim.pattern))
    };
    let lacking = claims.iter().filter(move |claim| !is_covered(claim));
    lacking.map(|claim| is_not_for(&claim.pattern, certificates))
}

/// Why clients that ask for `name` will refuse what they are shown of `certificates`, now or soon.
pub fn of_shown(certificates: &[Arc<Certificate>], name: &str) -> Option<String> {
    certificates.first()?;
    match certificates.iter().find(|one| one.covers(name)) {
        Some(shown) => of_dates(shown, "clients", SystemTime::now()),
        None => Some(is_not_for(&name, certificates)),
    }
}

fn is_not_for(name: &dyn Display, certificates: &[Arc<Certificate>]) -> String {
    format!(
        "the certificate is not for {name}{}; clients will refuse it",
        what_for(certificates)
    )
}

/// What the certificates are for instead, cut where that is much.
fn what_for(certificates: &[Arc<Certificate>]) -> String {
    const MOST: usize = 4;
    let mut names: Vec<String> = Vec::new();
    for name in certificates.iter().flat_map(|one| one.names()) {
        let name = name.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
        if names.len() > MOST {
            names.pop();
            return format!(", but for {} and others", names.join(", "));
        }
    }
    match names.is_empty() {
        true => {
            ": it has no subjectAltName with a hostname, and its common name counts for nothing"
                .into()
        }
        false => format!(", but for {}", names.join(", ")),
    }
}
