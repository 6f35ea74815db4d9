//! Every error that check can print: its place, what is wrong, what to write, and what happens meanwhile.

use serde_json::Value;

use crate::harness::{Folder, Sites, is_golden, onedoor};

/// One file for each message; the name says which.
const FILES: &[(&str, &str)] = &[
    ("addr-brackets", "to = '::1:5000'\n"),
    ("addr-credentials", "to = 'http://me:pw@10.0.0.7:80'\n"),
    ("addr-empty", "to = ''\n"),
    ("addr-host", "to = 'a b:80'\n"),
    ("addr-linklocal", "to = '169.254.169.254:80'\n"),
    (
        "addr-long-socket",
        "to = 'unix:/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'\n",
    ),
    ("addr-no-port", "to = '10.0.0.7'\n"),
    ("addr-no-socket", "to = 'unix:'\n"),
    ("addr-path", "to = 'http://10.0.0.7:80/app'\n"),
    ("addr-path-empty", "to = '127.0.0.1:5000/'\n"),
    ("addr-ports", "to = 'localhost:80:80'\n"),
    ("addr-port-text", "to = 'a.test:70000'\n"),
    ("addr-port-zero", "to = 'a.test:0'\n"),
    ("addr-several", "to = 'localhost:5000, localhost:5001'\n"),
    ("addr-socket", "to = '/run/x.sock'\n"),
    ("addr-scheme", "to = 'ftp://a.test:21'\n"),
    ("addr-abstract", "to = 'unix:@x'\n"),
    ("addr-unspecified", "to = '0.0.0.0:80'\n"),
    ("addr-itself", "to = 8080\n"),
    ("allow-empty", "to = 1\nallow = []\n"),
    ("allow-network", "to = 1\nallow = ['10.0.0.0/33']\n"),
    ("allow-bits", "to = 1\nallow = '10.0.0.1/8'\n"),
    ("at-missing", "to = { verify = 'off' }\n"),
    (
        "backend-ca-and-off",
        "to = { at = 'https://a.test', ca = 'x', verify = 'off' }\n",
    ),
    (
        "backend-cert-alone",
        "to = { at = 'https://a.test', cert = 'x' }\n",
    ),
    (
        "backend-key-alone",
        "to = { at = 'https://a.test', key = 'x' }\n",
    ),
    ("backend-twice", "to = [1, 1]\n"),
    ("count-shape", "to = 1\n[limit]\nconnections = 'many'\n"),
    ("count-range", "to = 1\n[limit]\nconnections = 0\n"),
    ("drain-edit", "to = 1\ndrain = { edit = 'sometimes' }\n"),
    ("duration", "to = 1\n[timeout]\nconnect = '5'\n"),
    ("duration-long", "to = 1\n[timeout]\nidle = '5000d'\n"),
    ("duration-zero", "to = 1\n[timeout]\nconnect = '0s'\n"),
    ("flag", "to = 1\n[headers]\nvia = 'yes'\n"),
    (
        "header-name",
        "to = 1\n[headers.request]\nset = { 'X A' = 'b' }\n",
    ),
    (
        "header-ours",
        "to = 1\n[headers.request]\nset = { X-Forwarded-For = 'b', Host = 'c', Connection = 'd' }\n",
    ),
    (
        "header-twice",
        "to = 1\n[headers.response]\nset = { X-A = 'b' }\nremove = 'x-a'\n",
    ),
    (
        "header-value",
        "to = 1\n[headers.request]\nset = { X-A = \"b\\n\" }\n",
    ),
    (
        "header-shape",
        "to = 1\n[headers.request]\nset = { X-A = 5 }\n",
    ),
    (
        "header-file",
        "to = 1\n[headers.request]\nset = { X-A = { file = 'nowhere' } }\n",
    ),
    (
        "header-outside",
        "to = 1\n[headers.request]\nset = { X-A = { file = '/etc/hostname' } }\n",
    ),
    ("host-any", "host = '*'\nto = 1\n"),
    ("host-character", "host = 'a!b.test'\nto = 1\n"),
    ("host-empty", "host = ''\nto = 1\n"),
    ("host-empty-list", "host = []\nto = 1\n"),
    ("host-ipv4", "host = '10.0.0.256'\nto = 1\n"),
    ("host-label", "host = 'a..test'\nto = 1\n"),
    ("host-missing", "to = 1\n"),
    ("host-port", "host = 'a.test:80'\nto = 1\n"),
    ("host-reserved", "host = '**.a.test'\nto = 1\n"),
    ("host-shape", "host = 5\nto = 1\n"),
    (
        "host-twice",
        "host = ['twice.test', 'TWICE.test.']\nto = 1\n",
    ),
    ("host-url", "host = 'http://a.test/'\nto = 1\n"),
    ("host-wildcard", "host = 'a*.test'\nto = 1\n"),
    (
        "key-by-meaning",
        "upstream = 5000\nserver_name = 'a.test'\nto = 1\n",
    ),
    (
        "key-by-place",
        "to = 1\n[timeout]\nredirect_from = 'x.test'\n",
    ),
    ("key-by-spelling", "to = 1\nallwo = '10.0.0.0/8'\n"),
    ("key-of-file-server", "root = '/var/www'\n"),
    ("key-unknown", "to = 1\nxyzzy = 1\n"),
    ("key-planned", "to = 1\nbuffer = '1mb'\n"),
    ("key-twice", "to = 1\nto = 2\n"),
    ("nothing", "host = 'nothing.test'\n"),
    ("note-control", "to = 1\nnote = \"a\\u0007\"\n"),
    ("path-control", "to = 1\n[[path]]\nmatch = \"/a\\u0007\"\n"),
    ("path-dots", "to = 1\n[[path]]\nmatch = '/a/../b'\n"),
    ("path-match", "to = 1\n[[path]]\nstrip = true\n"),
    ("path-nothing", "[[path]]\nmatch = '/a'\n"),
    ("path-query", "to = 1\n[[path]]\nmatch = '/a?b'\n"),
    ("path-slash", "to = 1\n[[path]]\nmatch = 'a'\n"),
    ("path-star", "to = 1\n[[path]]\nmatch = '/a/*'\n"),
    (
        "path-twice",
        "to = 1\n[[path]]\nmatch = '/a'\n[[path]]\nmatch = '/a/'\n",
    ),
    (
        "path-strip",
        "to = 1\n[[path]]\nmatch = '/a'\nstrip = true\nrespond = 'x'\n",
    ),
    ("port-range", "to = 70000\n"),
    ("rate", "to = 1\n[limit]\nmin_rate = '5kb'\n"),
    (
        "redirect-from-wildcard",
        "host = '*.a.test'\nredirect_from = 'b.test'\nto = 1\n",
    ),
    (
        "redirect-status",
        "redirect = { to = 'https://a.test', status = 200 }\n",
    ),
    ("redirect-target", "redirect = 'a.test'\n"),
    ("redirect-to", "redirect = { status = 301 }\n"),
    ("respond-both", "respond = { body = 'x', file = 'y' }\n"),
    ("respond-file", "respond = { file = 'nowhere.html' }\n"),
    ("respond-status", "respond = 99\n"),
    ("respond-204", "respond = { status = 204, body = 'x' }\n"),
    ("respond-type", "respond = { body = 'x', type = '' }\n"),
    ("retry-budget", "to = 1\n[retry]\nbudget = 20\n"),
    ("send-host", "to = 1\nsend_host = 'a b'\n"),
    ("send-proxy", "to = 1\nsend_proxy = 'v3'\n"),
    ("size", "to = 1\n[limit]\nbody = '10'\n"),
    ("shape-table", "to = 1\nlimit = 5\n"),
    ("shape-tables", "to = 1\npath = 5\n"),
    (
        "syntax-list",
        "to = ['a.test:80'\n[limit]\nconnections = 1\n",
    ),
    (
        "host-list-open",
        "host = ['open.test'\nto = 1\nallow = '10.0.0.0/8'\n",
    ),
    ("syntax-quote", "to = 'a\n"),
    ("syntax-equals", "to 5000\n"),
    ("syntax-value", "to =\n"),
    (
        "three-actions",
        "to = 1\nredirect = 'https://a.test'\nrespond = 'x'\n",
    ),
    (
        "tls-cert-missing",
        "to = 1\n[tls]\ncert = 'nowhere.pem'\nkey = 'nowhere.key'\n",
    ),
    ("tls-cert-no-key", "to = 1\n[tls]\ncert = 'a.pem'\n"),
    (
        "home",
        "access_log = '~/logs/shop.log'\nrespond = { file = '~/sorry.html' }\n[headers.request]\nset = { X-Key = { file = '~/key' } }\n",
    ),
    (
        "tls-home",
        "to = 1\n[tls]\ncert = '~/x.pem'\nkey = '~/x.key'\n",
    ),
    ("tls-client-ca", "to = 1\n[tls.client]\nforward = true\n"),
    ("tls-files-nothing", "to = 1\ntls = 'files'\n"),
    ("tls-hsts", "to = 1\n[tls]\nhsts = 'ever'\n"),
    ("tls-http", "to = 1\n[tls]\nhttp = 'perhaps'\n"),
    ("tls-min", "to = 1\n[tls]\nmin = '1.1'\n"),
    ("tls-mode", "to = 1\ntls = 'on'\n"),
    (
        "tls-mode-and-cert",
        "to = 1\n[tls]\nmode = 'off'\ncert = 'a'\nkey = 'b'\n",
    ),
    (
        "tls-passthrough-http",
        "to = 1\n[tls]\nmode = 'passthrough'\nhttp = 'serve'\n",
    ),
    (
        "tls-passthrough-path",
        "to = 1\ntls = 'passthrough'\n[[path]]\nmatch = '/a'\n",
    ),
    (
        "tls-passthrough-respond",
        "respond = 'x'\ntls = 'passthrough'\n",
    ),
    (
        "tls-serve-and-client",
        "to = 1\n[tls]\nhttp = 'serve'\n[tls.client]\nca = 'ca.pem'\n",
    ),
    ("to-empty", "to = []\n"),
    ("to-shape", "to = true\n"),
    ("zz-claimed", "host = 'good.test'\nto = 1\n"),
];

fn folder() -> Folder {
    let folder = Folder::new();
    let sites = Sites::at(folder.join("sites.d"));
    sites.write("good.toml", "host = 'good.test'\nto = 5000\n");
    for (name, text) in FILES {
        let names_itself = ["host = ", "nothing"]
            .iter()
            .any(|word| text.starts_with(word));
        let is_about_hosts = name.starts_with("host-");
        match names_itself || is_about_hosts {
            true => sites.write(&format!("{name}.toml"), text),
            false => sites.write(
                &format!("{name}.toml"),
                format!("host = '{name}.test'\n{text}"),
            ),
        }
    }
    for name in [
        "shop.conf",
        ".hidden.toml",
        "shop.toml~",
        "shop.toml.off",
        "README.md",
    ] {
        sites.write(name, "");
    }
    folder
}

fn check(folder: &Folder, words: &[&str]) -> String {
    let words = ["check", "--state", "state"].iter().chain(words);
    let output = onedoor(folder, words.copied());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    text.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn every_error_is_as_it_was_meant_to_be() {
    is_golden("check_errors.txt", &check(&folder(), &[]));
}

#[test]
fn every_error_names_its_place_for_programs_too() {
    let folder = folder();
    let answer: Value = serde_json::from_str(&check(&folder, &["--json"])).unwrap();
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["files"], FILES.len() + 1);
    assert_eq!(answer["ignored"].as_array().unwrap().len(), 5);
    let problems = answer["problems"].as_array().unwrap();
    for (name, _) in FILES {
        let file = format!("sites.d/{name}.toml");
        let of_file: Vec<&Value> = problems
            .iter()
            .filter(|problem| problem["file"] == file.as_str())
            .collect();
        assert!(!of_file.is_empty(), "nothing is wrong with {name}");
        for problem in of_file {
            // Files that are missing are about the file as a whole.
            let has_place = problem["line"].is_u64() && problem["column"].is_u64();
            assert!(
                has_place || name.starts_with("tls-cert") || *name == "tls-serve-and-client",
                "{problem}"
            );
        }
    }
}
