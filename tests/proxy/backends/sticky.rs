use super::{answers, plan};
use crate::harness::{Backend, Client, Proxy, Response};

/// The pair of a Set-Cookie, and its attributes.
fn cookie(answer: &Response) -> (String, String) {
    let line = answer.value("set-cookie");
    let (pair, attributes) = line.split_once("; ").unwrap();
    (pair.to_owned(), attributes.to_owned())
}

fn with_cookie(client: &mut Client, cookie: &str) -> Response {
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: app.test\r\nCookie: theme=dark; {cookie}\r\n\r\n"
    ));
    client.response()
}

#[test]
fn a_client_comes_back_to_its_backend_also_after_reloads_and_restarts() {
    let apps = ["one", "two", "three"].map(Backend::saying);
    let ports = |apps: &[Backend]| {
        let ports: Vec<String> = apps.iter().map(|app| app.port.to_string()).collect();
        ports.join(", ")
    };
    let mut proxy = plan(format!("to = [{}]\nsticky = true", ports(&apps))).start();
    let mut client = proxy.client();
    let first = client.get("app.test", "/");
    let (pair, attributes) = cookie(&first);
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
    assert!(pair.starts_with("onedoor="));
    assert!(!pair.contains(&apps[0].port.to_string()), "{pair}");
    for _ in 0..20 {
        let answer = with_cookie(&mut client, &pair);
        assert_eq!(answer.text(), first.text());
        assert!(!answer.has("set-cookie"), "it has it already");
    }
    // In another order, with one more.
    let more = Backend::saying("more");
    let text = format!(
        "host = 'app.test'\nto = [{}, {}, {}, {}]\nsticky = true",
        more.port, apps[2].port, apps[1].port, apps[0].port
    );
    proxy.site("app.toml", text);
    for _ in 0..20 {
        assert_eq!(with_cookie(&mut client, &pair).text(), first.text());
    }
    proxy.stop();
    proxy.start_again();
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(with_cookie(&mut client, &pair).text(), first.text());
    }
}

#[test]
fn without_a_cookie_or_with_one_of_nobody_any_backend_answers_and_sets_it() {
    let (one, two) = (Backend::saying("one"), Backend::saying("two"));
    let proxy = plan(format!(
        "to = [{}, {}]\nsticky = {{ cookie = 'at' }}",
        one.port, two.port
    ))
    .start();
    let [one, two] = answers(&proxy, 60, ["one", "two"]);
    assert!(one > 0 && two > 0);
    for nobodys in ["at=", "at=x", "at=0123456789abcdef", "at=\"\"; at=y"] {
        let answer = with_cookie(&mut proxy.client(), nobodys);
        assert!(cookie(&answer).0.starts_with("at="), "{nobodys}");
    }
}

#[test]
fn whose_backend_is_gone_is_at_another_one_from_then_on() {
    let (one, two) = (Backend::saying("one"), Backend::saying("two"));
    let proxy = plan(format!("to = [{}, {}]\nsticky = true", one.port, two.port)).start();
    let mut client = proxy.client();
    let (pair, at) = loop {
        let answer = client.get("app.test", "/");
        if answer.text() == "one" {
            break (cookie(&answer).0, answer.text());
        }
    };
    assert_eq!(at, "one");
    drop(one);
    let answer = with_cookie(&mut client, &pair);
    assert_eq!(answer.text(), "two");
    let (moved, _) = cookie(&answer);
    assert_ne!(moved, pair);
    assert!(!with_cookie(&mut client, &moved).has("set-cookie"));
}

#[test]
fn who_is_at_a_drained_backend_stays_there() {
    let (one, two) = (Backend::saying("one"), Backend::saying("two"));
    let site = |weight: u32| {
        format!(
            "to = [{{ at = {}, weight = {weight} }}, {}]\nsticky = true",
            one.port, two.port
        )
    };
    let proxy = plan(site(1)).start();
    let mut client = proxy.client();
    let pair = loop {
        let answer = client.get("app.test", "/");
        if answer.text() == "one" {
            break cookie(&answer).0;
        }
    };
    proxy.site("app.toml", format!("host = 'app.test'\n{}", site(0)));
    assert_eq!(answers(&proxy, 30, ["one", "two"]), [0, 30]);
    for _ in 0..10 {
        assert_eq!(with_cookie(&mut client, &pair).text(), "one");
    }
}

#[test]
fn the_cookie_of_a_client_that_came_by_tls_is_for_tls_only() {
    let app = Backend::saying("app");
    let proxy = Proxy::plan()
        .daemon_file("[trust]\nproxies = ['127.0.0.1']\n")
        .site(
            "app.toml",
            format!("host = 'app.test'\nto = {}\nsticky = true", app.port),
        )
        .start();
    let answer = proxy.ask("GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-Proto: https\r\n\r\n");
    assert!(cookie(&answer).1.ends_with("; Secure"), "{answer:?}");
    let answer = proxy.ask("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert!(!cookie(&answer).1.contains("Secure"), "{answer:?}");
}
