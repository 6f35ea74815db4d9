//! What a run does while workers serve: as signals and the admin socket say, until the end.

use std::io;
use std::rc::Rc;
use std::sync::PoisonError;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{info, warn};

use super::renewal::Renewal;
use super::workers::Workers;
use crate::admin::Again;
use crate::observe::Counters;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Drained,
    /// The limit was reached.
    Cut {
        open: u64,
    },
    /// Told to stop twice.
    Hurried {
        open: u64,
    },
    /// A worker could not start, or panicked outside of a connection. The others could go on, with less than was
    /// asked for and nobody noticing.
    WorkerLost,
}

/// The signals a run answers to.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    upgrade: Signal,
    reopen: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }

    /// Until we are told to stop.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Does what signals say, until the end.
pub(super) async fn attend(
    signals: &mut Signals,
    drain: &Notify,
    mut asked: mpsc::UnboundedReceiver<Again>,
    renewal: Rc<Renewal>,
    mut workers: Workers,
) -> Ending {
    let reload = |accept_removals, reply: Option<oneshot::Sender<_>>| {
        let renewal = Rc::clone(&renewal);
        drop(tokio::task::spawn_local(async move {
            let reloaded = renewal.reload(accept_removals).await;
            // Whoever asked may have gone.
            reply.map(|reply| reply.send(reloaded).ok());
        }));
    };
    loop {
        tokio::select! {
            () = workers.until_one_has_ended() => return Ending::WorkerLost,
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            () = drain.notified() => break,
            _ = signals.hangup.recv() => {
                info!("SIGHUP: reading the daemon file and looking at all site files");
                reload(false, None);
            }
            Some(Again { accept_removals, reply }) = asked.recv() => reload(accept_removals, Some(reply)),
            _ = signals.reopen.recv() => workers.access.reopen(),
            _ = signals.upgrade.recv() => warn!("SIGUSR2 is kept for the upgrade in place, which is not there yet"),
        }
    }
    // As the workers have it: a reload that hangs must not keep anybody waiting here.
    let shared = *renewal
        .shared
        .read()
        .unwrap_or_else(PoisonError::into_inner);
    let limit = shared.limits.drain_time;
    info!(
        "draining: no new connections; open ones may finish within {limit:?}; a second signal ends at once"
    );
    let ending = tokio::select! {
        () = workers.drain() => {
            info!("drained");
            Ending::Drained
        }
        () = tokio::time::sleep(limit) => {
            warn!("the drain limit is reached; what is still open is closed");
            Ending::Cut { open: Counters::open(&workers.counters) }
        }
        () = signals.stop() => {
            warn!("a second signal; what is still open is closed");
            Ending::Hurried { open: Counters::open(&workers.counters) }
        }
    };
    // What the workers said last.
    workers.access.flush();
    ending
}
