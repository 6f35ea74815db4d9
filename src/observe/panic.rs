//! A panic: the one line that tells of it, with what it ended.
//!
//! The hook comes first and knows the place; who is unwound then knows what was in work; and [`contain`] tells all of
//! it at once. Where nobody contains a panic, the hook tells what it knows.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use pin_project_lite::pin_project;
use tracing::error;

use super::turn;
use crate::document::problem::printable;

/// A message may quote whatever was worked on, so it is cut.
const MESSAGE_CHARS: usize = 300;

thread_local! {
    static PANIC: RefCell<Panic> = const { RefCell::new(Panic::nothing()) };
}

/// What has been found out about a panic so far.
#[derive(Debug)]
struct Panic {
    place: String,
    message: String,
    client: Option<SocketAddr>,
    site: Option<String>,
    request_id: Option<String>,
}

impl Panic {
    const fn nothing() -> Panic {
        Panic {
            place: String::new(),
            message: String::new(),
            client: None,
            site: None,
            request_id: None,
        }
    }
}

/// What was to be done has panicked, and everything it owned is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// From here on a panic is a line of the log and nothing else.
pub fn set_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let (place, message) = (place(panic), message(panic));
        if turn::current().is_some() {
            let panic = Panic {
                place,
                message,
                ..Panic::nothing()
            };
            PANIC.set(panic);
        } else {
            let thread = thread::current();
            error!(place, thread = thread.name(), "a panic: {message}");
        }
    }));
}

/// Runs `work`, and ends it alone when it panics; `ended` is what that was, for the log.
///
/// # Errors
/// [`Panicked`], which has been told.
pub fn contain<W: Future>(ended: &str, work: W) -> Contained<'_, W> {
    Contained { ended, work }
}

// Not an `async fn`: that would hold `work` twice, as it was given and where it is pinned.
pin_project! {
    /// See [`contain`].
    #[project = ContainedProjected]
    #[derive(Debug)]
    #[must_use = "it does nothing unless it is awaited"]
    pub struct Contained<'e, W> {
        ended: &'e str,
        #[pin]
        work: W,
    }
}

impl<W: Future> Future for Contained<'_, W> {
    type Output = Result<W::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ContainedProjected { ended, work } = self.project();
        match turn::take(|| catch_unwind(AssertUnwindSafe(|| work.poll(cx)))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
            Err(_) => {
                tell(ended, &PANIC.replace(Panic::nothing()));
                Poll::Ready(Err(Panicked))
            }
        }
    }
}

fn tell(ended: &str, panic: &Panic) {
    error!(
        site = panic.site,
        request_id = panic.request_id,
        client = panic.client.map(tracing::field::display),
        place = panic.place,
        "a panic has ended {ended}: {}",
        panic.message
    );
}

/// Says which client it was, where a panic passes.
pub fn note_client(client: SocketAddr) {
    PANIC.with_borrow_mut(|panic| panic.client = Some(client));
}

/// Says what was in work, if a panic passes while this is held. Free otherwise.
#[derive(Debug)]
pub struct InWork<'a> {
    pub site: &'a str,
    pub request_id: [u8; 32],
}

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            PANIC.with_borrow_mut(|panic| {
                panic.site = Some(self.site.to_owned());
                let id = String::from_utf8_lossy(self.request_id.trim_ascii());
                panic.request_id = Some(printable(&id));
            });
        }
    }
}

fn place(panic: &PanicHookInfo<'_>) -> String {
    panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// In one line: what is quoted may come from a client.
fn message(panic: &PanicHookInfo<'_>) -> String {
    let said = panic.payload_as_str().unwrap_or("without a message");
    let cut: String = said.chars().take(MESSAGE_CHARS).collect();
    printable(&cut)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::block::{Block, Sheet};

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(work)
    }

    #[test]
    fn what_panics_has_dropped_what_it_owned_and_others_go_on() {
        let owned = Rc::new(());
        let lost = Rc::clone(&owned);
        let outcome = run(contain("a test", async move {
            let (block, sheet) = (Block::lend(), Sheet::lend());
            tokio::task::yield_now().await;
            let nothing: Option<(Block, Sheet, Rc<()>)> = None;
            assert!(nothing.is_some(), "{:?}", (block, sheet, lost).0.is_empty());
        }));
        assert_eq!(outcome, Err(Panicked));
        assert_eq!(Rc::strong_count(&owned), 1);
        assert_eq!(run(contain("a test", async { 7 })), Ok(7));
        drop((Block::lend(), Sheet::lend()));
    }

    #[test]
    fn whoever_is_unwound_says_what_was_in_work() {
        let in_work = || InWork {
            site: "shop",
            request_id: *b"0123456789abcdef                ",
        };
        drop(in_work());
        assert_eq!(PANIC.with_borrow(|panic| panic.site.clone()), None);
        let outcome = catch_unwind(|| {
            let _work = in_work();
            panic!("while it is held");
        });
        assert!(outcome.is_err());
        PANIC.with_borrow(|panic| {
            assert_eq!(panic.site.as_deref(), Some("shop"));
            assert_eq!(panic.request_id.as_deref(), Some("0123456789abcdef"));
        });
    }
}
