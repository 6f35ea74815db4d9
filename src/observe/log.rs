//! Where log lines go: to standard error, from a thread of their own.
//!
//! Whoever logs never waits. When the reader of standard error stalls, lines are dropped and counted, and the
//! count is the first thing written when it reads again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for a slow reader.
const WAITING_LINES: usize = 4096;

/// The same line is written once in so long.
const FOLD_FOR: Duration = Duration::from_secs(10);

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
    let mut folded = Folded::default();
    loop {
        let note = match receiver.recv_timeout(FOLD_FOR) {
            Ok(note) => note,
            Err(RecvTimeoutError::Timeout) => {
                folded.tell(&mut io::stderr().lock());
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let line = match note {
            Note::Line(line) => line,
            Note::Mark(written) => {
                folded.tell(&mut io::stderr().lock());
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
        if !folded.is_repeated(&line) {
            folded.tell(&mut out);
            drop(out.write_all(&line));
            folded.remember(&line);
        }
    }
}

/// The line that was written last, and how often the same has come since: a thing that goes on is said once.
#[derive(Debug, Default)]
struct Folded {
    last: Vec<u8>,
    since: Option<Instant>,
    times: u64,
}

impl Folded {
    fn is_repeated(&mut self, line: &[u8]) -> bool {
        let is_same = self.since.is_some_and(|since| since.elapsed() < FOLD_FOR)
            && without_time(line) == self.last;
        self.times += u64::from(is_same);
        is_same
    }

    fn remember(&mut self, line: &[u8]) {
        self.last.clear();
        self.last.extend_from_slice(without_time(line));
        self.since = Some(Instant::now());
    }

    fn tell(&mut self, out: &mut impl Write) {
        let times = std::mem::take(&mut self.times);
        if times > 0 {
            let what = if times == 1 { "time" } else { "times" };
            // As for every line.
            drop(writeln!(
                out,
                "the line before was said {times} more {what}"
            ));
        }
    }
}

/// What a line says, without when: text begins with a time and a space, JSON has its own field for it.
fn without_time(line: &[u8]) -> &[u8] {
    let behind = match line.first() {
        Some(b'{') => memchr::memchr(b',', line),
        _ => memchr::memchr(b'Z', line),
    };
    behind.map_or(line, |at| &line[at..])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_comes_again_is_counted_and_not_written() {
        let mut folded = Folded::default();
        let mut out = Vec::new();
        for (line, is_new) in [
            (&b"2026-11-27T20:00:00.1Z  WARN x: a\n"[..], true),
            (b"2026-11-27T20:00:01.2Z  WARN x: a\n", false),
            (b"2026-11-27T20:00:02.3Z  WARN x: a\n", false),
            (b"2026-11-27T20:00:03.4Z  WARN x: b\n", true),
            (b"{\"timestamp\":\"1\",\"level\":\"x\"}\n", true),
            (b"{\"timestamp\":\"2\",\"level\":\"x\"}\n", false),
        ] {
            let repeated = folded.is_repeated(line);
            assert_eq!(!repeated, is_new, "{}", line.escape_ascii());
            if !repeated {
                folded.tell(&mut out);
                folded.remember(line);
            }
        }
        folded.tell(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "the line before was said 2 more times\nthe line before was said 1 more time\n"
        );
    }
}
