//! Clients that people use.

use std::fs;
use std::process::Command;

use super::{in_front_of, over_tls};
use crate::harness::{Backend, found, words_of};

#[track_caller]
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", words_of(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// It is asked for NTLM, and comes again by itself.
#[test]
fn curl_asks_again_in_http_1_1_where_connections_are_authenticated() {
    if !found("curl") {
        return;
    }
    let app = Backend::doing(|conversation| {
        while conversation.request().is_some() {
            conversation.send(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n",
            );
        }
    });
    let (plan, _authority) = over_tls(&app);
    let proxy = plan.start();
    let port = proxy.address().port();
    let mut curl = Command::new("curl");
    let form = "%{http_version} %{http_code}";
    curl.args(["-s", "--http2", "-o", "/dev/null", "-w", form]);
    curl.arg("--cacert").arg(proxy.folder().join("ca.pem"));
    curl.args(["--resolve", &format!("one.test:{port}:127.0.0.1")]);
    curl.arg(format!("https://one.test:{port}/"));
    assert_eq!(said(&mut curl), "1.1 401");
}

#[test]
fn curl_by_alpn_and_by_prior_knowledge() {
    if !found("curl") {
        return;
    }
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            conversation.answer(request.body);
        }
    });
    let proxy = in_front_of(&app).start();
    let form = "%{http_version} %{http_code} %{size_download}";
    let address = proxy.address();
    let mut curl = Command::new("curl");
    curl.args([
        "-s",
        "--http2-prior-knowledge",
        "-o",
        "/dev/null",
        "-w",
        form,
        "-d",
        "hello",
    ]);
    curl.args(["-H", "Host: app.test", &format!("http://{address}/")]);
    assert_eq!(said(&mut curl), "2 200 5");

    let (plan, _authority) = over_tls(&app);
    let proxy = plan.start();
    let big = proxy.folder().join("big");
    fs::write(&big, vec![b'x'; 5 << 20]).unwrap();
    let port = proxy.address().port();
    let mut curl = Command::new("curl");
    curl.args(["-s", "--http2", "-o", "/dev/null", "-w", form]);
    curl.arg("--cacert").arg(proxy.folder().join("ca.pem"));
    curl.args(["--resolve", &format!("one.test:{port}:127.0.0.1")]);
    curl.arg("--data-binary").arg(format!("@{}", big.display()));
    curl.arg(format!("https://one.test:{port}/"));
    assert_eq!(said(&mut curl), format!("2 200 {}", 5 << 20));
}

#[test]
fn nghttp_with_many_streams_and_h2load_with_many_connections() {
    if !found("nghttp") || !found("h2load") {
        return;
    }
    let app = Backend::saying(&"x".repeat(3000));
    let proxy = in_front_of(&app).start();
    let address = proxy.address();
    let mut nghttp = Command::new("nghttp");
    nghttp.args(["-n", "-s", "-m", "50", "-H", ":authority: app.test"]);
    let text = said(nghttp.arg(format!("http://{address}/")));
    assert_eq!(text.matches(" 200 ").count(), 50, "{text}");
    let mut h2load = Command::new("h2load");
    h2load.args([
        "-n",
        "3000",
        "-c",
        "10",
        "-m",
        "32",
        "-H",
        ":authority: app.test",
    ]);
    let text = said(h2load.arg(format!("http://{address}/")));
    assert!(
        text.contains("3000 succeeded, 0 failed, 0 errored"),
        "{text}"
    );
    assert!(text.contains("3000 2xx"), "{text}");
}

/// Another implementation of frames and header blocks, with all of its tables.
#[test]
fn python_s_h2() {
    if !found("python3") {
        return;
    }
    let probe = Command::new("python3")
        .args(["-c", "import h2"])
        .output()
        .unwrap();
    if !probe.status.success() {
        assert!(std::env::var_os("CI").is_none(), "python3 has no h2");
        return;
    }
    let app = Backend::echoing();
    let proxy = in_front_of(&app).start();
    let address = proxy.address();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proxy/http2/client.py");
    let mut python = Command::new("python3");
    python.args([
        script,
        &address.ip().to_string(),
        &address.port().to_string(),
        "app.test",
    ]);
    assert_eq!(said(&mut python), "200 answers, 200 different\n");
}
