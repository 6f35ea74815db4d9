//! Python scripts of the tests, which say what they do line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running one, ended when dropped.
#[derive(Debug)]
pub(crate) struct Script {
    child: Child,
    out: BufReader<ChildStdout>,
    into: Option<ChildStdin>,
}

impl Script {
    /// Runs `path`, which lies in the folder of the tests.
    pub(crate) fn run(path: &str, words: &[&str]) -> Script {
        let mut child = Command::new("python3")
            .arg(format!("{}/tests/proxy/{path}", env!("CARGO_MANIFEST_DIR")))
            .args(words)
            .env("GRPC_VERBOSITY", "NONE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let into = child.stdin.take();
        Script { child, out, into }
    }

    /// Runs one that serves, and says first where: `port 5000`.
    #[track_caller]
    pub(crate) fn serve(path: &str, words: &[&str]) -> (Script, u16) {
        let mut script = Script::run(path, words);
        let line = script.line();
        let port = line
            .strip_prefix("port ")
            .and_then(|port| port.parse().ok());
        (script, port.unwrap_or_else(|| panic!("{line:?}")))
    }

    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Lets it go on.
    pub(crate) fn tell(&mut self) {
        self.into.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// All it says from here on.
    pub(crate) fn rest(mut self) -> Vec<String> {
        drop(self.into.take());
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.into.take());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
