//! HTTP/1 messages as a test sees them: read leniently and kept as they were.

use std::io::{self, BufRead, Read};

/// A request as a backend received it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Start line and fields as they came, up to and with the empty line.
    pub(crate) head: String,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// Trailer lines as they came.
    pub(crate) trailers: String,
    /// Whether the end of the body was reached.
    pub(crate) complete: bool,
}

impl Request {
    pub(crate) fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn version(&self) -> &str {
        self.head
            .lines()
            .next()
            .unwrap_or_default()
            .rsplit(' ')
            .next()
            .unwrap_or_default()
    }

    /// All values of a field, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        values(&fields(&self.head), name)
    }

    /// The value of a field that stands there once; fails the test otherwise.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> String {
        let values = self.values(name);
        assert_eq!(values.len(), 1, "{name} once in\n{}", self.head);
        values.into_iter().next().unwrap_or_default()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }
}

/// The fields of a head, names in lower case.
pub(crate) fn fields(head: &str) -> Vec<(String, String)> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
        .collect()
}

pub(crate) fn values(fields: &[(String, String)], name: &str) -> Vec<String> {
    fields
        .iter()
        .filter(|(given, _)| given == name)
        .map(|(_, value)| value.clone())
        .collect()
}

/// Reads one head. `None` when the other side closed before its first byte.
pub(crate) fn read_head(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        stream.read_until(b'\n', &mut head)?;
        if head.len() == before {
            return if head.is_empty() {
                Ok(None)
            } else {
                Err(cut(&head))
            };
        }
        let line = &head[before..];
        if (line == b"\r\n" || line == b"\n") && before > 0 {
            return Ok(Some(latin1(&head)));
        }
        if line == b"\r\n" {
            head.clear();
        }
    }
}

/// Reads chunks up to the last one and the trailer lines after it. What arrived before a failure is in `body`.
pub(crate) fn read_chunked(stream: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<String> {
    loop {
        let line = read_line(stream)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("chunk size {line:?}"))
        })?;
        if size == 0 {
            break;
        }
        read_exactly(stream, size, body)?;
        let end = read_line(stream)?;
        if !end.trim_end().is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("after a chunk: {end:?}"),
            ));
        }
    }
    let mut trailers = String::new();
    loop {
        let line = read_line(stream)?;
        if line.trim_end().is_empty() {
            return Ok(trailers);
        }
        trailers.push_str(&line);
    }
}

/// Reads `count` bytes to the end of `body`; what arrived before a failure is there too.
pub(crate) fn read_exactly(
    stream: &mut impl Read,
    count: u64,
    body: &mut Vec<u8>,
) -> io::Result<()> {
    let read = stream.take(count).read_to_end(body)?;
    if (read as u64) < count {
        Err(cut(body))
    } else {
        Ok(())
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        Ok(latin1(&line))
    } else {
        Err(cut(&line))
    }
}

fn cut(bytes: &[u8]) -> io::Error {
    let tail = &bytes[bytes.len().saturating_sub(200)..];
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("closed in the middle, after {:?}", latin1(tail)),
    )
}

/// One character for one byte, so that nothing is lost.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| byte as char).collect()
}

/// The way back.
pub(crate) fn from_latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?'))
        .collect()
}
