//! Counts the frames of a connection, both ways, by the nine bytes that each begins with.
//!
//! The protocol lets a client make us work without asking for anything: by pings, settings, priorities, empty frames,
//! tiny windows, and requests that are taken back at once, or broken so that we take them back. Each has a budget that
//! grows with what is useful on the connection, so that a busy one is not mistaken for an attack. Bytes in, verdict out.

/// Of RFC 9113 4.1.
const HEAD_BYTES: usize = 9;
/// What the budgets are for, in ticks of 100 ms: 30 s.
const SPAN_TICKS: u32 = 300;
/// Frames about the connection that each request may bring along: a priority, a window, a ping or two.
const CONTROL_PER_REQUEST: u64 = 4;
/// The same for each frame of data, either way: a window for the stream and one for the connection, and as much again.
const CONTROL_PER_DATA: u64 = 4;

/// A frame of data with less costs more to keep than what it carries.
const SMALL_BYTES: u32 = 256;

/// What a connection may do in 30 s that is of no use to anybody.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Streams reset by either side, beyond half of the requests.
    pub resets: u64,
    /// Frames that are neither a request nor data, beyond those that come along with these.
    pub control: u64,
}

/// A connection that is nothing but work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    Resets,
    Control,
    /// Its first frame is not SETTINGS, as it must be (RFC 9113 3.4).
    NoSettings,
}

/// See the module.
#[derive(Debug)]
pub struct Meter {
    budget: Budget,
    from_client: Frames,
    to_client: Frames,
    since: u32,
    has_heard: bool,
    requests: u64,
    data: u64,
    resets: u64,
    control: u64,
    /// Heads that have begun.
    heads: u64,
    /// The last of them goes on in another frame.
    head_goes_on: bool,
    /// What the last frame was.
    last: u8,
    /// Small frames of data since somebody asked.
    small: u32,
    /// And in all, but for the last of a stream.
    small_in_all: u64,
    excess: Option<Excess>,
}

impl Meter {
    pub fn new(budget: Budget) -> Meter {
        Meter {
            budget,
            from_client: Frames::default(),
            to_client: Frames::default(),
            since: 0,
            has_heard: false,
            requests: 0,
            data: 0,
            resets: 0,
            control: 0,
            heads: 0,
            head_goes_on: false,
            last: SETTINGS,
            small: 0,
            small_in_all: 0,
            excess: None,
        }
    }

    /// What has been too much, if anything. It stays.
    pub fn excess(&self) -> Option<Excess> {
        self.excess
    }

    /// Whether any frame has come.
    pub fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// The number of the head that has begun and has not come to its end.
    pub fn unfinished_head(&self) -> Option<u64> {
        let is_in_frame = self.from_client.left > 0 && matches!(self.last, HEADERS | CONTINUATION);
        (self.head_goes_on || is_in_frame).then_some(self.heads)
    }

    /// How many small frames of data have come since this was asked last.
    pub fn take_small(&mut self) -> u32 {
        std::mem::take(&mut self.small)
    }

    /// How many have come in all, but for the last of each stream.
    pub fn small_in_all(&self) -> u64 {
        self.small_in_all
    }

    /// Bytes from the client, behind the preface, at tick `now`.
    pub fn received(&mut self, bytes: &[u8], now: u32) {
        if now.wrapping_sub(self.since) >= SPAN_TICKS {
            self.since = now;
            (self.requests, self.data) = (0, 0);
            (self.resets, self.control) = (0, 0);
        }
        let Meter {
            from_client,
            requests,
            data,
            resets,
            control,
            has_heard,
            heads,
            head_goes_on,
            last,
            small,
            small_in_all,
            excess,
            ..
        } = self;
        from_client.each(bytes, |frame| {
            if !std::mem::replace(has_heard, true) && frame.kind != SETTINGS {
                *excess = Some(Excess::NoSettings);
            }
            *last = frame.kind;
            match frame.kind {
                DATA if frame.bytes > 0 || frame.flags & END_STREAM != 0 => {
                    *data += 1;
                    *small += u32::from(frame.bytes < SMALL_BYTES);
                    let goes_on = frame.flags & END_STREAM == 0;
                    *small_in_all += u64::from(frame.bytes < SMALL_BYTES && goes_on);
                }
                HEADERS => {
                    *requests += 1;
                    *heads += 1;
                    *head_goes_on = frame.flags & END_HEADERS == 0;
                }
                RST_STREAM => *resets += 1,
                CONTINUATION => {
                    *control += 1;
                    *head_goes_on &= frame.flags & END_HEADERS == 0;
                }
                _ => *control += 1,
            }
        });
        self.judge();
    }

    /// Bytes to the client.
    pub fn sent(&mut self, bytes: &[u8]) {
        let Meter {
            to_client,
            data,
            resets,
            ..
        } = self;
        to_client.each(bytes, |frame| match frame.kind {
            DATA => *data += 1,
            // Whoever makes us reset its streams costs as much as one that does it itself (CVE-2025-8671).
            // What breaks with an app is not its doing: that we say with a code of our own, the library with others.
            RST_STREAM if !matches!(frame.error, NO_ERROR | INTERNAL_ERROR) => *resets += 1,
            _ => {}
        });
        self.judge();
    }

    fn judge(&mut self) {
        if self.excess.is_some() {
            return;
        }
        let control = self.budget.control
            + CONTROL_PER_REQUEST * self.requests
            + CONTROL_PER_DATA * self.data;
        if self.resets > self.budget.resets + self.requests / 2 {
            self.excess = Some(Excess::Resets);
        } else if self.control > control {
            self.excess = Some(Excess::Control);
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;

/// One frame, as far as it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    bytes: u32,
    /// Of RST_STREAM.
    error: u32,
}

/// Finds the frames in bytes that come in pieces.
#[derive(Debug, Default)]
struct Frames {
    /// The head of a frame, and of RST_STREAM the code too, as far as it has come.
    head: [u8; HEAD_BYTES + 4],
    have: usize,
    /// Payload that is still to come, and is not looked at.
    left: u32,
}

impl Frames {
    fn each(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        loop {
            let skip = bytes.len().min(self.left as usize);
            // Never more than `left`.
            self.left -= skip as u32;
            bytes = &bytes[skip..];
            let want = if self.have >= HEAD_BYTES {
                HEAD_BYTES + 4
            } else {
                HEAD_BYTES
            };
            let take = bytes.len().min(want - self.have);
            self.head[self.have..self.have + take].copy_from_slice(&bytes[..take]);
            self.have += take;
            bytes = &bytes[take..];
            if self.have < want {
                return;
            }
            let [high, middle, low, kind, flags, ..] = self.head;
            let length = u32::from_be_bytes([0, high, middle, low]);
            let has_code = kind == RST_STREAM && length >= 4;
            if has_code && self.have == HEAD_BYTES {
                continue;
            }
            let [.., a, b, c, d] = self.head;
            found(Frame {
                kind,
                flags,
                bytes: length,
                error: if has_code {
                    u32::from_be_bytes([a, b, c, d])
                } else {
                    NO_ERROR
                },
            });
            self.left = if has_code { length - 4 } else { length };
            self.have = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::inputs_of;
    use proptest::prelude::*;

    const BUDGET: Budget = Budget {
        resets: 10,
        control: 20,
    };

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        [&head[..], payload].concat()
    }

    /// The first SETTINGS, and the acknowledgement of ours, are no work.
    fn opened() -> Meter {
        let mut meter = Meter::new(BUDGET);
        meter.received(&frame(SETTINGS, 0, &[]), 0);
        meter.control = 0;
        meter
    }

    #[test]
    fn the_first_frame_is_settings() {
        let mut meter = Meter::new(BUDGET);
        assert!(!meter.has_heard());
        meter.received(&frame(HEADERS, END_STREAM, b"head"), 0);
        assert_eq!(meter.excess(), Some(Excess::NoSettings));
    }

    #[test]
    fn what_is_of_no_use_has_a_budget() {
        for (kind, payload, most) in [
            (2, &[0; 5][..], 20),
            (3, &[0, 0, 0, 8], 10),
            (4, &[], 20),
            (6, &[0; 8], 20),
            (8, &[0, 0, 0, 1], 20),
            (DATA, &[], 20),
            (9, b"x", 20),
            (0xfe, b"unknown", 20),
        ] {
            let mut meter = opened();
            for _ in 0..most {
                meter.received(&frame(kind, 0, payload), 1);
            }
            assert_eq!(meter.excess(), None, "{kind}");
            meter.received(&frame(kind, 0, payload), 1);
            assert!(meter.excess().is_some(), "{kind}");
        }
    }

    #[test]
    fn what_is_of_use_makes_it_grow() {
        let mut meter = opened();
        for _ in 0..1000 {
            meter.received(&frame(HEADERS, END_STREAM, b"head"), 1);
            meter.received(&frame(8, 0, &[0, 0, 0, 9]), 1);
            meter.received(&frame(2, 0, &[0; 5]), 1);
            meter.sent(&frame(DATA, 0, &[7; 100]));
            meter.received(&frame(8, 0, &[0, 0, 0, 9]), 1);
        }
        assert_eq!(meter.excess(), None);
    }

    #[test]
    fn our_own_resets_count_but_not_those_that_end_a_body_or_are_the_app_s() {
        let mut meter = Meter::new(BUDGET);
        for _ in 0..100 {
            meter.sent(&frame(RST_STREAM, 0, &[0, 0, 0, 0]));
            meter.sent(&frame(RST_STREAM, 0, &[0, 0, 0, 2]));
        }
        assert_eq!(meter.excess(), None);
        for _ in 0..11 {
            meter.sent(&frame(RST_STREAM, 0, &[0, 0, 0, 1]));
        }
        assert_eq!(meter.excess(), Some(Excess::Resets));
    }

    #[test]
    fn a_head_is_unfinished_until_its_last_byte() {
        let mut bytes = frame(HEADERS, END_STREAM, b"head");
        bytes.extend(frame(CONTINUATION, 0, b"more"));
        bytes.extend(frame(CONTINUATION, END_HEADERS, b"end"));
        let mut meter = opened();
        // The nine bytes of a frame say nothing before they are there.
        for (at, byte) in bytes.iter().enumerate() {
            meter.received(&[*byte], 1);
            let is_unfinished = (8..bytes.len() - 1).contains(&at);
            assert_eq!(meter.unfinished_head(), is_unfinished.then_some(1), "{at}");
        }
        meter.received(&frame(HEADERS, END_HEADERS, b"head"), 1);
        meter.received(&frame(DATA, 0, b"body")[..10], 1);
        assert_eq!(meter.unfinished_head(), None);
        meter.received(b"ody", 1);
        meter.received(&frame(HEADERS, 0, b"head"), 1);
        assert_eq!(meter.unfinished_head(), Some(3));
    }

    #[test]
    fn a_budget_is_for_thirty_seconds() {
        let mut meter = opened();
        for span in 1..10 {
            for _ in 0..20 {
                meter.received(&frame(6, 0, &[0; 8]), span * SPAN_TICKS);
            }
        }
        assert_eq!(meter.excess(), None);
    }

    /// The corpus of the fuzz target `frames`, and what the target asks of it.
    #[test]
    fn what_is_too_much_at_once_is_too_much_however_it_is_cut() {
        let budget = Budget {
            resets: 3,
            control: 5,
        };
        let mut excesses = 0;
        for bytes in inputs_of("frames") {
            let mut whole = Meter::new(budget);
            whole.received(&bytes, 0);
            excesses += usize::from(whole.excess().is_some());
            for size in [1, 2, 7, 13] {
                let mut cut = Meter::new(budget);
                bytes.chunks(size).for_each(|piece| cut.received(piece, 0));
                assert!(cut.excess().is_some() || whole.excess().is_none(), "{size}");
            }
        }
        assert!(excesses >= 3, "{excesses}");
    }

    proptest! {
        #[test]
        fn frames_are_found_however_they_are_cut(
            list in prop::collection::vec((0u8..12, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            size in 1usize..30,
        ) {
            let bytes: Vec<u8> = list.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
            let mut seen = Vec::new();
            let mut frames = Frames::default();
            for piece in bytes.chunks(size) {
                frames.each(piece, |frame| seen.push((frame.kind, frame.flags, frame.bytes)));
            }
            let all: Vec<_> = list.iter().map(|(kind, flags, payload)| (*kind, *flags, payload.len() as u32)).collect();
            prop_assert_eq!(seen, all);
        }
    }
}
