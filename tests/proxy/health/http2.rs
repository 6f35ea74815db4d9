//! Apps that speak HTTP/2 are asked in it.

use std::process::{Command, Stdio};

use super::*;
use crate::harness::{Server, found, free_port};

/// Node's server, which knows no HTTP/1.1. `/break` and `/mend` say how the health page answers; `/open` how many
/// sessions are open.
const APP: &str = r#"
const http2 = require("http2")
const fs = require("fs")
const [port, pem, key] = process.argv.slice(2)
let open = 0, status = 200
const server = pem
  ? http2.createSecureServer({ cert: fs.readFileSync(pem), key: fs.readFileSync(key) })
  : http2.createServer()
server.on("session", session => { open++; session.on("close", () => { open-- }) })
server.on("request", (request, response) => {
  if (request.url === "/break") status = 500
  if (request.url === "/mend") status = 200
  if (request.url === "/health") {
    response.statusCode = request.headers[":authority"] === "app.test" ? status : 400
    return response.end("all is " + status)
  }
  response.end(request.url === "/open" ? String(open) : "hello")
})
server.listen(Number(port), "127.0.0.1")
"#;

fn start(plan: &Plan, files: &[&str]) -> Server {
    put(plan.folder().path(), "app.js", APP);
    let port = free_port();
    let mut command = Command::new("node");
    command.args(["app.js", &port.to_string()]).args(files);
    command
        .current_dir(plan.folder().path())
        .stdin(Stdio::null());
    Server::start(&mut command, port)
}

#[track_caller]
fn is_watched(plan: Plan, to: &str) {
    let site = format!(
        "host = 'app.test'\nto = {to}\n{OFTEN}contains = 'all is'\nfall = 1\nrise = 1\n[limit]\nqueue = 9"
    );
    let proxy = plan.site("app.toml", site).start();
    proxy.until_state("app", "live");
    let fit = || proxy.status("app").unwrap()["backends"][0]["fit"].clone();
    let mut client = proxy.client();
    assert_eq!(client.get("app.test", "/break").text(), "hello");
    until("it is out", || fit() == false);
    proxy.until_logged("answers 500");
    assert_eq!(client.get("app.test", "/mend").text(), "hello");
    until("it is back", || fit() == true);
    // Each check has a connection of its own, and lets go of it: what stays open are those of the workers.
    let most = 2 + std::thread::available_parallelism().unwrap().get();
    for _ in 0..20 {
        let open: usize = client.get("app.test", "/open").text().parse().unwrap();
        assert!(open <= most, "{open}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_app_behind_h2c_is_asked_in_http2() {
    if !found("node") {
        return;
    }
    let plan = Proxy::plan();
    let app = start(&plan, &[]);
    let to = format!("'h2c://127.0.0.1:{}'", app.port);
    is_watched(plan, &to);
}

#[test]
fn an_app_that_chooses_http2_in_tls_is_asked_in_it() {
    if !found("node") {
        return;
    }
    let plan = Proxy::plan();
    let authority = Authority::new("test");
    authority
        .pair(&["localhost"])
        .write(plan.sites().path(), "app");
    put(plan.sites().path(), "ca.pem", &authority.pem);
    let app = start(&plan, &["sites.d/app.pem", "sites.d/app.key"]);
    let to = format!("{{ at = 'https://localhost:{}', ca = 'ca.pem' }}", app.port);
    is_watched(plan, &to);
}

#[test]
fn an_app_that_speaks_no_http2_is_told_so_and_is_fit_for_its_neighbours() {
    let (app, spare) = (Backend::saying("app"), Backend::saying("spare"));
    let check = "[health]\npath = '/'\nevery = '50ms'\n";
    let in_http2 = |host: &str, rest: &str| {
        let (app, spare) = (app.port, spare.port);
        format!("host = '{host}'\nto = ['h2c://localhost:{app}', {spare}]\n{rest}")
    };
    let plain = format!("host = 'plain.test'\nto = [{}, {}]", app.port, spare.port);
    let proxy = Proxy::plan()
        .flag("--workers=1")
        .site("app.toml", in_http2("app.test", ""))
        .site("checked.toml", in_http2("checked.test", check))
        .site("plain.toml", plain)
        .start();
    proxy.until_logged(&format!(
        "GET / on localhost:{} is not answered in HTTP/2",
        app.port
    ));
    until("requests find it out", || {
        assert_eq!(proxy.get("app.test", "/").text(), "spare");
        times(&proxy, "connects in a row failed") > 0
    });
    assert!(is_fit(&proxy, "plain", &app));
}
