//! Runs the real executable in a folder of its own, on port 0, and shows its log when a test fails.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::client::{Client, Response};
use super::folder::Folder;
use super::sites::Sites;
use super::wait::{suspend, until, until_late, until_some};

/// How a [`Proxy`] is to be started.
#[derive(Debug)]
pub(crate) struct Plan {
    folder: Folder,
    sites: Sites,
    listen: Option<String>,
    flags: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    wrapper: Vec<OsString>,
    word: &'static str,
}

impl Plan {
    fn new() -> Plan {
        let folder = Folder::new();
        let sites = Sites::at(folder.join("sites.d"));
        Plan {
            folder,
            sites,
            listen: Some("127.0.0.1:0".into()),
            flags: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
            word: "run",
        }
    }

    /// A site file that is there before the start.
    pub(crate) fn site(self, name: &str, text: impl AsRef<[u8]>) -> Plan {
        self.sites.write(name, text);
        self
    }

    /// The text of `onedoor.toml`, given by `--config`. Said again, it takes the place of the one before.
    pub(crate) fn daemon_file(self, text: &str) -> Plan {
        let path = self.folder.join("onedoor.toml");
        fs::write(&path, text).unwrap();
        if self.flags.contains(&"--config".into()) {
            return self;
        }
        self.flag("--config").flag(path)
    }

    pub(crate) fn flag(mut self, flag: impl Into<OsString>) -> Plan {
        self.flags.push(flag.into());
        self
    }

    /// Without `--listen 127.0.0.1:0`, for tests that say themselves where to listen.
    pub(crate) fn no_listen(mut self) -> Plan {
        self.listen = None;
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: impl Into<OsString>) -> Plan {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts it through another command, such as `setpriv --reuid 65534`.
    pub(crate) fn under<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Plan {
        self.wrapper = words.into_iter().map(OsString::from).collect();
        self
    }

    /// Starts it in a mount namespace of its own, after a line for the shell in which `$0` is `place`.
    pub(crate) fn after_mounting(self, line: &str, place: &Path) -> Plan {
        let line = format!("{line} && exec \"$@\"");
        self.under(["unshare", "-m", "sh", "-c", &line, place.to_str().unwrap()])
    }

    /// `demo` instead of `run`.
    pub(crate) fn command_word(mut self, word: &'static str) -> Plan {
        self.word = word;
        self
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn sites(&self) -> &Sites {
        &self.sites
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub(crate) fn start(self) -> Proxy {
        let mut proxy = self.spawn();
        proxy.until_listening();
        proxy
    }

    /// Starts it without waiting, for those who expect it to end at once.
    pub(crate) fn spawn(self) -> Proxy {
        let run = Run::start(&self);
        Proxy { plan: self, run }
    }

    fn command(&self) -> Command {
        let program = OsString::from(env!("CARGO_BIN_EXE_onedoor"));
        let mut words = self
            .wrapper
            .iter()
            .cloned()
            .chain([program, self.word.into()]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .args(self.places())
            .args(&self.flags)
            .current_dir(self.folder.path());
        if let Some(listen) = &self.listen {
            command.args(["--listen", listen]);
        }
        clean(&mut command);
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Where sites and state are.
    fn places(&self) -> [OsString; 4] {
        [
            "--sites".into(),
            self.sites.path().into(),
            "--state".into(),
            self.folder.join("state").into(),
        ]
    }
}

/// The environment of whoever runs the tests must not show through.
fn clean(command: &mut Command) {
    for name in [
        "ONEDOOR_ADMIN",
        "ONEDOOR_STATE",
        "ONEDOOR_SITES",
        "ONEDOOR_CONFIG",
        "ONEDOOR_LISTEN",
        "STATE_DIRECTORY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").env("COLUMNS", "100");
}

/// A command of the executable that ends by itself, in a folder.
pub(crate) fn onedoor<'a>(folder: &Folder, words: impl IntoIterator<Item = &'a str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onedoor"));
    clean(&mut command);
    command
        .args(words)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Whether a program that a test needs is here. In CI (`CI=true`) it must be.
pub(crate) fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    assert!(
        there || std::env::var("CI").as_deref() != Ok("true"),
        "{program} must be installed in CI"
    );
    if !there {
        println!("left out: {program} is not installed");
    }
    there
}

/// Whether Python has a package that a test needs. In CI it must.
pub(crate) fn has_package(package: &str) -> bool {
    let there = Command::new("python3")
        .args(["-c", &format!("import {package}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    assert!(
        there || std::env::var("CI").as_deref() != Ok("true"),
        "the Python package {package} must be installed in CI"
    );
    if !there {
        println!("left out: python3 has no {package}");
    }
    there
}

/// What runs a program for which the disk hangs, for ten minutes, when it opens the file at `path`.
pub(crate) fn hanging_at(path: &Path) -> [&str; 11] {
    [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        path.to_str().unwrap(),
        "-e",
        "trace=openat",
        "-e",
        "inject=openat:delay_enter=600000000",
    ]
}

/// Whether a test may mount something in a namespace of its own; a container often may not.
pub(crate) fn may_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "none", "/tmp"])
        .output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        println!("left out: no right to mount here");
    }
    may
}

/// A running onedoor, ended when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    plan: Plan,
    run: Run,
}

impl Proxy {
    pub(crate) fn plan() -> Plan {
        Plan::new()
    }

    #[track_caller]
    pub(crate) fn start() -> Proxy {
        Plan::new().start()
    }

    pub(crate) fn sites(&self) -> &Sites {
        &self.plan.sites
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.plan.folder
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.plan.folder.join("state")
    }

    /// A path as the process sees it, in its own mounts.
    pub(crate) fn seen(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.id()));
        root.join(path.strip_prefix("/").unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.run.child.id()
    }

    /// The same behind a wrapper such as strace, by what it wrote into its lock.
    #[track_caller]
    pub(crate) fn own_id(&self) -> u32 {
        let lock = self.state().join("lock");
        until_some("the lock names a process", || {
            fs::read_to_string(&lock).ok()?.trim().parse().ok()
        })
    }

    /// What its descriptors stand for, one each: `socket:[123]`, `anon_inode:[eventpoll]`.
    pub(crate) fn descriptors(&self) -> Vec<String> {
        let folder = fs::read_dir(format!("/proc/{}/fd", self.own_id())).unwrap();
        let paths = folder.flatten().map(|entry| fs::read_link(entry.path()));
        paths
            .flatten()
            .map(|path| path.to_string_lossy().into_owned())
            .collect()
    }

    /// How many sockets it holds: the listening ones, those of clients, and those of backends.
    pub(crate) fn sockets(&self) -> usize {
        let mut sockets = self.descriptors();
        sockets.retain(|what| what.starts_with("socket:"));
        // Each thread has a copy of the runtime's own.
        sockets.sort();
        sockets.dedup();
        sockets.len()
    }

    /// Where it listens; the first place if there are more.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        *self
            .addresses()
            .first()
            .unwrap_or_else(|| panic!("it does not listen"))
    }

    /// Every place it says it listens at, in the order it said so.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.log()
            .split("listening on ")
            .skip(1)
            .flat_map(|said| said.lines().next().unwrap_or_default().split(", "))
            .map_while(address_in_front)
            .collect()
    }

    #[track_caller]
    fn until_listening(&mut self) {
        until_late("onedoor listens", || {
            assert!(
                self.run.child.try_wait().unwrap().is_none(),
                "onedoor ended instead of listening"
            );
            !self.addresses().is_empty()
        });
    }

    /// Writes a site file (beside, then renamed) and waits until it serves.
    #[track_caller]
    pub(crate) fn site(&self, name: &str, text: impl AsRef<[u8]>) {
        self.sites().write(name, text);
        self.wait_for(name);
    }

    /// Another `onedoor.toml`, which counts when it is read again.
    pub(crate) fn daemon_file(&self, text: &str) {
        fs::write(self.folder().join("onedoor.toml"), text).unwrap();
    }

    /// Waits with `onedoor wait NAME` until what is on disk is serving.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str) {
        let output = self.command(["wait", stem(name), "--timeout", "30s"]);
        assert!(
            output.status.success(),
            "wait {name}: {}",
            words_of(&output)
        );
    }

    #[track_caller]
    pub(crate) fn wait_gone(&self, name: &str) {
        let output = self.command(["wait", stem(name), "--gone", "--timeout", "30s"]);
        assert!(
            output.status.success(),
            "wait {name} --gone: {}",
            words_of(&output)
        );
    }

    /// A command of the same executable that looks for this one by its folders.
    pub(crate) fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onedoor"));
        clean(&mut command);
        command
            .args(words)
            .args(self.plan.places())
            .current_dir(self.folder().path());
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// One file of `onedoor ls --json` by its site name.
    pub(crate) fn status(&self, name: &str) -> Option<serde_json::Value> {
        self.list().into_iter().find(|file| file["name"] == name)
    }

    /// The state of a site, one word, as `ls --json` tells it; empty for one it does not know.
    pub(crate) fn state_of(&self, name: &str) -> String {
        self.status(name)
            .and_then(|file| file["state"].as_str().map(str::to_string))
            .unwrap_or_default()
    }

    /// What `GET /v1/counters` says.
    pub(crate) fn counters(&self) -> serde_json::Value {
        self.admin_json("/v1/counters")
    }

    /// What the admin socket answers to a GET, in JSON.
    #[track_caller]
    pub(crate) fn admin_json(&self, target: &str) -> serde_json::Value {
        let (head, body) = self.admin("GET", target);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {head}\n{body}"))
    }

    /// Head and body of what the admin socket answers.
    #[track_caller]
    pub(crate) fn admin(&self, method: &str, target: &str) -> (String, String) {
        let mut socket = UnixStream::connect(self.state().join("admin.sock")).unwrap();
        let request = format!("{method} {target} HTTP/1.1\r\nHost: onedoor\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// How often something ended for this reason.
    #[track_caller]
    pub(crate) fn counted(&self, reason: &str) -> u64 {
        let counters = self.counters();
        let count = counters["reasons"][reason].as_u64();
        count.unwrap_or_else(|| panic!("no {reason} in {counters}"))
    }

    /// Waits until the count is this: an answer may be read a moment before it is counted.
    #[track_caller]
    pub(crate) fn until_counted(&self, reason: &str, count: u64) {
        until(&format!("{count} times {reason}"), || {
            self.counted(reason) == count
        });
    }

    pub(crate) fn list(&self) -> Vec<serde_json::Value> {
        let output = self.command(["ls", "--json"]);
        assert!(output.status.success(), "ls --json: {}", words_of(&output));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["sites"].as_array().cloned().unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn until_state(&self, name: &str, state: &str) {
        until(&format!("{name} is {state:?}"), || {
            self.state_of(name) == state
        });
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, host: &str, path: &str) -> Response {
        self.client().get(host, path)
    }

    /// Sends bytes on a connection of its own and reads one response.
    #[track_caller]
    pub(crate) fn ask(&self, bytes: impl AsRef<[u8]>) -> Response {
        let mut client = self.client();
        client.send(bytes);
        client.response()
    }

    /// Asks until the answer fits: for changes that nobody announces.
    #[track_caller]
    pub(crate) fn until_answer(
        &self,
        host: &str,
        reason: &str,
        fits: impl Fn(&Response) -> bool,
    ) -> Response {
        until_some(&format!("{host} answers: {reason}"), || {
            let response = self.get(host, "/");
            fits(&response).then_some(response)
        })
    }

    /// Standard output and error so far, as they came.
    pub(crate) fn log(&self) -> String {
        self.run
            .log
            .text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    #[track_caller]
    pub(crate) fn until_logged(&self, text: &str) {
        let reason = format!("the log says {text:?}");
        until(&reason, || self.log().contains(text));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.run.child), signal).unwrap();
    }

    /// Until it is told to go on.
    pub(crate) fn suspend(&self) {
        suspend(Pid::from_child(&self.run.child));
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn exit_status(&mut self) -> ExitStatus {
        let child = &mut self.run.child;
        let status = until_some("onedoor ends", || child.try_wait().unwrap());
        self.run.log.until_closed();
        status
    }

    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> i32 {
        let status = self.exit_status();
        status
            .code()
            .unwrap_or_else(|| panic!("no exit code: {status}"))
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.run.child.try_wait().unwrap().is_some()
    }

    /// Ends it politely.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.exit_code(), 0);
    }

    /// Ends it with no chance to say anything.
    pub(crate) fn kill(&mut self) {
        self.run.end();
    }

    /// Starts it again in the same folder, after [`stop`](Self::stop) or [`kill`](Self::kill).
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        self.run = Run::start(&self.plan);
        self.until_listening();
    }

    /// What it has had of the processors so far, whoever else wanted them.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // Behind the name, which may have blanks: utime and stime, the 14th and 15th of all (proc_pid_stat(5)).
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        let ticks = rest.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.map(|number| number.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Peak of its resident memory so far, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            << 10
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let ended_before = self.run.child.try_wait().ok().flatten();
        self.run.end();
        if thread::panicking() {
            let status =
                ended_before.map_or("was still running".to_string(), |status| status.to_string());
            eprintln!(
                "---- site files\n{}---- log of onedoor\n{}\n---- onedoor {status}",
                self.sites().describe(),
                self.log()
            );
        }
    }
}

/// `127.0.0.1:8080`, with or without `http://` and with whatever behind it.
fn address_in_front(text: &str) -> Option<SocketAddr> {
    let text = text.strip_prefix("http://").unwrap_or(text);
    let end = text
        .find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)))
        .unwrap_or(text.len());
    text[..end].trim_end_matches('.').parse().ok()
}

/// `shop` of `shop.toml`, `team/shop` of `team/shop.toml`.
fn stem(file: &str) -> &str {
    file.strip_suffix(".toml").unwrap_or(file)
}

pub(crate) fn words_of(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "{}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// One process and its log.
#[derive(Debug)]
struct Run {
    child: Child,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct Log {
    text: Mutex<String>,
    /// Pipes that have ended.
    closed: Mutex<u32>,
}

impl Run {
    fn start(plan: &Plan) -> Run {
        let mut command = plan.command();
        // A group of its own: a wrapper such as strace is ended together with what it runs.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = Arc::new(Log::default());
        log.collect(child.stdout.take().unwrap());
        log.collect(child.stderr.take().unwrap());
        Run { child, log }
    }

    fn end(&mut self) {
        let runs = matches!(self.child.try_wait(), Ok(None));
        if runs && kill_process_group(Pid::from_child(&self.child), Signal::KILL).is_ok() {
            drop(self.child.wait());
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.end();
    }
}

impl Log {
    /// `LOG_LAG=200 cargo test --test proxy` reads a line each so many milliseconds, as a machine
    /// does that has no time: a test that looks for a line without waiting for it then fails.
    fn collect(self: &Arc<Log>, pipe: impl Read + Send + 'static) {
        let log = self.clone();
        let lag = std::env::var("LOG_LAG").map_or(0, |text| text.parse().unwrap());
        let lag = Duration::from_millis(lag);
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                thread::sleep(lag);
                log.text
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
            *log.closed.lock().unwrap() += 1;
        });
    }

    /// The last words of a process may still be in the pipe when it is gone.
    fn until_closed(&self) {
        until("the log ends", || *self.closed.lock().unwrap() == 2);
    }
}
