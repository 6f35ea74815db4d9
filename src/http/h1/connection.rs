//! The requests of one client connection, one after the other.
//!
//! The outer loop is small: it is what an idle connection costs. All that a request needs lives in a future of
//! its own, from its first byte to its end.

use std::future::poll_fn;
use std::task::Poll;
use std::thread;

use super::begin::{Begun, begin};
use super::client::Busy;
use super::head::Unfinished;
use crate::block::Block;
use crate::http::answer::Answer;
use crate::http::begin::Said;
use crate::http::departure::{After, Departure};
use crate::http::flight::{Flight, Landed};
use crate::http::kit::Arrival;
use crate::http::known_host::{KnownHost, Patience};
use crate::http::logged;
use crate::http::reader::{self, Pace, Unsent};
use crate::limits::{SiteLimits, SiteTimeouts};
use crate::observe::panic::{self, InWork};
use crate::observe::{Finished, Kind, Protocol, Reason};
use crate::site::Site;
use crate::upstream::Upstream;
use crate::wheel::{Expired, Tick};

/// One client connection.
#[derive(Debug)]
struct Connection {
    arrival: Box<Arrival>,
    known: Option<Box<KnownHost>>,
    /// An upstream that authenticated this connection's client, or was told of it, and so belongs to it for good.
    pinned: Option<Box<Upstream>>,
}

/// Serves the requests of a connection, whose first bytes may have come already.
pub(crate) async fn serve(arrival: Box<Arrival>, mut early: Option<Block>) {
    let mut connection = Connection {
        arrival,
        known: None,
        pinned: None,
    };
    loop {
        let inbound = match early.take() {
            Some(block) => {
                // A cut was about the exchange before.
                connection.arrival.timer.serving(None);
                block
            }
            None => match connection.next_bytes().await {
                Some(block) => block,
                None => return,
            },
        };
        // Boxed, so that a connection that waits is not as large as one that works.
        match Box::pin(connection.one_request(inbound)).await {
            After::Next(rest) => early = rest,
            After::Close if connection.may_leave_at_once() => return,
            After::Close => return Box::pin(connection.linger()).await,
            After::Linger => return Box::pin(connection.linger()).await,
            After::Abort => return connection.arrival.stream.abort(),
        }
    }
}

impl Connection {
    /// Waits for the next request without holding a buffer. `None`: the client left, time is up, others need the room,
    /// or we drain.
    async fn next_bytes(&mut self) -> Option<Block> {
        self.arrival
            .timer
            .rest(self.arrival.kit.shared.limits.idle_time);
        poll_fn(|cx| {
            let mut block = Block::lend();
            match block.poll_fill(cx, &mut self.arrival.stream) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(None),
                Poll::Ready(Ok(_)) => Poll::Ready(Some(block)),
                Poll::Pending if self.arrival.kit.wheel.is_draining() => Poll::Ready(None),
                Poll::Pending => self.arrival.timer.poll_fired(cx).map(|()| {
                    let reason = match self.arrival.timer.fired_for_room() {
                        true => Reason::MadeRoom,
                        false => Reason::IdleTimeout,
                    };
                    self.arrival.kit.counters.because(reason);
                    None
                }),
            }
        })
        .await
    }

    /// One request, from its first bytes to its end.
    async fn one_request(&mut self, inbound: Block) -> After {
        let started = self.arrival.kit.wheel.now();
        let mut departure = match self.begin(inbound, started).await {
            Ok(departure) => departure,
            Err(after) => return after,
        };
        self.forward(&mut departure, started).await
    }

    /// Reads the head of a request that goes to a backend.
    ///
    /// # Errors
    /// What comes after one that went nowhere: it has been answered, or nobody is there.
    async fn begin(&mut self, mut inbound: Block, started: Tick) -> Result<Departure, After> {
        let mut unfinished = Unfinished::default();
        let mut patience = Patience::Left;
        loop {
            match begin(&mut self.arrival, &mut self.known, patience, inbound) {
                Begun::NotYet(site, block) => {
                    inbound = self.until_read(&site, block).await;
                    patience = Patience::Over;
                }
                Begun::NeedMore(block) => {
                    match self.more_of_the_head(block, &mut unfinished).await {
                        More::Bytes(block) => inbound = block,
                        More::Gone => return Err(After::Close),
                        More::TooSlow => {
                            return Err(self.refuse(Answer::HeadTimeout, started).await);
                        }
                    }
                }
                Begun::Said(said, after) => return Err(self.say(said, after, started).await),
                Begun::Onward(departure) => return Ok(departure),
            }
        }
    }

    /// Waits until the files of `site` have been read, as long as a handshake would.
    async fn until_read(&self, site: &Site, block: Block) -> Block {
        let Arrival { timer, kit, .. } = &*self.arrival;
        let shared = &kit.shared;
        let held = block.filled().to_vec();
        drop(block);
        let read = shared.keyring.until_read(site);
        // What is not known then is said then.
        let (Ok(()) | Err(Expired)) = timer.within(shared.limits.opening_time, read).await;
        let mut block = Block::lend();
        let fits = block.append(&held);
        debug_assert!(fits, "it was in a block");
        block
    }

    /// Waits until more of a head that has begun is worth reading. What has come is kept in no more room than it needs.
    async fn more_of_the_head(&mut self, block: Block, unfinished: &mut Unfinished) -> More {
        let Arrival {
            stream, timer, kit, ..
        } = &mut *self.arrival;
        if unfinished.is_new() {
            // One deadline for the whole head, however slowly it drips.
            timer.set(kit.shared.limits.head_time);
        }
        let limits = &kit.shared.head_limits;
        unfinished.was_read(block.filled(), limits);
        let mut partial = block.filled().to_vec();
        drop(block);
        poll_fn(|cx| {
            loop {
                let mut block = Block::lend();
                let fits = block.append(&partial);
                debug_assert!(fits, "a head fits into a block");
                match block.poll_fill(cx, stream) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(More::Gone),
                    Poll::Ready(Ok(_)) if unfinished.is_worth_reading(block.filled(), limits) => {
                        return Poll::Ready(More::Bytes(block));
                    }
                    Poll::Ready(Ok(_)) => {
                        partial.extend_from_slice(&block.filled()[partial.len()..])
                    }
                    Poll::Pending => return timer.poll_fired(cx).map(|()| More::TooSlow),
                }
            }
        })
        .await
    }

    async fn forward(&mut self, departure: &mut Departure, started: Tick) -> After {
        let Connection {
            arrival,
            known,
            pinned,
        } = self;
        let Arrival {
            stream,
            client: who,
            secure,
            timer,
            kit,
            ..
        } = &mut **arrival;
        let Some(site) = known.as_ref().and_then(|known| known.site()) else {
            return After::Abort;
        };
        let mut client = Busy {
            stream,
            behind: None,
        };
        let flight = Flight {
            client: &mut client,
            who,
            secure: secure.as_deref(),
            timer,
            kit,
            site,
            pinned,
            is_patient: false,
        };
        let _work = InWork {
            site: site.name.as_str(),
            request_id: departure.order.asked.request_id,
        };
        let Landed {
            after,
            mut finished,
        } = flight.fly(departure, started).await;
        kit.finished(&mut finished, Some(&site.slots));
        after
    }

    /// Answers what cannot be gone on with.
    async fn refuse(&mut self, answer: Answer, started: Tick) -> After {
        match Begun::refused(answer, &self.arrival.kit, true) {
            Begun::Said(said, after) => self.say(said, after, started).await,
            _ => After::Close,
        }
    }

    /// Whether all has been said, and a close loses nothing of it: with bytes unread the kernel would reset, and the
    /// client might lose what it has not read yet.
    fn may_leave_at_once(&mut self) -> bool {
        let stream = &mut self.arrival.stream;
        stream.say_goodbye() && stream.is_quiet()
    }

    /// Sends a response of our own.
    async fn say(&mut self, said: Said, after: After, started: Tick) -> After {
        let to_client = said.bytes();
        let Said {
            out,
            body,
            status,
            answer,
            site,
            log,
        } = said;
        // A body of `respond` may be long, and a client slow.
        let pace = self.pace();
        let arrival = &mut *self.arrival;
        let mut sent = reader::send(&mut arrival.stream, &out, pace, &arrival.timer).await;
        if let (Ok(()), Some(body)) = (sent, &body) {
            sent = reader::send(&mut arrival.stream, body, pace, &arrival.timer).await;
        }
        let cut = (sent == Err(Unsent::TooSlow)).then_some(Reason::SlowReader);
        let log = match log {
            None if site.is_none() => logged::unread(&self.arrival.asker()),
            log => log,
        };
        let mut finished = Finished {
            status,
            reason: cut.or(answer.map(|answer| answer.parts().1)),
            to_client,
            took: self.arrival.kit.since(started),
            log,
            ..Finished::of(Kind::Exchange, Protocol::Http1, site)
        };
        // A request that was not read to its end is nobody's.
        let known = self.known.as_ref().and_then(|known| known.site());
        let known = known.filter(|known| site == Some(known.number));
        self.arrival
            .kit
            .finished(&mut finished, known.map(|site| &*site.slots));
        match sent {
            Ok(()) => after,
            // A plain end would look like the end of a response that ends with its connection.
            Err(Unsent::Gone | Unsent::TooSlow) => After::Abort,
        }
    }

    /// How slowly the client may read what comes from the site it asked last.
    fn pace(&self) -> Pace {
        match self.known.as_ref().and_then(|known| known.site()) {
            Some(site) => Pace::of(&site.limits, &site.timeouts),
            None => Pace::of(&SiteLimits::default(), &SiteTimeouts::default()),
        }
    }

    /// Lets the client read what we said last. As long as it reads what is before, it has its time for that.
    async fn linger(&mut self) {
        let pace = self.pace();
        let Arrival {
            stream, timer, kit, ..
        } = &mut *self.arrival;
        if reader::end(stream, pace, timer).await.is_err() {
            return;
        }
        Box::pin(kit.linger(stream, timer)).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if thread::panicking() {
            panic::note_client(self.arrival.client.address);
            // Half a response may be out, and a plain end would look like its end.
            self.arrival.stream.abort();
        }
    }
}

/// What became of waiting for the rest of a head.
enum More {
    Bytes(Block),
    Gone,
    TooSlow,
}
