//! Where log lines go: to standard error, from a thread of their own.
//!
//! Whoever logs never waits. When the reader of standard error stalls, lines are dropped and counted, and the
//! count is the first thing written when it reads again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for a slow reader.
const WAITING_LINES: usize = 4096;

/// How long the end of the process waits for a slow reader: its last lines tell why it ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Hands lines over to the thread that writes them.
#[derive(Clone, Debug)]
pub struct Lines {
    sender: SyncSender<Note>,
    dropped: Arc<AtomicU64>,
}

/// What the thread is told.
#[derive(Debug)]
enum Note {
    Line(Vec<u8>),
    /// Say so when everything before this is written.
    Mark(SyncSender<()>),
}

impl Lines {
    /// Waits until what has been said so far is written, but at most a second.
    pub fn flush(&self) {
        let (mark, written) = sync_channel(1);
        if self.sender.try_send(Note::Mark(mark)).is_ok() {
            // In time or not, this is the end.
            written.recv_timeout(LAST_WORDS).ok();
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// When there is no thread to be had.
pub fn start() -> io::Result<Lines> {
    let (sender, receiver) = sync_channel(WAITING_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let lines = Lines {
        sender,
        dropped: Arc::clone(&dropped),
    };
    thread::Builder::new()
        .name("log".into())
        .spawn(move || write(&receiver, &dropped))?;
    Ok(lines)
}

fn write(receiver: &Receiver<Note>, dropped: &AtomicU64) {
    while let Ok(note) = receiver.recv() {
        let line = match note {
            Note::Line(line) => line,
            Note::Mark(written) => {
                // Nobody waits any more.
                written.try_send(()).ok();
                continue;
            }
        };
        let mut out = io::stderr().lock();
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // A sink that fails (EPIPE, a full disk) must not end anything.
            drop(writeln!(
                out,
                "{lost} log lines were dropped: nobody read them in time"
            ));
        }
        drop(out.write_all(&line));
    }
}

/// One line on its way.
#[derive(Debug)]
pub struct Line<'a> {
    text: Vec<u8>,
    lines: &'a Lines,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() && self.lines.sender.try_send(Note::Line(text)).is_err() {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            text: Vec::new(),
            lines: self,
        }
    }
}
