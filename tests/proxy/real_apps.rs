//! Real servers behind the door: Python's http.server, Node's http, nginx.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Authority, Proxy, Server, found, free_port, put, words_of};

fn in_front_of(server: &Server) -> Proxy {
    Proxy::plan()
        .site(
            "app.toml",
            format!("host = 'app.test'\nto = {}", server.port),
        )
        .start()
}

const BIG: usize = 3_000_000;

fn write_files(folder: &Path) {
    fs::write(folder.join("hello.txt"), "hello").unwrap();
    fs::write(folder.join("big.bin"), vec![b'b'; BIG]).unwrap();
}

#[test]
fn python_s_http_server_behind_the_door() {
    if !found("python3") {
        return;
    }
    let plan = Proxy::plan();
    write_files(plan.folder().path());
    let port = free_port();
    let mut command = Command::new("python3");
    command
        .args([
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            &port.to_string(),
        ])
        .current_dir(plan.folder().path());
    let server = Server::start(&mut command, port);
    let proxy = in_front_of(&server);
    // HTTP/1.0: every answer ends with its connection, and the client's lives on.
    let mut client = proxy.client();
    assert_eq!(client.get("app.test", "/hello.txt").text(), "hello");
    assert_eq!(client.get("app.test", "/big.bin").body.len(), BIG);
    assert_eq!(client.get("app.test", "/nothing").status, 404);
    client.send("HEAD /hello.txt HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.response_to_head().value("content-length"), "5");
    assert_eq!(client.get("app.test", "/hello.txt").text(), "hello");
}

const NODE_APP: &str = r#"
const http = require("http")
const server = http.createServer((request, response) => {
  if (request.url === "/events") {
    response.writeHead(200, { "Content-Type": "text/event-stream" })
    response.write("data: 1\n\n")
    return
  }
  let length = 0
  request.on("data", piece => { length += piece.length })
  request.on("end", () => {
    response.setHeader("Content-Type", "application/json")
    response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers, length }))
  })
})
server.on("upgrade", (request, socket) => {
  socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
  socket.pipe(socket)
})
server.listen(Number(process.argv[2]), "127.0.0.1")
"#;

#[test]
fn a_node_server_behind_the_door() {
    if !found("node") {
        return;
    }
    let plan = Proxy::plan();
    let script = plan.folder().join("app.js");
    fs::write(&script, NODE_APP).unwrap();
    let port = free_port();
    let server = Server::start(
        Command::new("node").arg(&script).arg(port.to_string()),
        port,
    );
    let proxy = in_front_of(&server);
    let mut client = proxy.client();
    for body in [
        format!("Content-Length: {BIG}\r\n\r\n{}", "x".repeat(BIG)),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{BIG:x}\r\n{}\r\n0\r\n\r\n",
            "x".repeat(BIG)
        ),
    ] {
        client.send(format!("POST /a?b=c HTTP/1.1\r\nHost: app.test\r\n{body}"));
        let seen: serde_json::Value = serde_json::from_slice(&client.response().body).unwrap();
        assert_eq!(seen["length"], BIG);
        assert_eq!(seen["url"], "/a?b=c");
        assert_eq!(seen["headers"]["host"], "app.test");
        assert_eq!(seen["headers"]["x-forwarded-for"], "127.0.0.1");
    }
    client.send("GET /events HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(
        client.response_head().value("content-type"),
        "text/event-stream"
    );
    let mut client = proxy.client();
    client.send(
        "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.response_head().status, 101);
    client.send("hello");
    assert_eq!(client.bytes(5), b"hello");
}

#[test]
fn nginx_behind_the_door() {
    if !found("nginx") {
        return;
    }
    let plan = Proxy::plan();
    let folder = plan.folder().path();
    write_files(folder);
    // Workers run as somebody else when the tests are run by root.
    let port = free_port();
    let text = format!(
        "daemon off; master_process off; pid {0}/nginx.pid; error_log {0}/error.log;\n\
         events {{}}\n\
         http {{ access_log off; default_type text/plain; client_body_temp_path {0}/body; proxy_temp_path {0}/p;\n\
         fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
         server {{ listen 127.0.0.1:{port}; root {0};\n\
         location = /seen {{ return 200 \"$host $http_x_forwarded_for $http_x_forwarded_proto $server_protocol\"; }} }} }}\n",
        folder.display()
    );
    fs::write(folder.join("nginx.conf"), text).unwrap();
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"));
    let server = Server::start(&mut command, port);
    let proxy = in_front_of(&server);
    let mut client = proxy.client();
    assert_eq!(client.get("app.test", "/hello.txt").text(), "hello");
    assert_eq!(client.get("app.test", "/big.bin").body.len(), BIG);
    assert_eq!(
        client.get("app.test", "/seen").text(),
        "app.test 127.0.0.1 http HTTP/1.1"
    );
    client.send("GET /hello.txt HTTP/1.1\r\nHost: app.test\r\nRange: bytes=1-2\r\n\r\n");
    let part = client.response();
    assert_eq!((part.status, part.text().as_str()), (206, "el"));
    let tag = client.get("app.test", "/hello.txt").value("etag");
    client.send(format!(
        "GET /hello.txt HTTP/1.1\r\nHost: app.test\r\nIf-None-Match: {tag}\r\n\r\n"
    ));
    assert_eq!(client.response_to_head().status, 304);
    assert_eq!(client.get("app.test", "/nothing").status, 404);
}

#[test]
fn curl_speaks_tls_with_an_openssl_behind_the_door() {
    if !found("openssl") || !found("curl") {
        return;
    }
    let port = free_port();
    let plan = Proxy::plan();
    let authority = Authority::new("test");
    authority
        .pair(&["app.test"])
        .write(plan.folder().path(), "app");
    put(plan.folder().path(), "ca.pem", &authority.pem);
    let mut openssl = Command::new("openssl");
    openssl
        .args([
            "s_server",
            "-quiet",
            "-www",
            "-naccept",
            "20",
            "-accept",
            &format!("127.0.0.1:{port}"),
        ])
        .args(["-cert", "app.pem", "-key", "app.key"])
        .current_dir(plan.folder().path());
    let server = Server::start(&mut openssl, port);
    let text = format!(
        "host = 'app.test'\nto = {}\ntls = 'passthrough'\n",
        server.port
    );
    let proxy = plan.site("app.toml", text).start();
    let here = proxy.address().port();
    for version in ["--tlsv1.3", "--tls-max=1.2"] {
        let curl = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--cacert",
                "ca.pem",
                version.split('=').next().unwrap(),
            ])
            .args(version.split('=').nth(1))
            .args(["--resolve", &format!("app.test:{here}:127.0.0.1")])
            .arg(format!("https://app.test:{here}/"))
            .current_dir(proxy.folder().path())
            .output()
            .unwrap();
        assert!(curl.status.success(), "{version}: {}", words_of(&curl));
        let page = String::from_utf8_lossy(&curl.stdout).into_owned();
        assert!(page.contains("s_server"), "{version}: {page}");
    }
    // Its hello asks for nobody here, and it understands what it is told.
    let stranger = Command::new("openssl")
        .args([
            "s_client",
            "-servername",
            "stranger.test",
            "-connect",
            &proxy.address().to_string(),
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        words_of(&stranger).contains("unrecognized name"),
        "{}",
        words_of(&stranger)
    );
}
