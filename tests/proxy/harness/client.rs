//! A client that sends what it is told to, and reads responses one by one.

use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};

use super::message::{fields, latin1, read_chunked, read_exactly, read_head, values};
use super::tls::{Line, TlsLine};
use super::wait::PATIENCE;

/// A response as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
    /// Heads of the 1xx responses before it.
    pub(crate) interim: Vec<String>,
}

impl Response {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

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

    /// Status and reason of one of onedoor's own answers, as `421 no-site-for-host`; just the status of others.
    pub(crate) fn said(&self) -> String {
        match self.values("onedoor-reason").first() {
            Some(reason) => format!("{} {reason}", self.status),
            None => self.status.to_string(),
        }
    }
}

/// A response that did not come whole.
#[derive(Debug)]
pub(crate) struct Cut {
    /// The head and as much of the body as there was.
    pub(crate) so_far: Response,
    pub(crate) error: io::Error,
}

#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<Line>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address)
            .unwrap_or_else(|error| panic!("connect {address}: {error}"));
        Client::on(stream)
    }

    /// Speaks over TLS.
    pub(crate) fn over(line: TlsLine) -> Client {
        Client {
            stream: BufReader::new(Line::Tls(Box::new(line))),
        }
    }

    /// One for which the kernel holds little, so that what is not read soon waits at the other side.
    pub(crate) fn connect_with_small_buffer(address: SocketAddr) -> Client {
        Client::connect_by(address, |socket| socket.set_recv_buffer_size(64 << 10))
    }

    /// One for which the kernel holds next to nothing at either side: a small buffer, and small segments, by which the
    /// other side's buffer is measured.
    pub(crate) fn connect_with_least_buffers(address: SocketAddr) -> Client {
        Client::connect_by(address, |socket| {
            socket.set_recv_buffer_size(4 << 10)?;
            socket.set_tcp_mss(536)
        })
    }

    /// One that has this address of ours.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Client {
        Client::connect_by(address, |socket| {
            socket.bind(&SocketAddr::from((source, 0)).into())
        })
    }

    fn connect_by(
        address: SocketAddr,
        prepare: impl FnOnce(&socket2::Socket) -> io::Result<()>,
    ) -> Client {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        prepare(&socket).unwrap();
        socket
            .connect(&address.into())
            .unwrap_or_else(|error| panic!("connect {address}: {error}"));
        Client::on(socket.into())
    }

    fn on(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream: BufReader::new(Line::Clear(stream)),
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.stream.get_ref().tcp()
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes)
            .unwrap_or_else(|error| panic!("send: {error}"));
    }

    /// For bytes that onedoor may refuse to take.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    #[track_caller]
    pub(crate) fn get(&mut self, host: &str, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response()
    }

    /// The response to a request that was no HEAD.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.try_response("GET")
            .unwrap_or_else(|cut| panic!("{cut:?}"))
    }

    #[track_caller]
    pub(crate) fn response_to_head(&mut self) -> Response {
        self.try_response("HEAD")
            .unwrap_or_else(|cut| panic!("{cut:?}"))
    }

    pub(crate) fn try_response(&mut self, method: &str) -> Result<Response, Cut> {
        let mut so_far = Response::default();
        match self.read_response(method, &mut so_far) {
            Ok(()) => Ok(so_far),
            Err(error) => Err(Cut { so_far, error }),
        }
    }

    fn read_response(&mut self, method: &str, response: &mut Response) -> io::Result<()> {
        self.read_response_head(response)?;
        if method == "HEAD" || matches!(response.status, 101 | 204 | 304) {
            return Ok(());
        }
        let length = response.values("content-length").first().cloned();
        if response
            .values("transfer-encoding")
            .iter()
            .any(|coding| coding.ends_with("chunked"))
        {
            response.trailers = read_chunked(&mut self.stream, &mut response.body)?;
        } else if let Some(length) = length {
            let length = length
                .parse()
                .map_err(|_| io::Error::other(format!("content-length {length:?}")))?;
            read_exactly(&mut self.stream, length, &mut response.body)?;
        } else {
            self.stream.read_to_end(&mut response.body)?;
        }
        Ok(())
    }

    /// Up to the end of the final head; the body is left to the test.
    #[track_caller]
    pub(crate) fn response_head(&mut self) -> Response {
        let mut response = Response::default();
        self.read_response_head(&mut response)
            .unwrap_or_else(|error| panic!("{error} {response:?}"));
        response
    }

    fn read_response_head(&mut self, response: &mut Response) -> io::Result<()> {
        loop {
            let Some(head) = read_head(&mut self.stream)? else {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "closed without a response",
                ));
            };
            let status = head
                .split(' ')
                .nth(1)
                .and_then(|status| status.trim().parse().ok());
            let Some(status) = status else {
                return Err(io::Error::other(format!("no status in {head:?}")));
            };
            if (100..200).contains(&status) && status != 101 {
                response.interim.push(head);
                continue;
            }
            response.status = status;
            response.head = head;
            return Ok(());
        }
    }

    /// Exactly as many bytes.
    #[track_caller]
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        read_exactly(&mut self.stream, count as u64, &mut bytes)
            .unwrap_or_else(|error| panic!("{error}; had {:?}", latin1(&bytes)));
        bytes
    }

    /// The same, or why not.
    pub(crate) fn bytes_if_open(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        read_exactly(&mut self.stream, count as u64, &mut bytes).map(|()| bytes)
    }

    /// Everything until the other side closes; a reset counts as a close.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut bytes) {
            let closed = matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            );
            assert!(closed, "not closed: {error}; had {:?}", latin1(&bytes));
        }
        bytes
    }

    /// The same, also telling whether the close really came.
    pub(crate) fn rest_if_closed(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let closed = match self.stream.read_to_end(&mut bytes) {
            Ok(_) => true,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
        };
        (bytes, closed)
    }

    /// Fails the test unless the other side closes without another byte.
    #[track_caller]
    pub(crate) fn expect_close(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "before the close: {:?}", latin1(&rest));
    }

    /// No more bytes from here; still listening.
    pub(crate) fn finish_sending(&mut self) {
        // The other side may be gone already, which is what was wanted.
        if let Err(error) = self.stream().shutdown(Shutdown::Write) {
            assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        }
    }

    /// Leaves the hard way: the other side sees a reset.
    pub(crate) fn reset(self) {
        rustix::net::connect_unspec(self.stream()).unwrap();
    }
}
