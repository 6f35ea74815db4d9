//! The apps behind `onedoor demo`: ordinary backends on loopback, reached through the door like any other.
//!
//! Each answers a page that shows what it received, `/clock` with endless server-sent events, and `/echo` with a
//! WebSocket that says everything back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// One of the two.
#[derive(Clone, Copy, Debug)]
pub(super) struct App {
    pub(super) name: &'static str,
    pub(super) color: &'static str,
    pub(super) port: u16,
}

const PAGE: &str = include_str!("demo_page.html");
/// What the door itself would let through.
const HEAD_BYTES: usize = 64 << 10;
/// A demo needs no longer to send a request head, or until it asks again.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts the apps on a thread of their own, for as long as the process lives.
///
/// # Errors
/// The app whose port is taken, and what bind said.
pub(super) fn start(apps: &[App]) -> Result<(), (App, io::Error)> {
    let mut listeners = Vec::new();
    for &app in apps {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, app.port))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| (app, error))?;
        listeners.push((app, listener));
    }
    let Some(&(first, _)) = listeners.first() else {
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (first, error))?;
    let serving = thread::Builder::new()
        .name("demo apps".into())
        .spawn(move || {
            runtime.block_on(async {
                for (app, listener) in listeners {
                    tokio::spawn(accept(app, listener));
                }
                std::future::pending::<()>().await;
            });
        });
    serving.map(drop).map_err(|error| (first, error))
}

async fn accept(app: App, listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(app, stream))),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(app: App, mut stream: TcpStream) -> io::Result<()> {
    let address = stream.local_addr()?;
    let mut early = Vec::new();
    loop {
        let Some(request) = timeout(PATIENCE, read(&mut stream, &mut early)).await?? else {
            return Ok(());
        };
        match request.path() {
            "/clock" => return tell_the_time(stream).await,
            "/echo" if request.value("sec-websocket-key").is_some() => {
                return echo(stream, &request).await;
            }
            "/" => {
                answer(
                    &mut stream,
                    "200 OK",
                    "text/html; charset=utf-8",
                    &page(app, address, &request),
                )
                .await?
            }
            path => {
                let text = format!("{} has no {path}\n", app.name);
                answer(
                    &mut stream,
                    "404 Not Found",
                    "text/plain; charset=utf-8",
                    &text,
                )
                .await?;
            }
        }
        if request.has_body() {
            return Ok(());
        }
    }
}

/// A request as the app received it.
struct Received {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
}

impl Received {
    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn has_body(&self) -> bool {
        self.value("transfer-encoding").is_some()
            || self
                .value("content-length")
                .is_some_and(|length| length != "0")
    }
}

/// The next request; what came behind it stays in `early`. `None` when there is none.
async fn read(stream: &mut TcpStream, early: &mut Vec<u8>) -> io::Result<Option<Received>> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(early) {
            Ok(httparse::Status::Complete(length)) => {
                let received = Received {
                    method: request.method.unwrap_or_default().into(),
                    target: request.path.unwrap_or_default().into(),
                    fields: request
                        .headers
                        .iter()
                        .map(|field| {
                            (
                                field.name.into(),
                                String::from_utf8_lossy(field.value).into_owned(),
                            )
                        })
                        .collect(),
                };
                early.drain(..length);
                return Ok(Some(received));
            }
            Ok(httparse::Status::Partial) if early.len() < HEAD_BYTES => {}
            _ => return Ok(None),
        }
        if stream.read_buf(early).await? == 0 {
            return Ok(None);
        }
    }
}

async fn answer(
    stream: &mut TcpStream,
    status: &str,
    content_type: &str,
    body: &str,
) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await
}

fn page(app: App, address: SocketAddr, request: &Received) -> String {
    let client = request
        .value("x-forwarded-for")
        .unwrap_or("unknown: nothing forwarded it");
    let mut rows = row("client address", client);
    rows.push_str(&row(
        "request",
        &format!("{} {}", request.method, request.target),
    ));
    for (name, value) in &request.fields {
        rows.push_str(&row(name, value));
    }
    // The rows come last: what a client sent is never searched for placeholders.
    PAGE.replace("{name}", app.name)
        .replace("{other}", if app.name == "blue" { "green" } else { "blue" })
        .replace("{color}", app.color)
        .replace("{icon}", &app.color.replace('#', "%23"))
        .replace("{address}", &address.to_string())
        .replace("{rows}", &rows)
}

fn row(name: &str, value: &str) -> String {
    format!("<tr><td>{}<td>{}", escaped(name), escaped(value))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// An event each second, for as long as somebody listens.
async fn tell_the_time(mut stream: TcpStream) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
                Connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut second = interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let (hour, minute, second) = (now / 3600 % 24, now / 60 % 60, now % 60);
        stream
            .write_all(format!("data: {hour:02}:{minute:02}:{second:02} UTC\n\n").as_bytes())
            .await?;
    }
}

async fn echo(mut stream: TcpStream, request: &Received) -> io::Result<()> {
    let accept = derive_accept_key(
        request
            .value("sec-websocket-key")
            .unwrap_or_default()
            .as_bytes(),
    );
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_came_and_runs_none_of_it() {
        let app = App {
            name: "blue",
            color: "#2563eb",
            port: 7071,
        };
        let request = Received {
            method: "GET".into(),
            target: "/?<script>".into(),
            fields: vec![
                ("X-Forwarded-For".into(), "203.0.113.7".into()),
                ("X".into(), "{name}<b>".into()),
            ],
        };
        let page = page(app, SocketAddr::from(([127, 0, 0, 1], 7071)), &request);
        assert!(page.contains("203.0.113.7") && page.contains("127.0.0.1:7071"));
        assert!(page.contains("/?&lt;script&gt;") && page.contains("{name}&lt;b&gt;"));
    }
}
