//! Handshakes that others have written: OpenSSL's, and those of Chrome, Firefox and Safari as curl-cffi says them, with
//! their GREASE, key shares and order of extensions.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::harness::{Authority, Backend, Proxy, found, has_package, put, words_of};

/// `shop` ends TLS here and `pass` at its app; the authority of both is in `ca.pem`. The app lives as long as it is held.
fn shop_and_pass() -> (Proxy, Backend) {
    let authority = Authority::new("test");
    let server = authority.pair(&["pass.example.com"]).server();
    // One answer a connection: OpenSSL's client waits for the end.
    let app = Backend::over_tls(&server, |conversation| {
        if conversation.request().is_some() {
            conversation.answer("pass");
        }
    });
    let plan = Proxy::plan().daemon_file("");
    authority
        .pair(&["shop.example.com"])
        .write(plan.sites().path(), "shop");
    put(plan.folder().path(), "ca.pem", &authority.pem);
    let shop =
        "host = 'shop.example.com'\nrespond = 'shop'\n[tls]\ncert = 'shop.pem'\nkey = 'shop.key'\n";
    let pass = format!(
        "host = 'pass.example.com'\nto = {}\ntls = 'passthrough'\n",
        app.port
    );
    let proxy = plan.site("shop.toml", shop).site("pass.toml", pass).start();
    (proxy, app)
}

/// `openssl s_client` that says `words` once it has shaken hands.
fn s_client(proxy: &Proxy, flags: &[&str], words: &str) -> Output {
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &proxy.address().to_string()])
        .args(["-CAfile", "ca.pem", "-verify_return_error", "-ign_eof"])
        .args(flags)
        .current_dir(proxy.folder().path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that has been refused reads nothing.
    client
        .stdin
        .take()
        .unwrap()
        .write_all(words.as_bytes())
        .ok();
    client.wait_with_output().unwrap()
}

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

#[test]
fn openssl_gets_each_sites_certificate_with_either_version() {
    if !found("openssl") {
        return;
    }
    let (proxy, _app) = shop_and_pass();
    for (version, agreed) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        for name in ["shop", "pass"] {
            let host = format!("{name}.example.com");
            let flags = [version, "-servername", &host, "-verify_hostname", &host];
            let said = words_of(&s_client(&proxy, &flags, &get(&host)));
            assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
            assert!(said.contains(agreed), "{said}");
            assert!(said.contains(&format!("\r\n\r\n{name}")), "{said}");
        }
    }
}

#[test]
fn openssl_gets_nobodys_certificate_without_a_name_and_none_of_old_versions() {
    if !found("openssl") {
        return;
    }
    let (proxy, _app) = shop_and_pass();
    for version in ["-tls1_2", "-tls1_3"] {
        let said = words_of(&s_client(&proxy, &[version, "-noservername"], ""));
        assert!(said.contains("unrecognized name"), "{said}");
        assert!(said.contains("no peer certificate available"), "{said}");
    }
    // CASES T-49
    for version in ["-tls1", "-tls1_1"] {
        let name = ["-servername", "shop.example.com"];
        let flags = [&[version, "-cipher", "ALL:@SECLEVEL=0"], &name[..]].concat();
        let said = words_of(&s_client(&proxy, &flags, ""));
        assert!(said.contains("alert protocol version"), "{said}");
        assert!(said.contains("no peer certificate available"), "{said}");
    }
}

#[test]
fn openssl_may_not_renegotiate() {
    if !found("openssl") {
        return;
    }
    let (proxy, _app) = shop_and_pass();
    proxy.daemon_file("[timeout]\nidle = '2s'\n");
    assert!(proxy.command(["reload"]).status.success());
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &proxy.address().to_string()])
        .args(["-msg", "-tls1_2", "-servername", "shop.example.com"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // This line is a command, which asks for another handshake; it is kept from ending by itself.
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"R\n").unwrap();
    let output = client.wait_with_output().unwrap();
    drop(stdin);
    let said = words_of(&output);
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert_eq!(said.matches("], ClientHello\n").count(), 2, "{said}");
    assert_eq!(said.matches("], ServerHello\n").count(), 1, "{said}");
}

const BROWSERS: &str = r#"
import sys
from curl_cffi import CurlOpt, requests
port, profiles = sys.argv[1], sys.argv[2].split(",")
for profile in profiles:
    for name in ("shop", "pass"):
        host = f"{name}.example.com"
        there = {CurlOpt.RESOLVE: [f"{host}:{port}:127.0.0.1"]}
        with requests.Session(impersonate=profile, verify="ca.pem", curl_options=there) as session:
            answer = session.get(f"https://{host}:{port}/", timeout=30)
            print(profile, name, answer.status_code, answer.text.strip())
"#;

#[test]
fn browsers_reach_sites_that_end_tls_here_and_sites_that_do_not() {
    if !has_package("curl_cffi") {
        return;
    }
    let (proxy, _app) = shop_and_pass();
    let profiles = [
        "chrome",
        "chrome110",
        "firefox",
        "firefox133",
        "safari",
        "safari15_5",
    ];
    let output = Command::new("python3")
        .args(["-c", BROWSERS])
        .args([&proxy.address().port().to_string(), &profiles.join(",")])
        .current_dir(proxy.folder().path())
        .output()
        .unwrap();
    let said = words_of(&output);
    for profile in profiles {
        for name in ["shop", "pass"] {
            let wanted = format!("{profile} {name} 200 {name}\n");
            assert!(said.contains(&wanted), "{wanted}{said}");
        }
    }
}
