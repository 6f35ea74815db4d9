//! What a name answers to clear text, as far as its certificates decide it.

use std::net::IpAddr;

use super::{Held, Keyring, needs_files};
use crate::site::Site;
use crate::site::local::is_local;
use crate::site::tls::{ClearText, Mode};
use crate::tls::authority::is_near;

/// What a client gets that asks for a name in clear text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InClear {
    Serve,
    /// To https. `only_reading`: GET and HEAD alone; what else was sent is lost to a redirect nobody can read.
    Redirect {
        only_reading: bool,
    },
    Refuse,
    /// Its files are still being read: ask again after [`Keyring::until_read`]. Sent on to TLS it might find that refused.
    NotYet,
    /// It had a certificate, or must have one, and there is none: content never falls back to clear text.
    NoCertificate,
    /// A local name, asked for from far away.
    TooFar,
}

impl Keyring {
    /// Whether `host`, a name of `site`, is for clients nearby alone, because its certificate is the local authority's.
    pub fn is_for_near(&self, site: &Site, host: &str) -> bool {
        let may_be_found = match site.tls.mode {
            Mode::Auto => true,
            Mode::Local => false,
            Mode::Files(_) | Mode::Passthrough | Mode::Off => return false,
        };
        is_local(host) && !(may_be_found && self.found.load().find(host).is_some())
    }

    /// What `host`, a name of `site`, answers to clear text.
    pub fn in_clear(&self, site: &Site, host: &str, client: IpAddr) -> InClear {
        let wished = |usual| match site.tls.clear_text.unwrap_or(usual) {
            ClearText::Serve => InClear::Serve,
            ClearText::Redirect => InClear::Redirect {
                only_reading: site.tls.mode == Mode::Passthrough,
            },
            ClearText::Refuse => InClear::Refuse,
        };
        match self.readiness(site) {
            Readiness::Ready => {}
            // What is open anyway needs no certificate.
            Readiness::Unread if site.tls.clear_text == Some(ClearText::Serve) => {}
            Readiness::Unread => return InClear::NotYet,
            Readiness::Shut => return InClear::NoCertificate,
        }
        match site.tls.mode {
            Mode::Off => InClear::Serve,
            Mode::Passthrough => wished(ClearText::Redirect),
            Mode::Files(_) => {
                self.remember_files(site, host);
                wished(ClearText::Redirect)
            }
            Mode::Auto if self.has_found(site, host) => wished(ClearText::Redirect),
            Mode::Auto | Mode::Local if is_local(host) => match is_near(client) {
                false => InClear::TooFar,
                // The local authority's takes the place of one that was there.
                true if site.tls.mode == Mode::Auto && self.had(site, host) => {
                    wished(ClearText::Redirect)
                }
                true => wished(usual_without(site)),
            },
            Mode::Local => InClear::NoCertificate,
            Mode::Auto => match why_closed(site, || self.had(site, host)) {
                Some(_) => InClear::NoCertificate,
                None => InClear::Serve,
            },
        }
    }

    /// Waits until the files that `site` names have been read, or nobody needs them any more. For how long is for the
    /// caller to say.
    pub async fn until_read(&self, site: &Site) {
        loop {
            let read = self.something_was_read();
            if self.readiness(site) != Readiness::Unread {
                return;
            }
            read.await;
        }
    }

    fn readiness(&self, site: &Site) -> Readiness {
        if !site.tls.is_terminated() || !needs_files(site) {
            return Readiness::Ready;
        }
        match self.sites.get(&site.number).as_deref() {
            Some(Held::Ready(_)) => Readiness::Ready,
            Some(Held::Unread) => Readiness::Unread,
            Some(Held::Unusable) | None => Readiness::Shut,
        }
    }
}

/// Why a name that has no certificate, and gets none of the local authority, answers that it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tls) enum WhyClosed {
    Had,
    /// Clients are asked for theirs.
    AsksClients,
    /// The operator wants clear text sent on to TLS, or refused.
    MustBeTls(ClearText),
}

/// `None`: it is served in clear text. Asked for a request, and when operators are told of it.
pub(in crate::tls) fn why_closed(site: &Site, had: impl FnOnce() -> bool) -> Option<WhyClosed> {
    if had() {
        return Some(WhyClosed::Had);
    }
    match (site.tls.clear_text, usual_without(site)) {
        (Some(ClearText::Serve), _) | (None, ClearText::Serve) => None,
        _ if site.tls.client.is_some() => Some(WhyClosed::AsksClients),
        (said, usual) => Some(WhyClosed::MustBeTls(said.unwrap_or(usual))),
    }
}

/// What a site does with clear text that says nothing of it, for names without a certificate of their own.
fn usual_without(site: &Site) -> ClearText {
    match &site.tls.client {
        // Whoever asks for certificates does not mean to be open to everybody who leaves TLS out.
        Some(_) => ClearText::Redirect,
        None => ClearText::Serve,
    }
}

/// Whether what a site answers is known, as far as that depends on files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Ready,
    Unread,
    /// Without them nobody knows who may come, or what to show them: a redirect would only lead to TLS that is refused.
    Shut,
}
