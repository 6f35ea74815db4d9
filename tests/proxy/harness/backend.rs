//! Small backends. Each keeps what it received, whole requests and raw bytes, so that a test can look.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::message::{
    Request, fields, from_latin1, latin1, read_chunked, read_exactly, read_head, values,
};
use super::port::listen;
use super::wait::until;

/// An app on a port (or socket) of its own, until dropped.
#[derive(Debug)]
pub(crate) struct Backend {
    /// 0 for one on a unix socket.
    pub(crate) port: u16,
    goal: Goal,
    record: Arc<Record>,
}

#[derive(Clone, Debug)]
enum Goal {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug, Default)]
struct Record {
    requests: Mutex<Vec<Request>>,
    raw: Mutex<Vec<u8>>,
    accepted: AtomicUsize,
    closed: AtomicUsize,
    stopping: AtomicBool,
    open: Mutex<Vec<(usize, Stream)>>,
}

impl Backend {
    /// Answers every request with `text`.
    pub(crate) fn saying(text: &str) -> Backend {
        Backend::saying_on_port(0, text)
    }

    /// The same on a chosen port: a backend that comes back where one was.
    pub(crate) fn saying_on_port(port: u16, text: &str) -> Backend {
        let text = text.to_string();
        Backend::on_port(port, move |conversation| {
            while conversation.request().is_some() {
                conversation.answer(&text);
            }
        })
    }

    pub(crate) fn saying_at(address: &str, text: &str) -> Backend {
        let text = text.to_string();
        Backend::at(address, move |conversation| {
            while conversation.request().is_some() {
                conversation.answer(&text);
            }
        })
    }

    /// Answers every request with the request itself, as it arrived, its body behind its head.
    pub(crate) fn echoing() -> Backend {
        Backend::doing(|conversation| {
            while let Some(request) = conversation.request() {
                let mut body = from_latin1(&request.head);
                body.extend_from_slice(&request.body);
                if request.method() == "HEAD" {
                    conversation.send(format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    ));
                } else {
                    conversation.answer(body);
                }
            }
        })
    }

    /// Answers everything with a plain 200 and is there for what it recorded.
    pub(crate) fn recording() -> Backend {
        Backend::doing(|conversation| {
            while let Some(request) = conversation.request() {
                if request.method() == "HEAD" {
                    conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
                } else {
                    conversation.answer("ok");
                }
            }
        })
    }

    /// Reads and never answers.
    pub(crate) fn silent() -> Backend {
        Backend::doing(|conversation| {
            conversation.request();
            conversation.rest();
        })
    }

    /// Reads a request and closes without a word.
    pub(crate) fn closing() -> Backend {
        Backend::doing(|conversation| {
            conversation.request();
        })
    }

    /// Answers the first request of each connection with exactly these bytes, then closes.
    pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Backend {
        let bytes = bytes.as_ref().to_vec();
        Backend::doing(move |conversation| {
            if conversation.request().is_some() {
                conversation.send(&bytes);
            }
        })
    }

    /// Answers every request with exactly these bytes and stays.
    pub(crate) fn raw_and_open(bytes: impl AsRef<[u8]>) -> Backend {
        let bytes = bytes.as_ref().to_vec();
        Backend::doing(move |conversation| {
            while conversation.request().is_some() {
                conversation.send(&bytes);
            }
        })
    }

    /// Switches to the protocol that was asked for and sends every byte back until the other side is done.
    pub(crate) fn upgrading() -> Backend {
        Backend::doing(|conversation| {
            let Some(request) = conversation.request() else {
                return;
            };
            let Some(protocol) = request.values("upgrade").first().cloned() else {
                return conversation.answer("no upgrade");
            };
            conversation.send(format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
            ));
            conversation.echo();
        })
    }

    /// Does `what` on every connection; the connection closes when it returns.
    pub(crate) fn doing(what: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Backend {
        Backend::on_port(0, what)
    }

    pub(crate) fn on_port(
        port: u16,
        what: impl Fn(&mut Conversation) + Send + Sync + 'static,
    ) -> Backend {
        Backend::at(&format!("127.0.0.1:{port}"), what)
    }

    /// The same on an address of its own, `127.0.0.2:0`.
    pub(crate) fn at(
        address: &str,
        what: impl Fn(&mut Conversation) + Send + Sync + 'static,
    ) -> Backend {
        let listener = listen(address.parse().unwrap());
        let address = listener.local_addr().unwrap();
        let accept = move || listener.accept().map(|(stream, _)| Stream::Tcp(stream));
        Backend {
            port: address.port(),
            goal: Goal::Tcp(address),
            record: run(accept, what),
        }
    }

    /// The same behind TLS, as `config` says; a handshake that fails is a connection that closes.
    pub(crate) fn over_tls(
        config: &Arc<ServerConfig>,
        what: impl Fn(&mut Conversation) + Send + Sync + 'static,
    ) -> Backend {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into());
        let address = listener.local_addr().unwrap();
        let config = config.clone();
        let accept = move || {
            let (tcp, _) = listener.accept()?;
            let connection = ServerConnection::new(config.clone()).unwrap();
            let line = StreamOwned::new(connection, tcp.try_clone()?);
            Ok(Stream::Tls(tcp, Arc::new(Mutex::new(line))))
        };
        Backend {
            port: address.port(),
            goal: Goal::Tcp(address),
            record: run(accept, what),
        }
    }

    /// Says `text` over TLS.
    pub(crate) fn saying_over_tls(config: &Arc<ServerConfig>, text: &str) -> Backend {
        let text = text.to_string();
        Backend::over_tls(config, move |conversation| {
            while conversation.request().is_some() {
                conversation.answer(&text);
            }
        })
    }

    /// Says `text` on a unix socket.
    pub(crate) fn saying_on_socket(path: &Path, text: &str) -> Backend {
        let listener =
            UnixListener::bind(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let accept = move || listener.accept().map(|(stream, _)| Stream::Unix(stream));
        let text = text.to_string();
        let record = run(accept, move |conversation| {
            while conversation.request().is_some() {
                conversation.answer(&text);
            }
        });
        Backend {
            port: 0,
            goal: Goal::Unix(path.to_path_buf()),
            record,
        }
    }

    /// The requests so far, those still arriving included.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.record
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The one request so far; fails the test when there are more or none.
    #[track_caller]
    pub(crate) fn only_request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "one request, not {requests:?}");
        requests.into_iter().next().unwrap()
    }

    #[track_caller]
    pub(crate) fn until_requests(&self, count: usize) {
        until(&format!("{count} requests at the backend"), || {
            self.requests().len() >= count
        });
    }

    /// Every byte so far, of all connections.
    pub(crate) fn raw_bytes(&self) -> String {
        latin1(
            &self
                .record
                .raw
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(crate) fn forget(&self) {
        self.record
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.record
            .raw
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// How many connections were made to it.
    pub(crate) fn accepted(&self) -> usize {
        self.record.accepted.load(Ordering::SeqCst)
    }

    /// How many of them are over.
    pub(crate) fn closed(&self) -> usize {
        self.record.closed.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.record.stopping.store(true, Ordering::SeqCst);
        for (_, stream) in self
            .record
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            stream.shutdown(Shutdown::Both);
        }
        // Wakes the accept, which sees that it is over and lets the listener go.
        match &self.goal {
            Goal::Tcp(address) => drop(TcpStream::connect(address)),
            Goal::Unix(path) => drop(UnixStream::connect(path)),
        }
        // A second panic would end all tests at once.
        if let (Goal::Tcp(address), false) = (&self.goal, thread::panicking()) {
            until("the backend's port is closed", || {
                TcpStream::connect(address).is_err()
            });
        }
    }
}

fn run(
    mut accept: impl FnMut() -> io::Result<Stream> + Send + 'static,
    what: impl Fn(&mut Conversation) + Send + Sync + 'static,
) -> Arc<Record> {
    let record = Arc::new(Record::default());
    let what = Arc::new(what);
    let shared = record.clone();
    thread::spawn(move || {
        while let Ok(stream) = accept() {
            if shared.stopping.load(Ordering::SeqCst) {
                return;
            }
            stream.set_up();
            let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
            shared
                .open
                .lock()
                .unwrap()
                .push((number, stream.try_clone()));
            let (record, what) = (shared.clone(), what.clone());
            thread::spawn(move || {
                let tap = Tap {
                    stream: stream.try_clone(),
                    record: record.clone(),
                };
                let mut conversation = Conversation {
                    stream: BufReader::new(tap),
                    record: record.clone(),
                    number,
                };
                what(&mut conversation);
                drop(conversation);
                stream.say_goodbye();
                stream.shutdown(Shutdown::Both);
                record
                    .open
                    .lock()
                    .unwrap()
                    .retain(|(open, _)| *open != number);
                record.closed.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    record
}

/// One connection of a backend, as its behaviour sees it.
#[derive(Debug)]
pub(crate) struct Conversation {
    stream: BufReader<Tap>,
    record: Arc<Record>,
    number: usize,
}

impl Conversation {
    /// From 0, in the order of accepting.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The next request with its body, recorded. `None` when the connection ended before another one.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let (index, mut request) = self.request_head()?;
        let given = fields(&request.head);
        let length = values(&given, "content-length")
            .first()
            .and_then(|length| length.parse().ok());
        let chunked = values(&given, "transfer-encoding")
            .iter()
            .any(|coding| coding.contains("chunked"));
        let read = if chunked {
            read_chunked(&mut self.stream, &mut request.body)
                .map(|trailers| request.trailers = trailers)
        } else {
            read_exactly(&mut self.stream, length.unwrap_or(0), &mut request.body)
        };
        request.complete = read.is_ok();
        if let Some(recorded) = self
            .record
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(index)
        {
            *recorded = request.clone();
        }
        request.complete.then_some(request)
    }

    /// Only the head of the next request, recorded as incomplete.
    pub(crate) fn request_head(&mut self) -> Option<(usize, Request)> {
        let head = read_head(&mut self.stream).ok()??;
        let request = Request {
            head,
            ..Request::default()
        };
        let mut requests = self
            .record
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        requests.push(request.clone());
        Some((requests.len() - 1, request))
    }

    /// A 200 with a length.
    pub(crate) fn answer(&mut self, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut bytes =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes);
    }

    /// Whether the other side still took it is its own affair.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.try_send(bytes) {
            drop(error);
        }
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().stream.write_all(bytes.as_ref())
    }

    /// Exactly as many bytes, or as many as came before the end.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A short read is the answer, not an error, here.
        drop(read_exactly(&mut self.stream, count as u64, &mut bytes));
        bytes
    }

    /// Waits until more has come, or the end, and takes nothing of it.
    pub(crate) fn until_more(&mut self) {
        drop(self.stream.fill_buf());
    }

    /// A chunked body, decoded, as far as it came.
    pub(crate) fn chunked_body(&mut self, body: &mut Vec<u8>) {
        drop(read_chunked(&mut self.stream, body));
    }

    /// Everything until the other side closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        drop(self.stream.read_to_end(&mut bytes));
        bytes
    }

    /// Whether nothing more comes and the other side says so as its protocol does.
    pub(crate) fn ends_cleanly(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }

    /// Sends back what comes in until the other side has finished sending.
    pub(crate) fn echo(&mut self) {
        let mut piece = [0; 16 << 10];
        while let Ok(count) = self.stream.read(&mut piece) {
            if count == 0 || self.try_send(&piece[..count]).is_err() {
                return;
            }
        }
    }

    pub(crate) fn finish_sending(&mut self) {
        self.stream.get_ref().stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection without a word, whatever the protocol would say.
    pub(crate) fn cut(&mut self) {
        self.stream.get_ref().stream.shutdown(Shutdown::Both);
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        match &self.stream.get_ref().stream {
            Stream::Tcp(stream) | Stream::Tls(stream, _) => stream.peer_addr().unwrap(),
            Stream::Unix(_) => panic!("no address here"),
        }
    }

    /// What was agreed on in the handshake.
    pub(crate) fn agreed<T>(&self, what: impl FnOnce(&ServerConnection) -> T) -> T {
        match &self.stream.get_ref().stream {
            Stream::Tls(_, line) => what(&locked(line).conn),
            Stream::Tcp(_) | Stream::Unix(_) => panic!("no TLS here"),
        }
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(&mut self) {
        if let Stream::Tcp(stream) | Stream::Tls(stream, _) = &self.stream.get_ref().stream {
            rustix::net::connect_unspec(stream).unwrap();
        }
    }
}

/// For what speaks over a stream of its own, such as TLS.
impl Read for Conversation {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Conversation {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.get_mut().stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps a copy of every byte that is read.
#[derive(Debug)]
struct Tap {
    stream: Stream,
    record: Arc<Record>,
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const MOST_KEPT: usize = 1 << 20;
        let count = self.stream.read(buffer)?;
        let mut raw = self
            .record
            .raw
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if raw.len() < MOST_KEPT {
            raw.extend_from_slice(&buffer[..count]);
        }
        Ok(count)
    }
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// The connection below it, by which whoever does not hold the lock can end it.
    Tls(TcpStream, Arc<Mutex<TlsLine>>),
}

type TlsLine = StreamOwned<ServerConnection, TcpStream>;

fn locked(line: &Mutex<TlsLine>) -> MutexGuard<'_, TlsLine> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream {
    fn set_up(&self) {
        if let Stream::Tcp(stream) | Stream::Tls(stream, _) = self {
            stream.set_nodelay(true).unwrap();
        }
    }

    /// The close_notify of TLS.
    fn say_goodbye(&self) {
        if let Stream::Tls(_, line) = self {
            let line = &mut *locked(line);
            line.conn.send_close_notify();
            // Nobody may be left to hear it.
            drop(line.conn.write_tls(&mut line.sock));
        }
    }

    fn try_clone(&self) -> Stream {
        match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone().unwrap()),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone().unwrap()),
            Stream::Tls(tcp, line) => Stream::Tls(tcp.try_clone().unwrap(), line.clone()),
        }
    }

    fn shutdown(&self, how: Shutdown) {
        // Closed already by the other side: the same.
        drop(match self {
            Stream::Tcp(stream) | Stream::Tls(stream, _) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
        });
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tls(_, line) => locked(line).read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tls(_, line) => {
                let line = &mut *locked(line);
                let count = line.write(bytes)?;
                line.flush()?;
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
