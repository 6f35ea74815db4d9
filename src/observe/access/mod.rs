//! The access log: one line for each request, where somebody wants one.
//!
//! A line is begun when the request is there, in the words of the request itself, and finished when its end is known; it
//! then goes into a buffer of the worker, and from there to the thread that writes. Nothing here waits: when the sink
//! stalls, lines are dropped and counted.

mod clock;
mod line;
mod text;
mod write;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clock::Clock;
pub use line::{Begun, Facts, Lasting, Spoken, Text, Who};
pub use write::{Writer, start, warn_of_unwritable};

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    Stdout,
    /// Opened anew on SIGUSR1, so that somebody may have moved it away.
    File(Arc<Path>),
    /// The same, where a site file says so: never through a link, which might lead out of where it may write.
    OfSite(Arc<Path>),
}

impl Destination {
    /// Without the time that comparing paths takes, and mostly without comparing letters.
    #[inline]
    fn is(&self, other: &Destination) -> bool {
        match (self, other) {
            (Destination::Stdout, Destination::Stdout) => true,
            (Destination::File(one), Destination::File(other))
            | (Destination::OfSite(one), Destination::OfSite(other)) => {
                Arc::ptr_eq(one, other) || one.as_os_str() == other.as_os_str()
            }
            _ => false,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Stdout => f.write_str("stdout"),
            Destination::File(path) | Destination::OfSite(path) => path.display().fmt(f),
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

impl Wanted {
    /// Where requests of such a site are logged. `None`: nowhere, and nothing is to be kept for it.
    #[inline]
    pub fn destination<'a>(&'a self, of_site: Option<&'a OfSite>) -> Option<&'a Destination> {
        match of_site {
            None | Some(OfSite::Inherited) => self.to.as_ref(),
            Some(OfSite::Off) => None,
            Some(OfSite::To(to)) => Some(to),
        }
    }
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

/// A buffer is handed over when it has so many bytes: 200 lines. Waking the thread that writes is a third of what
/// writing half as many costs.
const FULL_BYTES: usize = 64 << 10;
/// Room for the line that fills it.
const BUFFER_BYTES: usize = 72 << 10;
/// Destinations that a worker keeps in mind; for one beyond, another is forgotten that no request is about to use.
const MOST_SINKS: usize = 64;
/// Lines a worker keeps for the next requests.
const KEPT: usize = 256;

/// The access log of one worker.
#[derive(Debug)]
pub struct AccessLog {
    writer: Writer,
    clock: Clock,
    sinks: RefCell<Vec<Rc<Sink>>>,
    /// Lent to nobody.
    #[expect(
        clippy::vec_box,
        reason = "they are lent boxed: a request holds a pointer"
    )]
    free: RefCell<Vec<Box<Begun>>>,
}

/// Lines for one destination. Held by those that are begun, so that they find it without looking for it.
#[derive(Debug)]
struct Sink {
    to: Destination,
    bytes: RefCell<Vec<u8>>,
    lines: Cell<u32>,
    writer: Writer,
}

impl AccessLog {
    pub fn new(writer: Writer) -> AccessLog {
        AccessLog {
            writer,
            clock: Clock::new(),
            sinks: RefCell::default(),
            free: RefCell::default(),
        }
    }

    /// Begins a line with what is known when the request is there. `query`: whether that is shown.
    pub fn begin(&self, to: &Destination, facts: &Facts<'_>, query: bool) -> Box<Begun> {
        let lent = self.free.borrow_mut().pop();
        let mut begun = lent.unwrap_or_else(Begun::new);
        begun.begin(self.sink(to), facts, query, &self.clock);
        begun
    }

    /// An upstream to `backend` is there for it; unless it was idle, it was opened for it.
    pub fn has_upstream(
        &self,
        begun: &mut Begun,
        is_new: bool,
        backend: impl FnOnce(&mut Text<'_>),
    ) {
        begun.has_upstream(self.clock.now(), is_new, backend);
    }

    /// With that upstream it did not work.
    pub fn tries_again(&self, begun: &mut Begun) {
        begun.tries_again(self.clock.now());
    }

    /// The head of the response is there.
    pub fn has_response(&self, begun: &mut Begun) {
        begun.has_response(self.clock.now());
    }

    /// Takes a whole line.
    pub fn take(&self, mut begun: Box<Begun>, finished: &super::Finished) {
        if let Some(sink) = &begun.to {
            sink.take(&begun, finished, &self.clock);
        }
        if begun.is_worth_keeping() {
            let mut free = self.free.borrow_mut();
            if free.len() < KEPT {
                free.push(begun);
            }
        }
    }

    /// Hands over whatever there is. Called once a second, and before the worker sleeps.
    pub fn flush(&self) {
        // A destination that nobody has used for a second, and nobody is about to, is forgotten.
        let mut sinks = self.sinks.borrow_mut();
        sinks.retain(|sink| sink.hand_over() || Rc::strong_count(sink) > 1);
    }

    fn sink(&self, to: &Destination) -> Rc<Sink> {
        let mut sinks = self.sinks.borrow_mut();
        if let Some(sink) = sinks.iter().find(|sink| sink.to.is(to)) {
            return Rc::clone(sink);
        }
        if sinks.len() >= MOST_SINKS
            && let Some(idle) = sinks.iter().position(|sink| Rc::strong_count(sink) == 1)
        {
            // Which hands over its lines.
            sinks.remove(idle);
        }
        let sink = Sink::new(to, &self.writer);
        sinks.push(Rc::clone(&sink));
        sink
    }
}

impl Sink {
    fn new(to: &Destination, writer: &Writer) -> Rc<Sink> {
        Rc::new(Sink {
            to: to.clone(),
            bytes: RefCell::default(),
            lines: Cell::new(0),
            writer: writer.clone(),
        })
    }

    #[inline]
    fn take(&self, begun: &Begun, finished: &super::Finished, clock: &Clock) {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.capacity() == 0 {
            *bytes = self.writer.buffer(BUFFER_BYTES);
        }
        begun.finish(&mut bytes, finished, clock.now());
        self.lines.set(self.lines.get() + 1);
        if bytes.len() >= FULL_BYTES {
            drop(bytes);
            self.hand_over();
        }
    }

    /// Whether there was anything.
    fn hand_over(&self) -> bool {
        let lines = self.lines.take();
        if lines > 0 {
            let bytes = self.bytes.take();
            self.writer.take(self.to.clone(), bytes, lines);
        }
        lines > 0
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.hand_over();
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::IpAddr;

    use super::*;
    use crate::observe::{Finished, Kind, Protocol};

    #[test]
    fn a_line_does_not_wait_for_another_that_takes_hours() {
        let folder = std::env::temp_dir().join(format!("onedoor-access-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("access.log");
        let writer = start().expect("a thread");
        let log = AccessLog::new(writer.clone());
        let who = Who {
            client: IpAddr::from([192, 0, 2, 7]),
            site: None,
            host: b"a.test",
            tls: None,
            sni: None,
        };
        let who = Lasting::of(&who, Format::Json);
        let facts = Facts {
            id: None,
            who: &who,
            asker: None,
            method: Some("GET"),
            path: b"/",
            query: b"",
            spoken: Spoken::Http11,
            referer: b"",
            agent: b"",
        };
        let to = Destination::File(file.as_path().into());
        let begin = || log.begin(&to, &facts, true);
        let (hours, seconds) = (begin(), begin());
        // Nothing has ended for a second.
        log.flush();
        let finished = Finished::of(Kind::Exchange, Protocol::Http1, None);
        log.take(seconds, &finished);
        log.flush();
        writer.flush();
        let lines = || {
            fs::read_to_string(&file)
                .unwrap_or_default()
                .lines()
                .count()
        };
        assert_eq!(lines(), 1);
        // More destinations than are kept in mind, and those that are in use stay.
        for number in 0..2 * MOST_SINKS {
            let to = Destination::File(folder.join(number.to_string()).as_path().into());
            drop(log.begin(&to, &facts, true));
        }
        assert!(log.sinks.borrow().len() <= MOST_SINKS);
        log.take(hours, &finished);
        log.flush();
        writer.flush();
        assert_eq!(lines(), 2);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
