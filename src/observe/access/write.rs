//! The threads that write access logs: one to files that it opens when they are first written to, one to standard output,
//! whose reader may stall and must not keep the files waiting.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use tracing::{info, warn};

use super::{Destination, Lost};
use crate::observe::mark;

/// Buffers that may wait for a slow sink: some 4 MiB for files, and as much for standard output.
const WAITING: usize = 64;
/// Buffers kept for the next lines: 576 KiB.
const MOST_SPARE: usize = 8;
/// How long the end of the process waits for slow sinks.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Between two complaints.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// Files kept open; sites come and go.
const MOST_FILES: usize = 256;

/// A way to the threads.
#[derive(Clone, Debug)]
pub struct Writer {
    to_files: SyncSender<Note>,
    to_stdout: SyncSender<Note>,
    common: Arc<Common>,
}

/// What workers and threads share. Locked once in two hundred lines, and when lines are lost.
#[derive(Debug, Default)]
struct Common {
    lost: Lost,
    told: Mutex<Told>,
    /// Buffers that have been written: memory that is mapped already costs half as much as new memory.
    spare: Mutex<Vec<Vec<u8>>>,
    /// The files are to be closed: their names may mean others by now. No note, for which there may be no room.
    reopen: AtomicBool,
}

/// What has been said of lost lines.
#[derive(Debug, Default)]
struct Told {
    /// How many of them.
    lines: u64,
    complained: Option<Instant>,
}

impl Told {
    /// Whether there has been quiet for long enough; then somebody is about to complain.
    fn is_time(&mut self) -> bool {
        let last = self.complained;
        let is_time = last.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY);
        if is_time {
            self.complained = Some(Instant::now());
        }
        is_time
    }
}

/// What a thread is told.
#[derive(Debug)]
enum Note {
    Lines {
        to: Destination,
        bytes: Vec<u8>,
    },
    /// Look whether there is something to do.
    Look,
    /// Say so when everything before this is written.
    Mark(SyncSender<()>),
}

/// Starts the threads, which end with the last writer.
///
/// # Errors
/// When there is no thread to be had.
pub fn start() -> io::Result<Writer> {
    let common = Arc::new(Common::default());
    let start = |name: &str, mut sinks: Sinks| {
        let (notes, receiver) = sync_channel(WAITING);
        let common = Arc::clone(&common);
        thread::Builder::new()
            .name(name.into())
            .spawn(move || write(&receiver, &mut sinks, &common))?;
        Ok::<_, io::Error>(notes)
    };
    Ok(Writer {
        to_files: start("access-log", Sinks::Files(Files::default()))?,
        to_stdout: start("access-stdout", Sinks::Stdout { torn: false })?,
        common,
    })
}

impl Writer {
    /// Room for `bytes`, at least.
    pub(super) fn buffer(&self, bytes: usize) -> Vec<u8> {
        let spare = self.common.take_spare();
        spare.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    pub(super) fn take(&self, to: Destination, bytes: Vec<u8>, lines: u32) {
        let thread = match to {
            Destination::Stdout => &self.to_stdout,
            Destination::File(_) | Destination::OfSite(_) => &self.to_files,
        };
        if thread.try_send(Note::Lines { to, bytes }).is_err() {
            self.common.lost.add(lines);
            // The thread is busy with what does not move.
            self.common.tell_losses();
        }
    }

    /// Opens files anew before the next line.
    pub fn reopen(&self) {
        self.common.reopen.store(true, Ordering::Release);
        // A thread with a full queue looks anyway.
        drop(self.to_files.try_send(Note::Look));
    }

    /// Waits until what has been handed over is written, but at most a second.
    pub fn flush(&self) {
        let deadline = Instant::now() + LAST_WORDS;
        for thread in [&self.to_files, &self.to_stdout] {
            mark::until_written(thread, Note::Mark, deadline);
        }
    }

    pub fn lost(&self) -> &Lost {
        &self.common.lost
    }
}

impl Common {
    fn take_spare(&self) -> Option<Vec<u8>> {
        self.spare.lock().ok()?.pop()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        if let Ok(mut spare) = self.spare.lock()
            && spare.len() < MOST_SPARE
        {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// Lines that could not be written are another matter than those that were not taken.
    fn complain(&self, to: &Destination, error: &io::Error, unwritten: &[u8]) {
        let lines = memchr::memchr_iter(b'\n', unwritten).count();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.lost.add(u32::try_from(lines).unwrap_or(u32::MAX));
        told.lines += lines as u64;
        let is_time = told.is_time();
        drop(told);
        if is_time {
            warn!(log = %to, "the access log cannot be written, its lines are lost: {error}");
        }
    }

    fn tell_losses(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = self.lost.read();
        let more = lost.saturating_sub(told.lines);
        if more == 0 || !told.is_time() {
            return;
        }
        told.lines = lost;
        drop(told);
        warn!("{more} access log lines are lost: they were not taken in time");
    }
}

fn write(notes: &Receiver<Note>, sinks: &mut Sinks, common: &Common) {
    while let Ok(note) = notes.recv() {
        if let Sinks::Files(files) = sinks
            && common.reopen.swap(false, Ordering::Acquire)
        {
            files.open.clear();
            info!("access logs are opened anew");
        }
        match note {
            Note::Lines { to, bytes } => {
                if let Err((error, unwritten)) = sinks.write(&to, &bytes) {
                    common.complain(&to, &error, unwritten);
                }
                common.give_back(bytes);
                common.tell_losses();
            }
            Note::Look => {}
            // Nobody may wait any more.
            Note::Mark(written) => drop(written.try_send(())),
        }
    }
}

/// What a thread writes to.
enum Sinks {
    Files(Files),
    Stdout { torn: bool },
}

#[derive(Default)]
struct Files {
    open: HashMap<Arc<Path>, File>,
    /// Those that end in the middle of a line.
    torn: HashSet<Arc<Path>>,
}

impl Sinks {
    /// What could not be written comes back with the reason.
    fn write<'b>(
        &mut self,
        to: &Destination,
        bytes: &'b [u8],
    ) -> Result<(), (io::Error, &'b [u8])> {
        match (self, to) {
            (Sinks::Stdout { torn }, _) => write_lines(&mut Stdout, bytes, torn),
            (Sinks::Files(files), Destination::File(path)) => {
                files.write(path, OFlags::empty(), bytes)
            }
            (Sinks::Files(files), Destination::OfSite(path)) => {
                files.write(path, OFlags::NOFOLLOW, bytes)
            }
            (Sinks::Files(_), Destination::Stdout) => Ok(()),
        }
    }
}

impl Files {
    fn write<'b>(
        &mut self,
        path: &Arc<Path>,
        links: OFlags,
        bytes: &'b [u8],
    ) -> Result<(), (io::Error, &'b [u8])> {
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
            self.open.remove(path);
        }
        written
    }

    fn file(&mut self, path: &Arc<Path>, links: OFlags) -> io::Result<&mut File> {
        if self.open.len() >= MOST_FILES && !self.open.contains_key(path) {
            self.open.clear();
        }
        match self.open.entry(Arc::clone(path)) {
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
}

/// Standard output without the buffer of the library, which would keep what a full disk has not taken and call it written.
struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let out = io::stdout();
        loop {
            match rustix::io::write(&out, bytes) {
                // Whoever shares it with us may have said that nobody waits there. This thread may.
                Err(Errno::AGAIN) => {
                    let mut room = [PollFd::new(&out, PollFlags::OUT)];
                    match poll(&mut room, None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
