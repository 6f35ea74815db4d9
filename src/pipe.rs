//! Pipes that carry long bodies from socket to socket without their bytes passing through the process (splice(2)).
//!
//! A pipe is lent when bytes are there and given back when it is empty again, so a few of them serve a worker. Who
//! gets none copies: unprivileged users share 64 MiB of pipe pages, beyond which new pipes are too small to be of use.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

use crate::stream::Stream;

/// What is asked of the kernel: a body's worth of one turn.
const WISHED_BYTES: usize = 256 << 10;
/// With less than this, copying 64 KiB at a time is as good.
const LEAST_BYTES: usize = 64 << 10;
thread_local! {
    static FREE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
    static OPEN: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// How many pipes this worker may have, lent and free. None before that is said.
pub fn allow(most: usize) {
    MOST.set(most);
}

/// A lent pipe and how many bytes are inside. Goes back when it is dropped empty.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<Ends>,
    inside: usize,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// An empty pipe, or `None` when this worker has enough of them or the system has none to give.
    pub fn lend() -> Option<Pipe> {
        let ends = FREE.with_borrow_mut(Vec::pop).or_else(open)?;
        Some(Pipe {
            ends: Some(ends),
            inside: 0,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.inside == 0
    }

    /// Takes up to `most` bytes from `from` into the empty pipe. 0 is the end of the stream.
    ///
    /// # Errors
    /// What the stream says; `InvalidInput` when it cannot be spliced from.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &Stream,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else {
            return Poll::Ready(Ok(0));
        };
        loop {
            ready!(from.poll_readable(cx));
            // The pipe is empty, so "would block" speaks of the socket.
            match from.try_read_with(|socket| move_bytes(socket, ends.write.as_fd(), most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                taken => {
                    let taken = taken?;
                    self.inside += taken;
                    return Poll::Ready(Ok(taken));
                }
            }
        }
    }

    /// Gives what is inside to `to`, as much as it takes at once.
    ///
    /// # Errors
    /// What the stream says.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, to: &Stream) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else {
            return Poll::Ready(Ok(0));
        };
        loop {
            ready!(to.poll_writable(cx));
            match to.try_write_with(|socket| move_bytes(ends.read.as_fd(), socket, self.inside)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                given => {
                    let given = given?;
                    self.inside -= given;
                    return Poll::Ready(Ok(given));
                }
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        if self.inside == 0 {
            FREE.with_borrow_mut(|free| free.push(ends));
        } else {
            // Somebody's bytes are still inside: nobody else may ever find them.
            drop(ends);
            OPEN.set(OPEN.get() - 1);
        }
    }
}

fn open() -> Option<Ends> {
    if OPEN.get() >= MOST.get() {
        return None;
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
    // Over the user's share the kernel says no, or gives less; what it gave decides.
    match fcntl_setpipe_size(&write, WISHED_BYTES) {
        Ok(_) | Err(_) => {}
    }
    if fcntl_getpipe_size(&write).ok()? < LEAST_BYTES {
        return None;
    }
    OPEN.set(OPEN.get() + 1);
    Some(Ends { read, write })
}

fn move_bytes(
    from: std::os::fd::BorrowedFd<'_>,
    to: std::os::fd::BorrowedFd<'_>,
    most: usize,
) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(splice(from, None, to, None, most, flags)?)
}
