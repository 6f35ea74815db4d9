//! Blocks of bytes that a worker lends to its connections.
//!
//! A block is taken when bytes are there to be read and given back before the next wait, so the few hot ones
//! serve any number of connections, and a waiting connection holds none. Every block leaves room in front of
//! what is read, so that a rewritten head or a chunk's size line can be put there without moving the body, and
//! a little behind it for what ends a chunk.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes kept free in front of what is read: a head grown by the forwarded headers fits.
const FRONT: usize = 4 << 10;
/// Bytes one read may bring: fewer system calls for bodies, and a core's cache still holds it. A little less than 64 KiB,
/// because that is what the kernel sends in one piece, headers included: with a head, a chunk's size or the records of TLS
/// around it, 64 KiB would leave as two, and the small one costs as much as the large one.
pub const READ_BYTES: usize = 63 << 10;
/// Bytes kept free behind: the line end of a chunk, and the last chunk.
const BACK: usize = 16;
const WHOLE: usize = FRONT + READ_BYTES + BACK;
/// Free blocks a worker keeps; more go back to the allocator.
const KEPT: usize = 32;
/// Blocks a worker lends at once (9 MiB) before it saves: from then on a read brings [`SAVING_BYTES`], and what the other
/// side does not take waits in a room of its size. A few slow readers shall not cost everybody four reads for one.
const MANY: usize = 128;
const SAVING_BYTES: usize = 16 << 10;

thread_local! {
    /// Last in, first out: the block used last is the one still in the cache.
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static LENT: Cell<usize> = const { Cell::new(0) };
}

/// Whether so many blocks are lent that those who wait shall hold less.
fn are_many_lent() -> bool {
    LENT.get() > MANY
}

/// What one read has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brought {
    /// 0 is the end of the stream.
    pub bytes: usize,
    /// It could have been more: a socket had no more just then.
    pub is_short: bool,
}

/// A lent block and the part of it that is in use. Goes back when dropped.
#[derive(Debug)]
pub struct Block {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Block {
    /// An empty block.
    pub fn lend() -> Block {
        let bytes = FREE
            .with_borrow_mut(Vec::pop)
            .unwrap_or_else(|| vec![0; WHOLE].into_boxed_slice());
        LENT.set(LENT.get() + 1);
        Block {
            bytes,
            start: FRONT,
            end: FRONT,
        }
    }

    /// One without room, to stand in for one that is handed on.
    pub fn empty() -> Block {
        Block {
            bytes: Box::default(),
            start: 0,
            end: 0,
        }
    }

    /// The bytes in use.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether another read finds room.
    pub fn has_room(&self) -> bool {
        self.bytes.len() == WHOLE && self.end < FRONT + READ_BYTES
    }

    /// Takes `count` bytes away from the front of what is in use.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Keeps only the first `count` bytes in use.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start + count);
    }

    /// Lets go of all that is in use.
    pub fn clear(&mut self) {
        if self.bytes.len() != WHOLE {
            self.lend_anew();
        }
        self.start = FRONT;
        self.end = FRONT;
    }

    /// How many bytes another read may bring.
    pub fn read_room(&self) -> usize {
        match self.has_room() {
            true => FRONT + READ_BYTES - self.end,
            false => 0,
        }
    }

    #[cold]
    fn lend_anew(&mut self) {
        *self = Block::lend();
    }

    /// Who holds it will wait. Where many wait, what is in use moves to where it takes no more room than it needs; there
    /// is none for more.
    pub fn settle(&mut self) {
        if are_many_lent() && self.bytes.len() == WHOLE {
            *self = Block {
                start: 0,
                end: self.len(),
                bytes: self.filled().into(),
            };
        }
    }

    /// How many bytes [`Block::append`] finds room for.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.end
    }

    /// Puts `head` directly in front of what is in use. `false`, and nothing changed, when the room is too small.
    #[must_use]
    pub fn prepend(&mut self, head: &[u8]) -> bool {
        let Some(start) = self.start.checked_sub(head.len()) else {
            return false;
        };
        self.bytes[start..self.start].copy_from_slice(head);
        self.start = start;
        true
    }

    /// Puts `tail` behind what is in use. `false`, and nothing changed, when the room is too small.
    #[must_use]
    pub fn append(&mut self, tail: &[u8]) -> bool {
        let Some(room) = self.bytes.get_mut(self.end..self.end + tail.len()) else {
            return false;
        };
        room.copy_from_slice(tail);
        self.end += tail.len();
        true
    }

    /// Lets `write` have all of an empty block, with what is else kept free. It says how much of it it used.
    pub fn write_with(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        debug_assert!(self.is_empty(), "what is in use would be lost");
        self.start = 0;
        self.end = write(&mut self.bytes).min(self.bytes.len());
    }

    /// Moves all bytes from `count` on into a block of their own. `None` when there are none.
    pub fn split_off(&mut self, count: usize) -> Option<Block> {
        let surplus = self
            .filled()
            .get(count..)
            .filter(|surplus| !surplus.is_empty())?;
        let mut rest = Block::lend();
        rest.bytes[FRONT..FRONT + surplus.len()].copy_from_slice(surplus);
        rest.end = FRONT + surplus.len();
        self.truncate(count);
        Some(rest)
    }

    /// Reads once into the free room. Returns how many bytes came; 0 is the end of the stream.
    ///
    /// # Errors
    /// What the stream says.
    #[inline]
    pub fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        self.poll_fill_at_most(cx, stream, READ_BYTES)
    }

    /// The same, but no more than `most` bytes.
    ///
    /// # Errors
    /// What the stream says.
    #[inline]
    pub fn poll_fill_at_most<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let brought = ready!(self.poll_read(cx, stream, most))?;
        Poll::Ready(Ok(brought.bytes))
    }

    /// Reads once into the free room, at most `most` bytes, and tells whether it brought fewer than it might have. Room
    /// that is left in the block does not tell that: of many that are lent each is filled a little at a time.
    ///
    /// # Errors
    /// What the stream says.
    #[inline]
    pub fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        mut most: usize,
    ) -> Poll<io::Result<Brought>> {
        if self.start == self.end && (self.start != FRONT || self.bytes.len() != WHOLE) {
            self.clear();
        }
        // A full buffer would read as the end of the stream.
        debug_assert!(self.has_room() && most > 0, "a read needs room");
        if are_many_lent() {
            most = most.min(SAVING_BYTES);
        }
        let end = (self.end + most).min(FRONT + READ_BYTES);
        let mut room = ReadBuf::new(&mut self.bytes[self.end..end]);
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        let brought = Brought {
            bytes: room.filled().len(),
            is_short: room.remaining() > 0,
        };
        self.end += brought.bytes;
        Poll::Ready(Ok(brought))
    }
}

/// Bytes that wait for longer than a turn: in as much room as they need, as long as they are few.
#[derive(Debug)]
pub enum Kept {
    Few(Box<[u8]>),
    Many(Block),
}

/// Up to here a copy is cheaper than a block that is gone for a while. Of what a client sends ahead no more is read, so
/// that nobody makes a worker save with a few kilobytes of each of its connections.
pub const FEW: usize = 4 << 10;

impl Block {
    pub fn keep(self) -> Kept {
        if self.len() <= FEW {
            Kept::Few(self.filled().into())
        } else {
            Kept::Many(self)
        }
    }

    /// The same for what a client has sent ahead. A block for it is lent for as long as that client likes, so it is only
    /// as long as few are: whoever asks for a thousand things at once is not copied for each, and nobody else has to save
    /// for it.
    pub fn keep_sent_ahead(self) -> Kept {
        match LENT.get() > MANY / 2 {
            true => Kept::Few(self.filled().into()),
            false => self.keep(),
        }
    }

    /// How many are lent.
    #[cfg(test)]
    pub fn lent() -> usize {
        LENT.get()
    }
}

impl Kept {
    /// As a block again, to go on with.
    pub fn lend(self) -> Block {
        match self {
            Kept::Many(block) => block,
            Kept::Few(bytes) => {
                let mut block = Block::lend();
                let fits = block.append(&bytes);
                debug_assert!(fits, "few bytes fit into an empty block");
                block
            }
        }
    }
}

/// A growing text of a few kilobytes, lent like a [`Block`]: the one thing an exchange may own while it waits.
#[derive(Debug)]
pub struct Sheet(Vec<u8>);

/// What a sheet holds without growing.
const SHEET_BYTES: usize = 4 << 10;

thread_local! {
    static SHEETS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Sheet {
    pub fn lend() -> Sheet {
        Sheet(
            SHEETS
                .with_borrow_mut(Vec::pop)
                .unwrap_or_else(|| Vec::with_capacity(SHEET_BYTES)),
        )
    }

    /// Gives its room back while it is still held; what is written from here on gets room of its own.
    pub fn give_back(&mut self) {
        drop(std::mem::replace(self, Sheet(Vec::new())));
    }
}

impl Default for Sheet {
    fn default() -> Sheet {
        Sheet::lend()
    }
}

impl std::ops::Deref for Sheet {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl std::ops::DerefMut for Sheet {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        let mut text = std::mem::take(&mut self.0);
        // One that had to grow is not kept.
        if text.capacity() == SHEET_BYTES {
            text.clear();
            SHEETS.with_borrow_mut(|free| {
                if free.len() < 4 * KEPT {
                    free.push(text);
                }
            });
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.bytes.len() != WHOLE {
            return;
        }
        LENT.set(LENT.get() - 1);
        let bytes = std::mem::take(&mut self.bytes);
        FREE.with_borrow_mut(|free| {
            if free.len() < KEPT {
                free.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, FEW, Kept, LENT, MANY, WHOLE};

    #[test]
    fn a_head_goes_in_front_and_a_tail_behind() {
        let mut block = Block::lend();
        assert!(block.append(b"body"));
        assert!(block.prepend(b"head "));
        assert!(block.append(b" tail"));
        assert_eq!(block.filled(), b"head body tail");
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut block = Block::lend();
        assert!(!block.prepend(&vec![b'x'; 5 << 10]));
        assert!(!block.append(&vec![b'x'; 70 << 10]));
        assert!(block.is_empty());
    }

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        for count in [1, FEW, FEW + 1] {
            let mut block = Block::lend();
            assert!(block.append(&vec![b'x'; count]));
            block.consume(1);
            let kept = block.keep();
            assert_eq!(matches!(kept, Kept::Few(_)), count <= FEW + 1, "{count}");
            assert_eq!(kept.lend().filled(), vec![b'x'; count - 1]);
        }
    }

    #[test]
    fn what_clients_send_ahead_makes_nobody_save() {
        let sent = |count| {
            let mut block = Block::lend();
            assert!(block.append(&vec![b'x'; count]));
            block.keep_sent_ahead()
        };
        let kept: Vec<Kept> = (0..2 * MANY).map(|_| sent(FEW + 1)).collect();
        assert_eq!(LENT.get(), MANY / 2);
        for kept in kept {
            assert_eq!(kept.lend().len(), FEW + 1);
        }
    }

    #[test]
    fn where_many_wait_each_holds_what_it_needs() {
        let mut few = Block::lend();
        few.settle();
        assert_eq!(few.bytes.len(), WHOLE);
        let mut waiting: Vec<Block> = (0..2 * MANY).map(|_| Block::lend()).collect();
        for block in &mut waiting {
            assert!(block.append(b"waits"));
            block.settle();
            assert_eq!(block.filled(), b"waits");
        }
        assert_eq!(LENT.get(), MANY, "as many as may be");
        let settled = &mut waiting[0];
        assert_eq!(settled.bytes.len(), 5);
        assert!(!settled.append(b"?") && !settled.has_room());
        settled.clear();
        assert!(settled.append(b"as before"));
        drop((few, waiting));
        assert_eq!(LENT.get(), 0);
    }

    #[test]
    fn split_off_leaves_the_front() {
        let mut block = Block::lend();
        assert!(block.append(b"first|second"));
        let rest = block.split_off(6);
        assert_eq!(block.filled(), b"first|");
        assert_eq!(rest.as_ref().map(Block::filled), Some(&b"second"[..]));
        assert!(block.split_off(6).is_none());
    }
}
