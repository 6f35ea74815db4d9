//! The other end of the admin socket, for the commands: blocking, one question, one answer.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use super::question::encode;
use crate::document::units;
use crate::http::explain;
use crate::reload::Until;

/// Beyond the time a question itself takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// 100,000 sites with their errors stay well below.
const ANSWER_BYTES: u64 = 256 << 20;

/// Why a daemon gave no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody is there.
    NotRunning { socket: PathBuf, source: io::Error },
    /// Somebody is there, and this user may not talk to it.
    NotAllowed { socket: PathBuf },
    /// Somebody is there, and says nothing.
    TooSlow { socket: PathBuf, after: Duration },
    /// It broke off.
    Broken { socket: PathBuf, source: io::Error },
    /// It answered that it will not.
    Refused { status: u16, message: String },
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::NotRunning { socket, source } if !is_absence(source) => write!(
                f,
                "the admin socket {} cannot be reached: {source}",
                socket.display()
            ),
            ClientError::NotRunning { socket, .. } => write!(
                f,
                "the daemon is not running: nobody answers at {} (start it with \"onedoor\", or name its socket with \
                 --admin or its state directory with --state)",
                socket.display()
            ),
            ClientError::NotAllowed { socket } => write!(
                f,
                "the daemon may be running, but you may not talk to {}: ask as the user it runs as",
                socket.display()
            ),
            ClientError::TooSlow { socket, after } => write!(
                f,
                "the daemon at {} has not answered within {after:?}: it is stopped, or has too much to do",
                socket.display()
            ),
            ClientError::Broken { socket, source } => {
                write!(
                    f,
                    "the daemon at {} gave no whole answer: {source}",
                    socket.display()
                )
            }
            ClientError::Refused { status, message } => {
                write!(f, "the daemon refused ({status}): {message}")
            }
        }
    }
}

impl std::error::Error for ClientError {}

/// The daemon behind a socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: &Path) -> Client {
        Client {
            socket: socket.to_path_buf(),
        }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// # Errors
    /// See [`ClientError`]; so for the other questions.
    pub fn status(&self) -> Result<Value, ClientError> {
        self.ask("GET", "/v1/status", PATIENCE)
    }

    pub fn counters(&self) -> Result<Value, ClientError> {
        self.ask("GET", "/v1/counters", PATIENCE)
    }

    pub fn sites(&self) -> Result<Value, ClientError> {
        self.ask("GET", "/v1/sites", PATIENCE)
    }

    /// Walks a request through what is served.
    pub fn explain(&self, question: &explain::Question) -> Result<Value, ClientError> {
        let mut target = format!(
            "/v1/explain?url={}&method={}&client={}",
            encode(&question.url),
            encode(&question.method),
            question.client
        );
        for (name, value) in &question.headers {
            target.push_str(&format!("&header={}", encode(&format!("{name}: {value}"))));
        }
        self.ask("GET", &target, PATIENCE)
    }

    /// The versions of a site that are kept, the newest first. `whole`: with its secrets, for its owner and root.
    pub fn history(&self, name: &str, whole: bool) -> Result<Value, ClientError> {
        let whole = if whole { "&whole" } else { "" };
        let target = format!("/v1/history?name={}{whole}", encode(name));
        self.ask("GET", &target, PATIENCE)
    }

    /// Tells that the file of a site is gone and meant to be. `now`: open work is cut.
    pub fn gone(&self, name: &str, now: bool) -> Result<Value, ClientError> {
        let now = if now { "&now" } else { "" };
        let target = format!("/v1/gone?name={}{now}", encode(name));
        self.ask("POST", &target, PATIENCE)
    }

    /// Tells the daemon to let open work finish and then end.
    pub fn drain(&self) -> Result<Value, ClientError> {
        self.ask("POST", "/v1/drain", PATIENCE)
    }

    /// The same, and waits until it has; then how many connections were cut. It has `limit` for that.
    pub fn drain_to_the_end(&self, limit: Duration) -> Result<Value, ClientError> {
        self.ask("POST", "/v1/drain?wait", limit + PATIENCE)
    }

    /// Waits as long as the rescan takes.
    pub fn reload(&self, accept_removals: bool) -> Result<Value, ClientError> {
        let query = if accept_removals {
            "?accept-removals"
        } else {
            ""
        };
        self.ask("POST", &format!("/v1/reload{query}"), PATIENCE * 30)
    }

    /// Waits for `name` (`None`: for everything on disk) to serve, or for what else `until` says of it, at most `time`.
    pub fn wait(
        &self,
        name: Option<&str>,
        until: Until,
        time: Duration,
    ) -> Result<Value, ClientError> {
        let mut target = format!("/v1/wait?timeout={}ms", time.as_millis());
        if let Some(name) = name {
            target.push_str(&format!("&name={}", encode(name)));
        }
        match until {
            Until::Serving => {}
            Until::Gone => target.push_str("&gone"),
            Until::Drained => target.push_str("&drained"),
        }
        debug_assert!(units::duration(&format!("{}ms", time.as_millis())).is_ok());
        self.ask("GET", &target, time + PATIENCE)
    }

    /// A daemon that is stopped accepts nobody, and behind those who wait already connecting would wait for ever.
    fn connect(&self) -> io::Result<UnixStream> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(&SockAddr::unix(&self.socket)?)?;
        Ok(OwnedFd::from(socket).into())
    }

    fn ask(&self, method: &str, target: &str, time: Duration) -> Result<Value, ClientError> {
        let broken = |source: io::Error| {
            let socket = self.socket.clone();
            match source.kind() {
                // What a socket says whose time is over.
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TooSlow {
                    socket,
                    after: time,
                },
                _ => ClientError::Broken { socket, source },
            }
        };
        let mut stream = self.connect().map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed {
                socket: self.socket.clone(),
            },
            io::ErrorKind::WouldBlock => ClientError::TooSlow {
                socket: self.socket.clone(),
                after: PATIENCE,
            },
            _ => ClientError::NotRunning {
                socket: self.socket.clone(),
                source,
            },
        })?;
        stream.set_read_timeout(Some(time)).map_err(broken)?;
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: onedoor\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(broken)?;
        let mut bytes = Vec::new();
        stream
            .take(ANSWER_BYTES)
            .read_to_end(&mut bytes)
            .map_err(broken)?;
        let (status, body) =
            split(&bytes).ok_or_else(|| broken(io::ErrorKind::UnexpectedEof.into()))?;
        let value: Value = serde_json::from_slice(body).map_err(|error| broken(error.into()))?;
        if status == 200 {
            return Ok(value);
        }
        let message = value["error"]
            .as_str()
            .unwrap_or("without a reason")
            .to_string();
        Err(ClientError::Refused { status, message })
    }
}

/// Whether that means that nobody listens there.
fn is_absence(source: &io::Error) -> bool {
    matches!(
        source.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Status and body of a whole answer; the length must be right, so that half a list is never taken for a list.
fn split(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes).ok()? else {
        return None;
    };
    let length = response
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = std::str::from_utf8(length.value).ok()?.parse().ok()?;
    let body = &bytes[head..];
    (body.len() == length).then_some((response.code?, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_an_answer_is_none() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(split(bytes), Some((200, &b"{}"[..])));
        for end in 0..bytes.len() {
            assert_eq!(split(&bytes[..end]), None, "{end}");
        }
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_not_taken_for_a_daemon_that_is_gone() {
        let path = format!("/{}", "a".repeat(200));
        let error = Client::new(Path::new(&path))
            .status()
            .expect_err("too long");
        assert!(!error.to_string().contains("not running"), "{error}");
    }

    #[test]
    fn the_error_names_the_socket() {
        let error = Client::new(Path::new("/nowhere/admin.sock"))
            .status()
            .expect_err("nobody is there");
        assert!(error.to_string().contains("/nowhere/admin.sock"), "{error}");
        assert!(matches!(error, ClientError::NotRunning { .. }));
    }
}
