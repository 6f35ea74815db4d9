//! One thread: its runtime, its connections, its clock.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};

use super::{changes, listener};
use crate::http::{Arrival, Client, FullSites, Kit, Seat, Shared};
use crate::observe::access::{AccessLog, Writer};
use crate::observe::panic::contain;
use crate::observe::{Counters, Reason};
use crate::pipe;
use crate::route::{Current, Published};
use crate::slots::{Slot, Slots};
use crate::stream::Stream;
use crate::upstream::Tally;
use crate::wheel::{TICK, Wheel};

/// What a worker is started with.
#[derive(Debug)]
pub struct Start {
    pub listeners: Vec<std::net::TcpListener>,
    pub shared: &'static Shared,
    pub current: Arc<Current>,
    pub published: mpsc::UnboundedReceiver<Published>,
    pub notes: mpsc::UnboundedReceiver<Note>,
    pub counters: Arc<Counters>,
    pub tally: Arc<Tally>,
    pub slots: Slots,
    /// How many it may keep.
    pub pipes: usize,
    pub access: Writer,
    pub seat: Seat,
}

/// What a worker is told.
#[derive(Debug)]
pub enum Note {
    /// The daemon file has been read anew, and this is what comes of it. `taken` is dropped when it is in force.
    Renew {
        shared: &'static Shared,
        pipes: usize,
        taken: mpsc::UnboundedSender<()>,
    },
    /// Accept no more, end what is idle, and stop when the rest has ended.
    Drain,
}

/// What the tasks of a worker share.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) kit: Rc<Kit>,
    pub(super) slots: Slots,
    open: Cell<usize>,
    /// Told when a connection opens while the clock stands, and when the last one closes.
    stirred: Notify,
    drain: Notify,
    clock_stands: Cell<bool>,
    listening: Cell<usize>,
}

/// Runs one worker until it has drained. Blocks the thread.
///
/// # Errors
/// When the runtime or a listening socket cannot be set up, and when anything but a connection panics: without its
/// clock or its listener a worker would only seem to serve.
pub fn run(start: Start) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build_local(LocalOptions::default())?;
    runtime.block_on(work(start))
}

async fn work(start: Start) -> io::Result<()> {
    let Start {
        listeners,
        shared,
        current,
        published,
        notes,
        counters,
        tally,
        slots,
        pipes,
        access,
        seat,
    } = start;
    pipe::allow(pipes);
    let wheel = Wheel::new();
    let access = AccessLog::new(access);
    let kit = Rc::new(Kit::new(
        shared, current, wheel, counters, tally, access, seat,
    ));
    let worker = Rc::new(Worker {
        kit,
        slots,
        open: Cell::new(0),
        stirred: Notify::new(),
        drain: Notify::new(),
        clock_stands: Cell::new(false),
        listening: Cell::new(0),
    });
    let mut vital = JoinSet::new();
    for listener in listeners {
        let listener = TcpListener::from_std(listener)?;
        worker.listening.set(worker.listening.get() + 1);
        let worker = Rc::clone(&worker);
        vital.spawn_local(async move {
            listener::run(listener, Rc::clone(&worker)).await;
            worker.listening.set(worker.listening.get() - 1);
            worker.stirred.notify_waiters();
        });
    }
    vital.spawn_local(keep_time(Rc::clone(&worker)));
    vital.spawn_local(read_inbox(Rc::clone(&worker), published, notes));
    tokio::select! {
        () = worker.until_drained() => Ok(()),
        panicked = until_panic(&mut vital) => Err(panicked.into()),
    }
}

/// Until one of the tasks panics. One that ends is done.
async fn until_panic(vital: &mut JoinSet<()>) -> JoinError {
    loop {
        match vital.join_next().await {
            Some(Ok(())) => {}
            Some(Err(panicked)) => return panicked,
            None => std::future::pending().await,
        }
    }
}

impl Worker {
    /// Gives a connection a task of its own. A panic in it ends it alone.
    pub(super) fn serve(self: &Rc<Self>, stream: Stream, client: Client, slot: Slot) {
        if self.clock_stands.get() {
            self.kit.wheel.turn();
            self.stirred.notify_waiters();
        }
        self.open.set(self.open.get() + 1);
        self.kit.counters.connections.add(1);
        let open = Open(Rc::clone(self));
        let timer = self.kit.wheel.timer();
        let arrival = Box::new(Arrival {
            stream,
            client,
            secure: None,
            timer,
            trusted_by: self.kit.shared.latest(),
            requests_left: self.kit.shared.limits.requests,
            kit: Rc::clone(&self.kit),
        });
        drop(tokio::task::spawn_local(async move {
            let serving = super::serve(arrival, slot);
            if contain("a connection", serving).await.is_err() {
                open.0.kit.counters.because(Reason::Panic);
            }
        }));
    }

    /// Ends connections of this worker that wait for a request, so that others get in. Returns how many.
    pub(super) fn make_room(&self) -> usize {
        let rested = self.kit.shared.limits.idle_when_full;
        self.kit.wheel.make_room(rested)
    }

    /// The same at the sites that were found full since `seen`.
    fn make_room_at_sites(&self, seen: &mut [u64; FullSites::MARKS]) {
        let rested = self.kit.shared.limits.idle_when_full;
        for site in self.kit.shared.full.since(seen) {
            self.kit.wheel.make_some_room_at_site(site, rested);
        }
    }

    /// Until the worker is told to drain.
    pub(super) async fn until_drain(&self) {
        while !self.kit.wheel.is_draining() {
            self.drain.notified().await;
        }
    }

    async fn until_drained(&self) {
        loop {
            let stirred = self.stirred.notified();
            if self.kit.wheel.is_draining() && self.open.get() == 0 && self.listening.get() == 0 {
                return;
            }
            stirred.await;
        }
    }
}

/// Counts a connection for as long as its task lives, however it ends.
struct Open(Rc<Worker>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.kit.counters.closed.add(1);
        if self.0.open.get() == 0 {
            self.0.stirred.notify_waiters();
        }
    }
}

/// Connections whose time is over that end one after the other. Each takes some tens of microseconds.
const WOKEN_TOGETHER: usize = 4;

/// Turns the clock, as long as anybody looks at it: a worker without connections sleeps.
async fn keep_time(worker: Rc<Worker>) {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut turns = 0u32;
    // Boxed, so that the task is not as large as it.
    let mut full = Box::new([0; FullSites::MARKS]);
    loop {
        if worker.open.get() == 0 && worker.kit.upstreams.idle() == 0 {
            worker.kit.access.flush();
            worker.clock_stands.set(true);
            worker.stirred.notified().await;
            worker.clock_stands.set(false);
            every.reset();
        }
        every.tick().await;
        worker.kit.wheel.turn();
        while worker.kit.wheel.wake(WOKEN_TOGETHER) {
            // Everybody else has a turn between them.
            tokio::task::yield_now().await;
        }
        if worker.slots.is_waited_for() {
            worker.make_room();
        }
        worker.make_room_at_sites(&mut full);
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(10) {
            worker.kit.upstreams.sweep();
            worker.kit.access.flush();
        }
    }
}

/// Takes what the control thread sends.
async fn read_inbox(
    worker: Rc<Worker>,
    mut published: mpsc::UnboundedReceiver<Published>,
    mut notes: mpsc::UnboundedReceiver<Note>,
) {
    loop {
        tokio::select! {
            Some(published) = published.recv() => take_published(&worker.kit, published),
            Some(note) = notes.recv() => match note {
                Note::Renew { shared, pipes, taken } => {
                    pipe::allow(pipes);
                    worker.kit.renew(shared);
                    drop(taken);
                }
                Note::Drain => {
                    worker.kit.wheel.drain();
                    worker.drain.notify_waiters();
                    worker.stirred.notify_waiters();
                }
            },
            else => return,
        }
    }
}

/// Lets go of the old table, cuts what the change says must end, and acknowledges.
fn take_published(kit: &Kit, published: Published) {
    kit.refresh();
    changes::apply(&published.changes, kit);
    published.acknowledge(kit.retired());
}
