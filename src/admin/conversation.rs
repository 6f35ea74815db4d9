//! One connection: a question is read, let in, answered, and the answer taken, each within its time.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};

use super::answer;
use super::question::{self, Parsed, Question, Refusal};
use super::reply::reply;
use super::room::{Place, What};
use super::{Powers, Who};

/// From connect to a whole request, and for an answer to be taken. 5 s: everybody here is on this machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request head. 64 KiB: a request to be explained comes in it, with all its headers.
const HEAD_BYTES: usize = 64 << 10;
/// What most of them need.
const USUAL_HEAD_BYTES: usize = 1 << 10;
/// How often is looked whether somebody who has finished asking has gone too: no event tells the one from the other.
const LOOK: Duration = Duration::from_millis(100);

/// Whoever asks.
pub(super) trait Peer: AsyncRead + AsyncWrite + Unpin {
    /// Whether one who will say nothing more hears nothing more either.
    fn is_gone(&self) -> bool;
}

impl Peer for UnixStream {
    fn is_gone(&self) -> bool {
        let mut both = [PollFd::new(self, PollFlags::empty())];
        let looked = poll(&mut both, Some(&Timespec::default()));
        looked.is_err() || both[0].revents().contains(PollFlags::HUP)
    }
}

impl Peer for TcpStream {
    /// Cannot be told before something is sent: who closes says no more than who has finished.
    fn is_gone(&self) -> bool {
        true
    }
}

/// `place` is the right to be asked and answered; whoever waits gives it back first.
pub(super) async fn converse(
    stream: &mut impl Peer,
    who: Who,
    powers: &Powers,
    place: Place,
) -> io::Result<()> {
    let read = timeout(PATIENCE, read(stream));
    let Ok(read) = place.wait_for(What::Question, read).await else {
        return Ok(());
    };
    let mut place = Right::Question(place);
    let mut wanted = Wanted::All;
    let answer = match read {
        Ok(Ok(Ok(asked))) => {
            wanted = asked.wanted;
            match admit(&asked, who, powers, &mut place) {
                Err(refusal) => answer::refused(refusal),
                Ok(()) => {
                    let takes_work = asked.question.takes_work();
                    let answer = reply(asked.question, powers);
                    match unless_gone(answer, gone(stream), takes_work).await {
                        Some(answer) => answer,
                        None => return Ok(()),
                    }
                }
            }
        }
        Ok(Ok(Err(refusal))) => answer::refused(refusal),
        Ok(Err(error)) => return Err(error),
        Err(_) => answer::refused(Refusal::TooSlow),
    };
    let written = timeout(PATIENCE, answer.write(stream, wanted));
    let written = match &place {
        Right::Question(place) => place.wait_for(What::Taking, written).await,
        Right::Wait(_) | Right::End { .. } => Ok(written.await),
    };
    let Ok(written) = written else {
        return Ok(());
    };
    written.unwrap_or_else(|elapsed| Err(elapsed.into()))?;
    let ended = stream.shutdown().await;
    drop(place);
    ended
}

/// What somebody holds while they are here: the right to ask, to wait, or to see the end of the run.
enum Right {
    Question(Place),
    Wait(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit),
    /// The run ends when nobody waits to be told how.
    End {
        _place: OwnedSemaphorePermit,
        _ended: watch::Receiver<Option<u64>>,
    },
}

/// Whether `who` may have it answered. Whoever waits changes `right` for one of those that are for waiting.
fn admit(asked: &Asked, who: Who, powers: &Powers, right: &mut Right) -> Result<(), Refusal> {
    if who == Who::Browser {
        asked.by_browser.clone()?;
    }
    if asked.question.is_privileged() && who != Who::Operator {
        return Err(Refusal::NotAllowed);
    }
    if let Question::Wait { .. } = asked.question {
        *right = Right::Wait(powers.waits.take(who)?);
    }
    if let Question::Drain { wait: true } = asked.question {
        *right = Right::End {
            _place: powers.waits.take(who)?,
            _ended: powers.about.ended.subscribe(),
        };
    }
    Ok(())
}

/// A question, whether somebody wants more than the head of its answer, and what speaks against answering it to a browser.
#[derive(Debug)]
struct Asked {
    question: Question,
    wanted: Wanted,
    by_browser: Result<(), Refusal>,
}

/// What of an answer somebody wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wanted {
    #[default]
    All,
    Head,
}

async fn read(stream: &mut impl Peer) -> io::Result<Result<Asked, Refusal>> {
    let mut head = Vec::with_capacity(USUAL_HEAD_BYTES);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match question::parse(&head) {
            Ok(Parsed::Complete(question)) => {
                return Ok(Ok(Asked {
                    question,
                    wanted: match question::is_head(&head) {
                        true => Wanted::Head,
                        false => Wanted::All,
                    },
                    by_browser: question::is_of_this_machine(&head),
                }));
            }
            Ok(Parsed::NeedMore) if head.len() < HEAD_BYTES => {}
            Ok(Parsed::NeedMore) => return Ok(Err(Refusal::TooLong)),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
}

/// What `reply` answers; `None` where whoever asked is `gone` before: somebody who waits and gives up is not kept until the
/// end of the time. What takes work is not even begun then; anything else is there at once, and is told also to those of
/// whom it is not known whether they have gone.
async fn unless_gone<T>(
    reply: impl Future<Output = T>,
    gone: impl Future<Output = ()>,
    takes_work: bool,
) -> Option<T> {
    let (mut reply, mut gone) = (pin!(reply), pin!(gone));
    poll_fn(|cx| {
        if takes_work && gone.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(answer) = reply.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        match takes_work {
            true => Poll::Pending,
            false => gone.as_mut().poll(cx).map(|()| None),
        }
    })
    .await
}

/// Returns when the other side has closed; bytes behind the request are nobody's. Who has only finished asking, as
/// `nc -N` does, waits for the answer.
async fn gone(stream: &mut impl Peer) {
    let mut ignored = [0; 256];
    loop {
        match stream.read(&mut ignored).await {
            Ok(1..) => {}
            Err(_) => return,
            Ok(0) if stream.is_gone() => return,
            Ok(0) => sleep(LOOK).await,
        }
    }
}
