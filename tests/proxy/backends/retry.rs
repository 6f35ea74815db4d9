use super::{answers, plan};
use crate::harness::{Backend, Proxy};

/// Answers every request with this status.
fn answering(status: u16) -> Backend {
    Backend::raw_and_open(format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{status}",
        status.to_string().len()
    ))
}

fn in_turn(one: &Backend, two: &Backend, rest: &str) -> Proxy {
    plan(format!(
        "to = [{}, {}]\nbalance = 'round-robin'\n{rest}",
        one.port, two.port
    ))
    .start()
}

#[test]
fn a_get_that_was_not_answered_is_sent_to_another_backend() {
    let (closing, good) = (Backend::closing(), Backend::saying("good"));
    let proxy = in_turn(&closing, &good, "");
    assert_eq!(answers(&proxy, 10, ["good"]), [10]);
    assert!(!closing.requests().is_empty());
}

#[test]
fn a_post_that_was_sent_is_not_sent_again() {
    let (closing, good) = (Backend::closing(), Backend::saying("good"));
    let proxy = in_turn(&closing, &good, "");
    let post = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi";
    let said: Vec<String> = (0..4).map(|_| proxy.ask(post).said()).collect();
    assert!(said.contains(&"502 backend-failed".to_owned()), "{said:?}");
    assert_eq!(closing.requests().len() + good.requests().len(), 4);
}

#[test]
fn a_put_is_sent_again_whole_when_all_of_it_is_still_there() {
    let (closing, good) = (Backend::closing(), Backend::saying("good"));
    let proxy = in_turn(&closing, &good, "");
    let put = "PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nwhole";
    for _ in 0..4 {
        assert_eq!(proxy.ask(put).text(), "good");
    }
    assert!(good.requests().iter().all(|put| put.body == b"whole"));
    // What has been passed on is not kept.
    let large = "x".repeat(1 << 20);
    let put = format!(
        "PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n\r\n{large}",
        large.len()
    );
    let said: Vec<String> = (0..4).map(|_| proxy.ask(&put).said()).collect();
    assert!(said.contains(&"502 backend-failed".to_owned()), "{said:?}");
}

#[test]
fn nothing_is_sent_again_where_the_site_says_so() {
    let (closing, good) = (Backend::closing(), Backend::saying("good"));
    let proxy = in_turn(&closing, &good, "[retry]\ntimes = 0");
    let said: Vec<String> = (0..4).map(|_| proxy.get("app.test", "/").said()).collect();
    assert!(said.contains(&"502 backend-failed".to_owned()), "{said:?}");
    let text = format!(
        "host = 'app.test'\nto = [{}, {}]\nbalance = 'round-robin'\n[retry]\non = 'connect'",
        closing.port, good.port
    );
    proxy.site("app.toml", text);
    let said: Vec<String> = (0..4).map(|_| proxy.get("app.test", "/").said()).collect();
    assert!(said.contains(&"502 backend-failed".to_owned()), "{said:?}");
}

#[test]
fn a_status_is_asked_for_again_only_where_the_site_says_so() {
    for status in [502, 503, 504] {
        let (bad, good) = (answering(status), Backend::saying("good"));
        let proxy = in_turn(&bad, &good, "");
        let texts = [&*status.to_string(), "good"].map(str::to_owned);
        let mut client = proxy.client();
        let seen: Vec<String> = (0..6).map(|_| client.get("app.test", "/").text()).collect();
        assert!(texts.iter().all(|text| seen.contains(text)), "{seen:?}");
        let text = format!(
            "host = 'app.test'\nto = [{}, {}]\nbalance = 'round-robin'\n[retry]\non = '{status}'",
            bad.port, good.port
        );
        proxy.site("app.toml", text);
        assert_eq!(answers(&proxy, 10, ["good"]), [10]);
        let post = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi";
        let seen: Vec<u16> = (0..4).map(|_| proxy.ask(post).status).collect();
        assert!(seen.contains(&status), "a POST is not repeated: {seen:?}");
    }
}

#[test]
fn a_lone_backend_is_not_asked_twice_for_its_503() {
    let bad = answering(503);
    let proxy = plan(format!("to = {}\n[retry]\non = '503'\ntimes = 5", bad.port)).start();
    assert_eq!(proxy.get("app.test", "/").status, 503);
    assert_eq!(bad.requests().len(), 1);
}

#[test]
fn retries_stay_within_their_share_of_requests() {
    let (one, two) = (Backend::closing(), Backend::closing());
    let proxy = in_turn(&one, &two, "[retry]\ntimes = 10\nbudget = '10%'");
    for _ in 0..100 {
        assert_eq!(proxy.get("app.test", "/").said(), "502 backend-failed");
    }
    let sent = one.requests().len() + two.requests().len();
    // Ten at once, and a tenth of a hundred.
    assert!((110..=120).contains(&sent), "{sent}");
}

#[test]
fn what_a_retry_is_answered_is_counted_once() {
    let (closing, good) = (Backend::closing(), Backend::saying("good"));
    let proxy = in_turn(&closing, &good, "");
    answers(&proxy, 4, ["good"]);
    crate::harness::until("they are counted", || proxy.counters()["exchanges"] == 4);
    assert_eq!(proxy.counters()["retries"], closing.requests().len());
}
