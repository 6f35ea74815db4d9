//! The thread that writes access logs: to files that it opens when they are first written to, and to standard output.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;
use tracing::{info, warn};

use super::{Destination, Lost};

/// Buffers that may wait for a slow sink: some 4 MiB.
const WAITING: usize = 64;
/// Buffers kept for the next lines: 576 KiB.
const MOST_SPARE: usize = 8;
/// How long the end of the process waits for a slow sink.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Between two complaints about one sink.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// Files kept open; sites come and go.
const MOST_FILES: usize = 256;

/// A way to the thread.
#[derive(Clone, Debug)]
pub struct Writer {
    notes: SyncSender<Note>,
    lost: Arc<Lost>,
    spare: Spare,
}

/// Buffers that have been written: memory that is mapped already costs half as much as new memory.
#[derive(Clone, Debug, Default)]
struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    /// Every two hundredth line asks for one.
    fn take(&self) -> Option<Vec<u8>> {
        self.0.lock().ok()?.pop()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        if let Ok(mut spare) = self.0.lock()
            && spare.len() < MOST_SPARE
        {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// What the thread is told.
#[derive(Debug)]
enum Note {
    Lines {
        to: Destination,
        bytes: Vec<u8>,
    },
    /// Close the files: their names may mean others by now.
    Reopen,
    /// Say so when everything before this is written.
    Mark(SyncSender<()>),
}

/// Starts the thread, which ends with the last writer.
///
/// # Errors
/// When there is no thread to be had.
pub fn start() -> io::Result<Writer> {
    let (notes, receiver) = sync_channel(WAITING);
    let lost = Arc::new(Lost::default());
    let spare = Spare::default();
    let mut sinks = Sinks {
        files: HashMap::new(),
        torn: HashSet::new(),
        torn_stdout: false,
        lost: Arc::clone(&lost),
        spare: spare.clone(),
        told: 0,
        complained: None,
    };
    thread::Builder::new()
        .name("access-log".into())
        .spawn(move || sinks.write(&receiver))?;
    Ok(Writer { notes, lost, spare })
}

impl Writer {
    /// Room for `bytes`, at least.
    pub(super) fn buffer(&self, bytes: usize) -> Vec<u8> {
        let spare = self.spare.take();
        spare.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    pub(super) fn take(&self, to: Destination, bytes: Vec<u8>, lines: u32) {
        let note = Note::Lines { to, bytes };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.notes.try_send(note)
        {
            self.lost.add(lines);
        }
    }

    /// Opens files anew before the next line.
    pub fn reopen(&self) {
        // A sink that stalls this long has other troubles.
        drop(self.notes.try_send(Note::Reopen));
    }

    /// Waits until what has been handed over is written, but at most a second.
    pub fn flush(&self) {
        let (mark, written) = sync_channel(1);
        if self.notes.try_send(Note::Mark(mark)).is_ok() {
            // In time or not, this is the end.
            written.recv_timeout(LAST_WORDS).ok();
        }
    }

    pub fn lost(&self) -> &Lost {
        &self.lost
    }
}

/// What the thread has.
struct Sinks {
    files: HashMap<Arc<Path>, File>,
    /// Those that end in the middle of a line.
    torn: HashSet<Arc<Path>>,
    torn_stdout: bool,
    lost: Arc<Lost>,
    spare: Spare,
    /// How many lost lines have been told of.
    told: u64,
    complained: Option<Instant>,
}

impl Sinks {
    fn write(&mut self, notes: &Receiver<Note>) {
        while let Ok(note) = notes.recv() {
            match note {
                Note::Lines { to, bytes } => {
                    if let Err((error, unwritten)) = self.write_to(&to, &bytes) {
                        let lines = memchr::memchr_iter(b'\n', unwritten).count();
                        self.lost.add(u32::try_from(lines).unwrap_or(u32::MAX));
                        // For another reason than those that were not taken.
                        self.told += lines as u64;
                        self.complain(&to, &error);
                    }
                    self.spare.give_back(bytes);
                    self.tell_losses();
                }
                Note::Reopen => {
                    self.files.clear();
                    info!("access logs are opened anew");
                }
                // Nobody may wait any more.
                Note::Mark(written) => drop(written.try_send(())),
            }
        }
    }

    /// What could not be written comes back with the reason.
    fn write_to<'b>(
        &mut self,
        to: &Destination,
        bytes: &'b [u8],
    ) -> Result<(), (io::Error, &'b [u8])> {
        match to {
            Destination::Stdout => {
                let mut out = io::stdout().lock();
                let written = write_lines(&mut out, bytes, &mut self.torn_stdout);
                out.flush().map_err(|error| (error, &bytes[..0]))?;
                written
            }
            Destination::File(path) | Destination::OfSite(path) => {
                let links = match to {
                    Destination::OfSite(_) => OFlags::NOFOLLOW,
                    _ => OFlags::empty(),
                };
                let mut torn = self.torn.contains(path);
                let file = self.file(path, links).map_err(|error| (error, bytes))?;
                let written = write_lines(file, bytes, &mut torn);
                if torn {
                    self.torn.insert(Arc::clone(path));
                } else {
                    self.torn.remove(path);
                }
                if written.is_err() {
                    // A disk that was full, a filesystem that was unmounted: the next lines try from the start.
                    self.files.remove(path);
                }
                written
            }
        }
    }

    fn file(&mut self, path: &Arc<Path>, links: OFlags) -> io::Result<&mut File> {
        if self.files.len() >= MOST_FILES && !self.files.contains_key(path) {
            self.files.clear();
        }
        match self.files.entry(Arc::clone(path)) {
            std::collections::hash_map::Entry::Occupied(open) => Ok(open.into_mut()),
            std::collections::hash_map::Entry::Vacant(free) => {
                // Who was asked for what is for the operator, and whoever is in the group of the log. A pipe that
                // nobody reads is an error: all other logs would wait for it.
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o640)
                    .custom_flags((OFlags::NONBLOCK | links).bits() as i32)
                    .open(path)
                    .map_err(|error| match Errno::from_io_error(&error) {
                        Some(Errno::LOOP) => io::Error::other(
                            "it is a link, and the log of a site may not lead elsewhere",
                        ),
                        Some(Errno::NXIO) => io::Error::other("it is a pipe that nobody reads"),
                        _ => error,
                    })?;
                Ok(free.insert(file))
            }
        }
    }

    fn complain(&mut self, to: &Destination, error: &io::Error) {
        let now = Instant::now();
        let is_time = self
            .complained
            .is_none_or(|last| now.duration_since(last) >= COMPLAIN_EVERY);
        if is_time {
            self.complained = Some(now);
            warn!(log = %to, "the access log cannot be written, its lines are lost: {error}");
        }
    }

    fn tell_losses(&mut self) {
        let lost = self.lost.read();
        let more = lost - self.told;
        let is_time = self
            .complained
            .is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY);
        if more > 0 && is_time {
            self.complained = Some(Instant::now());
            self.told = lost;
            warn!("{more} access log lines are lost: they were not taken in time");
        }
    }
}

/// Writes whole lines as far as it goes. A line that was torn before is ended first, so that the next is none of it.
fn write_lines<'b>(
    out: &mut impl Write,
    bytes: &'b [u8],
    torn: &mut bool,
) -> Result<(), (io::Error, &'b [u8])> {
    if *torn {
        out.write_all(b"\n").map_err(|error| (error, bytes))?;
        *torn = false;
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), rest)),
            Ok(count) => {
                *torn = rest[count - 1] != b'\n';
                rest = &rest[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((error, rest)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room left.
    struct Disk(Vec<u8>, usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.1);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1 -= count;
            self.0.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_a_full_disk_has_torn_is_no_part_of_the_next() {
        let mut disk = Disk(Vec::new(), 6);
        let mut torn = false;
        let (error, unwritten) =
            write_lines(&mut disk, b"one\ntwo\nthree\n", &mut torn).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(unwritten, b"o\nthree\n");
        let (_, unwritten) = write_lines(&mut disk, b"four\n", &mut torn).expect_err("still full");
        assert_eq!(unwritten, b"four\n");
        disk.1 = 100;
        write_lines(&mut disk, b"five\n", &mut torn).expect("room");
        write_lines(&mut disk, b"six\n", &mut torn).expect("room");
        assert_eq!(disk.0, b"one\ntw\nfive\nsix\n");
    }
}
