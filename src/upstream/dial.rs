//! The way to a backend: to where it is or where its name leads, through TLS where that is spoken, and in HTTP/2 perhaps by
//! a connection that others have opened.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::http2::{Breach, LineOrOpening};
use super::trying::Trying;
use super::{Endpoint, Phase, Speaks, UpstreamError, Upstreams, breach, connect};
use crate::site::backend_tls::BackendTls;
use crate::site::{Address, Backend, Member};
use crate::stream::Stream;
use crate::tls::Identity;

/// How long one of the addresses of a name that was out is waited for, at most, by the request that tries it again: the
/// others are well. 1 s, in which anybody near answers, and no more than a quarter of the time to connect.
const TRIAL_TIME: Duration = Duration::from_secs(1);

/// How far opening an upstream has come, for whoever ends it.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) phase: Cell<Phase>,
    /// Where a backend is a name.
    pub(super) trying: RefCell<Option<Trying>>,
}

impl Upstreams {
    /// The first address that a name leads to and that is well; and which it is.
    pub(super) async fn dial_name(
        &self,
        member: &Member,
        speaks: Speaks,
        first: &[u8],
        limit: Duration,
        progress: &Progress,
    ) -> Result<(Stream, Address), UpstreamError> {
        let address = &member.backend.address;
        let Some(addresses) = member.state.leads_to() else {
            let why = member.state.finding();
            let why = why.unwrap_or_else(|| "its name is still being looked up".into());
            return Err(UpstreamError::Unresolved {
                backend: address.clone(),
                source: io::Error::new(io::ErrorKind::NotFound, String::from(why)),
            });
        };
        let mut failed = None;
        let rested = addresses.list.iter().find_map(Trying::rested);
        let others = addresses.in_turn(self.turn());
        let others = others.map(|located| (located, Trying::at(located)));
        for (located, trying) in rested.into_iter().chain(others) {
            let is_brief = trying.is_trial() && addresses.list.len() > 1;
            progress.trying.replace(Some(trying));
            let dialled = self.dial_at(&located.address, &member.backend, speaks, first, progress);
            let dialled = match is_brief {
                true => {
                    let after = TRIAL_TIME.min(limit / 4);
                    let dialled = tokio::time::timeout(after, dialled).await;
                    dialled.unwrap_or_else(|_| {
                        Err(UpstreamError::TimedOut {
                            backend: located.address.clone(),
                            after,
                            during: progress.phase.get(),
                        })
                    })
                }
                false => dialled.await,
            };
            let trying = progress.trying.take();
            match dialled {
                Ok(stream) => {
                    trying.into_iter().for_each(Trying::accepted);
                    return Ok((stream, located.address.clone()));
                }
                Err(error @ UpstreamError::Exhausted { .. }) => return Err(error),
                Err(error) => {
                    trying.into_iter().for_each(Trying::failed);
                    failed = Some(error);
                }
            }
        }
        leads_elsewhere(member);
        Err(failed.unwrap_or_else(|| no_identity(address)))
    }

    /// Opens the way to `at`, which is where `backend` is or one of the addresses of its name.
    pub(super) async fn dial_at(
        &self,
        at: &Address,
        backend: &Backend,
        speaks: Speaks,
        first: &[u8],
        progress: &Progress,
    ) -> Result<Stream, UpstreamError> {
        match &backend.tls {
            // Whatever may be spoken: it knows nothing else.
            None if backend.h2c => {
                Box::pin(self.dial_h2c(at, backend, first, &progress.phase)).await
            }
            None => self.dial(at, first).await,
            // Boxed, so that a clear text exchange is no larger for it.
            Some(tls) => {
                let dialled = self.dial_tls(at, backend, speaks, first, tls, &progress.phase);
                Box::pin(dialled).await
            }
        }
    }

    async fn dial_h2c(
        &self,
        at: &Address,
        backend: &Backend,
        first: &[u8],
        phase: &Cell<Phase>,
    ) -> Result<Stream, UpstreamError> {
        let endpoint = Endpoint::at(at, backend).ok_or_else(|| no_identity(at))?;
        // One that begins with somebody's name is nobody else's.
        let is_shared = first.is_empty();
        let open = async {
            let stream = self.dial(at, first).await?;
            phase.set(Phase::Greeting);
            self.begin_http2(stream, endpoint.clone(), is_shared).await
        };
        self.share_or(open, &endpoint, is_shared, phase).await
    }

    /// A line on a connection to `endpoint` that is open or that somebody opens just now, where one may be shared; or what
    /// `open` gives, which others wait for.
    async fn share_or(
        &self,
        open: impl Future<Output = Result<Stream, UpstreamError>>,
        endpoint: &Endpoint,
        may_share: bool,
        phase: &Cell<Phase>,
    ) -> Result<Stream, UpstreamError> {
        if !may_share {
            return open.await;
        }
        let own = phase.replace(Phase::Others);
        // Held until it is open.
        let _opening = match self.http2.line_or_opening(endpoint).await {
            LineOrOpening::Line(line) => return Ok(Stream::Line(line)),
            LineOrOpening::Opening(opening) => Some(opening),
            LineOrOpening::Neither => None,
        };
        phase.set(own);
        open.await
    }

    async fn begin_http2(
        &self,
        stream: Stream,
        endpoint: Endpoint,
        is_shared: bool,
    ) -> Result<Stream, UpstreamError> {
        let begun = self.http2.begin(stream, &endpoint, is_shared).await;
        match begun {
            Ok(line) => Ok(Stream::Line(Box::new(line))),
            Err(source) => Err(match breach(&source) {
                Some(breach) => no_http2(endpoint, breach),
                None => UpstreamError::Refused {
                    backend: endpoint.address,
                    source,
                },
            }),
        }
    }

    async fn dial_tls(
        &self,
        at: &Address,
        backend: &Backend,
        speaks: Speaks,
        first: &[u8],
        tls: &BackendTls,
        phase: &Cell<Phase>,
    ) -> Result<Stream, UpstreamError> {
        phase.set(Phase::Files);
        let identity = self.identity(at, tls).await?;
        phase.set(Phase::Connect);
        let endpoint = Endpoint::at(at, backend).ok_or_else(|| no_identity(at))?;
        let may_share = speaks == Speaks::Any && first.is_empty();
        let open = async {
            let stream = self.dial(at, first).await?;
            phase.set(Phase::Handshake);
            self.turnstile.turn_up().await;
            let stream = connect::secure(stream, &identity, at, speaks).await?;
            let is_http2 = stream.alpn() == Some(b"h2");
            if may_share {
                self.http2.chose(&endpoint, is_http2);
            }
            match is_http2 {
                true => {
                    phase.set(Phase::Greeting);
                    self.begin_http2(stream, endpoint.clone(), first.is_empty())
                        .await
                }
                false => Ok(stream),
            }
        };
        self.share_or(open, &endpoint, may_share, phase).await
    }

    /// How TLS is spoken to it. Early in a start its files are still being read.
    async fn identity(
        &self,
        address: &Address,
        tls: &BackendTls,
    ) -> Result<Arc<Identity>, UpstreamError> {
        loop {
            let read = self.keyring.something_was_read();
            match tls.identity.get() {
                Some(Ok(identity)) => {
                    let found = self.keyring.identity(identity);
                    return found.ok_or_else(|| no_identity(address));
                }
                Some(Err(why)) => {
                    return Err(UpstreamError::Tls {
                        backend: address.clone(),
                        why: format!("TLS with {address} is not set up: {why}"),
                    });
                }
                None => read.await,
            }
        }
    }

    async fn dial(&self, address: &Address, first: &[u8]) -> Result<Stream, UpstreamError> {
        let mut dialled = connect::reach_and_say(address, first).await;
        if matches!(dialled, Err(UpstreamError::Exhausted { .. })) && self.close_idle() {
            // Connections of HTTP/2 are let go of by those who drive them.
            tokio::task::yield_now().await;
            dialled = connect::reach_and_say(address, first).await;
        }
        match &dialled {
            Err(UpstreamError::Exhausted { source }) if self.exhausted.is_to_be_said() => {
                warn!(cause = %source, "cannot open connections to backends; answering 503");
            }
            Ok(_) if self.exhausted.is_over() => {
                info!("connections to backends can be opened again");
            }
            _ => {}
        }
        dialled
    }
}

fn no_http2(endpoint: Endpoint, breach: Breach) -> UpstreamError {
    let is_asked_for = endpoint.is_h2c();
    let backend = endpoint.address;
    let why = match is_asked_for {
        true => format!(
            "{backend} sent {breach}; if it speaks HTTP/1.1, write \"{backend}\" without h2c://"
        ),
        false => format!("{backend} sent {breach}"),
    };
    UpstreamError::NoHttp2 { backend, why }
}

/// Perhaps the name of `member` does by now.
pub(super) fn leads_elsewhere(member: &Member) {
    if let Some(addresses) = member.state.leads_to() {
        addresses.doubt.raise();
    }
}

/// Cannot be: the keyring keeps what the site has.
pub(super) fn no_identity(address: &Address) -> UpstreamError {
    UpstreamError::Tls {
        backend: address.clone(),
        why: format!("TLS with {address} is not set up"),
    }
}
