//! How commands look: to a person, in a pipe, on a terminal.

use std::process::{Command, Stdio};

use crate::harness::{Proxy, found, free_port, is_golden};

/// Commands and what they said, one after another.
struct Transcript<'p> {
    proxy: &'p Proxy,
    text: String,
}

impl Transcript<'_> {
    fn run(&mut self, words: &[&str]) {
        let output = self.proxy.command(words.iter().copied());
        let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        let code = output.status.code().unwrap();
        self.text
            .push_str(&format!("$ onedoor {}\n{}", words.join(" "), said.concat()));
        self.text.push_str(&format!("=> {code}\n\n"));
    }

    /// Without what is another at every run: the folder, times of day, ages.
    fn end(self, port: u16) -> String {
        let folder = format!("{}/", self.proxy.folder().path().display());
        let text = self
            .text
            .replace(&folder, "")
            .replace(&port.to_string(), "50000");
        let lines = text.lines().map(|line| without_times(line) + "\n");
        lines.collect()
    }
}

/// `2026-11-28 03:27:33` and `12s ago` in letters, as wide as they were.
fn without_times(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let shown = words.iter().enumerate().map(|(at, word)| {
        let has_but = |others: &str| {
            let rest = word.replace(|c| others.contains(c), "");
            rest.len() < word.len() && rest.bytes().all(|byte| byte.is_ascii_digit())
        };
        match word.len() {
            10 if has_but("-") => "YYYY-MM-DD",
            8 if has_but(":") => "HH:MM:SS",
            5 if has_but(":") => "HH:MM",
            _ if has_but("s") && words.get(at + 1) == Some(&"ago") => "0s",
            _ => word,
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_commands_print_is_as_it_was_meant_to_be() {
    let proxy = Proxy::start();
    let port = free_port();
    let mut screen = Transcript {
        proxy: &proxy,
        text: String::new(),
    };
    screen.run(&["ls"]);
    screen.run(&["add", "shop.test", &port.to_string(), "--note", "ask Ann"]);
    screen.run(&["add", "shop.test", "1"]);
    proxy.sites().write(
        "checked.toml",
        format!(
            "host = 'checked.test'\nto = 'unix:{}'\n[health]\nevery = '1h'\n",
            proxy.folder().join("no.sock").display()
        ),
    );
    screen.run(&["wait", "--timeout", "3s"]);
    screen.run(&["wait", "checked", "--timeout", "3s"]);
    screen.run(&["wait", "shoptest"]);
    proxy.sites().write(
        "shop.test.toml",
        format!("host = 'shop.test'\nupstream = {port}\n"),
    );
    screen.run(&["wait", "shop.test"]);
    proxy.sites().remove("checked.toml");
    proxy.wait_gone("checked.toml");
    screen.run(&["ls"]);
    screen.run(&["ls", "--errors"]);
    screen.run(&["reload"]);
    screen.run(&["rollback", "shop.test"]);
    screen.run(&["history", "shop.test"]);
    screen.run(&["reload"]);
    proxy.sites().write("shop.test.toml", "mine");
    proxy.until_state("shop.test", "stale");
    screen.run(&["rm", "shop.test"]);
    screen.run(&["rollback", "shop.test"]);
    screen.run(&["history", "shop.test"]);
    screen.run(&["ls", "nosuch"]);
    screen.run(&["rm", "shop.test"]);
    screen.run(&["rm", "shop.test"]);
    is_golden("commands.txt", &screen.end(port));
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    if !found("script") {
        return;
    }
    let proxy = Proxy::plan()
        .site("a.toml", "host = 'a.test'\nrespond = 'x'\n")
        .site("bad.toml", "nonsense")
        .start();
    let run = |program: &[&str], no_color: Option<&str>| {
        let mut command = Command::new(program[0]);
        command
            .args(&program[1..])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .env("ONEDOOR_STATE", proxy.state())
            .env("ONEDOOR_SITES", proxy.sites().path())
            .stdin(Stdio::null());
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let onedoor = env!("CARGO_BIN_EXE_onedoor");
    for words in ["ls", "check", "history a", "explain a.test"] {
        let line = format!("{onedoor} {words}");
        let on_a_terminal = ["script", "-qec", &line, "/dev/null"];
        let in_a_pipe: Vec<&str> = line.split(' ').collect();
        assert!(run(&on_a_terminal, None).contains('\x1b'), "{words}");
        // An empty one is none (no-color.org).
        assert!(run(&on_a_terminal, Some("")).contains('\x1b'), "{words}");
        assert!(!run(&on_a_terminal, Some("1")).contains('\x1b'), "{words}");
        assert!(!run(&in_a_pipe, None).contains('\x1b'), "{words}");
    }
}
