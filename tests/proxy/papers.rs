//! The schema, completions, the manual page.

use std::fs;
use std::process::{Command, Stdio};

use crate::harness::{Folder, found, onedoor, words_of};

fn printed(words: &[&str]) -> String {
    let output = onedoor(&Folder::new(), words.iter().copied());
    assert_eq!(output.status.code(), Some(0), "{}", words_of(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completions_and_the_manual_name_every_command() {
    let commands = [
        "run",
        "demo",
        "check",
        "ls",
        "wait",
        "explain",
        "reload",
        "add",
        "rm",
        "history",
        "diff",
        "rollback",
        "drain",
        "schema",
        "completions",
        "man",
        "trust",
        "top",
    ];
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = printed(&["completions", shell]);
        for command in commands {
            assert!(script.contains(command), "{command} for {shell}");
        }
    }
    let page = printed(&["man"]);
    for command in commands {
        let section = format!(".SH \"ONEDOOR {}\"", command.to_uppercase());
        assert!(page.contains(&section), "{section} in\n{page}");
    }
    assert!(page.starts_with(".ie"), "roff: {}", &page[..80]);
}

#[test]
fn the_schemas_that_are_shipped_are_those_of_the_keys() {
    for file in ["site", "daemon"] {
        let path = format!("{}/schema/{file}.json", env!("CARGO_MANIFEST_DIR"));
        let schema = printed(&["schema", file]);
        if std::env::var_os("WRITE_README").is_some() {
            fs::write(&path, &schema).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap_or_default() == schema,
            "the keys have changed: WRITE_README=1 cargo test papers"
        );
    }
    assert_eq!(printed(&["schema"]), printed(&["schema", "site"]));
}

#[test]
fn the_shipped_examples_name_a_schema_that_is_there() {
    let folder = format!("{}/sites.d", env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let named = text
            .lines()
            .next()
            .unwrap()
            .strip_prefix("#:schema ")
            .unwrap();
        assert!(path.parent().unwrap().join(named).is_file(), "{named}");
    }
}

/// Both what is accepted and what is refused, by a validator that is not ours.
#[test]
fn a_validator_finds_in_a_file_what_check_finds() {
    if !found("python3") {
        return;
    }
    let has = Command::new("python3")
        .args(["-c", "import jsonschema, tomllib"])
        .stderr(Stdio::null())
        .status();
    if !has.unwrap().success() {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "python3-jsonschema must be installed in CI"
        );
        return println!("left out: no jsonschema for python3");
    }
    let good = [
        "host = 'a.test'\nto = 5000\n",
        "to = ['10.0.0.7:5000', 5001, { at = 'https://b.test', verify = 'off' }]\n[[path]]\nmatch = '/a'\nstrip = true\nrespond = 404\n",
        "host = ['a.test', '*.b.test']\nredirect = { to = '/x', status = 302 }\nnote = 'x'\n",
        "respond = { body = 'x', type = 'text/html' }\ntls = 'off'\ndrain = '5s'\n[limit]\nbody = '10 mb'\nmin_rate = 'off'\n",
        "to = 1\n[tls]\ncert = ['a.pem', 'b.pem']\nkey = ['a.key', 'b.key']\nhsts = '30d'\n[tls.client]\nca = 'ca.pem'\n[headers]\nvia = false\n\
         [headers.request]\nset = { X-A = 'b', X-B = ['c', { file = 'd' }] }\nremove = 'X-C'\n[timeout]\ntotal = 'off'\nconnect = '500ms'\n",
    ];
    let bad = [
        "hots = 'a.test'\nto = 5000\n",
        "host = 5\nto = 5000\n",
        "to = 70000\n",
        "to = 1\n[limit]\nbody = 10\n",
        "to = 1\n[timeout]\nconnect = '5'\n",
        "to = 1\n[[path]]\nmatch = '/a'\nstrip = 'yes'\n",
        "to = 1\n[headers.request]\nset = { X-A = 5 }\n",
    ];
    let folder = Folder::new();
    fs::write(folder.join("schema.json"), printed(&["schema"])).unwrap();
    for (number, (text, is_good)) in good
        .iter()
        .map(|text| (text, true))
        .chain(bad.iter().map(|text| (text, false)))
        .enumerate()
    {
        let path = folder.join(format!("s{number}.toml"));
        fs::write(&path, text).unwrap();
        let valid = Command::new("python3")
            .args([
                "-c",
                "import json, sys, tomllib, jsonschema\n\
                 schema = json.load(open('schema.json'))\n\
                 jsonschema.Draft7Validator.check_schema(schema)\n\
                 jsonschema.Draft7Validator(schema).validate(tomllib.load(open(sys.argv[1], 'rb')))",
                path.to_str().unwrap(),
            ])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(
            valid.status.success(),
            is_good,
            "{text}\n{}",
            words_of(&valid)
        );
    }
}
