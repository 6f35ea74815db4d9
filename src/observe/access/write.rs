//! The threads that write access logs: to files, which they open when they are first written to, and to standard output.
//! A disk may hang and a reader may stall, and neither must keep the others waiting: standard output has a thread of its
//! own, so has the log of all sites, and those that sites have for themselves share a few.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
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

/// Threads for files: the first is for the log of all sites. A disk that hangs behind the log of one site stalls the logs
/// of a quarter of the others.
const TO_FILES: usize = 5;
/// Buffers that may wait for a slow sink: some 4 MiB for each thread.
const WAITING: usize = 64;
/// Buffers kept for the next lines: 576 KiB.
const MOST_SPARE: usize = 8;
/// How long the end of the process waits for slow sinks.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Between two complaints.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// Files that a thread keeps open; sites come and go.
const MOST_FILES: usize = 64;

/// A way to the threads.
#[derive(Clone, Debug)]
pub struct Writer {
    to_files: [SyncSender<Note>; TO_FILES],
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
    /// Threads that are to close their files, by their bits: the names may mean others by now. No notes, for which there
    /// may be no room.
    reopen: AtomicU32,
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

/// Whether all other threads have done it.
struct Last(bool);

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
    let to_file = |thread: usize| {
        let files = Files {
            thread,
            ..Files::default()
        };
        start(&format!("access-file-{thread}"), Sinks::Files(files))
    };
    Ok(Writer {
        to_files: [
            to_file(0)?,
            to_file(1)?,
            to_file(2)?,
            to_file(3)?,
            to_file(4)?,
        ],
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
        let thread = match &to {
            Destination::Stdout => &self.to_stdout,
            Destination::File(_) => &self.to_files[0],
            Destination::OfSite(path) => &self.to_files[thread_of(path)],
        };
        if thread.try_send(Note::Lines { to, bytes }).is_err() {
            self.common.lost.add(lines);
            // The thread is busy with what does not move.
            self.common.tell_losses();
        }
    }

    /// Opens files anew before the next line.
    pub fn reopen(&self) {
        self.common
            .reopen
            .store((1 << TO_FILES) - 1, Ordering::Release);
        for thread in &self.to_files {
            // A thread with a full queue looks anyway.
            drop(thread.try_send(Note::Look));
        }
    }

    /// Waits until what has been handed over is written, but at most a second.
    pub fn flush(&self) {
        let deadline = Instant::now() + LAST_WORDS;
        // All of them go on meanwhile: whoever is asked when the time is over has had it, too.
        for thread in self.to_files.iter().chain([&self.to_stdout]) {
            mark::until_written(thread, Note::Mark, deadline);
        }
    }

    pub fn lost(&self) -> &Lost {
        &self.common.lost
    }
}

/// Which of the threads writes the log of a site: always the same one, so that the lines stay in order.
fn thread_of(path: &Path) -> usize {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let others = TO_FILES as u64 - 1;
    1 + (hasher.finish() % others) as usize
}

impl Common {
    /// Whether the files of this thread are to be closed; and whether they are the last.
    fn take_reopen(&self, thread: usize) -> Option<Last> {
        let own = 1 << thread;
        let before = self.reopen.fetch_and(!own, Ordering::AcqRel);
        (before & own != 0).then_some(Last(before == own))
    }

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
            && let Some(Last(is_last)) = common.take_reopen(files.thread)
        {
            files.open.clear();
            if is_last {
                info!("access logs are opened anew");
            }
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
    /// Which of the threads has them.
    thread: usize,
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
