//! Where log lines go: to standard error, from a thread of their own.
//!
//! Whoever logs never waits. When the reader of standard error stalls, lines are dropped and counted, and the
//! count is the first thing written when it reads again.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::mark;

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

/// Who reads standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A person, a file, another program.
    Anybody,
    /// The journal of systemd: it knows the time, and takes a level from the front of each line (sd-daemon(3)).
    Journal,
}

/// What the thread is told.
#[derive(Debug)]
enum Note {
    Line {
        text: Vec<u8>,
        level: Level,
    },
    /// Say so when everything before this is written.
    Mark(SyncSender<()>),
}

impl Lines {
    /// Waits until what has been said so far is written, but at most a second.
    pub fn flush(&self) {
        mark::until_written(&self.sender, Note::Mark, Instant::now() + LAST_WORDS);
    }
}

/// Starts the thread.
///
/// # Errors
/// When there is no thread to be had.
pub fn start(reader: Reader) -> io::Result<Lines> {
    let (sender, receiver) = sync_channel(WAITING_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let lines = Lines {
        sender,
        dropped: Arc::clone(&dropped),
    };
    thread::Builder::new()
        .name("log".into())
        .spawn(move || write(&receiver, &dropped, reader))?;
    Ok(lines)
}

fn write(receiver: &Receiver<Note>, dropped: &AtomicU64, reader: Reader) {
    let mut folded = Folded::default();
    loop {
        let note = match receiver.recv_timeout(FOLD_FOR) {
            Ok(note) => note,
            Err(RecvTimeoutError::Timeout) => {
                folded.tell(&mut io::stderr().lock(), reader);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let (text, level) = match note {
            Note::Line { text, level } => (text, level),
            Note::Mark(written) => {
                folded.tell(&mut io::stderr().lock(), reader);
                // Nobody waits any more.
                written.try_send(()).ok();
                continue;
            }
        };
        let mut out = io::stderr().lock();
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let message = format!("{lost} log lines were dropped: nobody read them in time");
            let said = own(Shape::of(&text), reader, Level::WARN, &message);
            put(&mut out, reader, Level::WARN, said.as_bytes());
        }
        if !folded.is_repeated(&text, reader) {
            folded.tell(&mut out, reader);
            put(&mut out, reader, level, &text);
            folded.remember(&text, level, reader);
        }
    }
}

/// Writes the lines of an event. A sink that fails (EPIPE, a full disk) must not end anything.
fn put(out: &mut impl Write, reader: Reader, level: Level, text: &[u8]) {
    match reader {
        Reader::Anybody => drop(out.write_all(text)),
        Reader::Journal => {
            // Each line is an entry of its own there.
            for line in text.split_inclusive(|&byte| byte == b'\n') {
                let written = write!(out, "<{}>", priority(level));
                drop(written.and_then(|()| out.write_all(line)));
            }
        }
    }
}

/// As syslog counts.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// How the events look among which one of ours is to stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    #[default]
    Text,
    Json,
}

impl Shape {
    fn of(line: &[u8]) -> Shape {
        match line.first() {
            Some(b'{') => Shape::Json,
            _ => Shape::Text,
        }
    }
}

/// What this thread says itself, in the shape of an event.
fn own(shape: Shape, reader: Reader, level: Level, message: &str) -> String {
    let mut now = String::new();
    let has_time = (shape, reader) != (Shape::Text, Reader::Journal);
    if has_time && SystemTime.format_time(&mut Writer::new(&mut now)).is_err() {
        now.push('-');
    }
    let mut text = String::new();
    let written = match (shape, reader) {
        (Shape::Json, _) => writeln!(
            text,
            r#"{{"timestamp":"{now}","level":"{level}","fields":{{"message":"{message}"}}}}"#
        ),
        (Shape::Text, Reader::Anybody) => writeln!(text, "{now} {level:>5} {message}"),
        (Shape::Text, Reader::Journal) => writeln!(text, "{level:>5} {message}"),
    };
    // Writing to a String cannot fail.
    debug_assert!(written.is_ok());
    text
}

/// The line that was written last, and how often the same has come since: a thing that goes on is said once.
#[derive(Debug, Default)]
struct Folded {
    last: Vec<u8>,
    shape: Shape,
    level: Option<Level>,
    since: Option<Instant>,
    times: u64,
}

impl Folded {
    fn is_repeated(&mut self, line: &[u8], reader: Reader) -> bool {
        let is_same = self.since.is_some_and(|since| since.elapsed() < FOLD_FOR)
            && without_time(line, reader) == self.last;
        self.times += u64::from(is_same);
        is_same
    }

    fn remember(&mut self, line: &[u8], level: Level, reader: Reader) {
        self.last.clear();
        self.last.extend_from_slice(without_time(line, reader));
        self.shape = Shape::of(line);
        self.level = Some(level);
        self.since = Some(Instant::now());
    }

    fn tell(&mut self, out: &mut impl Write, reader: Reader) {
        let times = std::mem::take(&mut self.times);
        if times > 0 {
            let what = if times == 1 { "time" } else { "times" };
            let message = format!("the line before was said {times} more {what}");
            let level = self.level.unwrap_or(Level::INFO);
            let said = own(self.shape, reader, level, &message);
            put(out, reader, level, said.as_bytes());
        }
    }
}

/// What a line says, without when: text begins with a time and a space, JSON has its own field for it.
fn without_time(line: &[u8], reader: Reader) -> &[u8] {
    let behind = match (Shape::of(line), reader) {
        (Shape::Json, _) => memchr::memchr(b',', line),
        (Shape::Text, Reader::Anybody) => memchr::memchr(b'Z', line),
        (Shape::Text, Reader::Journal) => None,
    };
    behind.map_or(line, |at| &line[at..])
}

/// One line on its way.
#[derive(Debug)]
pub struct Line<'a> {
    text: Vec<u8>,
    level: Level,
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
        let level = self.level;
        if !text.is_empty()
            && self
                .lines
                .sender
                .try_send(Note::Line { text, level })
                .is_err()
        {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            text: Vec::new(),
            level: Level::INFO,
            lines: self,
        }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Line<'a> {
        let mut line = self.make_writer();
        line.level = *about.level();
        line
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
            let repeated = folded.is_repeated(line, Reader::Anybody);
            assert_eq!(!repeated, is_new, "{}", line.escape_ascii());
            if !repeated {
                folded.tell(&mut out, Reader::Anybody);
                folded.remember(line, Level::WARN, Reader::Anybody);
            }
        }
        folded.tell(&mut out, Reader::Anybody);
        let out = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("Z  WARN the line before was said 2 more times"));
        // What stands between objects is an object.
        let object: serde_json::Value = serde_json::from_str(lines[1]).expect("JSON");
        assert_eq!(object["level"], "WARN");
        assert_eq!(
            object["fields"]["message"],
            "the line before was said 1 more time"
        );
        assert!(object["timestamp"].as_str().expect("a time").ends_with('Z'));
    }

    #[test]
    fn every_line_for_the_journal_has_its_level_in_front_and_no_time() {
        let mut folded = Folded::default();
        let mut out = Vec::new();
        let line = b" WARN rejected, Z1\n --> shop.toml:1:1\n";
        put(&mut out, Reader::Journal, Level::WARN, line);
        folded.remember(line, Level::WARN, Reader::Journal);
        // Told apart by what stands in front of the last capital, too.
        assert!(!folded.is_repeated(b" INFO rejected, Z1\n --> shop.toml:1:1\n", Reader::Journal));
        assert!(folded.is_repeated(line, Reader::Journal));
        folded.tell(&mut out, Reader::Journal);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "<4> WARN rejected, Z1\n<4> --> shop.toml:1:1\n<4> WARN the line before was said 1 more time\n"
        );
    }
}
