//! What goes wrong on a line, as far as somebody does something about it.

use std::fmt;
use std::io;

use ::h2::Reason;

use super::HEAD_BYTES;

/// The request was refused before anything was done for it: it may be asked again elsewhere, whatever it is
/// (RFC 9113 8.7).
#[derive(Debug)]
struct Untouched(::h2::Error);

impl fmt::Display for Untouched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Untouched {}

/// Whether what went wrong says that the backend has done nothing for the request.
pub fn is_untouched(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Untouched>())
}

/// Whether what went wrong is that the backend has reset this one stream. Its connection is as well as ever.
pub fn is_stream_reset(error: &io::Error) -> bool {
    reset_with(error).is_some()
}

/// Whether it wants to be asked in HTTP/1.1 (RFC 9113 7).
pub fn wants_http1(error: &io::Error) -> bool {
    reset_with(error) == Some(Reason::HTTP_1_1_REQUIRED)
}

fn reset_with(error: &io::Error) -> Option<Reason> {
    let error: &::h2::Error = error.get_ref()?.downcast_ref()?;
    error
        .reason()
        .filter(|_| error.is_reset() && error.is_remote())
}

/// What the backend has said that is no HTTP/2, or more of it than is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breach {
    reason: Reason,
    /// It was said on this one stream, and the connection goes on.
    pub is_of_stream: bool,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A head over the bound and one that is none have one reason (RFC 9113 10.5.1).
        let what: &dyn fmt::Display = match self.reason {
            Reason::PROTOCOL_ERROR if self.is_of_stream => &format_args!(
                "a head of more than {} KiB or what is no HTTP/2",
                HEAD_BYTES >> 10
            ),
            Reason::ENHANCE_YOUR_CALM => {
                &"a head many times over the bound, or too many empty frames or resets"
            }
            _ => &"what is no HTTP/2",
        };
        write!(f, "{what} ({:?})", self.reason)
    }
}

/// Whether what went wrong is that.
pub fn breach(error: &io::Error) -> Option<Breach> {
    let error: &::h2::Error = error.get_ref()?.downcast_ref()?;
    let reason = error.reason().filter(|_| error.is_library())?;
    Some(Breach {
        reason,
        is_of_stream: error.is_reset(),
    })
}

/// A WebSocket was asked for, and the backend has not said that it takes them over HTTP/2 (RFC 8441 3).
#[derive(Debug)]
struct NoWebSockets;

impl fmt::Display for NoWebSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it takes no WebSockets over HTTP/2")
    }
}

impl std::error::Error for NoWebSockets {}

pub(super) fn no_websockets() -> io::Error {
    io::Error::other(NoWebSockets)
}

/// Whether what went wrong is that the backend takes no WebSockets.
pub fn takes_no_websockets(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<NoWebSockets>())
}

pub(super) fn broken(error: ::h2::Error) -> io::Error {
    // A GOAWAY is only told to streams above the last one that was seen.
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    let passed_over =
        error.is_remote() && error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    if refused || passed_over {
        io::Error::other(Untouched(error))
    } else {
        io::Error::other(error)
    }
}
