//! Frames that are no HTTP/2, and those that may be there.

use super::{client_of, in_front_of};
use crate::harness::http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, request,
};
use crate::harness::{Backend, Client, Proxy};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

/// Sends the frames, after which the connection must end with one of these codes.
#[track_caller]
fn ends_with(proxy: &Proxy, what: &str, codes: &[u32], frames: &[Vec<u8>]) {
    let mut client = Http2::to(proxy);
    drop(client.try_send(frames.concat()));
    let code = client.ended();
    assert!(
        code.is_some_and(|code| codes.contains(&code)),
        "{what}: {code:?}"
    );
}

fn head() -> Vec<u8> {
    request("GET", "app.test", "/", &[])
}

fn asking(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head())
}

/// CASES H-20, H-27.
#[test]
fn frames_in_the_wrong_place_end_the_connection() {
    let app = Backend::silent();
    let proxy = in_front_of(&app).start();
    let protocol = &[PROTOCOL_ERROR][..];
    let closed = &[PROTOCOL_ERROR, STREAM_CLOSED][..];
    for (what, codes, frames) in [
        ("an even stream", protocol, vec![asking(2)]),
        (
            "a stream lower than before",
            closed,
            vec![asking(5), asking(3)],
        ),
        ("a head on stream 0", protocol, vec![asking(0)]),
        ("data on stream 0", protocol, vec![frame(DATA, 0, 0, b"x")]),
        (
            "data on an idle stream",
            protocol,
            vec![frame(DATA, 0, 9, b"x")],
        ),
        (
            "a reset of an idle stream",
            protocol,
            vec![frame(RST_STREAM, 0, 9, &[0; 4])],
        ),
        (
            "a reset of stream 0",
            protocol,
            vec![frame(RST_STREAM, 0, 0, &[0; 4])],
        ),
        (
            "a window of an idle stream",
            protocol,
            vec![frame(WINDOW_UPDATE, 0, 9, &[0, 0, 0, 1])],
        ),
        (
            "a priority of stream 0",
            protocol,
            vec![frame(PRIORITY, 0, 0, &[0; 5])],
        ),
        (
            "settings of a stream",
            protocol,
            vec![frame(SETTINGS, 0, 1, &[])],
        ),
        (
            "a ping of a stream",
            protocol,
            vec![frame(PING, 0, 1, &[0; 8])],
        ),
        (
            "the end of a stream",
            protocol,
            vec![frame(GOAWAY, 0, 1, &[0; 8])],
        ),
        (
            "a promise",
            protocol,
            vec![
                asking(1),
                frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            ],
        ),
        (
            "a continuation of nothing",
            protocol,
            vec![frame(CONTINUATION, END_HEADERS, 1, b"")],
        ),
        (
            "another frame within a head",
            protocol,
            vec![
                frame(HEADERS, END_STREAM, 1, &head()),
                frame(PING, 0, 0, &[0; 8]),
            ],
        ),
        (
            "the continuation of another stream",
            protocol,
            vec![
                frame(HEADERS, END_STREAM, 1, &head()),
                frame(CONTINUATION, END_HEADERS, 3, b""),
            ],
        ),
        (
            "padding longer than its frame",
            protocol,
            vec![frame(DATA, 8, 1, &[9, 0])],
        ),
        (
            "no window at all for the connection",
            protocol,
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 4])],
        ),
    ] {
        ends_with(&proxy, what, codes, &frames);
    }
}

/// CASES H-21 to H-23. Where the library says PROTOCOL_ERROR for a length, the connection ends all the same.
#[test]
fn frames_of_a_wrong_size_or_with_wrong_numbers_end_the_connection() {
    let app = Backend::silent();
    let proxy = in_front_of(&app).start();
    let size = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR][..];
    let flow = &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR][..];
    let setting = |name: u16, value: u32| {
        frame(
            SETTINGS,
            0,
            0,
            &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat(),
        )
    };
    for (what, codes, frames) in [
        (
            "larger than was said",
            &[FRAME_SIZE_ERROR][..],
            vec![frame(DATA, 0, 1, &[0; 16385])],
        ),
        ("half a setting", size, vec![frame(SETTINGS, 0, 0, &[0; 5])]),
        (
            "an acknowledgement with something in it",
            size,
            vec![frame(SETTINGS, ACK, 0, &[0; 6])],
        ),
        ("a short ping", size, vec![frame(PING, 0, 0, &[0; 7])]),
        (
            "a short window",
            size,
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
        ),
        (
            "a short reset",
            size,
            vec![asking(1), frame(RST_STREAM, 0, 1, &[0; 3])],
        ),
        ("push 2", &[PROTOCOL_ERROR], vec![setting(2, 2)]),
        ("a window of 2^31", flow, vec![setting(4, 1 << 31)]),
        ("frames of 1 byte", &[PROTOCOL_ERROR], vec![setting(5, 1)]),
        (
            "a window above 2^31-1",
            &[FLOW_CONTROL_ERROR],
            vec![frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes())],
        ),
    ] {
        ends_with(&proxy, what, codes, &frames);
    }
}

#[test]
fn a_window_of_a_stream_above_2_31_resets_it_alone() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request() {
            if request.target() == "/after" {
                conversation.answer("after");
            }
        }
    });
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let stream = client.ask(&head());
    client.window(stream, 0x7fff_ffff);
    assert_eq!(client.whole(stream).reset, Some(FLOW_CONTROL_ERROR));
    assert_eq!(client.get("app.test", "/after").text(), "after");
}

/// CASES H-32.
#[test]
fn a_block_that_cannot_be_decoded_ends_the_connection() {
    let app = Backend::silent();
    let proxy = in_front_of(&app).start();
    for (what, block) in [
        ("index 0", vec![0x80]),
        ("an index beyond the table", vec![0xff, 0x80, 0x01]),
        (
            "a number without an end",
            vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ),
        ("a table larger than was said", vec![0x3f, 0xe2, 0x1f]),
        (
            "another table size behind a field",
            [&head()[..], &[0x20]].concat(),
        ),
        ("padding of 8 bits", vec![0x00, 0x81, 0xff, 0x00]),
        (
            "the end of a string inside of it",
            vec![0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00],
        ),
        ("a cut string", vec![0x00, 0x05, b'x']),
    ] {
        // The code is the library's affair; that nobody goes on with another table is ours.
        let frames = [frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)];
        ends_with(&proxy, what, &[COMPRESSION_ERROR, PROTOCOL_ERROR], &frames);
    }
    assert_eq!(app.requests().len(), 0);
}

/// CASES H-24.
#[test]
fn silence_behind_half_a_preface_or_without_settings_is_closed() {
    let app = Backend::saying("app");
    let times = "[timeout]\nopening = '1s'\nhead = '1s'\n";
    let proxy = in_front_of(&app).daemon_file(times).start();
    let preface = crate::harness::http2::PREFACE;
    for said in [&preface[..10], preface] {
        let mut client = Client::connect(proxy.address());
        client.send(said);
        client.rest();
    }
    // Something else than settings: no HTTP/2.
    let mut client = Http2::silent(proxy.client());
    client.send([preface, &asking(1)].concat());
    assert_eq!(client.ended(), Some(PROTOCOL_ERROR));
    assert_eq!(app.requests().len(), 0);
}

/// CASES H-25.
#[test]
fn more_streams_than_may_be_are_refused_and_the_others_go_on() {
    let app = Backend::doing(|conversation| {
        while let Some(request) = conversation.request_head() {
            if request.1.target() == "/after" {
                conversation.answer("after");
            }
        }
    });
    let proxy = in_front_of(&app)
        .daemon_file("[limit]\nstreams = 3\n")
        .start();
    let mut client = Http2::to(&proxy);
    let asked: Vec<u32> = (0..4).map(|_| client.ask(&head())).collect();
    assert_eq!(client.whole(asked[3]).reset, Some(REFUSED_STREAM));
    assert!(client.settings.contains(&(3, 3)), "{:?}", client.settings);
    client.frame(RST_STREAM, 0, asked[0], &[0, 0, 0, 8]);
    client.settle();
    assert_eq!(client.get("app.test", "/after").text(), "after");
}

/// CASES H-31.
#[test]
fn what_is_unknown_is_ignored() {
    let app = Backend::saying("app");
    let proxy = in_front_of(&app).start();
    let mut client = Http2::over(proxy.client(), &[(0x9999, 7), (0xa0a, 1)]);
    client.frame(0xfa, 0xff, 0, b"whatever");
    client.frame(0xfb, 0xff, 77, b"");
    client.frame(PRIORITY, 0, 7, &[0, 0, 0, 0, 16]);
    client.frame(PING, 0xfe, 0, b"12345678");
    assert_eq!(client.get("app.test", "/").text(), "app");
}

/// A head in pieces, padded, with a priority: how the bytes are cut does not matter.
#[test]
fn a_head_may_come_in_any_pieces() {
    let app = Backend::saying("app");
    let (_proxy, mut client) = client_of(in_front_of(&app));
    let block = head();
    let (first, rest) = block.split_at(block.len() / 2);
    let (second, third) = rest.split_at(3);
    let padded = [&[2u8][..], &[0, 0, 0, 0, 16], first, &[0, 0]].concat();
    let frames = [
        frame(HEADERS, END_STREAM | 0x8 | 0x20, 1, &padded),
        frame(CONTINUATION, 0, 1, second),
        frame(CONTINUATION, END_HEADERS, 1, third),
    ];
    for byte in frames.concat() {
        client.send([byte]);
    }
    client.next_stream();
    assert_eq!(client.whole(1).text(), "app");
}
