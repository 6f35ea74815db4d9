//! Two real servers of different families behind the door, nginx and Node: what one of them reads in the bytes of a
//! client, the other reads, too, or neither reads anything.
//!
//! Requests are generated: plain, odd and broken. Behind each, on the same connection, comes one that is plain: where
//! two hops disagree about an end, it is swallowed, or something stands before it. `ONEDOOR_DIFFERENTIAL_SEED` has other
//! requests generated.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use serde_json::Value;

use crate::harness::{Proxy, Random, Server, found, free_port, from_latin1, latin1, until};

const CASES: usize = 2000;
const SEED: u64 = 0x0dd_b17e5;
/// As long as each other, so that a change of the bytes changes both alike.
const HOSTS: [&str; 2] = ["one.test", "two.test"];

#[test]
fn nginx_and_node_read_the_same_requests_or_none() {
    if !found("nginx") || !found("node") {
        return;
    }
    let seed = Random::seeded_by("ONEDOOR_DIFFERENTIAL_SEED", SEED);
    let mut random = Random::new(seed);
    let cases: Vec<String> = (0..CASES)
        .map(|number| generate(&mut random, number))
        .collect();
    let stage = Stage::build();
    stage.play(&cases);
    let [nginx, node] = stage.seen();
    let differing: Vec<&String> = nginx
        .keys()
        .chain(node.keys().filter(|case| !nginx.contains_key(*case)))
        .filter(|case| nginx.get(*case) != node.get(*case))
        .collect();
    let shown: Vec<String> = differing
        .iter()
        .take(10)
        .map(|case| {
            let number = case.parse::<usize>().ok();
            format!(
                "- case {case}\n    sent:  {:?}\n    nginx: {:?}\n    node:  {:?}",
                number.and_then(|number| cases.get(number)),
                nginx.get(*case),
                node.get(*case)
            )
        })
        .collect();
    assert!(
        differing.is_empty(),
        "seed {seed}: {} differ\n{}",
        differing.len(),
        shown.join("\n")
    );
    // Both kinds must be there, or the test shows nothing.
    let read = (0..CASES)
        .filter(|number| {
            nginx
                .get(&number.to_string())
                .is_some_and(|requests| requests.iter().any(|request| !request.is_last()))
        })
        .count();
    assert!(
        read > CASES / 4 && read < CASES * 3 / 4,
        "seed {seed}: {read} of {CASES} were read"
    );
}

/// Both servers, and a onedoor before them.
struct Stage {
    proxy: Proxy,
    logs: [PathBuf; 2],
    _servers: [Server; 2],
}

/// A request as one of the servers understood it. What is compared is what both can tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Read {
    method: String,
    url: String,
    fields: Vec<String>,
    body: String,
}

impl Read {
    fn is_last(&self) -> bool {
        self.url == "/last"
    }
}

/// Fields that both logs tell, by the names they have there.
const FIELDS: [&str; 6] = ["length", "coding", "a", "for", "upgrade", "expect"];

const NODE_APP: &str = r#"
const fs = require("fs"), http = require("http")
const log = fs.openSync(process.argv[3], "a")
const server = http.createServer((request, response) => {
  const pieces = []
  request.on("data", piece => pieces.push(piece))
  request.on("error", () => {})
  request.on("end", () => {
    const first = name => {
      for (let at = 0; at < request.rawHeaders.length; at += 2)
        if (request.rawHeaders[at].toLowerCase() === name) return request.rawHeaders[at + 1]
      return ""
    }
    fs.writeSync(log, JSON.stringify({
      case: first("x-case"), method: request.method, url: request.url, status: "200", length: first("content-length"),
      coding: first("transfer-encoding"), a: first("x-a"), for: first("x-forwarded-for"), upgrade: first("upgrade"),
      expect: first("expect"), body: Buffer.concat(pieces).toString("latin1"),
    }) + "\n")
    response.end("ok")
  })
})
server.keepAliveTimeout = 60000
server.listen(Number(process.argv[2]), "127.0.0.1")
"#;

impl Stage {
    fn build() -> Stage {
        let plan = Proxy::plan();
        let folder = plan.folder().path().to_path_buf();
        let (nginx, nginx_log) = start_nginx(&folder);
        let (node, node_log) = start_node(&folder);
        let site = |host: &str, server: &Server| {
            format!(
                "host = '{host}'\nto = {}\n[timeout]\nidle = '300ms'\n",
                server.port
            )
        };
        let proxy = plan
            .daemon_file("[timeout]\nhead = '300ms'\nidle = '300ms'\n")
            .site("one.toml", site(HOSTS[0], &nginx))
            .site("two.toml", site(HOSTS[1], &node))
            .start();
        Stage {
            proxy,
            logs: [nginx_log, node_log],
            _servers: [nginx, node],
        }
    }

    /// Sends every case to both, several at once: some wait for a time to be over.
    fn play(&self, cases: &[String]) {
        let waiting = Mutex::new(cases.iter().enumerate());
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    loop {
                        let Some((number, case)) = waiting.lock().unwrap().next() else {
                            return;
                        };
                        for host in HOSTS {
                            self.send(host, case, number);
                        }
                    }
                });
            }
        });
    }

    fn send(&self, host: &str, case: &str, number: usize) {
        let mut bytes = from_latin1(&case.replace("{host}", host));
        bytes.extend_from_slice(
            format!(
                "GET /last HTTP/1.1\r\nHost: {host}\r\nX-Case: {number}\r\nConnection: close\r\n\r\n"
            )
            .as_bytes(),
        );
        let mut client = self.proxy.client();
        // In one piece: then nothing has to be waited for that is on its way.
        drop(client.try_send(&bytes));
        let (answer, closed) = client.rest_if_closed();
        assert!(closed, "{case:?} is left open after {:?}", latin1(&answer));
    }

    /// What both have read, by the case it belongs to.
    fn seen(&self) -> [BTreeMap<String, Vec<Read>>; 2] {
        for host in HOSTS {
            assert_eq!(self.proxy.get(host, "/end").text(), "ok");
        }
        self.logs.clone().map(|log| {
            let mut lines = Vec::new();
            until("the log has the last request", || {
                lines = latin1(&fs::read(&log).unwrap())
                    .lines()
                    .map(str::to_owned)
                    .collect();
                lines.last().is_some_and(|line| line.contains("\"/end\""))
            });
            let mut seen: BTreeMap<String, Vec<Read>> = BTreeMap::new();
            for line in lines {
                // Node writes UTF-8, nginx the bytes as they are; both then mean one character for one byte.
                let line = String::from_utf8(from_latin1(&line)).unwrap_or(line);
                let entry: Value =
                    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                let text = |name: &str| entry[name].as_str().unwrap().to_owned();
                // nginx also notes those that ended before they were whole.
                if text("status") != "200" || text("url") == "/end" {
                    continue;
                }
                seen.entry(text("case")).or_default().push(Read {
                    method: text("method"),
                    url: text("url"),
                    fields: FIELDS.map(text).to_vec(),
                    // What is hidden in it names the host it was sent to.
                    body: text("body").replace(HOSTS[1], HOSTS[0]),
                });
            }
            seen.values_mut().for_each(|requests| requests.sort());
            seen
        })
    }
}

fn start_nginx(folder: &Path) -> (Server, PathBuf) {
    let port = free_port();
    let place = folder.display();
    // To have read a body nginx must have somebody to give it to: itself.
    let text = format!(
        r#"daemon off; master_process off; pid {place}/nginx.pid; error_log {place}/error.log;
events {{ worker_connections 1024; }}
http {{
  client_body_temp_path {place}/body; proxy_temp_path {place}/p; fastcgi_temp_path {place}/f;
  uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  keepalive_requests 1000000; client_body_buffer_size 64k;
  log_format seen escape=json '{{"case":"$http_x_case","method":"$request_method","url":"$request_uri",'
    '"status":"$status","length":"$http_content_length","coding":"$http_transfer_encoding","a":"$http_x_a",'
    '"for":"$http_x_forwarded_for","upgrade":"$http_upgrade","expect":"$http_expect","body":"$request_body"}}';
  server {{
    listen 127.0.0.1:{port}; access_log {place}/nginx.log seen;
    location / {{ proxy_pass http://unix:{place}/itself.sock; }}
  }}
  server {{ listen unix:{place}/itself.sock; access_log off; location / {{ return 200 "ok"; }} }}
}}
"#
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(&file);
    (Server::start(&mut command, port), folder.join("nginx.log"))
}

fn start_node(folder: &Path) -> (Server, PathBuf) {
    let port = free_port();
    let (script, log) = (folder.join("app.js"), folder.join("node.log"));
    fs::write(&script, NODE_APP).unwrap();
    let mut command = Command::new("node");
    command.arg(&script).arg(port.to_string()).arg(&log);
    (Server::start(&mut command, port), log)
}

/// One case, with `{host}` where the host comes. Left out is what a server may refuse by its own judgement although it
/// was read rightly: methods Node does not know, paths nginx does not like (`/..`, `%00`, an escape that is none).
fn generate(random: &mut Random, number: usize) -> String {
    let method = random.one_of(&[
        "GET", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD",
    ]);
    let target = random.one_of(&[
        "/",
        "/a?b=c",
        "/a?b=c&d=/e?f",
        "/a//b",
        "/a;p=1",
        "/%7Ea",
        "/a%2fb",
        "//two.test/x",
        "/http://two.test/",
        "http://{host}/abs",
        "HTTP://{host}?q",
        "http://{host}:80/p",
        "/a\\b",
        "/a|b",
    ]);
    let version = if random.in_percent(88) {
        "HTTP/1.1"
    } else {
        random.one_of(&[
            "HTTP/1.0",
            "HTTP/1.0",
            "HTTP/1.0",
            "HTTP/1.2",
            "HTTP/2.0",
            "HTTP/1.1 ",
            "http/1.1",
            "HTTP/01.1",
        ])
    };
    let mut fields = vec![
        if random.in_percent(90) {
            "Host: {host}"
        } else {
            random.one_of(&[
                "host:{host}",
                "Host: {host}:8080",
                "HOST:\t{host}. ",
                "Host: {host}\r\nHost: {host}",
                "X-Host: {host}",
                "Host: {host}, {host}",
                "Host : {host}",
            ])
        }
        .to_owned(),
        format!("X-Case: {number}"),
    ];
    if random.in_percent(40) {
        fields.push(
            random
                .one_of(&[
                    "X-A: b",
                    "X-A:b",
                    "X-A:  b\t ",
                    "X-A:",
                    "x-a: caf\u{e9}",
                    "X-A: a, \"b\"",
                    "X_A: c",
                    "X-A : b",
                    "X-A: b\r\n c",
                    "X A: b",
                    "X-A: \0",
                    "X-A: b\nX-B: c",
                    "X-A: b\rX-B: c",
                    "X-A",
                    ": b",
                ])
                .to_owned(),
        );
    }
    for _ in 0..random.below(4) {
        fields.push(
            random
                .one_of(&[
                    "Connection: keep-alive",
                    "Connection: close",
                    "Connection: X-A",
                    "Connection: Host, X-Case-Not",
                    "Connection: Content-Length",
                    "Connection: Transfer-Encoding",
                    "Keep-Alive: timeout=5",
                    "TE: trailers",
                    "Upgrade: websocket",
                    "Connection: Upgrade",
                    "Upgrade: h2c",
                    "Expect: 100-continue",
                    "X-Forwarded-For: 6.6.6.6",
                    "X_Forwarded_For: 6.6.6.6",
                    "Via: 1.0 fred",
                    "Trailer: X-T",
                    "Content_Length: 3",
                    "Transfer_Encoding: chunked",
                    "Content.Length: 3",
                    "Accept: */*",
                ])
                .to_owned(),
        );
    }
    let (framing, body) = body(random, number);
    fields.extend(framing);
    // A length before a Host, a coding before a length.
    if random.in_percent(30) {
        fields.reverse();
    }
    let mut head = format!(
        "{method} {target} {version}\r\n{}\r\n\r\n",
        fields.join("\r\n")
    );
    if random.in_percent(20) {
        // A damaged escape is one of those paths.
        let whole = if target.contains('%') {
            target.len()
        } else {
            0
        };
        damage(random, &mut head, method.len() + 1 + whole);
    }
    head + &body
}

/// How a body is announced, and its bytes as they are sent.
fn body(random: &mut Random, number: usize) -> (Vec<String>, String) {
    let hidden = format!("GET /hidden HTTP/1.1\r\nHost: {{host}}\r\nX-Case: {number}\r\n\r\n");
    let content = random.one_of(&["", "hello", "\0\r\n\r\n\u{ff}0\r\n\r\n", &hidden]);
    // The host takes the place of a word that is two bytes shorter.
    let length = content.replace("{host}", HOSTS[0]).len() - content.matches('\u{ff}').count();
    let lengths = |text: String| (vec![format!("Content-Length: {text}")], content.to_owned());
    match random.below(20) {
        0..4 => (Vec::new(), String::new()),
        4..8 => lengths(length.to_string()),
        8 => lengths(format!("0{length}")),
        9 => lengths(format!("+{length}")),
        10 => lengths(format!("{length}, {length}")),
        11 => lengths((length + 1000).to_string()),
        12 => lengths((length / 2).to_string()),
        13 => (
            vec![
                format!("Content-Length: {length}"),
                "Transfer-Encoding: chunked".to_owned(),
            ],
            content.to_owned(),
        ),
        14 => {
            let coding = random.one_of(&[
                "gzip, chunked",
                "identity",
                "chunked, chunked",
                "xchunked",
                "chunked;a=b",
                "\u{b}chunked",
                "",
            ]);
            (
                vec![format!("Transfer-Encoding: {coding}")],
                chunks(random, content),
            )
        }
        _ => {
            let coding = random.one_of(&["chunked", "chunked", "Chunked", " chunked\t"]);
            (
                vec![format!("Transfer-Encoding: {coding}")],
                chunks(random, content),
            )
        }
    }
}

/// `content` in chunks, in many of the ways there are, some of them wrong.
fn chunks(random: &mut Random, content: &str) -> String {
    let content: Vec<char> = content.replace("{host}", "\u{1}").chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < content.len() {
        let end = (at + 1 + random.below(30)).min(content.len());
        let piece: String = content[at..end].iter().collect();
        let piece = piece.replace('\u{1}', "{host}");
        let size = piece.replace("{host}", HOSTS[0]).chars().count();
        at = end;
        let size = if random.in_percent(94) {
            random
                .one_of(&[
                    format!("{size:x}").as_str(),
                    &format!("{size:X}"),
                    &format!("00{size:x}"),
                    &format!("{size:x};a=b"),
                    &format!("{size:x} ;a=\"b;c\""),
                ])
                .to_owned()
        } else {
            random
                .one_of(&[
                    format!("0x{size:x}").as_str(),
                    &format!("{size:x} "),
                    &format!("+{size:x}"),
                    &format!("{:x}", size + 1),
                    &format!("{size:x}\n"),
                    &format!("{size:x};a\rb"),
                    &format!("1000000000000000{size:x}"),
                ])
                .to_owned()
        };
        let end = if random.in_percent(98) {
            "\r\n"
        } else {
            random.one_of(&["\n", "\r", "", "\r\n\r\n"])
        };
        out.push_str(&format!("{size}\r\n{piece}{end}"));
    }
    out + random.one_of(&[
        "0\r\n\r\n",
        "0\r\n\r\n",
        "0\r\n\r\n",
        "0\r\n\r\n",
        "000\r\n\r\n",
        "0;a\r\n\r\n",
        "0\r\nX-T: 1\r\n\r\n",
        "0\r\nX-Case: 1\r\nContent-Length: 3\r\n\r\n",
        "0\r\nX-T : 1\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "",
    ])
}

/// Changes one byte of a head behind its method.
fn damage(random: &mut Random, head: &mut String, from: usize) {
    let mut characters: Vec<char> = head.replace("{host}", "\u{1}").chars().collect();
    let at = from + random.below(characters.len() - from);
    let odd = random.one_of(&[
        '\0', '\t', '\n', '\r', ' ', ':', ';', ',', '=', '"', '\\', '\u{b}', '\u{7f}', '\u{85}',
        '\u{a0}', '\u{ff}', '#', '?', '_', '-', '5', 'a',
    ]);
    match random.below(3) {
        0 => characters[at] = odd,
        1 => characters.insert(at, odd),
        _ => drop(characters.remove(at)),
    }
    *head = characters
        .into_iter()
        .collect::<String>()
        .replace('\u{1}', "{host}");
}
