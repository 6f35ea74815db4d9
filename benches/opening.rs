//! How long do the bytes of a request take until they are a head that is believed, a chunked body until it is bare, and a
//! client hello until the site can be looked up?
//!
//! The base of a head is httparse alone, which finds the lines and believes them; the base of a body is a copy of it; the
//! base of a client hello is rustls, which reads all of it.

#![allow(
    clippy::unwrap_used,
    reason = "a bench stops at the first thing that is not as it says"
)]

use std::hint::black_box;
use std::mem::MaybeUninit;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use onedoor::door::client_hello;
use onedoor::http::h1::chunk::ChunkDecoder;
use onedoor::http::h1::head::{self, HeadLimits, Parsed, Room};

const LIMITS: HeadLimits = HeadLimits {
    line_bytes: 8 << 10,
    field_bytes: 16 << 10,
    fields: 100,
    head_bytes: 32 << 10,
};

const SMALL: &str = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
const BROWSER: &str = "GET /cart?item=7 HTTP/1.1\r\nHost: shop.test:8080\r\nConnection: keep-alive\r\n\
    sec-ch-ua: \"Not:A-Brand\";v=\"8\", \"Chromium\";v=\"156\"\r\nsec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request head");
    for (what, text) in [("small", SMALL), ("browser", BROWSER)] {
        let bytes = text.as_bytes();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("{what}, onedoor"), |bencher| {
            bencher.iter(|| {
                let mut room = Room::new();
                let read = head::request(black_box(bytes), &LIMITS, &mut room).unwrap();
                let Parsed::Complete(head) = read else {
                    panic!("a whole head")
                };
                black_box(head.authority).is_some()
            });
        });
        group.bench_function(format!("{what}, httparse alone"), |bencher| {
            bencher.iter(|| {
                let mut fields = [const { MaybeUninit::uninit() }; 100];
                let mut request = httparse::Request::new(&mut []);
                let parsed = request.parse_with_uninit_headers(black_box(bytes), &mut fields);
                parsed.unwrap().is_complete()
            });
        });
    }
    group.finish();
}

fn chunks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("64 KiB of a chunked body");
    for size in [16, 1024, 16 << 10] {
        let data = vec![b'x'; size];
        let mut body = Vec::new();
        while body.len() < 64 << 10 {
            body.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            body.extend_from_slice(&data);
            body.extend_from_slice(b"\r\n");
        }
        group.throughput(Throughput::Bytes(body.len() as u64));
        // The decoder moves the payload together in place, so each turn needs the body anew: the copy is the base.
        group.bench_function(format!("chunks of {size}"), |bencher| {
            bencher.iter_batched_ref(
                || body.clone(),
                |body| {
                    ChunkDecoder::new(16 << 10)
                        .decode(body)
                        .unwrap()
                        .payload
                        .len()
                },
                BatchSize::SmallInput,
            );
        });
        let mut target = vec![0; body.len()];
        group.bench_function(format!("chunks of {size}, only copied"), |bencher| {
            bencher.iter(|| target.copy_from_slice(black_box(&body)));
        });
    }
    group.finish();
}

/// As Chrome sends it, post-quantum key, GREASE and encrypted hello included.
const CHROME: &[u8] = include_bytes!("../fuzz/corpus/client_hello/chrome");

fn hellos(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("client hello of Chrome");
    let in_ten: Vec<u8> = CHROME[5..]
        .chunks(CHROME.len().div_ceil(10))
        .flat_map(|piece| [&[22, 3, 1][..], &(piece.len() as u16).to_be_bytes(), piece].concat())
        .collect();
    for (what, bytes) in [("in one record", CHROME), ("in ten", &in_ten)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("{what}, onedoor"), |bencher| {
            bencher.iter(|| {
                let mut room = client_hello::Room::default();
                let read = client_hello::read(black_box(bytes), 16 << 10, &mut room).unwrap();
                let Parsed::Complete(hello) = read else {
                    panic!("a whole hello")
                };
                black_box(hello.sni).is_some()
            });
        });
        group.bench_function(format!("{what}, rustls"), |bencher| {
            bencher.iter(|| {
                let mut acceptor = rustls::server::Acceptor::default();
                acceptor.read_tls(&mut black_box(bytes)).unwrap();
                let accepted = acceptor
                    .accept()
                    .map_err(|(error, _)| error)
                    .unwrap()
                    .unwrap();
                accepted.client_hello().server_name().is_some()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, heads, chunks, hellos);
criterion_main!(benches);
