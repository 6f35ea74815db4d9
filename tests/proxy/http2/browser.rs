//! Chromium: a page of a hundred objects from two sites that share a certificate, and a WebSocket.

use std::process::{Child, Command, Stdio};

use super::over_tls;
use crate::harness::{Backend, found, until};

/// Ends it with the test.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

const OBJECTS: usize = 100;

fn page() -> String {
    let mut page = String::from("<!doctype html><title>page</title><body>");
    for number in 0..OBJECTS {
        let host = ["one", "two"][number % 2];
        page.push_str(&format!(
            "<img src='https://{host}.test/object/{number}.svg'>"
        ));
    }
    page.push_str(
        "<script>
        onload = () => {
          const whole = [...document.images].filter(image => image.naturalWidth === 7).length
          const versions = new Set(performance.getEntriesByType('resource').map(entry => entry.nextHopProtocol).filter(name => name))
          const socket = new WebSocket('wss://one.test/socket')
          const tell = what => fetch('/done?' + encodeURIComponent([whole, ...versions, what].join(' ')))
          socket.onopen = () => socket.send('hello')
          socket.onmessage = event => tell(event.data)
          socket.onerror = () => tell('no socket')
        }
        </script>",
    );
    page
}

#[test]
fn a_page_of_a_hundred_objects_of_two_sites_and_a_web_socket() {
    if !found("chromium") {
        return;
    }
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            let target = request.target().to_owned();
            if request.has("upgrade") {
                let key = request.value("sec-websocket-key");
                conversation.send(format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
                    key.len()
                ));
                // Of a short masked frame; sent back without its mask.
                let head = conversation.bytes(6);
                let length = usize::from(head[1] & 0x7f);
                let text: Vec<u8> = conversation
                    .bytes(length)
                    .iter()
                    .enumerate()
                    .map(|(at, byte)| byte ^ head[2 + at % 4])
                    .collect();
                conversation.send([&[0x81, length as u8][..], &text].concat());
                conversation.rest();
                return;
            }
            let (kind, body) = if target.starts_with("/object/") {
                (
                    "image/svg+xml",
                    "<svg xmlns='http://www.w3.org/2000/svg' width='7' height='7'></svg>"
                        .to_owned(),
                )
            } else {
                ("text/html", page())
            };
            conversation.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    });
    let (plan, _authority) = over_tls(&app);
    let proxy = plan.start();
    let rules = format!("MAP *.test 127.0.0.1:{}", proxy.address().port());
    let browser = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .args([
            "--ignore-certificate-errors",
            &format!("--host-resolver-rules={rules}"),
        ])
        .arg(format!(
            "--user-data-dir={}",
            proxy.folder().join("browser").display()
        ))
        .arg("https://one.test/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _browser = Browser(browser);
    let done = || {
        app.requests()
            .into_iter()
            .find(|request| request.target().starts_with("/done?"))
    };
    until("the page is whole", || done().is_some());
    assert_eq!(done().unwrap().target(), "/done?100%20h2%20hello");
    // Few connections for all of it; how many a browser opens in advance is its own affair, and more on a busy machine.
    let connections = proxy.counters()["connections"].as_u64();
    assert!(connections <= Some(OBJECTS as u64 / 5), "{connections:?}");
}
