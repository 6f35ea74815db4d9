//! One request, from its head to its end.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use ::h2::Reason as Code;
use ::h2::ext;
use data_encoding::BASE64;
use http::Method;
use http::request::Parts;

use super::connection::Shared;
use super::request::{Asks, Protocol, Room, Whole, view};
use super::share::Share;
use super::stream::ClientStream;
use crate::http::answer::Answer;
use crate::http::begin::{self, SMALL_BODY_BYTES, Said, Step};
use crate::http::body::{BadBody, BodyError};
use crate::http::departure::{After, Departure, Order};
use crate::http::flight::{self, Flight, Landed};
use crate::http::known_host::{Gate, KnownHost, Patience};
use crate::http::logged;
use crate::http::reader::{Pace, Unsent};
use crate::http::side::Source;
use crate::limits::{SiteLimits, SiteTimeouts};
use crate::observe::panic::{self, InWork};
use crate::observe::{self, Finished, Kind, Reason};
use crate::site::{Site, SiteSlot};
use crate::wheel::{Expired, Tick, Timer};

/// What is to be done about it.
#[expect(
    clippy::large_enum_variant,
    reason = "the largest is the usual one, and a box would be an allocation for each request"
)]
enum Begun<'a> {
    Say(Said),
    Send(Departure, Arc<Site>, (Share<'a>, SiteSlot)),
}

/// Why nothing is begun.
enum Halt {
    Refused(Answer),
    /// Files that this site names have to be read first.
    NotYet(Arc<Site>),
}

impl From<Answer> for Halt {
    fn from(answer: Answer) -> Halt {
        Halt::Refused(answer)
    }
}

/// Serves one request.
pub(super) async fn one(shared: Rc<Shared>, parts: Parts, mut stream: ClientStream) {
    let shared = &*shared;
    let _client = NoteClient(shared);
    let kit = &shared.kit;
    let started = kit.wheel.now();
    // Taken back before it was looked at: nothing is begun for it (CVE-2023-44487).
    if poll_fn(|cx| Poll::Ready(stream.outgoing.poll_reset(cx).is_ready())).await {
        return;
    }
    let timer = kit.wheel.timer();
    let begun = begin(shared, &parts, &mut stream, &timer).await;
    let with_body = parts.method != Method::HEAD;
    drop(parts);
    match begun {
        Begun::Say(said) => say(shared, said, &mut stream, &timer, started).await,
        Begun::Send(mut departure, site, slots) => {
            match take_small_body(&mut departure, &mut stream).await {
                Ok(()) => send(shared, &mut departure, &site, &mut stream, &timer, started).await,
                Err(error) => {
                    let said = Said::refused(flight::answer_to(&error), kit, with_body);
                    say(shared, said, &mut stream, &timer, started).await;
                }
            }
            drop(slots);
        }
    }
    stream.incoming.throw_away();
}

async fn begin<'a>(
    shared: &'a Shared,
    parts: &Parts,
    stream: &mut ClientStream,
    timer: &Timer,
) -> Begun<'a> {
    let kit = &shared.kit;
    let mut patience = Patience::Left;
    loop {
        match try_to_begin(shared, parts, patience, stream, timer) {
            Ok(begun) => return begun,
            Err(Halt::Refused(answer)) => {
                let with_body = parts.method != Method::HEAD;
                return Begun::Say(Said::refused(answer, kit, with_body));
            }
            Err(Halt::NotYet(site)) => {
                let read = kit.shared.keyring.until_read(&site);
                // As long as a handshake would wait. What is not known then is said then.
                let waited = timer.within(kit.shared.limits.opening_time, read).await;
                let (Ok(()) | Err(Expired)) = waited;
                patience = Patience::Over;
            }
        }
    }
}

fn try_to_begin<'a>(
    shared: &'a Shared,
    parts: &Parts,
    patience: Patience,
    stream: &mut ClientStream,
    timer: &Timer,
) -> Result<Begun<'a>, Halt> {
    let kit = &shared.kit;
    let asker = shared.asker();
    let asks = match (&parts.method, parts.extensions.get::<ext::Protocol>()) {
        (_, Some(protocol)) if protocol.as_str() == "websocket" => {
            Asks::Tunnel(Protocol::WebSocket)
        }
        (&Method::CONNECT, _) => return Err(Answer::MethodNotAllowed.into()),
        _ => Asks::Response,
    };
    let whole = Whole::of(parts);
    let mut room = Room::default();
    let limits = &kit.shared.head_limits;
    let crumbs = kit.shared.limits.crumbs;
    let is_over = stream.incoming.is_over();
    let head = view(parts, &whole, asks, is_over, limits, crumbs, &mut room)?;
    // A trusted proxy may have ended TLS, and says what it was asked.
    if head.scheme.is_some_and(|scheme| scheme != asker.wire) && !asker.client.trusted {
        let what = "the target's scheme is not that of the connection";
        return Err(Answer::Malformed(what).into());
    }
    let asked_for = head.authority.ok_or(Answer::NoHost)?;
    let mut known = shared.known.borrow_mut();
    let known = KnownHost::recall(&mut known, asked_for, &asker, None)?;
    if let Some(site) = known.unread(patience)
        && !crate::http::exchange::is_lifted(Gate::NotYet, &head, &site, asker.client)
    {
        return Err(Halt::NotYet(site));
    }
    let mut order = match begin::begin(&head, b"", known, &asker, timer, true, false)? {
        Step::Say(said) => return Ok(Begun::Say(said)),
        Step::Send(order) => order,
    };
    let site = known.site().ok_or(Answer::NoSite)?;
    // Each request holds what a connection of HTTP/1 holds, of its client's share and of its site's.
    let share = shared.share().ok_or(Answer::ClientFull)?;
    let slot = kit.slot(site).ok_or(Answer::SiteFull)?;
    if asks == Asks::Tunnel(Protocol::WebSocket) {
        stream.is_tunnel = true;
        add_key(&mut order, &kit.request_id());
    }
    let upload = begin::upload(&head, site, kit);
    Ok(Begun::Send(
        Departure { order, upload },
        Arc::clone(site),
        (share, slot),
    ))
}

/// What a client of HTTP/1 would have made up (RFC 6455 4.1): over HTTP/2 there is none (RFC 8441 5).
fn add_key(order: &mut Order, random: &[u8; 32]) {
    let out = &mut order.out;
    let before_last_line = out.len() - b"\r\n".len();
    out.truncate(before_last_line);
    out.extend_from_slice(b"Sec-WebSocket-Key: ");
    out.extend_from_slice(BASE64.encode(&random[..16]).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// Of a small body all has come by now, and it leaves with its head.
async fn take_small_body(
    departure: &mut Departure,
    stream: &mut ClientStream,
) -> Result<(), BadBody> {
    let Departure { order, upload } = departure;
    if upload.is_done() || stream.is_tunnel {
        return Ok(());
    }
    match poll_fn(|cx| Poll::Ready(upload.take_from(cx, &mut stream.incoming))).await {
        // The flight will find the client gone, and count it.
        Ok(()) | Err(BodyError::SourceGone | BodyError::TargetGone) => {}
        Err(BodyError::Bad(bad)) => return Err(bad),
    }
    upload.join(&mut order.out, SMALL_BODY_BYTES);
    Ok(())
}

async fn send(
    shared: &Shared,
    departure: &mut Departure,
    site: &Arc<Site>,
    stream: &mut ClientStream,
    timer: &Timer,
    started: Tick,
) {
    let kit = &shared.kit;
    let asker = shared.asker();
    let mut pinned = None;
    if site.send_proxy.is_some() {
        let introduced = shared.introduced.get();
        pinned = introduced.and_then(|kept| kept.take()).map(Box::new);
    }
    let flight = Flight {
        client: stream,
        who: asker.client,
        secure: asker.secure,
        timer,
        kit,
        site,
        pinned: &mut pinned,
        is_patient: false,
    };
    let _work = InWork {
        site: site.name.as_str(),
        request_id: departure.order.asked.request_id,
    };
    let Landed {
        after,
        mut finished,
    } = flight.fly(departure, started).await;
    if matches!(after, After::Abort) {
        stream.outgoing.reset(Code::INTERNAL_ERROR);
    }
    // One that has authenticated somebody is nobody else's, and over HTTP/2 it is not his alone either.
    if let Some(upstream) = pinned.filter(|upstream| !upstream.is_pinned) {
        let introduced = shared.introduced.get_or_init(|| kit.upstreams.introduced());
        introduced.keep(*upstream);
    }
    kit.finished(&mut finished, Some(&site.slots));
}

/// Sends a response of our own.
async fn say(shared: &Shared, said: Said, stream: &mut ClientStream, timer: &Timer, started: Tick) {
    let kit = &shared.kit;
    let to_client = said.body_bytes();
    let Said {
        out,
        body,
        status,
        answer,
        site,
        log,
    } = said;
    let pace = Pace::of(&SiteLimits::default(), &SiteTimeouts::default());
    let ClientStream {
        incoming, outgoing, ..
    } = &mut *stream;
    let put = outgoing.put_answer(&out, body, incoming, pace, timer);
    let sent = put.await;
    if sent.is_err() {
        stream.outgoing.reset(Code::CANCEL);
    }
    let cut = (sent == Err(Unsent::TooSlow)).then_some(Reason::SlowReader);
    let log = match log {
        None if site.is_none() => logged::unread(&shared.asker()),
        log => log,
    };
    let mut finished = Finished {
        status,
        reason: cut.or(answer.map(|answer| answer.parts().1)),
        to_client,
        took: kit.since(started),
        log,
        ..Finished::of(Kind::Exchange, observe::Protocol::Http2, site)
    };
    // Another stream may have asked for another site meanwhile; then it is counted for none.
    let known = shared.known.borrow();
    let known = known.as_ref().and_then(|known| known.site());
    let known = known.filter(|known| site == Some(known.number));
    kit.finished(&mut finished, known.map(|site| &*site.slots));
}

/// Says whose request it was, where a panic passes.
struct NoteClient<'a>(&'a Shared);

impl Drop for NoteClient<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            panic::note_client(self.0.asker().client.address);
        }
    }
}
