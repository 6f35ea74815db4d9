//! The access log: one line for each request, where somebody wants one.
//!
//! A line is begun when the request is there, in the words of the request itself, and finished when its end is known; it
//! then goes into a buffer of the worker, and from there to the thread that writes. Nothing here waits: when the sink
//! stalls, lines are dropped and counted.

mod line;
mod write;

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use line::{Begun, Facts, Text};
pub use write::{Writer, start};

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    Stdout,
    /// Opened anew on SIGUSR1, so that somebody may have moved it away.
    File(Arc<Path>),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Stdout => f.write_str("stdout"),
            Destination::File(path) => path.display().fmt(f),
        }
    }
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// One object a line.
    #[default]
    Json,
    /// The combined format of NCSA, with the host and the upstream's time behind it.
    Combined,
}

/// What the daemon file says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of sites that say nothing of their own, and of what belongs to none. `None`: nothing is logged.
    pub to: Option<Destination>,
    pub format: Format,
    /// Whether the query is shown: it may have secrets in it.
    pub query: bool,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted {
            to: None,
            format: Format::Json,
            query: true,
        }
    }
}

/// What a site says about it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum OfSite {
    /// As the daemon file says.
    #[default]
    Inherited,
    Off,
    To(Destination),
}

/// A buffer is handed over when it has so many bytes: 150 lines, some 40 KiB with what is appended last.
const FULL_BYTES: usize = 32 << 10;
/// Room for the line that fills it.
const BUFFER_BYTES: usize = 40 << 10;
/// Destinations that a worker keeps a buffer for; those beyond get their lines one by one.
const MOST_BUFFERS: usize = 64;

/// The access log of one worker.
#[derive(Debug)]
pub struct AccessLog {
    wanted: Arc<Wanted>,
    writer: Writer,
    buffers: RefCell<Vec<Buffer>>,
}

/// Lines for one destination.
#[derive(Debug)]
struct Buffer {
    to: Destination,
    bytes: Vec<u8>,
    lines: u32,
}

impl AccessLog {
    pub fn new(wanted: Arc<Wanted>, writer: Writer) -> AccessLog {
        AccessLog {
            wanted,
            writer,
            buffers: RefCell::default(),
        }
    }

    /// Where requests of such a site are logged. `None`: nowhere, and nothing is to be kept for it.
    #[inline]
    pub fn destination<'a>(&'a self, of_site: Option<&'a OfSite>) -> Option<&'a Destination> {
        match of_site {
            None | Some(OfSite::Inherited) => self.wanted.to.as_ref(),
            Some(OfSite::Off) => None,
            Some(OfSite::To(to)) => Some(to),
        }
    }

    /// Whether lines have what the client says of itself.
    pub fn names_agents(&self) -> bool {
        self.wanted.format == Format::Combined
    }

    /// Begins a line with what is known when the request is there.
    pub fn begin(&self, to: &Destination, facts: &Facts<'_>) -> Box<Begun> {
        Begun::lend(to, facts, &self.wanted)
    }

    /// Takes a whole line.
    pub fn take(&self, begun: &Begun, finished: &super::Finished) {
        let mut buffers = self.buffers.borrow_mut();
        let at = match buffers.iter().position(|buffer| buffer.to == begun.to) {
            Some(at) => at,
            None => {
                if buffers.len() >= MOST_BUFFERS {
                    let oldest = buffers.swap_remove(0);
                    self.hand_over(oldest);
                }
                buffers.push(Buffer {
                    to: begun.to.clone(),
                    bytes: Vec::with_capacity(BUFFER_BYTES),
                    lines: 0,
                });
                buffers.len() - 1
            }
        };
        let buffer = &mut buffers[at];
        begun.finish(&mut buffer.bytes, finished);
        buffer.lines += 1;
        if buffer.bytes.len() >= FULL_BYTES {
            let full = Buffer {
                to: buffer.to.clone(),
                bytes: std::mem::replace(&mut buffer.bytes, Vec::with_capacity(BUFFER_BYTES)),
                lines: std::mem::take(&mut buffer.lines),
            };
            self.hand_over(full);
        }
    }

    /// Hands over whatever there is. Called once a second, and before the worker sleeps.
    pub fn flush(&self) {
        // A destination that nobody has used for a second needs no buffer.
        for buffer in self.buffers.borrow_mut().drain(..) {
            self.hand_over(buffer);
        }
    }

    fn hand_over(&self, buffer: Buffer) {
        if buffer.lines > 0 {
            self.writer.take(buffer.to, buffer.bytes, buffer.lines);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Lines that were not written, over all workers.
#[derive(Debug, Default)]
pub struct Lost(AtomicU64);

impl Lost {
    fn add(&self, lines: u32) {
        self.0.fetch_add(u64::from(lines), Ordering::Relaxed);
    }

    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
