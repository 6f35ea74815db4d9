//! What a worker lends to the exchanges on it: routes, upstreams, clock, counters. Owned by one thread.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;

use super::h1::head::HeadLimits;
use super::logged;
use super::obtain::Budget;
use crate::limits::Limits;
use crate::linger::{Lingered, linger};
use crate::observe::access::{self, AccessLog, Spoken, Who};
use crate::observe::{Counters, Finished, Reason, SAMPLE};
use crate::route::{Current, Snapshot};
use crate::settings::ProxyProtocol;
use crate::site::{Site, SiteSlot, SiteSlots, Wire};
use crate::stream::Stream;
use crate::tls::{Keyring, Secure, Turnstile};
use crate::upstream::{Balancer, States, Tally, Upstreams};
use crate::wheel::{Tick, Timer, Wheel};

/// Who is asking. Filled in by the door.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub address: SocketAddr,
    /// The address and port of ours that the client connected to.
    pub local: SocketAddr,
    /// Whether its X-Forwarded-* are believed: it is one of `[trust] proxies`.
    pub trusted: bool,
}

/// A connection whose opening has been read. Boxed where it is made, so that the task of an idle connection is
/// little more than a pointer.
#[derive(Debug)]
pub struct Arrival {
    pub stream: Stream,
    pub client: Client,
    /// What is known of its TLS, where that ends here.
    pub secure: Option<Box<Secure>>,
    pub timer: Timer,
    /// What `client.trusted` was found by.
    pub trusted_by: &'static Shared,
    /// How many requests may still come on it.
    pub requests_left: u32,
    pub kit: Rc<Kit>,
}

/// Who asks, and by what kind of connection: what is the same for all requests on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    pub(super) client: &'a Client,
    pub(super) secure: Option<&'a Secure>,
    pub(super) wire: Wire,
    pub(super) kit: &'a Rc<Kit>,
}

impl Arrival {
    /// Asks again whether the client's X-Forwarded-* are believed, where that may be another answer than before. A
    /// comparison of pointers, for every request.
    pub fn renew_trust(&mut self) {
        let shared = self.kit.shared.latest();
        if !std::ptr::eq(self.trusted_by, shared) {
            self.trusted_by = shared;
            self.client.trusted = shared.trusts(self.client.address.ip().to_canonical());
        }
    }

    pub(super) fn asker(&self) -> Asker<'_> {
        Asker {
            client: &self.client,
            secure: self.secure.as_deref(),
            wire: self.stream.wire(),
            kit: &self.kit,
        }
    }
}

/// What all workers read. Only the marks of `full` in it change, and rarely; when the daemon file is read anew, another value
/// takes its place.
#[derive(Debug)]
pub struct Shared {
    pub limits: Limits,
    pub head_limits: HeadLimits,
    /// What one site may have of the connections, when it does not say.
    pub site_connections: usize,
    /// Idle upstreams of a worker.
    pub pool_all: usize,
    pub trusted_proxies: Vec<IpNet>,
    pub proxy_protocol: ProxyProtocol,
    /// Which requests are logged where.
    pub access: access::Wanted,
    /// Our name in Via: a pseudonym of its own per state directory, so that loops are found.
    pub via: Box<str>,
    pub keyring: Arc<Keyring>,
    pub states: Arc<States>,
    pub full: Arc<FullSites>,
}

impl Shared {
    /// Whether the X-Forwarded-* of `ip` are believed.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(&ip))
    }
}

/// The [`Shared`] in force on one worker. Reading it is reading a pointer: no lock, no count.
///
/// What was in force before is never freed, because a connection may be looking at it while it waits: that is a
/// kilobyte for every change of the daemon file.
#[derive(Debug)]
pub struct Latest(Cell<&'static Shared>);

impl Latest {
    pub fn latest(&self) -> &'static Shared {
        self.0.get()
    }
}

impl std::ops::Deref for Latest {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        self.0.get()
    }
}

/// Which sites were found full: their connections that wait for a request make room, on any worker.
#[derive(Debug)]
pub struct FullSites([AtomicU64; FullSites::MARKS]);

impl Default for FullSites {
    fn default() -> FullSites {
        FullSites([const { AtomicU64::new(0) }; FullSites::MARKS])
    }
}

impl FullSites {
    /// Each site has one of them by its number. Of two that share one and are found full in the same tick, the other
    /// will be found full again.
    pub const MARKS: usize = 256;

    /// Two at once leave one of the marks; that does for both.
    fn mark(&self, site: u32) {
        let mark = &self.0[site as usize % FullSites::MARKS];
        let times = (mark.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        mark.store(times << 32 | u64::from(site), Ordering::Relaxed);
    }

    /// The sites that were found full since `seen`, which becomes what is seen now.
    pub fn since<'s>(
        &'s self,
        seen: &'s mut [u64; FullSites::MARKS],
    ) -> impl Iterator<Item = u32> + use<'s> {
        self.0.iter().zip(seen).filter_map(|(mark, seen)| {
            let mark = mark.load(Ordering::Relaxed);
            (std::mem::replace(seen, mark) != mark).then_some(mark as u32)
        })
    }
}

/// A worker among the others.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    pub worker: usize,
    pub workers: usize,
    /// Of its random numbers; its own.
    pub seed: [u64; 2],
}

/// See the module.
#[derive(Debug)]
pub struct Kit {
    pub shared: Latest,
    pub wheel: Rc<Wheel>,
    pub upstreams: Upstreams,
    pub balancer: Balancer,
    pub(super) budget: Budget,
    pub counters: Arc<Counters>,
    pub access: AccessLog,
    /// Which worker this is, of how many.
    seat: Seat,
    /// Requests until one is measured.
    until_watch: Cell<u32>,
    pub turnstile: Rc<Turnstile>,
    current: Arc<Current>,
    snapshot: RefCell<Snapshot>,
    /// Tables this worker has let go of; freed by the thread that published them.
    retired: RefCell<Vec<Snapshot>>,
    date: Cell<(Tick, [u8; 29])>,
    random: Cell<[u64; 2]>,
}

impl Kit {
    pub fn new(
        shared: &'static Shared,
        current: Arc<Current>,
        wheel: Rc<Wheel>,
        counters: Arc<Counters>,
        tally: Arc<Tally>,
        access: AccessLog,
        seat: Seat,
    ) -> Kit {
        let seed = seat.seed;
        let turnstile = Rc::new(Turnstile::new(shared.limits.handshakes));
        Kit {
            upstreams: Upstreams::new(
                shared.limits.pool,
                shared.pool_all,
                Arc::clone(&shared.keyring),
                Rc::clone(&turnstile),
                Rc::clone(&wheel),
            ),
            balancer: Balancer::new(tally, seed[0] ^ seed[1].rotate_left(32)),
            budget: Budget::default(),
            snapshot: RefCell::new(current.snapshot()),
            retired: RefCell::default(),
            date: Cell::new((0, date_text(SystemTime::now()))),
            random: Cell::new([seed[0] | 1, seed[1]]),
            shared: Latest(Cell::new(shared)),
            turnstile,
            wheel,
            counters,
            access,
            seat,
            until_watch: Cell::new(0),
            current,
        }
    }

    /// Puts `shared` in force for everything that is asked from now on, also on connections that are open.
    pub fn renew(&self, shared: &'static Shared) {
        self.shared.0.set(shared);
        self.upstreams.allow(shared.limits.pool, shared.pool_all);
        self.turnstile.allow(shared.limits.handshakes);
    }

    /// Which worker this is, of how many.
    pub(super) fn seat(&self) -> Seat {
        self.seat
    }

    /// The time, for one request of [`SAMPLE`].
    #[inline]
    pub fn watch(&self) -> Option<Instant> {
        match self.until_watch.get() {
            0 => {
                self.until_watch.set(SAMPLE - 1);
                Some(Instant::now())
            }
            left => {
                self.until_watch.set(left - 1);
                None
            }
        }
    }

    /// Counts what has ended, also for its site, and logs it where somebody wants that.
    #[inline]
    pub fn finished(&self, finished: &mut Finished, site: Option<&SiteSlots>) {
        self.counters.finished(finished);
        if let Some(site) = site {
            if let Some(counts) = site.counts.of_worker(self.seat.worker, self.seat.workers) {
                counts.request(finished.protocol, finished.status);
                counts.from_client.add(finished.from_client);
                counts.to_client.add(finished.to_client);
                if let Some(watch) = finished.watch {
                    counts.duration(watch.elapsed());
                }
            }
            if let Some(reason) = finished.reason {
                site.refusals.add(reason as usize);
            }
        }
        if let Some(log) = finished.log.take() {
            self.access.take(log, finished);
        }
    }

    /// A line for a connection whose TLS is passed through, if somebody wants one.
    pub fn log_passed_through(
        &self,
        site: &Site,
        client: IpAddr,
        sni: Option<&str>,
    ) -> Option<Box<access::Begun>> {
        let wanted = &self.shared.latest().access;
        let to = wanted.destination(Some(&site.access_log))?;
        let who = Who {
            client,
            site: Some(site.name.as_str()),
            host: sni.unwrap_or_default().as_bytes(),
            tls: None,
            sni,
        };
        Some(logged::unrequested(self, to, wanted, &who, Spoken::Tls))
    }

    /// The generation of the table in force. One load.
    pub fn generation(&self) -> u64 {
        self.current.generation()
    }

    /// The site that answers for `host`, in the table in force.
    pub fn find(&self, host: &str) -> Option<Arc<Site>> {
        self.refresh();
        self.snapshot.borrow().find(host).cloned()
    }

    /// Lets the other side of a connection that ends read our last words, unless others need the room.
    pub async fn linger(&self, stream: &mut Stream, timer: &Timer) {
        if linger(stream, timer, &self.shared.limits).await == Lingered::MadeRoom {
            self.counters.because(Reason::MadeRoom);
        }
    }

    /// A slot of `site` for one more connection. When all are taken, those of its connections on this worker that wait
    /// for a request make room; for those of other workers it is too late this time.
    pub fn slot(&self, site: &Site) -> Option<SiteSlot> {
        let most = site
            .limits
            .connections
            .unwrap_or(self.shared.site_connections);
        if let Some(slot) = site.slots.connection(most) {
            return Some(slot);
        }
        let rested = self.shared.limits.idle_when_full;
        if self.wheel.make_room_at_site(site.number, rested) {
            // One too many until the one that was told has closed.
            return site.slots.connection(usize::MAX);
        }
        self.shared.full.mark(site.number);
        site.slots.refusals.add(Reason::SiteFull as usize);
        None
    }

    /// Lets go of an old table.
    pub fn refresh(&self) {
        if self.snapshot.borrow().generation() != self.current.generation() {
            let old = self.snapshot.replace(self.current.snapshot());
            self.retired.borrow_mut().push(old);
        }
    }

    /// The tables let go of, for the publisher to free.
    pub fn retired(&self) -> Vec<Snapshot> {
        self.retired.take()
    }

    /// The text of a Date field (RFC 9110 5.6.7), at most a second old.
    pub fn date(&self) -> [u8; 29] {
        let (since, text) = self.date.get();
        let now = self.wheel.now();
        if now < since + 10 && since != 0 {
            return text;
        }
        let text = date_text(SystemTime::now());
        self.date.set((now.max(1), text));
        text
    }

    /// 32 hex digits that nobody outside can guess from the ones before by accident; no secret.
    pub fn request_id(&self) -> [u8; 32] {
        // xoroshiro128+ (Blackman, Vigna): unique enough for a log, a few cycles.
        let [a, b] = self.random.get();
        let first = a.wrapping_add(b);
        let mixed = a ^ b;
        let (a, b) = (
            a.rotate_left(24) ^ mixed ^ (mixed << 16),
            mixed.rotate_left(37),
        );
        self.random.set([a, b]);
        let mut text = [0; 32];
        let (left, right) = text.split_at_mut(16);
        left.copy_from_slice(&hex(first));
        right.copy_from_slice(&hex(a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b));
        text
    }

    /// How long ago `since` was, on the coarse clock.
    pub fn since(&self, since: Tick) -> Duration {
        crate::wheel::TICK * self.wheel.now().saturating_sub(since)
    }
}

/// The digits of `number`, all at once: each of them is moved into a byte of its own and becomes a character there.
fn hex(number: u64) -> [u8; 16] {
    const LOW: u128 = 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f;
    let spread = |wide: u128, by: u32, mask: u128| (wide | wide << by) & mask;
    let wide = spread(
        u128::from(number),
        32,
        0x0000_0000_ffff_ffff_0000_0000_ffff_ffff,
    );
    let wide = spread(wide, 16, 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff);
    let wide = spread(wide, 8, 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff);
    let nibbles = spread(wide, 4, LOW);
    // A byte beyond 9 is a letter: six more carries into its fifth bit.
    let letters = ((nibbles + (LOW / 0x0f) * 6) >> 4) & (LOW / 0x0f);
    let text = nibbles + (LOW / 0x0f) * u128::from(b'0') + letters * u128::from(b'a' - b'9' - 1);
    text.to_be_bytes()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date_text(time: SystemTime) -> [u8; 29] {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Civil from days (Hinnant): the year starts in March, so that the leap day is its last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = year_of_era + era * 400 + u64::from(month < 2);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let month = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ][month as usize];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let text =
        format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
    let mut bytes = [b' '; 29];
    bytes.copy_from_slice(&text.as_bytes()[..29]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_hex() {
        for number in [
            0,
            1,
            9,
            10,
            0xffff_ffff_ffff_ffff,
            0x0123_4567_89ab_cdef,
            0xf9a0_0000_9a9a_0f0f,
        ] {
            assert_eq!(hex(number), format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 GMT"),
        ] {
            assert_eq!(
                date_text(UNIX_EPOCH + Duration::from_secs(seconds)),
                text.as_bytes()
            );
        }
    }
}
