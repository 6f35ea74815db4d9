//! Whether a client takes what it is sent, judged while something waits for it and only when the timer fires.
//!
//! What the kernel takes from us says little: behind a large send buffer an honest client reads for a minute before
//! the kernel takes more, and one that does not read at all is given megabytes first. What counts is what the client
//! has acknowledged. It is asked for once in an idle time, never on the way of a response that goes out at once.

use std::future::poll_fn;
use std::num::NonZero;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::limits::{SiteLimits, SiteTimeouts};
use crate::stream::Stream;
use crate::wheel::{TICK, Tick, Timer};

/// How slowly a client may read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Something must be taken in each of these.
    idle: Duration,
    /// Until the first look, which only takes the measure.
    grace: Duration,
    rate: Option<NonZero<u64>>,
}

impl Pace {
    pub(super) fn of(limits: &SiteLimits, timeouts: &SiteTimeouts) -> Pace {
        Pace {
            idle: timeouts.idle,
            grace: timeouts.grace.min(timeouts.idle),
            rate: limits.min_rate,
        }
    }
}

/// A client that is being sent something.
#[derive(Debug)]
pub(super) struct Reader {
    pace: Pace,
    watch: Watch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// It has taken all there was.
    Off,
    /// Something waits for it.
    Begun { look: Tick },
    /// And so much had been taken at `at`, on a scale with any zero.
    Measured { look: Tick, at: Tick, taken: i64 },
}

impl Reader {
    pub(super) fn new(pace: Pace) -> Reader {
        Reader {
            pace,
            watch: Watch::Off,
        }
    }

    /// It has taken all there is.
    pub(super) fn is_served(&mut self) {
        self.watch = Watch::Off;
    }

    /// Whether it is its turn.
    pub(super) fn is_awaited(&self) -> bool {
        self.watch != Watch::Off
    }

    /// Something waits for it. When to look at it next.
    pub(super) fn await_it(&mut self, timer: &Timer) -> Tick {
        match self.watch {
            Watch::Off => {
                let look = timer.wheel().at(self.pace.grace);
                self.watch = Watch::Begun { look };
                look
            }
            Watch::Begun { look } | Watch::Measured { look, .. } => look,
        }
    }

    /// The timer has fired while something waits for it. When to look again; `None`: it does not read.
    ///
    /// `moved` is what we have written to it so far, and `untaken` what of it has not arrived.
    pub(super) fn look(&mut self, untaken: Option<u64>, moved: u64, timer: &Timer) -> Option<Tick> {
        let now = timer.wheel().now();
        // One that cannot be asked is judged by what the kernel took from us.
        let waiting = untaken.unwrap_or(0);
        let taken = moved.cast_signed().wrapping_sub(waiting.cast_signed());
        if let Watch::Measured {
            at, taken: before, ..
        } = self.watch
        {
            let elapsed = TICK * now.saturating_sub(at);
            let owed = self.pace.rate.map_or(1, |rate| least(rate, elapsed));
            if taken.wrapping_sub(before) < owed {
                return None;
            }
        }
        let look = timer.wheel().at(self.pace.idle);
        self.watch = Watch::Measured {
            look,
            at: now,
            taken,
        };
        Some(look)
    }
}

/// What `rate` brings in `time`, and never nothing.
fn least(rate: NonZero<u64>, time: Duration) -> i64 {
    let bytes = u128::from(rate.get()) * time.as_millis() / 1000;
    i64::try_from(bytes).unwrap_or(i64::MAX).max(1)
}

/// Why something of ours was not sent whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The client left, or its time is over.
    Gone,
    /// It does not read.
    TooSlow,
}

/// Sends all of `bytes` to a client that takes them.
///
/// # Errors
/// See [`Unsent`].
pub(super) async fn send(
    client: &mut Stream,
    bytes: &[u8],
    pace: Pace,
    timer: &Timer,
) -> Result<(), Unsent> {
    let mut reader = Reader::new(pace);
    let mut sent = 0;
    poll_fn(|cx| {
        while sent < bytes.len() {
            match client.poll_put(cx, &bytes[sent..]) {
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Unsent::Gone)),
                Poll::Pending => {
                    let untaken = || client.unacknowledged();
                    return poll_slow(cx, &mut reader, untaken, sent as u64, timer);
                }
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// Tells the client that nothing more comes, as soon as it has taken enough of what was sent before.
///
/// # Errors
/// See [`Unsent`].
pub(super) async fn end(client: &mut Stream, pace: Pace, timer: &Timer) -> Result<(), Unsent> {
    let mut reader = Reader::new(pace);
    poll_fn(|cx| match client.poll_end(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
        Poll::Ready(Err(_)) => Poll::Ready(Err(Unsent::Gone)),
        Poll::Pending => poll_slow(cx, &mut reader, || client.unacknowledged(), 0, timer),
    })
    .await
}

/// Waits for a client that has to take something, as long as it does.
///
/// # Errors
/// See [`Unsent`].
pub(super) fn poll_slow(
    cx: &mut Context<'_>,
    reader: &mut Reader,
    untaken: impl Fn() -> Option<u64>,
    sent: u64,
    timer: &Timer,
) -> Poll<Result<(), Unsent>> {
    if !reader.is_awaited() {
        timer.set_at(reader.await_it(timer));
    }
    while timer.poll_fired(cx).is_ready() {
        if timer.cut().is_some() {
            return Poll::Ready(Err(Unsent::Gone));
        }
        match reader.look(untaken(), sent, timer) {
            Some(look) => timer.set_at(look),
            None => return Poll::Ready(Err(Unsent::TooSlow)),
        }
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_asks_for_something_always() {
        let rate = NonZero::new(240).expect("not 0");
        assert_eq!(least(rate, Duration::from_secs(60)), 14_400);
        assert_eq!(least(rate, Duration::from_millis(100)), 24);
        assert_eq!(least(NonZero::<u64>::MIN, Duration::from_millis(100)), 1);
        assert_eq!(least(NonZero::<u64>::MAX, Duration::from_secs(9)), i64::MAX);
    }
}
