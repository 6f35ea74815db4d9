//! A client of HTTP/2 that sends whatever frames a test wants it to.

use std::collections::BTreeMap;
use std::io;

use super::client::Client;
use super::hpack::{Table, plain};
use super::proxy::Proxy;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    client: Client,
    table: Table,
    next: u32,
    streams: BTreeMap<u32, Stream>,
    /// Last stream and code of each GOAWAY so far.
    pub(crate) goaways: Vec<(u32, u32)>,
    /// Settings of the other side.
    pub(crate) settings: Vec<(u16, u32)>,
    /// Whether windows are opened again for what came.
    pub(crate) reads: bool,
    /// What was added to each window of ours.
    windows: BTreeMap<u32, u64>,
    /// Frames of each kind that came.
    pub(crate) came: BTreeMap<u8, usize>,
}

/// What came on one stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) interim: Vec<u16>,
    pub(crate) has_ended: bool,
    /// The code it was reset with.
    pub(crate) reset: Option<u32>,
}

impl Stream {
    pub(crate) fn status(&self) -> u16 {
        self.value(":status").parse().unwrap_or(0)
    }

    /// The first value of a field; empty when there is none.
    pub(crate) fn value(&self, name: &str) -> String {
        let mut found = self.fields.iter().filter(|(other, _)| other == name);
        found
            .next()
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One frame as it came.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A header block, each field written out.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let fields = fields.iter();
    fields
        .flat_map(|(name, value)| plain(name, value.as_bytes()))
        .collect()
}

/// The block of a plain request.
pub(crate) fn request(method: &str, host: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":authority", host),
        (":path", path),
    ];
    block(&[&pseudo[..], more].concat())
}

impl Http2 {
    /// In clear text, by prior knowledge.
    pub(crate) fn to(proxy: &Proxy) -> Http2 {
        Http2::over(proxy.client(), &[])
    }

    /// Says the preface and these settings.
    pub(crate) fn over(client: Client, settings: &[(u16, u32)]) -> Http2 {
        let mut http2 = Http2::silent(client);
        http2.send(PREFACE);
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        http2.frame(SETTINGS, 0, 0, &settings);
        http2
    }

    /// Says nothing by itself.
    pub(crate) fn silent(client: Client) -> Http2 {
        Http2 {
            client,
            table: Table::default(),
            next: 1,
            streams: BTreeMap::new(),
            goaways: Vec::new(),
            settings: Vec::new(),
            reads: true,
            windows: BTreeMap::new(),
            came: BTreeMap::new(),
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.send(bytes);
    }

    /// For bytes that nobody may be there for.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.client.try_send(bytes)
    }

    #[track_caller]
    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(frame(kind, flags, stream, payload));
    }

    /// The number of the next request.
    pub(crate) fn next_stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Sends a head, and says that nothing follows.
    #[track_caller]
    pub(crate) fn ask(&mut self, block: &[u8]) -> u32 {
        let stream = self.next_stream();
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, block);
        stream
    }

    /// Sends a head; a body follows.
    #[track_caller]
    pub(crate) fn begin(&mut self, block: &[u8]) -> u32 {
        let stream = self.next_stream();
        self.frame(HEADERS, END_HEADERS, stream, block);
        stream
    }

    #[track_caller]
    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8]) {
        self.frame(DATA, 0, stream, bytes);
    }

    #[track_caller]
    pub(crate) fn last_data(&mut self, stream: u32, bytes: &[u8]) {
        self.frame(DATA, END_STREAM, stream, bytes);
    }

    /// Asks and waits for the answer.
    #[track_caller]
    pub(crate) fn get(&mut self, host: &str, path: &str) -> Stream {
        let stream = self.ask(&request("GET", host, path, &[]));
        self.whole(stream)
    }

    /// Opens the window of the connection (0) or of a stream.
    #[track_caller]
    pub(crate) fn window(&mut self, stream: u32, more: u32) {
        self.frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    }

    /// How much more may be sent on a stream than at first.
    pub(crate) fn opened(&self, stream: u32) -> u64 {
        self.windows.get(&stream).copied().unwrap_or_default()
    }

    /// What has come on a stream so far.
    pub(crate) fn so_far(&self, stream: u32) -> Stream {
        self.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Waits until a stream has ended, or was reset.
    #[track_caller]
    pub(crate) fn whole(&mut self, stream: u32) -> Stream {
        self.until(stream, |seen| seen.has_ended || seen.reset.is_some())
    }

    /// Waits until what came on a stream is as it should.
    #[track_caller]
    pub(crate) fn until(&mut self, stream: u32, is_there: impl Fn(&Stream) -> bool) -> Stream {
        loop {
            let so_far = self.so_far(stream);
            if is_there(&so_far) {
                return so_far;
            }
            let read = self.read();
            read.unwrap_or_else(|error| panic!("{error} before stream {stream}: {self:?}"));
        }
    }

    /// Waits for an answer to a ping that is sent now: all that was sent before it has been read.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        self.frame(PING, 0, 0, b"settled?");
        loop {
            let frame = self
                .read()
                .unwrap_or_else(|error| panic!("{error}: {self:?}"));
            if frame.kind == PING && frame.flags & ACK != 0 && frame.payload == b"settled?" {
                return;
            }
        }
    }

    /// Reads until the other side ends, and says the code of its last GOAWAY.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<u32> {
        loop {
            match self.read() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    panic!("it does not end: {self:?}")
                }
                Err(_) => return self.goaways.last().map(|(_, code)| *code),
            }
        }
    }

    /// Reads one frame, and does what a client does about it.
    pub(crate) fn read(&mut self) -> io::Result<Frame> {
        let head = self.client.bytes_if_open(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let frame = Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: self.client.bytes_if_open(length)?,
        };
        *self.came.entry(frame.kind).or_default() += 1;
        let number = |at: usize| {
            let bytes = frame.payload.get(at..at + 4).unwrap_or(&[0; 4]);
            u32::from_be_bytes(bytes.try_into().unwrap_or_default())
        };
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => {
                for pair in frame.payload.chunks_exact(6) {
                    let name = u16::from_be_bytes([pair[0], pair[1]]);
                    let value = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
                    self.settings.push((name, value));
                }
                // Whoever sends on purpose what ends the connection may be cut off here.
                drop(self.try_send(super::http2::frame(SETTINGS, ACK, 0, &[])));
            }
            PING if frame.flags & ACK == 0 => {
                drop(self.try_send(super::http2::frame(PING, ACK, 0, &frame.payload)));
            }
            WINDOW_UPDATE => {
                *self.windows.entry(frame.stream).or_default() += u64::from(number(0));
            }
            GOAWAY => self.goaways.push((number(0), number(4))),
            RST_STREAM => {
                self.streams.entry(frame.stream).or_default().reset = Some(number(0));
            }
            DATA => self.take_data(&frame),
            HEADERS => {
                assert_ne!(frame.flags & END_HEADERS, 0, "a head in one frame");
                let fields = self.table.read(&frame.payload);
                let stream = self.streams.entry(frame.stream).or_default();
                let status = fields.iter().find(|(name, _)| name == ":status");
                match status {
                    None => stream.trailers = fields,
                    Some((_, status)) if status.starts_with('1') => {
                        stream.interim.push(status.parse().unwrap_or(0));
                    }
                    Some(_) => stream.fields = fields,
                }
                stream.has_ended = frame.flags & END_STREAM != 0;
            }
            _ => {}
        }
        Ok(frame)
    }

    fn take_data(&mut self, frame: &Frame) {
        let stream = self.streams.entry(frame.stream).or_default();
        stream.body.extend_from_slice(&frame.payload);
        stream.has_ended = frame.flags & END_STREAM != 0;
        if self.reads && !frame.payload.is_empty() {
            let more = (frame.payload.len() as u32).to_be_bytes();
            let windows = [0, frame.stream]
                .map(|stream| super::http2::frame(WINDOW_UPDATE, 0, stream, &more));
            drop(self.try_send(windows.concat()));
        }
    }
}
