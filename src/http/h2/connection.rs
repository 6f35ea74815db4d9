//! One connection: reads what comes, gives each request a task of its own, and sends what those have to say.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::h2::server::{self, SendResponse};
use ::h2::{Ping, PingPong, Reason as Code, RecvStream};
use http::Request;

use super::load::{Load, Queue};
use super::meter::{Budget, Excess};
use super::stream::{ClientStream, Incoming, Outgoing};
use super::wire::Wire;
use crate::block::Block;
use crate::http::kit::{self, Arrival, Asker, Client, Kit};
use crate::http::known_host::KnownHost;
use crate::http::reader::{Pace, Reader};
use crate::limits::{Limits, SiteLimits, SiteTimeouts};
use crate::observe::Reason;
use crate::observe::panic::contain;
use crate::receiving::{Receiving, SMALL_BYTES, SmallTaken};
use crate::site;
use crate::slots::Slot;
use crate::tls::Secure;
use crate::upstream::Introduced;
use crate::wheel::{Expired, Timer};

/// What the requests of a connection share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) kit: Rc<Kit>,
    client: Client,
    /// The same client, trusted if that one is not, and not if it is.
    otherwise: Client,
    is_trusted: Cell<bool>,
    /// What that was found by.
    trusted_by: Cell<&'static kit::Shared>,
    secure: Option<Box<Secure>>,
    wire: site::Wire,
    /// The name asked for last.
    pub(super) known: RefCell<Option<Box<KnownHost>>>,
    /// Upstreams that were told whose connection this is, and that nobody uses just now.
    pub(super) introduced: OnceCell<Rc<Introduced>>,
    queue: Rc<Queue>,
    pub(super) slot: Slot,
    /// Of requests that are open beside another.
    pub(super) more_slots: RefCell<Vec<Slot>>,
    /// How many have a share.
    pub(super) sharing: Cell<usize>,
    small_taken: Rc<SmallTaken>,
    open: Cell<u32>,
    /// Told when the last request has ended.
    at_rest: RefCell<Option<Waker>>,
}

impl Shared {
    pub(super) fn asker(&self) -> Asker<'_> {
        let latest = self.kit.shared.latest();
        if !std::ptr::eq(self.trusted_by.replace(latest), latest) {
            let ip = self.client.address.ip().to_canonical();
            self.is_trusted.set(latest.trusts(ip));
        }
        Asker {
            client: match self.is_trusted.get() == self.client.trusted {
                true => &self.client,
                false => &self.otherwise,
            },
            secure: self.secure.as_deref(),
            wire: self.wire,
            kit: &self.kit,
        }
    }
}

/// Counts a request for as long as it is worked on, however it ends.
struct Open(Rc<Shared>);

impl Open {
    fn new(shared: &Rc<Shared>) -> Open {
        shared.open.set(shared.open.get() + 1);
        Open(Rc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0
            && let Some(waker) = self.0.at_rest.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

/// Serves a connection on which HTTP/2 is spoken, whose first bytes may have come already.
///
/// `slot` is its own, held for as long as it lives; requests beside its first take more like it.
pub(crate) async fn serve(arrival: Box<Arrival>, early: Option<Block>, slot: Slot) {
    // Boxed, so that other connections are no larger for it.
    Box::pin(serve_all(arrival, early, slot)).await;
}

async fn serve_all(arrival: Box<Arrival>, early: Option<Block>, slot: Slot) {
    let Arrival {
        stream,
        client,
        secure,
        timer,
        trusted_by,
        requests_left,
        kit,
    } = *arrival;
    let limits = &kit.shared.limits;
    let budget = Budget {
        resets: limits.resets,
        control: limits.control_frames,
    };
    let of_stream = stream.wire();
    let wire = Wire::new(stream, early, budget, &kit.wheel);
    timer.set(limits.head_time);
    let mut connection = match shake_hands(&wire, &timer, limits).await {
        Ok(Ok(connection)) => connection,
        // It left, as browsers do that have opened one too many.
        Ok(Err(error)) if error.is_io() => return,
        Ok(Err(_)) => return kit.counters.because(Reason::UnknownProtocol),
        Err(Expired) => return kit.counters.because(Reason::OpeningTimeout),
    };
    let shared = Rc::new(Shared {
        client,
        otherwise: Client {
            trusted: !client.trusted,
            ..client
        },
        is_trusted: Cell::new(client.trusted),
        trusted_by: Cell::new(trusted_by),
        secure,
        wire: of_stream,
        known: RefCell::default(),
        introduced: OnceCell::new(),
        queue: Queue::new(limits.stream_queue),
        slot,
        more_slots: RefCell::default(),
        sharing: Cell::new(0),
        small_taken: Rc::default(),
        open: Cell::new(0),
        at_rest: RefCell::default(),
        kit: Rc::clone(&kit),
    });
    let pace = Pace::of(&SiteLimits::default(), &SiteTimeouts::default());
    let mut running = Running {
        pings: connection.ping_pong(),
        connection,
        received: 0,
        is_asked: false,
        wire,
        shared,
        timer,
        requests_left,
        reader: Reader::new(pace),
        phase: Phase::Silent,
        is_ending: false,
        makes_room: false,
    };
    let ended = poll_fn(|cx| running.poll(cx)).await;
    let Running {
        connection,
        wire,
        timer,
        ..
    } = running;
    drop(connection);
    let Some(mut stream) = wire.into_stream() else {
        return;
    };
    match ended {
        Ended::Politely => Box::pin(kit.linger(&mut stream, &timer)).await,
        Ended::AtOnce => {}
        Ended::Broken => stream.abort(),
    }
}

/// What frames of data that no request has taken yet may cost, each 256 bytes less what it carries. 2 MiB: more than one
/// read brings, and after a read of many small ones the requests have their turn ([`Wire`]).
const UNTAKEN_FRAMES_BYTES: usize = 2 << 20;
/// Small frames on one connection that came when nobody read their stream any more, as those of refused uploads; then the
/// client is told to use another. They are kept by nobody, but the library counts them as never taken. 8192, some 2 MiB by
/// that count: more than wait to be taken at any time.
const MOST_SMALL_LEFT: u64 = 8192;
/// What may come so on each stream that is open then: 500 frames of 20 bytes, more than within a round trip.
const LAST_LEFT_BYTES: usize = 500 * (SMALL_BYTES - 20);
/// Streams that were taken back, and of which the client may not know yet, as a multiple of those that may be open: what it
/// says on others that are over is an error of its own. Each is some 500 bytes.
const RESETS_REMEMBERED: usize = 5;
/// And for how long. 10 s, to hear of it over a slow line.
const RESET_REMEMBERED_FOR: Duration = Duration::from_secs(10);

async fn shake_hands(
    wire: &Wire,
    timer: &Timer,
    limits: &Limits,
) -> Result<Result<server::Connection<Wire, Load>, ::h2::Error>, Expired> {
    let resets = usize::try_from(limits.resets).unwrap_or(usize::MAX / 2);
    let streams = limits.streams as usize;
    let small_frames =
        UNTAKEN_FRAMES_BYTES + MOST_SMALL_LEFT as usize * SMALL_BYTES + streams * LAST_LEFT_BYTES;
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .data_frame_budget(small_frames)
        // Above what is handed over at once; the queue of the connection is what limits.
        .max_send_buffer_size(limits.stream_queue)
        // The meter counts them, and forgets what was long ago.
        .max_local_error_reset_streams(None)
        .max_concurrent_reset_streams(RESETS_REMEMBERED * streams)
        .reset_stream_duration(RESET_REMEMBERED_FOR)
        // As many as the meter lets through at once.
        .max_pending_accept_reset_streams(2 * resets)
        .enable_connect_protocol();
    let mut handshake = pin!(builder.handshake::<_, Load>(wire.clone()));
    let shaken = timer.until_fired(poll_fn(|cx| {
        let polled = handshake.as_mut().poll(cx);
        // Where the client is gone, a read will tell.
        let _sent = wire.poll_send(cx);
        polled
    }));
    shaken.await
}

/// A connection past its preface.
struct Running {
    connection: server::Connection<Wire, Load>,
    wire: Wire,
    shared: Rc<Shared>,
    timer: Timer,
    requests_left: u32,
    reader: Reader,
    phase: Phase,
    pings: Option<PingPong>,
    /// How much the client had sent when it was last looked after.
    received: u64,
    /// It was asked whether it is there, and has said nothing since.
    is_asked: bool,
    /// The client has been told that we end.
    is_ending: bool,
    /// And that others need its room.
    makes_room: bool,
}

/// What the timer is set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its first frame has not come (CASES H-24).
    Silent,
    /// The end of this head has not come; nothing else can come before (CASES D-01).
    InHead(u64),
    /// No request is open.
    AtRest,
    /// It is the requests that have times. Where they have none, as calls of gRPC and tunnels, their client must still be
    /// there.
    Busy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The client has been told, or has left.
    Politely,
    /// The same, and others wait for its room.
    AtOnce,
    /// It takes nothing any more.
    Broken,
}

impl Running {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.open(request, respond);
                    continue;
                }
                Poll::Ready(Some(Err(error))) if error.is_io() => {
                    return Poll::Ready(Ended::Broken);
                }
                // Its own bounds, on heads and on small frames.
                Poll::Ready(Some(Err(error)))
                    if error.is_library() && error.reason() == Some(Code::ENHANCE_YOUR_CALM) =>
                {
                    self.shared.kit.counters.because(Reason::FrameFlood);
                    return Poll::Ready(Ended::Politely);
                }
                Poll::Ready(Some(Err(_)) | None) if self.makes_room => {
                    return Poll::Ready(Ended::AtOnce);
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Ended::Politely),
                Poll::Pending => {}
            }
            if self.calm_down() || self.begin_to_end() {
                continue;
            }
            let is_stuck = match self.wire.poll_send(cx) {
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(_)) => return Poll::Ready(Ended::Broken),
                Poll::Pending => true,
            };
            self.set_timer(is_stuck, cx);
            if self.timer.poll_fired(cx).is_pending() {
                if self.wire.gives_way() {
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
            if let Some(ended) = self.fired(is_stuck) {
                return Poll::Ready(ended);
            }
        }
    }

    /// Gives a request a task of its own. A panic in it ends it alone.
    fn open(&mut self, request: Request<RecvStream>, respond: SendResponse<Load>) {
        self.requests_left = self.requests_left.saturating_sub(1);
        let open = Open::new(&self.shared);
        let (parts, recv) = request.into_parts();
        let shared = &self.shared;
        let stream = ClientStream {
            wire: shared.wire,
            incoming: Incoming::new(
                Receiving::counted(recv, &shared.small_taken),
                shared.kit.shared.head_limits.fields,
            ),
            outgoing: Outgoing::new(respond, &shared.queue),
            head_limits: shared.kit.shared.head_limits,
            is_tunnel: false,
        };
        // Boxed before it is handed on: a task moves what it runs several times.
        let asked = Box::pin(super::exchange::one(Rc::clone(shared), parts, stream));
        drop(tokio::task::spawn_local(async move {
            if contain("a request", asked).await.is_err() {
                open.0.kit.counters.because(Reason::Panic);
            }
            drop(open);
        }));
    }

    /// Tells a client that is nothing but work to stop. Whether it was told now.
    fn calm_down(&mut self) -> bool {
        let Some(excess) = self.wire.take_excess() else {
            return false;
        };
        let (reason, code) = match excess {
            Excess::Resets => (Reason::ResetFlood, Code::ENHANCE_YOUR_CALM),
            Excess::Control => (Reason::FrameFlood, Code::ENHANCE_YOUR_CALM),
            Excess::NoSettings => (Reason::UnknownProtocol, Code::PROTOCOL_ERROR),
        };
        self.shared.kit.counters.because(reason);
        self.is_ending = true;
        self.connection.abrupt_shutdown(code);
        true
    }

    /// Tells the client that we end, when that is so. Whether it was told now.
    fn begin_to_end(&mut self) -> bool {
        let shared = &self.shared;
        let ends = shared.kit.wheel.is_draining()
            || self.requests_left == 0
            || self
                .wire
                .small_in_all()
                .saturating_sub(shared.small_taken.read())
                >= MOST_SMALL_LEFT;
        if self.is_ending || !ends {
            return false;
        }
        self.end();
        true
    }

    /// In two steps: the second GOAWAY says which requests were seen, once the client has heard the first
    /// (RFC 9113 6.8).
    fn end(&mut self) {
        self.is_ending = true;
        self.connection.graceful_shutdown();
        if self.phase == Phase::AtRest {
            self.timer.set(self.shared.kit.shared.limits.linger_time);
        }
    }

    fn set_timer(&mut self, is_stuck: bool, cx: &mut Context<'_>) {
        if is_stuck {
            if !self.reader.is_awaited() {
                self.timer.set_at(self.reader.await_it(&self.timer));
            }
            self.phase = Phase::Busy;
            return;
        }
        self.reader.is_served();
        let limits = &self.shared.kit.shared.limits;
        let phase = match (self.wire.unfinished_head(), self.shared.open.get()) {
            _ if self.phase == Phase::Silent && !self.wire.has_heard() => Phase::Silent,
            (Some(head), _) => Phase::InHead(head),
            (None, 0) => Phase::AtRest,
            (None, _) => Phase::Busy,
        };
        if phase != Phase::AtRest {
            let mut at_rest = self.shared.at_rest.borrow_mut();
            if !at_rest
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                *at_rest = Some(cx.waker().clone());
            }
        }
        if phase == self.phase {
            return;
        }
        self.phase = phase;
        self.is_asked = false;
        match phase {
            Phase::Silent => {}
            Phase::InHead(_) => self.timer.set(limits.head_time),
            Phase::Busy => self.timer.set(limits.idle_time),
            Phase::AtRest if self.is_ending => self.timer.set(limits.linger_time),
            Phase::AtRest => self.timer.rest(limits.idle_time),
        }
    }

    fn fired(&mut self, is_stuck: bool) -> Option<Ended> {
        let counters = &self.shared.kit.counters;
        if is_stuck {
            let (sent, untaken) = self.wire.progress();
            return match self.reader.look(untaken, sent, &self.timer) {
                Some(look) => {
                    self.timer.set_at(look);
                    None
                }
                None => {
                    counters.because(Reason::SlowReader);
                    Some(Ended::Broken)
                }
            };
        }
        match self.phase {
            Phase::InHead(_) => {
                counters.because(Reason::HeadTimeout);
                Some(Ended::Politely)
            }
            Phase::Silent => {
                counters.because(Reason::OpeningTimeout);
                Some(Ended::Politely)
            }
            Phase::AtRest if !self.is_ending && self.timer.fired_for_room() => {
                counters.because(Reason::MadeRoom);
                // Without waiting for what it has to say to that, as with HTTP/1: the others wait.
                self.is_ending = true;
                self.makes_room = true;
                self.connection.abrupt_shutdown(Code::NO_ERROR);
                self.timer.set(self.shared.kit.shared.limits.linger_time);
                None
            }
            Phase::AtRest if !self.is_ending => {
                counters.because(Reason::IdleTimeout);
                self.end();
                None
            }
            Phase::AtRest if self.makes_room => Some(Ended::AtOnce),
            Phase::AtRest => Some(Ended::Politely),
            Phase::Busy => self.look_after_client(),
        }
    }

    /// Asks a client that has been silent for the idle time whether it is there; it has as long to say so. A machine that
    /// has lost its power says nothing, and what it has asked for would stay for ever.
    fn look_after_client(&mut self) -> Option<Ended> {
        let before = std::mem::replace(&mut self.received, self.wire.received());
        let is_silent = self.received == before;
        if is_silent && self.is_asked {
            return Some(Ended::Broken);
        }
        self.is_asked = is_silent;
        if is_silent && let Some(pings) = &mut self.pings {
            // What came of the last one is known by the bytes that came. While one is under way, no other is sent.
            let mut cx = Context::from_waker(Waker::noop());
            drop(pings.poll_pong(&mut cx));
            drop(pings.send_ping(Ping::opaque()));
        }
        self.timer.set(self.shared.kit.shared.limits.idle_time);
        None
    }
}
