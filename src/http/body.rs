//! A body on its way from one side to the other: framing taken off, checked, and written anew.
//!
//! Holds a block only for bytes that the other side does not take. Nothing is buffered beyond that. A long body of
//! known length is spliced from socket to socket.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::h1::chunk::ChunkDecoder;
use super::h1::head::{Framing, HeadLimits, HeadRefusal, Parsed, trailers};
use super::side::{Sink, Source};
use crate::block::{Block, READ_BYTES};
use crate::http::forward::{may_trail, replaces};
use crate::limits::MOST_FIELDS;
use crate::pipe::Pipe;
use crate::site::HeaderEdit;

/// Bytes a body may move before the other tasks of the worker get their turn: long polls make tails.
const TURN_BYTES: usize = 256 << 10;

/// Bodies of at least this length are spliced: below, opening a pipe and two more calls cost more than copying.
const SPLICE_FROM: u64 = 256 << 10;
/// With no more than this left, it is copied; and so is what comes in smaller pieces.
const SPLICE_LEAST: u64 = 16 << 10;
/// What is always copied at the end.
const LAST_BYTES: u64 = 1 << 10;

/// One body, from one side to the other.
#[derive(Debug)]
pub(super) struct Body {
    to_come: ToCome,
    written: Written,
    /// Read, framed anew, and not yet taken by the other side.
    pending: Option<Block>,
    /// What follows `pending`: the end of a chunked body; where the other side frames bodies by itself, only the
    /// trailer lines.
    ending: Vec<u8>,
    /// Such a side knows that nothing follows.
    end_is_told: bool,
    /// Read and not yet taken by the other side, without having been here.
    pipe: Option<Pipe>,
    /// Whether splicing pays, as long as it runs fast.
    is_long: bool,
    /// Whether the last read brought so much that the next may be spliced: one byte now and then costs a call more so. The
    /// first may, which is what a long response that comes at once lives on.
    runs_fast: bool,
    /// What came behind the end of the body.
    surplus: Option<Block>,
    /// The other side had taken all there was when the source had no more.
    is_drained: bool,
    /// Bytes taken by the other side, with framing.
    pub(super) moved: u64,
    /// Payload bytes read.
    pub(super) read: u64,
    limit: u64,
    limits: HeadLimits,
    /// Trailers of the names that are set or removed by these are not passed on.
    barred: Option<Arc<[HeaderEdit]>>,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// As it is: its length is known, or the connection ends with it.
    Plainly,
    InChunks,
    /// To a side that frames bodies by itself.
    InFrames,
}

/// What is still to come of the body.
#[derive(Debug)]
enum ToCome {
    Length(u64),
    Chunked(ChunkDecoder),
    /// The last chunk has come; collects the trailer section.
    Trailers(Vec<u8>),
    Close,
    Ended,
}

/// Why a body does not reach its end.
#[derive(Debug)]
pub(super) enum BodyError {
    /// The side it comes from ended or broke off in its middle.
    SourceGone,
    /// The side it goes to takes no more.
    TargetGone,
    Bad(BadBody),
}

/// What came is none that is passed on.
#[derive(Debug)]
pub(super) enum BadBody {
    /// It is not a body.
    Malformed(&'static str),
    TooLarge,
}

impl From<BadBody> for BodyError {
    fn from(bad: BadBody) -> BodyError {
        BodyError::Bad(bad)
    }
}

impl Body {
    /// A body framed as `framing` says, to be written as `written` says. At most `limit` bytes of payload, and
    /// `framing_bytes` of chunk framing beyond what that needs.
    pub(super) fn new(
        framing: Framing,
        written: Written,
        limit: Option<u64>,
        limits: HeadLimits,
        framing_bytes: u64,
    ) -> Body {
        let to_come = match framing {
            Framing::None | Framing::Length(0) => ToCome::Ended,
            Framing::Length(length) => ToCome::Length(length),
            Framing::Chunked => ToCome::Chunked(ChunkDecoder::new(framing_bytes)),
            Framing::Close => ToCome::Close,
        };
        Body {
            to_come,
            written,
            pending: None,
            ending: Vec::new(),
            end_is_told: false,
            pipe: None,
            is_long: written == Written::Plainly
                && matches!(framing, Framing::Length(length) if length >= SPLICE_FROM),
            runs_fast: true,
            surplus: None,
            is_drained: false,
            moved: 0,
            read: 0,
            limit: limit.unwrap_or(u64::MAX),
            limits,
            barred: None,
        }
    }

    /// Passes on no trailers of names that the operator sets or removes: whoever merges trailers into the head must not
    /// find there what was taken out of it.
    pub(super) fn bar_trailers_of(&mut self, edits: &Arc<[HeaderEdit]>) {
        if !edits.is_empty() && matches!(self.to_come, ToCome::Chunked(_) | ToCome::Close) {
            self.barred = Some(Arc::clone(edits));
        }
    }

    /// Whether all of it has been taken by the other side.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.to_come, ToCome::Ended)
            && self.pending.is_none()
            && self.ending.is_empty()
            && self.pipe.is_none()
    }

    /// Whether the other side has what there is, so that waiting means waiting for the source.
    pub(super) fn waits_for_source(&self) -> bool {
        self.pending.is_none() && self.pipe.is_none() && !self.is_done()
    }

    /// Whether the last [`Body::poll`] ended because the source had no more. Not when it only gave way to others.
    pub(super) fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// What came behind the end of the body.
    pub(super) fn take_surplus(&mut self) -> Option<Block> {
        self.surplus.take()
    }

    /// Moves what can be moved. Ready when all is done.
    ///
    /// # Errors
    /// [`BodyError`]; what was not moved is lost.
    pub(super) fn poll<F: Source, T: Sink>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
    ) -> Poll<Result<(), BodyError>> {
        let mut turn = 0;
        self.is_drained = false;
        loop {
            if let Some(block) = &mut self.pending {
                // Told together with the last bytes: a frame less.
                let last =
                    T::FRAMES && matches!(self.to_come, ToCome::Ended) && self.ending.is_empty();
                while !block.is_empty() {
                    match to.poll_take(cx, block, last) {
                        Poll::Pending => {
                            block.settle();
                            from.take_ahead(cx);
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(count)) => {
                            self.moved += count as u64;
                            turn += count;
                            self.end_is_told = last && block.is_empty();
                        }
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(BodyError::TargetGone)),
                    }
                }
            }
            if T::FRAMES {
                // The other side may have kept the block itself.
                self.pending = None;
                if matches!(self.to_come, ToCome::Ended) && !self.end_is_told {
                    let told = to.end(&std::mem::take(&mut self.ending));
                    told.map_err(|_| BodyError::TargetGone)?;
                    self.end_is_told = true;
                }
            } else if !self.ending.is_empty() {
                let mut block = self.pending.take().unwrap_or_else(Block::lend);
                block.clear();
                if block.append(&self.ending) {
                    self.ending.clear();
                } else {
                    let rest = self.ending.split_off(block.room());
                    let fits = block.append(&self.ending);
                    debug_assert!(fits, "split to fit");
                    self.ending = rest;
                }
                self.pending = Some(block);
                continue;
            }
            if let Some(pipe) = &mut self.pipe {
                let Some(to) = to.plain() else {
                    return Poll::Ready(Err(BodyError::TargetGone));
                };
                while !pipe.is_empty() {
                    match ready!(pipe.poll_drain(cx, to)) {
                        Ok(0) | Err(_) => return Poll::Ready(Err(BodyError::TargetGone)),
                        Ok(count) => {
                            self.moved += count as u64;
                            turn += count;
                        }
                    }
                }
                self.pipe = None;
            }
            if matches!(self.to_come, ToCome::Ended) {
                self.pending = None;
                return Poll::Ready(Ok(()));
            }
            if turn >= TURN_BYTES {
                self.pending = None;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(most) = self.may_be_spliced()
                && let (Some(from), Some(_)) = (from.plain(), to.plain())
                && let Some(mut pipe) = Pipe::lend()
            {
                match pipe.poll_fill(cx, from, most) {
                    Poll::Ready(Ok(0) | Err(_)) => {
                        return Poll::Ready(Err(BodyError::SourceGone));
                    }
                    Poll::Ready(Ok(count)) => self.spliced(pipe, count),
                    Poll::Pending => {
                        self.is_drained = true;
                        return Poll::Pending;
                    }
                }
                continue;
            }
            let mut most = READ_BYTES;
            if T::FRAMES {
                // Promised to one stream, credit is taken from all: not asked for before there is a use for it.
                if from.poll_readable(cx).is_pending() {
                    self.pending = None;
                    self.is_drained = true;
                    return Poll::Pending;
                }
                most = match to.poll_credit(cx, READ_BYTES) {
                    Poll::Ready(credit) => credit.map_err(|_| BodyError::TargetGone)?,
                    Poll::Pending => {
                        self.pending = None;
                        from.take_ahead(cx);
                        return Poll::Pending;
                    }
                };
            }
            let mut block = self.pending.take().unwrap_or_else(Block::lend);
            match from.poll_fill(cx, &mut block, most) {
                Poll::Pending => {
                    if T::FRAMES {
                        to.give_back_credit();
                    }
                    self.is_drained = true;
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => self.source_ended(from)?,
                Poll::Ready(Ok(count)) => {
                    self.runs_fast = count as u64 >= SPLICE_LEAST;
                    self.take(block)?;
                    self.look_for_end(from)?;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(BodyError::SourceGone)),
            }
        }
    }

    /// Takes what has come already, so that a small body can leave together with its head.
    ///
    /// # Errors
    /// As for [`Body::poll`].
    pub(super) fn take_from(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Source,
    ) -> Result<(), BodyError> {
        let mut block = Block::lend();
        match from.poll_fill(cx, &mut block, READ_BYTES) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(0)) => self.source_ended(from),
            Poll::Ready(Ok(_)) => {
                self.take(block)?;
                self.look_for_end(from)
            }
            Poll::Ready(Err(_)) => Err(BodyError::SourceGone),
        }
    }

    /// The end is written together with the last bytes, where it is known with them.
    fn look_for_end<F: Source>(&mut self, from: &mut F) -> Result<(), BodyError> {
        if F::TELLS_END && matches!(self.to_come, ToCome::Close) && from.is_over() {
            return self.source_ended(from);
        }
        Ok(())
    }

    /// Where the other side frames bodies by itself: it has been told with the head that there is none.
    pub(super) fn tell_end(&mut self) -> bool {
        let is_empty = matches!(self.to_come, ToCome::Ended)
            && self.pending.is_none()
            && self.ending.is_empty();
        self.end_is_told |= is_empty;
        is_empty
    }

    /// How many bytes may go from socket to socket unseen: of a long body of known length, all but its last, whose
    /// read must show whether anything follows.
    fn may_be_spliced(&self) -> Option<usize> {
        match self.to_come {
            ToCome::Length(left) if self.is_long && self.runs_fast && left > SPLICE_LEAST => {
                usize::try_from((left - LAST_BYTES).min(TURN_BYTES as u64)).ok()
            }
            _ => None,
        }
    }

    fn spliced(&mut self, pipe: Pipe, count: usize) {
        if let ToCome::Length(left) = &mut self.to_come {
            *left -= count as u64;
        }
        self.read += count as u64;
        self.runs_fast = count as u64 >= SPLICE_LEAST;
        self.pending = None;
        self.pipe = Some(pipe);
    }

    /// Takes bytes that were read from the source already, for the next [`Body::poll`] to move.
    ///
    /// # Errors
    /// See [`BadBody`].
    pub(super) fn take(&mut self, mut block: Block) -> Result<(), BadBody> {
        debug_assert!(self.pending.is_none(), "what is pending goes first");
        match &mut self.to_come {
            ToCome::Ended => self.surplus = (!block.is_empty()).then_some(block),
            ToCome::Close => {
                self.read += block.len() as u64;
                self.frame(block);
            }
            ToCome::Length(left) => {
                let count = (block.len() as u64).min(*left);
                *left -= count;
                if *left == 0 {
                    self.to_come = ToCome::Ended;
                }
                self.surplus = block.split_off(count as usize);
                self.read += count;
                self.frame(block);
            }
            ToCome::Chunked(decoder) => {
                let decoded = decoder
                    .decode(block.filled_mut())
                    .map_err(|bad| BadBody::Malformed(bad.0))?;
                let ends_plainly = decoded.last && &block.filled()[decoded.consumed..] == b"\r\n";
                let behind = if ends_plainly {
                    None
                } else {
                    block.split_off(decoded.consumed)
                };
                block.truncate(decoded.payload.end);
                block.consume(decoded.payload.start);
                self.read += decoded.payload.len() as u64;
                if decoded.last {
                    self.to_come = ToCome::Trailers(Vec::new());
                }
                self.frame(block);
                if let Some(behind) = behind {
                    self.take_trailers(behind)?;
                } else if ends_plainly {
                    // No trailers and nothing behind: the usual end.
                    self.to_come = ToCome::Ended;
                    self.end(&[]);
                }
            }
            ToCome::Trailers(_) => self.take_trailers(block)?,
        }
        if self.read > self.limit {
            return Err(BadBody::TooLarge);
        }
        Ok(())
    }

    /// Puts `head` in front of what is pending, so that both leave in one write. Nothing has been moved yet.
    pub(super) fn put_in_front(&mut self, head: &[u8]) -> Result<(), Block> {
        let mut block = self.pending.take().unwrap_or_else(Block::lend);
        let fits = block.prepend(head);
        if fits {
            self.pending = Some(block);
            return Ok(());
        }
        Err(block)
    }

    /// Takes back what [`Body::put_in_front`] had no room for.
    pub(super) fn put_back(&mut self, block: Block) {
        self.pending = (!block.is_empty()).then_some(block);
    }

    /// Moves what waits to be written into `out`, if it is at most `most` bytes: a small body leaves together with
    /// its head, and is still there for a second try.
    pub(super) fn join(&mut self, out: &mut Vec<u8>, most: usize) {
        let waiting = self.pending.as_ref().map_or(0, Block::len) + self.ending.len();
        if waiting == 0 || waiting > most {
            return;
        }
        if let Some(block) = self.pending.take() {
            out.extend_from_slice(block.filled());
        }
        out.append(&mut self.ending);
    }

    fn take_trailers(&mut self, mut block: Block) -> Result<(), BadBody> {
        let ToCome::Trailers(collected) = &mut self.to_come else {
            return Ok(());
        };
        let before = collected.len();
        collected.extend_from_slice(block.filled());
        let collected = std::mem::take(collected);
        let mut room = [httparse::EMPTY_HEADER; MOST_FIELDS];
        match trailers(&collected, &self.limits, &mut room) {
            Ok(Parsed::Complete((fields, end))) => {
                let mut kept = Vec::new();
                for field in fields {
                    self.keep_trailer(&mut kept, field.name.as_bytes(), field.value);
                }
                self.surplus = block.split_off(end - before);
                self.to_come = ToCome::Ended;
                self.end(&kept);
                Ok(())
            }
            Ok(Parsed::NeedMore) => {
                self.to_come = ToCome::Trailers(collected);
                Ok(())
            }
            Err(HeadRefusal::TooLarge) => Err(BadBody::Malformed("the trailers are too large")),
            Err(_) => Err(BadBody::Malformed("the trailers are not fields")),
        }
    }

    fn source_ended(&mut self, from: &mut impl Source) -> Result<(), BodyError> {
        if !matches!(self.to_come, ToCome::Close) {
            return Err(BodyError::SourceGone);
        }
        self.to_come = ToCome::Ended;
        let mut kept = Vec::new();
        from.trailers(|name, value| self.keep_trailer(&mut kept, name, value));
        self.end(&kept);
        Ok(())
    }

    /// Writes a trailer field that may be passed on.
    fn keep_trailer(&self, kept: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let barred = self.barred.as_deref().unwrap_or_default();
        if may_trail(name) && !replaces(barred, name) {
            for part in [name, b": ", value, b"\r\n"] {
                kept.extend_from_slice(part);
            }
        }
    }

    /// Writes the end that chunks need; for frames it keeps the trailers.
    fn end(&mut self, trailers: &[u8]) {
        match self.written {
            Written::Plainly => return,
            Written::InFrames => return self.ending.extend_from_slice(trailers),
            Written::InChunks => {}
        }
        if trailers.is_empty()
            && self
                .pending
                .as_mut()
                .is_some_and(|block| block.append(b"0\r\n\r\n"))
        {
            return;
        }
        self.ending.extend_from_slice(b"0\r\n");
        self.ending.extend_from_slice(trailers);
        self.ending.extend_from_slice(b"\r\n");
    }

    /// Makes payload ready to be written.
    fn frame(&mut self, mut block: Block) {
        if block.is_empty() {
            return;
        }
        if self.written == Written::InChunks {
            let mut line = [0; 18];
            let fits = block.prepend(size_line(block.len(), &mut line)) && block.append(b"\r\n");
            debug_assert!(fits, "a block has room for a chunk's framing");
        }
        self.pending = Some(block);
    }
}

/// `size` in hex, and a line end.
fn size_line(size: usize, line: &mut [u8; 18]) -> &[u8] {
    line[16] = b'\r';
    line[17] = b'\n';
    let mut at = 16;
    let mut rest = size;
    loop {
        at -= 1;
        line[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            return &line[at..];
        }
    }
}
