//! The worker threads of a run, as the control thread sees them.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::descriptors::Share;
use super::home;
use super::sockets::Socket;
use crate::door::worker::{self, Note, Start};
use crate::http::{Seat, Shared};
use crate::observe::Counters;
use crate::observe::access::{self, Writer};
use crate::route::Current;
use crate::settings::Settings;
use crate::slots::Slots;
use crate::upstream::States;

/// The worker threads.
pub(super) struct Workers {
    pub(super) notes: Vec<mpsc::UnboundedSender<Note>>,
    ended: Vec<oneshot::Receiver<()>>,
    pub(super) counters: Vec<Arc<Counters>>,
    pub(super) access: Writer,
    /// Told to everybody who asks whether we are ready.
    pub(super) draining: Arc<AtomicBool>,
}

impl Workers {
    /// Starts one thread for each part of `sockets`.
    pub(super) fn start(
        settings: &Settings,
        sockets: Vec<Socket>,
        current: &Arc<Current>,
        shared: &'static Shared,
        slots: &Slots,
        states: &States,
        share: Share,
    ) -> io::Result<Workers> {
        let writer = access::start()?;
        let mut workers = Workers {
            notes: Vec::new(),
            ended: Vec::new(),
            counters: Vec::new(),
            access: writer.clone(),
            draining: Arc::default(),
        };
        let mut sockets: Vec<Option<Socket>> = sockets.into_iter().map(Some).collect();
        for number in 0..settings.workers {
            let mine = sockets
                .iter_mut()
                .filter(|socket| socket.as_ref().is_some_and(|s| s.worker == number));
            let (notes, inbox) = mpsc::unbounded_channel();
            let (end, ended) = oneshot::channel();
            let counters = Arc::new(Counters::default());
            workers.counters.push(Arc::clone(&counters));
            let start = Start {
                listeners: mine
                    .filter_map(Option::take)
                    .map(|socket| socket.listener.into())
                    .collect(),
                shared,
                current: Arc::clone(current),
                published: current.subscribe(),
                notes: inbox,
                counters,
                tally: states.tally(number),
                slots: slots.clone(),
                pipes: share.pipes,
                access: writer.clone(),
                seat: Seat {
                    worker: number,
                    workers: settings.workers,
                    seed: [home::random(), home::random()],
                },
            };
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    if let Err(source) = worker::run(start) {
                        error!(worker = number, cause = %source, "a worker has ended");
                    }
                    // Dropped by a panic, too.
                    drop(end);
                })?;
            workers.notes.push(notes);
            workers.ended.push(ended);
        }
        Ok(workers)
    }

    /// Until a worker has ended without being told to drain.
    pub(super) async fn until_one_has_ended(&mut self) {
        poll_fn(|cx| {
            let mut ended = self.ended.iter_mut();
            match ended.any(|ended| Pin::new(ended).poll(cx).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Tells all workers to drain and waits until they have.
    pub(super) async fn drain(&mut self) {
        self.draining.store(true, Ordering::Relaxed);
        for notes in &self.notes {
            // A worker that has ended has drained.
            drop(notes.send(Note::Drain));
        }
        for ended in &mut self.ended {
            drop(ended.await);
        }
    }
}
