//! Mixed work on many connections while site files come, change, break and go: no answer is wrong or lost, and when it is
//! over, memory and descriptors are what they were.
//!
//! Ten seconds; `ONEDOOR_SOAK_SECONDS` makes it longer, `ONEDOOR_SOAK_SEED` other.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Backend, Client, Conversation, Proxy, Random, latin1, until};

const SEED: u64 = 0x50a4;
const CONNECTIONS: usize = 200;
/// Sites that nobody edits.
const STEADY: usize = 4;
/// Sites whose files somebody edits all the time.
const RESTLESS: usize = 30;
/// One edit: twenty in a second.
const BETWEEN_EDITS: Duration = Duration::from_millis(50);
/// What a person takes to ask again, more or less; it keeps the test from starving others on the same machine.
const LONGEST_PAUSE_MS: usize = 150;
const WORKERS: usize = 2;
/// Bytes of memory of its own that may be left beside what the first round left: workers keep blocks for the next time
/// (up to 32 of 68 KiB each), and the allocator keeps some of what was freed.
const MEMORY_MARGIN: u64 = 5 << 20;
/// Descriptors of the pipes that workers keep for the next long body.
const KEPT_PIPES: usize = WORKERS * 32 * 2;

#[test]
fn nothing_is_lost_and_nothing_is_left_behind() {
    let seconds = std::env::var("ONEDOOR_SOAK_SECONDS").map_or(10, |text| text.parse().unwrap());
    let seed = Random::seeded_by("ONEDOOR_SOAK_SEED", SEED);
    let apps: Vec<Backend> = (0..STEADY).map(app).collect();
    let mut plan = Proxy::plan().flag(format!("--workers={WORKERS}"));
    for (number, app) in apps.iter().enumerate() {
        let text = format!(
            "to = {}\n[timeout]\npool_idle = '300ms'\n[limit]\nbody = '1mb'\n",
            app.port
        );
        plan = plan.site(&format!("steady{number}.test.toml"), text);
    }
    let proxy = plan.start();
    let soak = Soak {
        proxy: &proxy,
        apps: &apps,
        wrong: Mutex::default(),
        answers: AtomicUsize::new(0),
        done: AtomicBool::new(false),
    };
    // Where questions are answered, descriptors are kept for them; they count as having been there.
    proxy.counters();
    let descriptors = soak.descriptors();

    // Once through everything: what is then taken stays.
    soak.run(seed, Duration::from_secs(2));
    soak.until_quiet(descriptors);
    let memory = soak.memory();

    soak.run(seed + 1, Duration::from_secs(seconds));
    soak.until_quiet(descriptors);
    let grown = soak.memory().saturating_sub(memory);
    let answers = soak.answers.load(Ordering::Relaxed);
    println!("{answers} answers; memory before {memory}, grown by {grown}");
    assert!(answers > 1000, "{answers}");
    assert!(
        grown < MEMORY_MARGIN,
        "seed {seed}: {grown} bytes are left after {answers} answers"
    );
    soak.everything_on_disk_serves();
}

struct Soak<'a> {
    proxy: &'a Proxy,
    apps: &'a [Backend],
    /// What a client got that it should not have.
    wrong: Mutex<Vec<String>>,
    answers: AtomicUsize,
    done: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Descriptors {
    sockets: usize,
    others: usize,
}

impl Soak<'_> {
    fn run(&self, seed: u64, time: Duration) {
        self.done.store(false, Ordering::SeqCst);
        thread::scope(|scope| {
            for number in 0..CONNECTIONS {
                scope.spawn(move || self.ask(Random::new(seed ^ (number as u64) << 32), number));
            }
            self.edit(Random::new(seed), time);
            self.done.store(true, Ordering::SeqCst);
        });
        let wrong = self.wrong.lock().unwrap();
        let shown: Vec<&String> = wrong.iter().take(10).collect();
        assert!(
            wrong.is_empty(),
            "seed {seed}: {} wrong\n{shown:#?}",
            wrong.len()
        );
    }

    /// One connection after the other, one piece of work after the other on it.
    fn ask(&self, mut random: Random, number: usize) {
        let mut client = self.proxy.client();
        while !self.done.load(Ordering::SeqCst) {
            let work = random.one_of(&WORK);
            let worked = match number % 10 {
                0 => restless(&mut client, &mut random),
                _ => work(&mut client, &mut random, random_site(number)),
            };
            self.answers.fetch_add(1, Ordering::Relaxed);
            match worked {
                Ok(Next::Same) => {}
                Ok(Next::New) => client = self.proxy.client(),
                Err(wrong) => {
                    self.wrong.lock().unwrap().push(wrong);
                    client = self.proxy.client();
                }
            }
            thread::sleep(Duration::from_millis(random.below(LONGEST_PAUSE_MS) as u64));
        }
    }

    /// Adds, edits, breaks and removes site files until the time is over.
    fn edit(&self, mut random: Random, time: Duration) {
        let sites = self.proxy.sites();
        let end = Instant::now() + time;
        let mut version = 0;
        while Instant::now() < end {
            version += 1;
            let number = random.below(RESTLESS);
            let name = format!("restless{number}.test.toml");
            let text = format!("respond = 'restless{number} version {version}'\n");
            match random.below(6) {
                0 => drop(fs::remove_file(sites.join(&name))),
                1 => sites.write(&name, "respond = 'open"),
                2 => sites.write(&name, "respnd = 'typo'"),
                3 => sites.write_in_place(&name, text),
                _ => sites.write(&name, text),
            }
            for app in self.apps {
                app.forget();
            }
            thread::sleep(BETWEEN_EDITS);
        }
    }

    /// Sockets are all closed; pipes are kept.
    fn until_quiet(&self, before: Descriptors) {
        until("descriptors are what they were", || {
            let now = self.descriptors();
            now.sockets <= before.sockets && now.others <= before.others + KEPT_PIPES
        });
    }

    fn descriptors(&self) -> Descriptors {
        let folder = format!("/proc/{}/fd", self.proxy.id());
        let mut count = Descriptors::default();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            // One that is closed in between is none.
            let Ok(to) = fs::read_link(entry.path()) else {
                continue;
            };
            if to.to_string_lossy().starts_with("socket:") {
                count.sockets += 1;
            } else {
                count.others += 1;
            }
        }
        count
    }

    /// Memory that nobody else has a part in.
    fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.proxy.id())).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("Pss_Anon:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            << 10
    }

    fn everything_on_disk_serves(&self) {
        for number in 0..RESTLESS {
            let (name, host) = (
                format!("restless{number}.test.toml"),
                format!("restless{number}.test"),
            );
            self.proxy
                .site(&name, format!("respond = 'restless{number} at last'\n"));
            assert_eq!(
                self.proxy.get(&host, "/").text(),
                format!("restless{number} at last")
            );
        }
    }
}

/// Whether the connection can be used again.
enum Next {
    Same,
    New,
}

type Work = fn(&mut Client, &mut Random, usize) -> Result<Next, String>;

const WORK: [Work; 10] = [
    small,
    small,
    small,
    upload,
    upload_in_chunks,
    download,
    stream,
    tunnel,
    broken,
    leaves,
];

fn random_site(number: usize) -> usize {
    number % STEADY
}

/// Says which app it is, and what it was asked for.
fn app(number: usize) -> Backend {
    Backend::doing(move |conversation| {
        while let Some(request) = conversation.request() {
            let target = request.target().to_owned();
            if request.has("upgrade") {
                conversation.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
                return conversation.echo();
            }
            match target.as_str() {
                "/download" => download_from(conversation, number),
                "/stream" => stream_from(conversation, number),
                _ => {
                    let mut body = format!("app {number} {target} ").into_bytes();
                    body.extend_from_slice(&request.body);
                    conversation.answer(body);
                }
            }
        }
    })
}

fn small(client: &mut Client, random: &mut Random, site: usize) -> Result<Next, String> {
    let target = format!("/{}", random.below(1_000_000));
    // Two at once, now and then.
    let count = 1 + random.below(2);
    let request = format!("GET {target} HTTP/1.1\r\nHost: steady{site}.test\r\n\r\n");
    send(client, request.repeat(count))?;
    for _ in 0..count {
        expect(client, format!("app {site} {target} ").as_bytes())?;
    }
    Ok(Next::Same)
}

fn upload(client: &mut Client, random: &mut Random, site: usize) -> Result<Next, String> {
    let body = pattern(random.below(100_000), site);
    let head = format!(
        "POST /up HTTP/1.1\r\nHost: steady{site}.test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    send(client, [head.as_bytes(), &body].concat())?;
    expect(
        client,
        &[format!("app {site} /up ").as_bytes(), &body].concat(),
    )?;
    Ok(Next::Same)
}

fn upload_in_chunks(client: &mut Client, random: &mut Random, site: usize) -> Result<Next, String> {
    let body = pattern(1 + random.below(50_000), site);
    send(
        client,
        format!(
            "PUT /chunks HTTP/1.1\r\nHost: steady{site}.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        ),
    )?;
    for piece in body.chunks(1 + random.below(20_000)) {
        let size = format!("{:x}\r\n", piece.len());
        send(client, [size.as_bytes(), piece, b"\r\n"].concat())?;
    }
    send(client, "0\r\n\r\n")?;
    expect(
        client,
        &[format!("app {site} /chunks ").as_bytes(), &body].concat(),
    )?;
    Ok(Next::Same)
}

/// Long enough to be spliced.
const DOWNLOAD: usize = 400_000;

fn download_from(conversation: &mut Conversation, number: usize) {
    conversation.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {DOWNLOAD}\r\n\r\n"
    ));
    conversation.send(pattern(DOWNLOAD, number));
}

fn download(client: &mut Client, _: &mut Random, site: usize) -> Result<Next, String> {
    send(
        client,
        format!("GET /download HTTP/1.1\r\nHost: steady{site}.test\r\n\r\n"),
    )?;
    expect(client, &pattern(DOWNLOAD, site))?;
    Ok(Next::Same)
}

/// Ends with its connection, in pieces.
fn stream_from(conversation: &mut Conversation, number: usize) {
    conversation.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for turn in 0..5 {
        let event = format!("app {number} event {turn}\n");
        conversation.send(format!("{:x}\r\n{event}\r\n", event.len()));
    }
    conversation.send("0\r\n\r\n");
}

fn stream(client: &mut Client, _: &mut Random, site: usize) -> Result<Next, String> {
    send(
        client,
        format!("GET /stream HTTP/1.1\r\nHost: steady{site}.test\r\n\r\n"),
    )?;
    let events: String = (0..5)
        .map(|turn| format!("app {site} event {turn}\n"))
        .collect();
    expect(client, events.as_bytes())?;
    Ok(Next::Same)
}

fn tunnel(client: &mut Client, random: &mut Random, site: usize) -> Result<Next, String> {
    send(
        client,
        format!(
            "GET /ws HTTP/1.1\r\nHost: steady{site}.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        ),
    )?;
    let answer = client.response_head();
    if answer.status != 101 {
        return Err(format!("no tunnel to {site}: {answer:?}"));
    }
    for _ in 0..3 {
        let bytes = pattern(1 + random.below(5000), site);
        send(client, &bytes)?;
        if client.bytes(bytes.len()) != bytes {
            return Err(format!("a tunnel to {site} changed what went through"));
        }
    }
    Ok(Next::New)
}

fn broken(client: &mut Client, _: &mut Random, site: usize) -> Result<Next, String> {
    send(
        client,
        format!("GET /x HTTP/1.1\r\nHost: steady{site}.test\r\nX A: b\r\n\r\n"),
    )?;
    match client.try_response("GET") {
        Ok(answer) if answer.said() == "400 malformed-request" => Ok(Next::New),
        other => Err(format!("a broken request: {other:?}")),
    }
}

/// Asks, and does not wait for all of the answer.
fn leaves(client: &mut Client, random: &mut Random, site: usize) -> Result<Next, String> {
    send(
        client,
        format!("GET /download HTTP/1.1\r\nHost: steady{site}.test\r\n\r\n"),
    )?;
    if random.in_percent(50) {
        client.response_head();
    }
    Ok(Next::New)
}

/// Whatever an edited site answers: never in another's words.
fn restless(client: &mut Client, random: &mut Random) -> Result<Next, String> {
    let number = random.below(RESTLESS);
    send(
        client,
        format!("GET / HTTP/1.1\r\nHost: restless{number}.test\r\n\r\n"),
    )?;
    let answer = client
        .try_response("GET")
        .map_err(|cut| format!("restless{number}: {cut:?}"))?;
    let is_its_own = answer
        .text()
        .starts_with(&format!("restless{number} version "));
    if is_its_own || answer.said() == "421 no-site-for-host" {
        return Ok(Next::Same);
    }
    Err(format!("restless{number}: {answer:?}"))
}

fn send(client: &mut Client, bytes: impl AsRef<[u8]>) -> Result<(), String> {
    client
        .try_send(bytes)
        .map_err(|error| format!("send: {error}"))
}

fn expect(client: &mut Client, body: &[u8]) -> Result<(), String> {
    let answer = client.try_response("GET").map_err(|cut| {
        let so_far = cut.so_far.body.len();
        format!(
            "{} of {} bytes: {} {}",
            so_far,
            body.len(),
            cut.error,
            cut.so_far.head
        )
    })?;
    if answer.status == 200 && answer.body == body {
        return Ok(());
    }
    let (wanted, got) = (
        &body[..body.len().min(60)],
        &answer.body[..answer.body.len().min(60)],
    );
    Err(format!(
        "{} {:?}, not {:?}",
        answer.head,
        latin1(got),
        latin1(wanted)
    ))
}

fn pattern(length: usize, of: usize) -> Vec<u8> {
    (0..length)
        .map(|at| ((at * 7 + at / 251 + of) % 251) as u8)
        .collect()
}
