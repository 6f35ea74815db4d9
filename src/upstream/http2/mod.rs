//! Backends that speak HTTP/2: one connection carries many exchanges.
//!
//! To an exchange each of its streams is a [`Line`] that speaks HTTP/1.1: what the backend says is read as strictly as
//! from any other, and whatever holds for an upstream holds for it. It is not kept for another exchange; the connection
//! is.

mod endings;
mod line;
mod talk;
mod watch;
mod wrong;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::bytes::Bytes;
use ::h2::client::{self, SendRequest};
use ::h2::{Ping, PingPong};
use tokio::sync::Notify;

pub use line::Line;
pub(super) use wrong::Breach;
pub use wrong::{breach, is_stream_reset, is_untouched, takes_no_websockets, wants_http1};

use self::endings::Endings;
use self::watch::{TICK, Tick, Verdict, Watch};
use super::Endpoint;
use super::pool::{Place, Room};
use crate::site::{Address, Wire};
use crate::stream::Stream;

/// What a backend may send on one stream before it is taken. 64 KiB: a client that does not read makes us hold as much as
/// one whose response comes over HTTP/1.1, and backends are near.
const STREAM_WINDOW: u32 = 64 << 10;
/// Streams of one connection; more requests at once have another. 100, which RFC 9113 6.5.2 recommends as the least.
const MOST_LINES: u16 = 100;
/// The same as of one for all streams of a connection together: many clients share it, and those that do not read must
/// not stop the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST_LINES as u32;
/// What frames of data that nobody has taken yet may cost, each 256 bytes less what it carries. 32 MiB: 130,000 of the
/// smallest, more than come before whoever they are for has its turn; from then on they cost no more than their bytes.
const UNTAKEN_FRAMES_BYTES: usize = 32 << 20;
/// Streams of one connection that were taken back before their response was over; then its requests go by another. What an
/// app has sent on such a stream before it knows is kept by nobody, but the library counts it as never taken. 60: a new
/// connection for so many visitors who leave is no burden.
const MOST_TAKEN_BACK: usize = 60;
/// What one of them may cost so: a window full of frames of 20 bytes, such as busy events are.
const TAKEN_BACK_BYTES: usize = STREAM_WINDOW as usize / 20 * (256 - 20);
/// What all of that may cost in the life of a connection, on which then the last streams may be taken back, too. An app that
/// goes on with small frames on streams that are over reaches it.
const SMALL_FRAMES_BYTES: usize =
    UNTAKEN_FRAMES_BYTES + (MOST_TAKEN_BACK + MOST_LINES as usize) * TAKEN_BACK_BYTES;
/// Streams that were taken back, and of which the backend may not know yet: what it says on others that are over counts as
/// an error of its own. 1000, ten times as many as may be open, each some 500 bytes, and for no longer than a busy app
/// takes to look at what has come.
const RESETS_REMEMBERED: usize = 10 * MOST_LINES as usize;
const RESET_REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// Backends behind TLS of which it is remembered that they did not choose HTTP/2. 1000, a hundred bytes each: one that is forgotten
/// is asked again, by one request.
const MOST_REMEMBERED: usize = 1000;
/// A head of a response, decoded; the reader of heads has its own bound.
const HEAD_BYTES: u32 = 64 << 10;

/// The connections of one worker to backends that speak HTTP/2.
#[derive(Debug)]
pub(super) struct Connections {
    open: RefCell<HashMap<Endpoint, Vec<Rc<Connection>>>>,
    /// Being opened: whoever comes meanwhile waits for that one.
    opening: RefCell<HashMap<Endpoint, Rc<Notify>>>,
    /// Behind TLS, and did not choose HTTP/2 when they were asked last: each request there needs an upstream of its own, or is
    /// told by itself what is wrong.
    http1: RefCell<HashSet<Endpoint>>,
    /// Given up, and not yet gone.
    given_up: Rc<Cell<usize>>,
    room: Rc<Room>,
}

/// What there is to begin with where HTTP/2 is spoken, or may be.
#[derive(Debug)]
pub(super) enum LineOrOpening<'a> {
    Line(Box<Line>),
    /// Nobody else opens a connection meanwhile.
    Opening(Opening<'a>),
    /// Whoever comes opens one.
    Neither,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    /// Of what is asked for on it.
    scheme: &'static str,
    /// Streams that are open or about to be.
    lines: Cell<usize>,
    /// Something has come on one of them since the last tick.
    has_come: Cell<bool>,
    /// How often something has.
    heard: Cell<u32>,
    /// Something was asked for on it since the last tick.
    was_asked: Cell<bool>,
    /// Streams whose response nobody waited for.
    taken_back: Cell<usize>,
    /// Nothing new is asked for on it; it ends with its last stream.
    is_over: Cell<bool>,
    /// Its descriptor is waited for.
    is_given_up: Cell<bool>,
    endings: Endings,
    /// Whoever drives it, to be told when it is over.
    driver: RefCell<Option<Waker>>,
    /// While it carries nothing.
    place: RefCell<Option<Place>>,
    room: Rc<Room>,
}

/// The right to open a connection to an endpoint; others wait until it is dropped.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    connections: &'a Connections,
    endpoint: Endpoint,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let told = self.connections.opening.borrow_mut().remove(&self.endpoint);
        if let Some(told) = told {
            told.notify_waiters();
        }
    }
}

impl Connections {
    /// As many may be idle as there is `room`.
    pub(super) fn new(room: Rc<Room>) -> Connections {
        Connections {
            open: RefCell::default(),
            opening: RefCell::default(),
            http1: RefCell::default(),
            given_up: Rc::default(),
            room,
        }
    }

    /// A line on an open connection, if there is one with room.
    pub(super) fn line(&self, endpoint: &Endpoint) -> Option<Line> {
        let mut open = self.open.borrow_mut();
        let list = open.get_mut(endpoint)?;
        list.retain(|connection| connection.is_fit());
        let roomy = list.iter().find(|connection| connection.has_room());
        roomy.map(Line::on)
    }

    /// A line on an open connection, also on one that somebody opens just now; or leave to open one. Where it is not known
    /// what will be spoken, the first to come finds out, and the others wait for that; where that one has no room for them,
    /// each opens one of its own.
    pub(super) async fn line_or_opening(&self, endpoint: &Endpoint) -> LineOrOpening<'_> {
        let mut has_waited = false;
        loop {
            if let Some(line) = self.line(endpoint) {
                return LineOrOpening::Line(Box::new(line));
            }
            if has_waited || self.http1.borrow().contains(endpoint) {
                return LineOrOpening::Neither;
            }
            if let Some(opening) = self.open_or_wait(endpoint).await {
                return LineOrOpening::Opening(opening);
            }
            has_waited = true;
        }
    }

    /// Whether a backend behind TLS has chosen HTTP/2.
    pub(super) fn chose(&self, endpoint: &Endpoint, http2: bool) {
        let mut http1 = self.http1.borrow_mut();
        if http2 {
            http1.remove(endpoint);
        } else if !http1.contains(endpoint) {
            // Those of sites that are gone are never asked for again.
            if http1.len() >= MOST_REMEMBERED {
                http1.clear();
            }
            http1.insert(endpoint.clone());
        }
    }

    /// Leave to open a connection, or, once somebody else's attempt is over, `None`.
    async fn open_or_wait(&self, endpoint: &Endpoint) -> Option<Opening<'_>> {
        let told = self.opening.borrow().get(endpoint).map(Rc::clone);
        if let Some(told) = told {
            told.notified().await;
            return None;
        }
        let mut opening = self.opening.borrow_mut();
        opening.insert(endpoint.clone(), Rc::default());
        Some(Opening {
            connections: self,
            endpoint: endpoint.clone(),
        })
    }

    /// Begins to speak HTTP/2 on `stream`, and gives out its first line, which is the only one if it is not shared.
    ///
    /// # Errors
    /// When the backend does not answer in HTTP/2. Has no limit of its own.
    pub(super) async fn begin(
        &self,
        stream: Stream,
        endpoint: &Endpoint,
        is_shared: bool,
    ) -> io::Result<Line> {
        let scheme = match stream.wire() {
            Wire::ClearText => "http",
            Wire::Tls => "https",
        };
        let (requests, mut connection) = client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES)
            .data_frame_budget(SMALL_FRAMES_BYTES)
            .max_concurrent_reset_streams(RESETS_REMEMBERED)
            .reset_stream_duration(RESET_REMEMBERED_FOR)
            // One that is beyond these costs a frame of ours, and not everybody's connection.
            .max_local_error_reset_streams(None)
            // None before the backend has said how many it takes.
            .initial_max_send_streams(0)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(io::Error::other)?;
        // What it says first; then it is known that it speaks HTTP/2 at all.
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
            Poll::Pending if requests.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        let held = Rc::new(Connection {
            requests,
            scheme,
            lines: Cell::new(0),
            has_come: Cell::new(false),
            heard: Cell::new(0),
            was_asked: Cell::new(false),
            taken_back: Cell::new(0),
            is_over: Cell::new(false),
            is_given_up: Cell::new(false),
            endings: Endings::default(),
            driver: RefCell::default(),
            place: RefCell::default(),
            room: Rc::clone(&self.room),
        });
        if is_shared {
            let mut open = self.open.borrow_mut();
            let list = open.entry(endpoint.clone()).or_default();
            list.retain(|connection| connection.is_fit());
            list.push(Rc::clone(&held));
        } else {
            // Over when its one line is.
            held.is_over.set(true);
        }
        let line = Line::first_on(&held);
        let given_up = Rc::clone(&self.given_up);
        let pings = connection.ping_pong();
        drop(tokio::task::spawn_local(async move {
            let driven = async { drop((&mut connection).await) };
            drive(driven, pings, &held).await;
            held.is_over.set(true);
            drop(held.place.take());
            if held.is_given_up.get() {
                given_up.set(given_up.get() - 1);
            }
        }));
        Ok(line)
    }

    /// Forgets what is over.
    pub(super) fn sweep(&self) {
        self.open.borrow_mut().retain(|_, list| {
            list.retain(|connection| connection.is_fit());
            !list.is_empty()
        });
    }

    /// Lets go of connections that carry nothing. How many are about to be gone: they are once their drivers have had a
    /// turn.
    pub(super) fn close_idle(&self) -> usize {
        let mut count = self.given_up.get();
        for list in self.open.borrow_mut().values_mut() {
            list.retain(|connection| {
                let is_idle = connection.lines.get() == 0;
                if is_idle && !connection.is_over.replace(true) {
                    connection.is_given_up.set(true);
                    connection.wake_driver();
                    count += 1;
                }
                !is_idle
            });
        }
        self.given_up.set(count);
        count
    }
}

/// Speaks HTTP/2 on `stream` to the backend at `address`, for one exchange alone; the connection ends with it. Has no
/// limit of its own.
///
/// # Errors
/// When the backend does not answer in HTTP/2.
pub async fn alone(stream: Stream, address: &Address) -> io::Result<Stream> {
    let endpoint = Endpoint::in_http2(address);
    let connections = Connections::new(Room::new(0));
    let line = connections.begin(stream, &endpoint, false).await?;
    Ok(Stream::Line(Box::new(line)))
}

impl Connection {
    /// Nobody needs it any more: what it holds is wanted before its next tick.
    fn wake_driver(&self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Something has come on one of its lines.
    fn hears(&self) {
        self.has_come.set(true);
        self.heard.set(self.heard.get().wrapping_add(1));
    }

    /// One of its lines is let go of. One that carries nothing needs a place to wait.
    fn is_left(&self) {
        let lines = self.lines.get() - 1;
        self.lines.set(lines);
        if lines > 0 {
            return;
        }
        if !self.is_over.get() {
            let place = self.room.place();
            self.is_over.set(place.is_none());
            *self.place.borrow_mut() = place;
        }
        if self.is_over.get() {
            self.wake_driver();
        }
    }

    /// One of its lines is let go of before its response is over.
    fn is_taken_back(&self) {
        let taken_back = self.taken_back.get() + 1;
        self.taken_back.set(taken_back);
        if taken_back >= MOST_TAKEN_BACK {
            self.is_over.set(true);
        }
    }

    /// Whether another stream may be opened on it at all: the backend has not said that it ends.
    fn is_fit(&self) -> bool {
        if self.is_over.get() {
            return false;
        }
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(
            self.requests.clone().poll_ready(&mut cx),
            Poll::Ready(Err(_))
        )
    }

    /// Whether the backend takes one more at once.
    fn has_room(&self) -> bool {
        self.lines.get() < self.most_lines()
    }

    fn most_lines(&self) -> usize {
        let most = self.requests.current_max_send_streams();
        most.min(usize::from(MOST_LINES))
    }

    /// One line more. Responses whose end alone is to come give way to it.
    fn is_taken(&self) {
        let lines = self.lines.get() + 1;
        self.lines.set(lines);
        self.endings.keep(self.most_lines().saturating_sub(lines));
    }
}

/// Drives a connection until it is over: the backend ends it, does not answer a ping, or nobody needs it for a while.
async fn drive(
    connection: impl Future<Output = ()>,
    mut pings: Option<PingPong>,
    held: &Connection,
) {
    let mut connection = pin!(connection);
    let mut every = tokio::time::interval(TICK);
    every.reset();
    let mut watch = Watch::default();
    loop {
        let ticked = poll_fn(|cx| {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            held.endings.look();
            if held.is_over.get() && held.lines.get() == 0 && held.endings.is_empty() {
                return Poll::Ready(false);
            }
            let mut driver = held.driver.borrow_mut();
            if !driver
                .as_ref()
                .is_some_and(|driver| driver.will_wake(cx.waker()))
            {
                *driver = Some(cx.waker().clone());
            }
            drop(driver);
            if let Some(pings) = &mut pings {
                match pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => watch.answered(),
                    Poll::Ready(Err(_)) => return Poll::Ready(false),
                    Poll::Pending => {}
                }
            }
            every.poll_tick(cx).map(|_| true)
        });
        if !ticked.await {
            return;
        }
        held.endings.tick();
        match watch.tick(Tick {
            is_needed: held.lines.get() > 0,
            has_come: held.has_come.take(),
            was_asked: held.was_asked.take(),
        }) {
            Verdict::Wait => {}
            Verdict::Ask => {
                if let Some(pings) = &mut pings {
                    // One that is under way will be answered or not.
                    drop(pings.send_ping(Ping::opaque()));
                }
            }
            Verdict::End => return,
        }
    }
}
