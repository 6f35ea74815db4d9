//! Work without use is ended, what was begun for it is cancelled, and nobody else notices.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::{client_of, in_front_of, in_front_of_with};
use crate::harness::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Http2, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, frame, request,
};
use crate::harness::{Backend, Client, Proxy, until};

const ENHANCE_YOUR_CALM: u32 = 11;

fn head() -> Vec<u8> {
    request("GET", "app.test", "/", &[])
}

/// Sends `frames` until the connection ends, which it must within `most`, with ENHANCE_YOUR_CALM.
#[track_caller]
fn is_calmed(
    proxy: &Proxy,
    what: &str,
    most: usize,
    reason: &str,
    mut frames: impl FnMut(&mut Http2) -> Vec<u8>,
) {
    let counted = proxy.counted(reason);
    let mut client = Http2::to(proxy);
    client.settle();
    for _ in 0..most {
        let bytes = frames(&mut client);
        if client.try_send(bytes).is_err() {
            break;
        }
    }
    assert_eq!(client.ended(), Some(ENHANCE_YOUR_CALM), "{what}");
    assert_eq!(proxy.counted(reason), counted + 1, "{what}");
    assert_eq!(proxy.get("app.test", "/bystander").status, 200, "{what}");
}

/// CASES H-01.
#[test]
fn requests_that_are_taken_back_at_once_are_ended_and_cancelled() {
    let app = Backend::saying("app");
    let proxy = in_front_of(&app).start();
    is_calmed(&proxy, "rapid reset", 1000, "reset-flood", |client| {
        let stream = client.next_stream();
        let ask = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head());
        [ask, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    });
    until("nothing is held for them", || {
        app.accepted() - app.closed() <= 1
    });
}

/// CASES D-01, as for HTTP/1: a head has its time, and its bytes do not prolong it.
#[test]
fn a_head_that_does_not_end_has_its_time() {
    let app = Backend::saying("app");
    let proxy = in_front_of(&app)
        .daemon_file("[timeout]\nhead = '500ms'\n")
        .start();
    let half = |flags| frame(HEADERS, flags, 1, &head());
    let whole = half(END_HEADERS | END_STREAM);
    for (what, bytes) in [
        ("no END_HEADERS", half(END_STREAM)),
        ("no payload", whole[..9].to_vec()),
        ("half a payload", whole[..20].to_vec()),
    ] {
        let counted = proxy.counted("head-timeout");
        let mut client = Http2::to(&proxy);
        client.settle();
        client.send(bytes);
        assert_eq!(client.ended(), None, "{what}");
        assert_eq!(proxy.counted("head-timeout"), counted + 1, "{what}");
    }
    assert_eq!(proxy.get("app.test", "/").text(), "app");
}

/// What we break off because an app did is no flood of the client's.
#[test]
fn an_app_that_breaks_off_again_and_again_does_not_end_the_connection_of_its_client() {
    let app = Backend::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    let proxy = in_front_of(&app)
        .daemon_file("[limit]\nresets = 5\n")
        .site("own.toml", "host = 'own.test'\nrespond = 'own'")
        .start();
    let mut client = Http2::to(&proxy);
    for _ in 0..30 {
        assert_eq!(client.get("app.test", "/").reset, Some(2));
    }
    assert_eq!(client.get("own.test", "/").text(), "own");
    assert_eq!(proxy.counted("reset-flood"), 0);
}

/// CASES H-02.
#[test]
fn requests_that_make_us_reset_them_are_ended_too() {
    let app = Backend::silent();
    let proxy = in_front_of(&app).start();
    for (what, flags, breaking) in [
        (
            "a window of 0",
            END_STREAM,
            (WINDOW_UPDATE, 0, &[0, 0, 0, 0][..]),
        ),
        (
            "a window that overflows",
            END_STREAM,
            (WINDOW_UPDATE, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ),
        ("a priority on itself", END_STREAM, (PRIORITY, 0, &[])),
        (
            "a body that is not of its length",
            0,
            (DATA, END_STREAM, b"long"),
        ),
    ] {
        let reason = "reset-flood";
        let counted = proxy.counted(reason);
        let mut client = Http2::to(&proxy);
        client.settle();
        for _ in 0..1000 {
            let stream = client.next_stream();
            let more: &[(&str, &str)] = if flags == 0 {
                &[("content-length", "1")]
            } else {
                &[]
            };
            let ask = frame(
                HEADERS,
                END_HEADERS | flags,
                stream,
                &request("GET", "app.test", "/", more),
            );
            let (kind, flags, payload) = breaking;
            let payload = match kind {
                PRIORITY => [&stream.to_be_bytes()[..], &[16]].concat(),
                _ => payload.to_vec(),
            };
            if client
                .try_send([ask, frame(kind, flags, stream, &payload)].concat())
                .is_err()
            {
                break;
            }
        }
        // Some of these end the connection at once, which will do as well.
        let code = client.ended();
        assert!(
            matches!(code, Some(ENHANCE_YOUR_CALM | 1 | 3)),
            "{what}: {code:?}"
        );
        if code == Some(ENHANCE_YOUR_CALM) {
            assert!(proxy.counted(reason) >= counted, "{what}");
        }
    }
    until("nothing is held for them", || {
        app.accepted() == app.closed()
    });
}

/// CASES H-03.
#[test]
fn a_head_without_an_end_is_ended() {
    let app = Backend::recording();
    let proxy = in_front_of(&app).start();
    for piece in [
        &b""[..],
        &[0; 1],
        &crate::harness::hpack::plain("x-a", &[b'x'; 1000]),
    ] {
        let mut client = Http2::to(&proxy);
        client.settle();
        client.frame(HEADERS, END_STREAM, 1, &head());
        for _ in 0..5000 {
            if client.try_send(frame(CONTINUATION, 0, 1, piece)).is_err() {
                break;
            }
        }
        let code = client.ended();
        assert!(matches!(code, Some(ENHANCE_YOUR_CALM | 9 | 1)), "{code:?}");
    }
    assert_eq!(app.requests().len(), 0);
}

/// CASES H-06, H-07.
#[test]
fn floods_of_small_frames_are_ended() {
    let app = Backend::recording();
    let proxy = in_front_of(&app).start();
    for (what, bytes) in [
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ("empty settings", frame(SETTINGS, 0, 0, &[])),
        ("priorities", frame(PRIORITY, 0, 9, &[0, 0, 0, 0, 1])),
        ("new priorities", frame(0x10, 0, 0, b"\0\0\0\x01u=1")),
        (
            "windows of the connection",
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        ),
        ("unknown frames", frame(0xee, 0, 0, b"")),
    ] {
        is_calmed(&proxy, what, 20_000, "frame-flood", |_| bytes.clone());
    }
}

#[test]
fn empty_frames_of_data_are_ended() {
    let app = Backend::recording();
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let stream = client.begin(&request("POST", "app.test", "/", &[]));
    for _ in 0..20_000 {
        if client.try_send(frame(DATA, 0, stream, b"")).is_err() {
            break;
        }
    }
    assert_eq!(client.ended(), Some(ENHANCE_YOUR_CALM));
}

/// What is under way when an upload is refused counts for good in the life of a connection, which then takes no more.
#[test]
fn uploads_that_are_refused_do_not_end_what_else_is_open() {
    /// With one more the connection takes nobody else.
    const ONE_BY_ONE: usize = 16;
    const AT_ONCE: usize = 90;
    let (tell, told) = channel::<()>();
    let told = Mutex::new(told);
    let app = Backend::doing(move |conversation| {
        while conversation.request().is_some() {
            if told.lock().unwrap().recv().is_err() {
                return;
            }
            conversation.answer("open");
        }
    });
    let (proxy, mut client) = client_of(in_front_of(&app));
    let open = client.ask(&head());
    app.until_requests(1);
    let refused = |client: &mut Http2, uploads: usize, on_their_way: usize| {
        let begun: Vec<u32> = (0..uploads)
            .map(|_| client.begin(&request("POST", "nobody.test", "/", &[])))
            .collect();
        for stream in &begun {
            assert_eq!(client.whole(*stream).status(), 421);
        }
        // As if all of it had been on its way.
        for stream in begun {
            client.send(frame(DATA, 0, stream, &[b'u'; 20]).repeat(on_their_way));
        }
    };
    // What nothing follows costs nothing, as calls that their app ends before their client does.
    for _ in 0..50 {
        refused(&mut client, 1, 0);
    }
    for _ in 0..ONE_BY_ONE {
        refused(&mut client, 1, 500);
    }
    client.settle();
    assert!(client.goaways.is_empty());
    refused(&mut client, AT_ONCE, 500);
    client.settle();
    tell.send(()).unwrap();
    assert_eq!(client.whole(open).text(), "open");
    // Whoever speaks HTTP/2 asks by another from now on.
    assert_eq!(client.ended(), Some(0));
    assert_eq!(proxy.counted("frame-flood"), 0);
}

#[test]
fn small_frames_that_are_read_count_for_nothing() {
    let app = Backend::recording();
    let (_proxy, mut client) = client_of(in_front_of(&app));
    for _ in 0..2 {
        let upload = client.begin(&request("POST", "app.test", "/", &[]));
        for _ in 0..10 {
            client.send(frame(DATA, 0, upload, b"u").repeat(1000));
        }
        client.last_data(upload, b"u");
        assert_eq!(client.whole(upload).status(), 200);
    }
    client.settle();
    assert_eq!(client.goaways, []);
}

#[test]
fn small_frames_without_end_on_a_refused_upload_are_ended() {
    let app = Backend::recording();
    let proxy = in_front_of(&app).start();
    let mut upload = None;
    is_calmed(&proxy, "a body", 1000, "frame-flood", |client| {
        let stream = *upload.get_or_insert_with(|| {
            let stream = client.begin(&request("POST", "nobody.test", "/", &[]));
            client.whole(stream);
            stream
        });
        frame(DATA, 0, stream, b"u").repeat(1000)
    });
}

/// They are taken also while nothing but the answer is left to do.
#[test]
fn small_frames_of_an_upload_whose_answer_is_not_read_are_taken() {
    let app = Backend::recording();
    let proxy = in_front_of(&app).start();
    let mut client = Http2::over(proxy.client(), &[(4, 0)]);
    let upload = client.begin(&request("POST", "nobody.test", "/", &[]));
    client.until(upload, |seen| seen.status() == 421);
    for _ in 0..100 {
        client.send(frame(DATA, 0, upload, b"u").repeat(1000));
    }
    client.window(upload, 1 << 20);
    assert!(client.whole(upload).has_ended);
    assert_eq!(client.goaways, []);
}

/// The budgets are those that are set.
#[test]
fn the_budgets_are_settings() {
    let app = Backend::silent();
    let plan = in_front_of(&app).daemon_file("[limit]\nresets = 3\ncontrol_frames = 20\n");
    let proxy = plan.start();
    let mut client = Http2::to(&proxy);
    for _ in 0..8 {
        let stream = client.ask(&head());
        client.frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    }
    assert_eq!(client.ended(), Some(ENHANCE_YOUR_CALM));
    let mut client = Http2::to(&proxy);
    for _ in 0..30 {
        drop(client.try_send(frame(PING, 0, 0, &[0; 8])));
    }
    assert_eq!(client.ended(), Some(ENHANCE_YOUR_CALM));
}

/// CASES H-05, H-26: many answers, and a client that takes none of them.
#[test]
fn a_client_that_never_reads_holds_little_and_is_cut() {
    let app = Backend::doing(|conversation| {
        while conversation.request().is_some() {
            conversation.answer(vec![b'x'; 4 << 20]);
        }
    });
    let proxy = in_front_of_with(&app, "[timeout]\nidle = '2s'\ngrace = '1s'").start();
    let before = proxy.peak_memory();
    // No window at all, and windows beyond any measure.
    for window in [0, 0x7fff_ffff] {
        let client = Client::connect_with_small_buffer(proxy.address());
        let mut client = Http2::over(client, &[(4, window)]);
        client.window(0, 0x7000_0000);
        let asked: Vec<u32> = (0..100).map(|_| client.ask(&head())).collect();
        until("all are answered, as far as that goes", || {
            app.requests().len() >= 100
        });
        assert!(
            proxy.peak_memory() - before < 24 << 20,
            "{}",
            proxy.peak_memory() - before
        );
        app.forget();
        until("it is cut", || proxy.counted("slow-reader") > 0);
        drop((client, asked));
    }
    assert_eq!(proxy.get("app.test", "/").status, 200);
}

/// CASES H-08: a byte at a time, forever.
#[test]
fn a_window_that_opens_byte_by_byte_is_too_slow() {
    let app = Backend::saying(&"x".repeat(100_000));
    let proxy = in_front_of_with(&app, "[timeout]\nidle = '2s'\ngrace = '1s'").start();
    let mut client = Http2::over(proxy.client(), &[(4, 1)]);
    client.reads = false;
    let stream = client.ask(&head());
    let answer = client.until(stream, |so_far| {
        so_far.reset.is_some() || !so_far.body.is_empty()
    });
    assert_eq!(answer.reset, None);
    loop {
        std::thread::sleep(std::time::Duration::from_millis(50)); // the pace of the attack
        if client
            .try_send(frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]))
            .is_err()
        {
            break;
        }
        let so_far = client.read();
        if so_far.is_err() || client.so_far(stream).reset.is_some() {
            break;
        }
    }
    assert!(client.so_far(stream).body.len() < 1000);
    until("it is counted", || proxy.counted("slow-reader") > 0);
}
