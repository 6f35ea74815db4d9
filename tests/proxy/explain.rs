//! Who answers a request and why, in words; what is said is what happens.

use serde_json::{Value, json};

use crate::harness::{
    Authority, Backend, Client, Folder, Pair, Proxy, Random, Sites, Tls, free_port, is_golden,
    onedoor, put, until_some, words_of,
};

const SHOP: &str = "\
host = ['shop.test', '*.shop.test']
redirect_from = 'old.shop.test'
to = 5000
note = 'ask Ann'
[[path]]
match = '/'
to = 5001
[[path]]
match = '/api'
strip = true
to = [5002, 'unix:/run/shop.sock']
[limit]
body = '10mb'
connections = 100
[headers.request]
set = { Authorization = 'Bearer x', X-Team = { file = 'team' } }
remove = 'X-Debug'
[headers.response]
set = { X-Served = 'here' }
remove = 'Server'
";

fn shop() -> Folder {
    let folder = Folder::new();
    let sites = Sites::at(folder.join("sites.d"));
    sites.write("team", "secret\n");
    sites.write("shop.toml", SHOP);
    sites.write(
        "thief.toml",
        "host = ['thief.test', 'www.shop.test', '*.shop.test']\nto = 5003\n",
    );
    sites.write("broken.toml", "host = 'broken.test'\nto = nowhere\n");
    sites.write(
        "secure.toml",
        "host = 'secure.example.com'\nto = 5004\ntls = 'passthrough'\nlimit.connections = 100\n",
    );
    folder
}

fn offline(folder: &Folder, words: &[&str]) -> String {
    let words = ["explain", "--state", "state"].iter().chain(words);
    let output = onedoor(folder, words.copied());
    let place = folder.path().display().to_string();
    words_of(&output).replace(&format!("{place}/"), "")
}

#[test]
fn the_walk_is_told_in_words_without_a_daemon() {
    let folder = shop();
    for (name, words) in [
        (
            "explain_forward.txt",
            &[
                "http://www.shop.test/api/cart?x=1#top",
                "-H",
                "X-Debug: 1",
                "-H",
                "X-Real-IP: 10.0.0.1",
                "-H",
                "Connection: X-Hop",
                "-H",
                "X-Hop: 1",
                "--client",
                "192.168.1.9",
            ][..],
        ),
        ("explain_redirect.txt", &["old.shop.test/a?b"]),
        ("explain_nobody.txt", &["http://shopp.test/"]),
        ("explain_local_tls.txt", &["https://shop.test/x"]),
        ("explain_passthrough.txt", &["https://secure.example.com/"]),
        ("explain_to_tls.txt", &["secure.example.com/a"]),
        ("explain_refused.txt", &["-X", "TRACE", "shop.test"]),
        ("explain_dots.txt", &["http://shop.test/api/../x"]),
        (
            "explain_far.txt",
            &["http://shop.test/", "--client", "203.0.113.9"],
        ),
    ] {
        is_golden(name, &offline(&folder, words));
    }
    assert!(!folder.join("state").exists(), "it leaves nothing behind");
}

#[test]
fn a_question_that_is_none_is_1_and_says_why() {
    let folder = shop();
    for (words, part) in [
        (&["ftp://shop.test"][..], "neither http nor https"),
        (&["http://"], "names no host"),
        (
            &["shop.test", "--sites", "nowhere"],
            "there is no folder nowhere",
        ),
    ] {
        let output = onedoor(
            &folder,
            ["explain", "--state", "state"].iter().chain(words).copied(),
        );
        assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
        assert!(words_of(&output).contains(part), "{}", words_of(&output));
    }
    let output = onedoor(&folder, ["explain", "shop.test", "--client", "x"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_running_daemon_is_asked_and_knows_its_claims() {
    let proxy = Proxy::plan()
        .site("z.toml", "host = 'x.test'\nrespond = 'z'\n")
        .start();
    proxy
        .sites()
        .write("a.toml", "host = 'x.test'\nrespond = 'a'\n");
    proxy.until_state("a", "conflict");
    let told = explained(&proxy, "http://x.test/", "GET", &[]);
    assert_eq!(told["offline"], false);
    assert_eq!(told["site"]["name"], "z");
    assert_eq!(told["site"]["state"], "live");
    assert_eq!(told["lost"][0]["name"], "a");
    assert_eq!(told["listener"], proxy.address().to_string());
    assert_eq!(proxy.get("x.test", "/").text(), "z");
}

#[test]
fn secrets_are_not_told() {
    let folder = shop();
    let told = offline(&folder, &["shop.test/x", "-H", "Cookie: login=1"]);
    assert!(told.contains("+ Authorization: (not shown)"), "{told}");
    assert!(told.contains("+ X-Team: (not shown)"), "{told}");
    assert!(
        !told.contains("secret") && !told.contains("Bearer"),
        "{told}"
    );
}

/// The address that is said to be the next, if one is.
fn chosen(told: &Value) -> Option<&str> {
    let backends = told["backends"].as_array().unwrap();
    let mut chosen = backends.iter().filter(|backend| backend["chosen"] == true);
    let found = chosen.next()?;
    assert!(chosen.next().is_none(), "{told}");
    assert!(
        found["state"]
            .as_str()
            .unwrap()
            .starts_with("fit, the next")
    );
    found["address"].as_str()
}

#[test]
fn the_backend_that_a_request_belongs_to_is_the_one_that_gets_it() {
    let apps: Vec<Backend> = (0..4)
        .map(|at| Backend::saying(&format!("app {at}")))
        .collect();
    let to: Vec<String> = apps.iter().map(|app| app.port.to_string()).collect();
    let site = |name: &str, balance: &str| {
        let to = to.join(", ");
        format!("host = '{name}.test'\nto = [{to}]\n{balance}\n")
    };
    let proxy = Proxy::plan()
        .site("path.toml", site("path", "balance = 'hash:path'"))
        .site(
            "header.toml",
            site("header", "balance = 'hash:header:X-Team'"),
        )
        .site(
            "cookie.toml",
            site("cookie", "balance = 'hash:cookie:cart'"),
        )
        .site("sticky.toml", site("sticky", "sticky = true"))
        .site("turns.toml", site("turns", "balance = 'round-robin'"))
        .start();
    let port = proxy.address().port();
    let ask = |site: &str, path: &str, headers: &[(&str, &str)]| {
        let told = explained(
            &proxy,
            &format!("http://{site}.test:{port}{path}"),
            "GET",
            headers,
        );
        let mut text = format!("GET {path} HTTP/1.1\r\nHost: {site}.test:{port}\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut client = proxy.client();
        client.send(text + "\r\n");
        (told, client.response())
    };
    let said = |address: &str| {
        let at = to
            .iter()
            .position(|port| address.ends_with(&format!(":{port}")));
        format!("app {}", at.unwrap())
    };
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..12 {
        let (path, value) = (format!("/{number}"), format!("v{number}"));
        let cart = format!("a=b; cart={value}");
        for (site, headers) in [
            ("path", &[][..]),
            ("header", &[("X-Team", value.as_str())]),
            ("cookie", &[("Cookie", cart.as_str())]),
        ] {
            let (told, response) = ask(site, &path, headers);
            let chosen = chosen(&told).unwrap_or_else(|| panic!("{told:#}"));
            assert_eq!(response.text(), said(chosen), "{told:#}");
            let words = told["outcome"]["words"].as_str().unwrap();
            assert_eq!(words, format!("the app at {chosen} answers"));
            assert!(
                told["balance"]
                    .as_str()
                    .unwrap()
                    .starts_with("by hash of the ")
            );
            seen.insert(chosen.to_owned());
        }
    }
    assert!(seen.len() > 1, "not always the same: {seen:?}");
    let (told, response) = ask("sticky", "/", &[]);
    assert_eq!(chosen(&told), None, "{told:#}");
    let cookie = response.value("set-cookie");
    let cookie = cookie.split(';').next().unwrap();
    let (told, again) = ask("sticky", "/", &[("Cookie", cookie)]);
    assert_eq!(said(chosen(&told).unwrap()), response.text(), "{told:#}");
    assert_eq!(again.text(), response.text());
    assert!(
        told["balance"]
            .as_str()
            .unwrap()
            .starts_with("sticky: its cookie ")
    );
    for (site, headers, rule) in [
        ("turns", &[][..], "round-robin: "),
        ("sticky", &[], "least-requests: "),
        (
            "header",
            &[],
            "by hash of the header X-Team, which it has not",
        ),
    ] {
        let (told, _) = ask(site, "/", headers);
        assert_eq!(chosen(&told), None);
        assert!(
            told["balance"].as_str().unwrap().starts_with(rule),
            "{told:#}"
        );
        let state = told["backends"][3]["state"].as_str().unwrap();
        assert_eq!(state, "fit, one of 4");
        assert_eq!(told["outcome"]["words"], "one of 4 apps answers");
    }
}

#[test]
fn only_backends_that_may_be_chosen_are_counted() {
    let folder = Folder::new();
    let sites = Sites::at(folder.join("sites.d"));
    sites.write(
        "a.toml",
        "host = 'a.test'\nto = [{ at = 5000, weight = 3 }, { at = 5001, weight = 0 }, 5002, { at = 5003, backup = true }]\n",
    );
    sites.write(
        "b.toml",
        "host = 'b.test'\nto = [{ at = 5000, weight = 0 }, { at = 5001, weight = 0 }]\n",
    );
    let told = offline(&folder, &["a.test"]);
    for part in [
        "localhost:5000, fit, one of 2, weight 3",
        "localhost:5001, drained: weight 0",
        "localhost:5003, fit, for when no other is, backup",
        "one of 2 apps answers",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    let told = offline(&folder, &["b.test"]);
    assert!(told.contains("all of them are drained"), "{told}");
}

#[test]
fn who_asks_by_the_name_of_a_site_is_told_its_hosts() {
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            "host = ['shop.test', '*.shop.test']\nrespond = 'x'\n",
        )
        .start();
    let said = |host: &str| {
        let output = proxy.command(["explain", host]);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(
        said("shop"),
        "onedoor: shop is no host but a site, which answers for shop.test, *.shop.test\n"
    );
    assert_eq!(said("shop.test"), "");
    assert_eq!(said("other"), "");
}

#[test]
fn what_ls_knows_of_a_site_and_its_apps_is_told_too() {
    let port = free_port();
    let text = format!("host = 'shop.test'\nto = {port}\n[health]\npath = '/up'\nevery = '50ms'\n");
    let proxy = Proxy::plan().site("shop.toml", text).start();
    let told = || {
        let output = proxy.command(["explain", "shop.test"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let reason = until_some("a check has failed", || {
        let status = proxy.status("shop")?;
        status["backends"][0]["reason"].as_str().map(str::to_owned)
    });
    assert!(told().contains(&format!("; {reason}")), "{}", told());
    assert!(
        told().contains("waiting: no backend has passed its check yet"),
        "{}",
        told()
    );
    proxy.site("old.toml", "host = 'old.test'\nrespond = 'x'\n");
    proxy.sites().write("old.toml", "nonsense");
    proxy.until_state("old", "stale");
    let output = proxy.command(["explain", "old.test"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = told
        .lines()
        .find(|line| line.contains("stale since 2"))
        .expect(&told);
    assert!(
        line.contains("UTC: ") && line.contains("old.toml:1:"),
        "{line}"
    );
}

#[test]
fn what_clients_need_or_refuse_is_told() {
    let plan = Proxy::plan();
    let (authority, partners) = (Authority::new("test"), Authority::new("partners"));
    let sites = plan.sites().path().to_path_buf();
    put(&sites, "partners.pem", &partners.pem);
    authority.pair(&["shop.example.com"]).write(&sites, "shop");
    let files = "[tls]\ncert = 'shop.pem'\nkey = 'shop.key'\n";
    let client = "[tls.client]\nca = 'partners.pem'\nforward = true\n";
    let proxy = plan
        .site(
            "shop.toml",
            format!("host = ['shop.example.com', 'old.example.com']\nto = 5000\n{files}{client}"),
        )
        .site("near.toml", "host = 'near.localhost'\nrespond = 'x'\n")
        .start();
    let told = |words: &[&str]| {
        let words = ["explain"].iter().chain(words).copied();
        words_of(&proxy.command(words))
    };
    let shop = told(&["https://shop.example.com/"]);
    for part in [
        "partners.pem is required",
        "answers, if the client shows a certificate of partners.pem; without one the handshake ends with the alert \
         certificate_required",
        "+ X-Client-Cert: (the client's certificate in base64)",
        "+ X-Client-Cert-Serial: (",
    ] {
        assert!(shop.contains(part), "{part} in\n{shop}");
    }
    assert!(!shop.contains("refuse"), "{shop}");
    let old = told(&["https://old.example.com/"]);
    let hint = "the certificate is not for old.example.com, but for shop.example.com; clients will refuse it";
    assert!(old.contains(hint), "{old}");
    for url in ["https://near.localhost/", "http://near.localhost/"] {
        let far = told(&[url, "--client", "8.8.8.8"]);
        let why = "the client is not of this machine or its networks";
        assert!(far.contains(why), "{far}");
    }
    assert!(
        told(&["https://near.localhost/"]).contains("answer     200"),
        "{}",
        told(&["https://near.localhost/"])
    );
}

/// What the daemon says to one question.
fn explained(proxy: &Proxy, url: &str, method: &str, headers: &[(&str, &str)]) -> Value {
    let mut target = format!("/v1/explain?url={}&method={method}", encoded(url));
    for (name, value) in headers {
        target.push_str(&format!("&header={}", encoded(&format!("{name}: {value}"))));
    }
    proxy.admin_json(&target)
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// A site of random names, paths and answers. `apps`: ports that requests may go to.
fn random_site(random: &mut Random, number: usize, apps: &[u16]) -> String {
    let hosts = [
        "a.test",
        "b.test",
        "x.a.test",
        "*.a.test",
        "*.test",
        "a.example.com",
        "*.example.com",
        "127.0.0.1",
    ];
    let mut names: Vec<&str> = (0..1 + random.below(2))
        .map(|_| random.one_of(&hosts))
        .collect();
    names.dedup();
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let mut text = format!("host = [{}, 's{number}.test']\n", names.join(", "));
    if random.in_percent(20) {
        text.push_str(&format!("redirect_from = ['old{number}.test']\n"));
    }
    text.push_str(&action(random, apps));
    if random.in_percent(15) {
        text.push_str(random.one_of(&["allow = '10.0.0.0/8'\n", "allow = '127.0.0.0/8'\n"]));
    }
    if random.in_percent(20) {
        text.push_str(random.one_of(&["send_host = 'backend'\n", "send_host = 'other.test'\n"]));
    }
    let tls = ["off", "local", "auto"];
    let mut tables = String::new();
    if random.in_percent(50) {
        let mode = random.one_of(&tls);
        tables.push_str(&format!("[tls]\nmode = '{mode}'\n"));
        if mode != "off" && random.in_percent(40) {
            let http = random.one_of(&["redirect", "serve", "refuse"]);
            tables.push_str(&format!("http = '{http}'\n"));
        }
        if mode != "off" && random.in_percent(60) {
            tables.push_str("[tls.client]\nca = 'partners.pem'\n");
            tables.push_str(random.one_of(&["", "mode = 'optional'\n"]));
            tables.push_str(random.one_of(&["", "forward = true\n"]));
        }
    }
    let mut seen = Vec::new();
    for _ in 0..random.below(4) {
        let path = random.one_of(&["/", "/a", "/a/b", "=/a", "/A", "/%41", "=/a/b/c"]);
        // Two spellings of one path are an error.
        if seen.contains(&path)
            || path == "/A" && seen.contains(&"/%41")
            || path == "/%41" && seen.contains(&"/A")
        {
            continue;
        }
        seen.push(path);
        text.push_str("");
        tables.push_str(&format!("[[path]]\nmatch = '{path}'\n"));
        let action = action(random, apps);
        if action.starts_with("to") && random.in_percent(50) {
            tables.push_str("strip = true\n");
        }
        tables.push_str(&action);
        if random.in_percent(15) {
            tables.push_str("allow = '10.0.0.0/8'\n");
        }
    }
    if random.in_percent(30) {
        tables.push_str("[limit]\nbody = '2b'\n");
    }
    if random.in_percent(40) {
        tables.push_str("[headers]\nvia = false\n[headers.request]\nset = { X-Set = 'set' }\nremove = ['X-Out', 'Accept']\n");
    }
    text + &tables
}

fn action(random: &mut Random, apps: &[u16]) -> String {
    match random.below(6) {
        0 => "respond = { status = 418, body = 'tea' }\n".into(),
        1 => "redirect = 'https://elsewhere.test'\n".into(),
        2 => "redirect = { to = '/fixed', status = 302 }\n".into(),
        3 => format!("to = [{}, {}]\n", apps[0], apps[1]),
        _ => format!("to = {}\n", random.one_of(apps)),
    }
}

#[test]
fn what_is_explained_is_what_a_request_meets() {
    let seed = Random::seeded_by("ONEDOOR_EXPLAIN_SEED", 7);
    let mut random = Random::new(seed);
    let apps: Vec<Backend> = (0..3).map(|_| Backend::echoing()).collect();
    let ports: Vec<u16> = apps.iter().map(|app| app.port).collect();
    let partners = Authority::new("partners");
    let ann = partners.client("ann");
    let mut kinds = std::collections::BTreeMap::new();
    for round in 0..6 {
        let mut plan = Proxy::plan();
        put(plan.sites().path(), "partners.pem", &partners.pem);
        for number in 0..5 {
            plan = plan.site(
                &format!("s{number}.toml"),
                random_site(&mut random, number, &ports),
            );
        }
        let proxy = plan.start();
        // A handshake waits until the files that a site names have been read; what becomes of it is no matter.
        for number in 0..5 {
            drop(Tls::to(&format!("s{number}.test")).shake(proxy.address()));
        }
        for number in 0..60 {
            let (wire, host, path, method, headers) = random_request(&mut random);
            let url = format!("{wire}://{host}:{}{path}", proxy.address().port());
            let told = explained(&proxy, &url, method, &headers);
            let words = told["outcome"]["words"].as_str().unwrap();
            let asked_for = told["tls"]["client_certificate"].as_str();
            assert_eq!(
                words.contains("if the client shows a certificate of partners.pem;"),
                asked_for == Some("required"),
                "{told:#}"
            );
            for own in [None, Some(&ann)] {
                let met = meet(&proxy, wire, host, path, method, &headers, own);
                let what = format!(
                    "seed {seed} round {round} request {number}: {method} {url} {headers:?} {}\n{told:#}\n{met:?}",
                    if own.is_some() {
                        "with a certificate"
                    } else {
                        ""
                    }
                );
                match (asked_for, own) {
                    (Some("required"), None) => assert!(matches!(met, Met::Closed), "{what}"),
                    (None, Some(_)) => {}
                    (_, own) => agree(&told, &met, &ports, own.is_some(), &what),
                }
            }
            for kind in [&told["outcome"]["kind"], &told["tls"]["client_certificate"]] {
                *kinds.entry(kind.to_string()).or_insert(0) += 1;
            }
        }
    }
    // Every way that a request can end was among them.
    for kind in [
        "forward", "respond", "redirect", "refuse", "close", "required", "optional",
    ] {
        assert!(kinds.contains_key(&format!("\"{kind}\"")), "{kinds:?}");
    }
}

type Headers = Vec<(&'static str, &'static str)>;

fn random_request(
    random: &mut Random,
) -> (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Headers,
) {
    let wire = random.one_of(&["http", "http", "https"]);
    let host = random.one_of(&[
        "a.test",
        "A.Test",
        "b.test",
        "x.a.test",
        "y.a.test",
        "c.test",
        "s1.test",
        "s2.test",
        "old1.test",
        "old3.test",
        "a.example.com",
        "z.example.com",
        "nobody.invalid",
        "127.0.0.1",
    ]);
    let path = random.one_of(&[
        "/",
        "/a",
        "/a/",
        "/a/b?c=d",
        "/ab",
        "/a/b/c",
        "/%61",
        "/%61/x",
        "/A",
        "/../x",
        "/a/%2e%2e/b",
        "//a",
        "/a%2fb",
        "/?q",
        "/a%5cb",
    ]);
    let method = random.one_of(&["GET", "GET", "POST", "HEAD", "OPTIONS", "TRACE", "BREW"]);
    let mut headers = Vec::new();
    for header in [
        ("X-Out", "1"),
        ("Accept", "*/*"),
        ("X-Forwarded-For", "10.1.1.1"),
        ("X-Real-IP", "10.1.1.1"),
        ("Connection", "X-Named"),
        ("X-Named", "1"),
        ("Max-Forwards", "0"),
        ("X_Forwarded_For", "1"),
        ("Cookie", "a=b"),
        ("TE", "trailers"),
    ] {
        if random.in_percent(20) {
            headers.push(header);
        }
    }
    if method == "POST" {
        headers.push(random.one_of(&[("Content-Length", "2"), ("Content-Length", "3")]));
    }
    if random.in_percent(3) {
        headers.push(("Host", random.one_of(&["b.test", "", "a b", "c.test:1"])));
    }
    (wire, host, path, method, headers)
}

/// What came of a request.
#[derive(Debug)]
enum Met {
    Closed,
    Answer(Box<crate::harness::Response>),
}

/// `own`: the certificate that the client shows where it is asked for one.
fn meet(
    proxy: &Proxy,
    wire: &str,
    host: &str,
    path: &str,
    method: &str,
    headers: &Headers,
    own: Option<&Pair>,
) -> Met {
    let mut tls = Tls::to(&host.to_lowercase());
    if let Some(own) = own {
        tls = tls.showing(own);
    }
    let mut client = match wire {
        "http" => proxy.client(),
        _ => match tls.shake(proxy.address()) {
            Ok(line) => Client::over(line),
            Err(_) => return Met::Closed,
        },
    };
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        let port = proxy.address().port();
        text.push_str(&format!("Host: {}:{port}\r\n", host.to_lowercase()));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let length = headers.iter().find(|(name, _)| *name == "Content-Length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    text.push_str(&"x".repeat(length));
    if client.try_send(text).is_err() {
        return Met::Closed;
    }
    match client.try_response(method) {
        Ok(response) => Met::Answer(Box::new(response)),
        Err(_) => Met::Closed,
    }
}

#[track_caller]
fn agree(told: &Value, met: &Met, ports: &[u16], is_known: bool, what: &str) {
    let outcome = &told["outcome"];
    let kind = outcome["kind"].as_str().unwrap();
    let response = match (kind, met) {
        ("close", Met::Closed) => return,
        ("close", _) | (_, Met::Closed) => panic!("{what}"),
        (_, Met::Answer(response)) => response,
    };
    if let Some(status) = outcome["status"].as_u64() {
        assert_eq!(u64::from(response.status), status, "{what}");
    }
    let reason = response.values("onedoor-reason").first().cloned();
    assert_eq!(
        reason.map_or(Value::Null, Value::from),
        outcome["reason"],
        "{what}"
    );
    match kind {
        "redirect" => assert_eq!(
            json!(response.value("location")),
            outcome["location"],
            "{what}"
        ),
        "forward" => {
            assert_eq!(response.status, 200, "{what}");
            let backends = told["backends"].as_array().unwrap();
            let known = |backend: &Value| {
                ports.iter().any(|port| {
                    backend["address"]
                        .as_str()
                        .unwrap()
                        .ends_with(&port.to_string())
                })
            };
            assert!(!backends.is_empty() && backends.iter().all(known), "{what}");
            // HEAD has no echo.
            if !response.body.is_empty() {
                heads_agree(told, &response.text(), is_known, what);
            }
        }
        _ => {}
    }
}

/// The head that the app got has every field that was said to be added, and none that was said to be removed. `is_known`:
/// the client has shown a certificate.
#[track_caller]
fn heads_agree(told: &Value, head: &str, is_known: bool, what: &str) {
    let path = &told["path"];
    let sent = path["sent_as"].as_str().or(path["path"].as_str()).unwrap();
    let target = head.split(' ').nth(1).unwrap();
    assert_eq!(target.split('?').next().unwrap(), sent, "{what}");
    let lines: Vec<(String, &str)> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect();
    for added in told["request"]["added"].as_array().unwrap() {
        let (name, value) = (
            added["name"].as_str().unwrap(),
            added["value"].as_str().unwrap(),
        );
        let is_there = lines.iter().any(|(other, given)| {
            *other == name.to_lowercase() && (*given == value || value.starts_with('('))
        });
        let is_meant = is_known || !name.starts_with("X-Client-Cert");
        assert_eq!(is_there, is_meant, "{name}: {value} in\n{head}\n{what}");
    }
    let is_told = |name: &str| told["request"]["added"].to_string().contains(name);
    let is_sent = lines
        .iter()
        .any(|(name, _)| name.starts_with("x-client-cert"));
    assert_eq!(is_sent, is_known && is_told("X-Client-Cert"), "{what}");
    for removed in told["request"]["removed"].as_array().unwrap() {
        let name = removed["name"].as_str().unwrap().to_lowercase();
        // Written anew under the same name.
        let added = told["request"]["added"].as_array().unwrap();
        let is_anew = added
            .iter()
            .any(|added| added["name"].as_str().unwrap().to_lowercase() == name);
        assert!(
            is_anew || lines.iter().all(|(other, _)| *other != name),
            "{name} in\n{head}\n{what}"
        );
    }
}
