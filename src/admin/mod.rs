//! The socket that `ls`, `wait`, `reload` and deploy scripts talk to: HTTP/1.1 and JSON on a unix socket. For browsers
//! and Prometheus the same, read-only, on a loopback address, where one is named.
//!
//! One request per connection, no bodies: `curl --unix-socket STATE/admin.sock http://onedoor/v1/sites` is a client.
//! Runs on the control thread; nothing here is on the way of a proxied request.

mod answer;
pub mod client;
mod costly;
mod metrics;
mod question;
mod reserve;
mod room;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::http::Shared;
use crate::http::explain::{self, Scene};
use crate::observe::Counters;
use crate::observe::access::Writer;
use crate::observe::events::Events;
use crate::reload::{Reload, Report, Waited, history};
use crate::route::Current;
use crate::settings::Renewed;
use crate::site::{SiteName, directory};
use answer::Answer;
use costly::Costly;
use question::{Parsed, Question, Refusal};
use reserve::Reserve;
use room::{Place, Room, What};

/// From connect to a whole request, and for an answer to be taken. 5 s: everybody here is on this machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request head. 64 KiB: a request to be explained comes in it, with all its headers.
const HEAD_BYTES: usize = 64 << 10;
/// What most of them need.
const USUAL_HEAD_BYTES: usize = 1 << 10;
/// Connections at once that are asked and answered without waiting: a program that loops must not take the descriptors.
const CONNECTIONS: usize = 256;
/// Those that wait for something, for up to a day: deploy scripts are the many. They have a room of their own, so that
/// whoever wants to know something now finds the door free.
const WAITS: usize = 192;
/// As many more for root and the user that we run as, whom nobody else's scripts shall keep from deploying.
const WAITS_OF_OPERATORS: usize = 64;
/// Those at the address.
const WAITS_OF_BROWSERS: usize = 32;
/// Sites whose versions are read at once: each has up to twenty, in memory.
const HISTORIES: usize = 4;
/// How long accepting rests where there is nothing to accept with.
const PAUSE: Duration = Duration::from_millis(50);

const PLAIN: &str = "text/plain; charset=utf-8";

/// What can be done by those who ask.
#[derive(Clone, Debug)]
pub struct Powers {
    pub reload: Reload,
    /// To whoever reads the daemon file.
    pub again: mpsc::UnboundedSender<Again>,
    pub about: Arc<About>,
    pub waits: Waits,
    pub lists: Lists,
}

/// What is made of all sites at once.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    sites: Costly,
    metrics: Costly,
    histories: Histories,
}

/// The right to read versions from the disk.
#[derive(Clone, Debug)]
struct Histories(Arc<Semaphore>);

impl Default for Histories {
    fn default() -> Histories {
        Histories(Arc::new(Semaphore::new(HISTORIES)))
    }
}

/// How many may wait at once.
#[derive(Clone, Debug)]
pub struct Waits {
    of_operators: Arc<Semaphore>,
    of_readers: Arc<Semaphore>,
    /// The address is open to everybody on this machine, who must not keep those waiting whom the socket is for.
    of_browsers: Arc<Semaphore>,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits {
            of_operators: Arc::new(Semaphore::new(WAITS_OF_OPERATORS)),
            of_readers: Arc::new(Semaphore::new(WAITS)),
            of_browsers: Arc::new(Semaphore::new(WAITS_OF_BROWSERS)),
        }
    }
}

impl Waits {
    /// A place, until it is dropped.
    fn take(&self, who: Who) -> Result<OwnedSemaphorePermit, Refusal> {
        let take = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().ok();
        let place = match who {
            Who::Operator => take(&self.of_operators).or_else(|| take(&self.of_readers)),
            Who::Reader => take(&self.of_readers),
            Who::Browser => take(&self.of_browsers),
        };
        place.ok_or(Refusal::TooManyWait)
    }
}

/// The wish that everything be read once more.
#[derive(Debug)]
pub struct Again {
    /// What is gone may go, however much it is.
    pub accept_removals: bool,
    pub reply: oneshot::Sender<Reloaded>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Reloaded {
    pub renewed: Renewed,
    pub report: Report,
    /// Sites that are rejected since other settings are in force.
    pub unfit: Vec<String>,
}

/// What is told about this process.
#[derive(Clone, Debug)]
pub struct About {
    pub listening: Vec<SocketAddr>,
    pub sites: PathBuf,
    pub state: PathBuf,
    /// The daemon file, if there is one.
    pub config: Option<PathBuf>,
    /// One block per worker.
    pub counters: Vec<Arc<Counters>>,
    pub current: Arc<Current>,
    /// What the workers have: another one when the daemon file is read anew.
    pub shared: Arc<RwLock<&'static Shared>>,
    pub access: Writer,
    pub events: Events,
    pub started: SystemTime,
    /// Set when we drain: then nobody new should be sent here.
    pub draining: Arc<AtomicBool>,
    /// Told when somebody wants us to drain.
    pub drain: Arc<Notify>,
    /// Set when workers have ended: how many connections were cut.
    pub ended: Arc<watch::Sender<Option<u64>>>,
}

impl About {
    /// What is in force now.
    fn shared(&self) -> &'static Shared {
        // A reference is whole also after a panic.
        *self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the socket at `path` for its owner and group. A file left by a process that is gone is replaced.
///
/// # Errors
/// `AddrInUse` when somebody answers there; otherwise what bind said.
pub fn listen(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another onedoor answers there",
        ));
    }
    // Beside, then renamed: at no moment is the socket there with other rights or nobody behind it.
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    remove_if_there(&beside)?;
    let listener = std::os::unix::net::UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o660))?;
    std::fs::rename(&beside, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A socket file of ours. Another onedoor may have put one of its own in the same place, before or since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Bound {
    /// What is at `path` now.
    pub fn at(path: &Path) -> Option<Bound> {
        let metadata = std::fs::symlink_metadata(path).ok()?;
        Some(Bound {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Removes it, if it is still there. Left behind it would be no harm: the next run replaces it.
    pub fn remove(&self) {
        if Bound::at(&self.path).as_ref() == Some(self) {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Answers questions until dropped; the connections end with the runtime.
///
/// # Errors
/// When the listener cannot be given to the runtime.
pub async fn serve(listener: std::os::unix::net::UnixListener, powers: Powers) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let room = Room::with(CONNECTIONS);
    let reserve = Reserve::keep(&listener);
    loop {
        match listener.accept().await {
            Ok((mut stream, _)) => {
                let Some(place) = room.place().await else {
                    return Ok(());
                };
                let (powers, reserve) = (powers.clone(), reserve.clone());
                tokio::spawn(async move {
                    let who = match is_ours(&stream) {
                        true => Who::Operator,
                        false => Who::Reader,
                    };
                    // A client that went away early has nobody left to tell.
                    drop(converse(&mut stream, who, &powers, place).await);
                    reserve.close(stream);
                });
            }
            Err(_) if reserve.spend() => {}
            // Out of descriptors or memory passes; a full turn of the loop would burn the processor meanwhile.
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Answers questions on a loopback address until dropped: for browsers and for Prometheus, who may only read.
///
/// # Errors
/// When the listener cannot be given to the runtime.
pub async fn serve_address(listener: std::net::TcpListener, powers: Powers) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let room = Room::with(CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((mut stream, _)) => {
                let Some(place) = room.place().await else {
                    return Ok(());
                };
                let powers = powers.clone();
                tokio::spawn(async move {
                    drop(converse(&mut stream, Who::Browser, &powers, place).await);
                });
            }
            // Whoever asks here can ask again; the socket has the descriptors that are kept for questions.
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Root, or the user that we run as.
    Operator,
    /// Somebody whom the socket's rights let in.
    Reader,
    /// A page in a browser of this machine may be anybody's: what it says in Host tells whose.
    Browser,
}

/// `place` is the right to be asked and answered; whoever waits gives it back first.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    who: Who,
    powers: &Powers,
    place: Place,
) -> io::Result<()> {
    let read = timeout(PATIENCE, read(stream));
    let Ok(read) = place.wait_for(What::Question, read).await else {
        return Ok(());
    };
    let mut place = Right::Question(place);
    let mut wanted = Wanted::All;
    let answer = match read {
        Ok(Ok(Ok(asked))) => {
            wanted = asked.wanted;
            match admit(&asked, who, powers, &mut place) {
                Err(refusal) => answer::refused(refusal),
                Ok(()) => {
                    let takes_work = asked.question.takes_work();
                    let answer = reply(asked.question, powers);
                    match unless_gone(answer, gone(stream), takes_work).await {
                        Some(answer) => answer,
                        None => return Ok(()),
                    }
                }
            }
        }
        Ok(Ok(Err(refusal))) => answer::refused(refusal),
        Ok(Err(error)) => return Err(error),
        Err(_) => answer::refused(Refusal::TooSlow),
    };
    let written = timeout(PATIENCE, answer.write(stream, wanted));
    let written = match &place {
        Right::Question(place) => place.wait_for(What::Taking, written).await,
        Right::Wait(_) | Right::End { .. } => Ok(written.await),
    };
    let Ok(written) = written else {
        return Ok(());
    };
    written.unwrap_or_else(|elapsed| Err(elapsed.into()))?;
    let ended = stream.shutdown().await;
    drop(place);
    ended
}

/// What somebody holds while they are here: the right to ask, to wait, or to see the end of the run.
enum Right {
    Question(Place),
    Wait(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit),
    /// The run ends when nobody waits to be told how.
    End {
        _place: OwnedSemaphorePermit,
        _ended: watch::Receiver<Option<u64>>,
    },
}

/// Whether `who` may have it answered. Whoever waits changes `right` for one of those that are for waiting.
fn admit(asked: &Asked, who: Who, powers: &Powers, right: &mut Right) -> Result<(), Refusal> {
    if who == Who::Browser {
        asked.by_browser.clone()?;
    }
    if asked.question.is_privileged() && who != Who::Operator {
        return Err(Refusal::NotAllowed);
    }
    if let Question::Wait { .. } = asked.question {
        *right = Right::Wait(powers.waits.take(who)?);
    }
    if let Question::Drain { wait: true } = asked.question {
        *right = Right::End {
            _place: powers.waits.take(who)?,
            _ended: powers.about.ended.subscribe(),
        };
    }
    Ok(())
}

/// Whether who asks is root or the user that we run as: the group may read.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|who| who.uid() == 0 || who.uid() == own)
}

/// A question, whether somebody wants more than the head of its answer, and what speaks against answering it to a browser.
#[derive(Debug)]
struct Asked {
    question: Question,
    wanted: Wanted,
    by_browser: Result<(), Refusal>,
}

/// What of an answer somebody wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    All,
    Head,
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Result<Asked, Refusal>> {
    let mut head = Vec::with_capacity(USUAL_HEAD_BYTES);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match question::parse(&head) {
            Ok(Parsed::Complete(question)) => {
                return Ok(Ok(Asked {
                    question,
                    wanted: match question::is_head(&head) {
                        true => Wanted::Head,
                        false => Wanted::All,
                    },
                    by_browser: question::is_of_this_machine(&head),
                }));
            }
            Ok(Parsed::NeedMore) if head.len() < HEAD_BYTES => {}
            Ok(Parsed::NeedMore) => return Ok(Err(Refusal::TooLong)),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
}

async fn reply(question: Question, powers: &Powers) -> Answer {
    let Powers { reload, about, .. } = powers;
    match question {
        Question::Status => answer::status(about),
        Question::Counters => answer::counters(about),
        Question::Metrics => {
            let (reload, about) = (reload.clone(), Arc::clone(about));
            let text = powers.lists.metrics.ask(|| async move {
                let gauges = reload.gauges().await;
                // Not on the thread that follows the files.
                let text = spawn_blocking(move || metrics::text(&about, gauges));
                text.await.unwrap_or_default().into_bytes()
            });
            answer::shared(metrics::CONTENT_TYPE, text.await)
        }
        Question::Page => answer::page(),
        Question::Events => answer::events(&about.events),
        Question::Health => answer::text(200, PLAIN, "ok\n".to_owned()),
        Question::Ready => match about.draining.load(Ordering::Relaxed) {
            false => answer::text(200, PLAIN, "ready\n".to_owned()),
            true => answer::text(503, PLAIN, "draining\n".to_owned()),
        },
        Question::Sites => {
            let reload = reload.clone();
            let list = powers.lists.sites.ask(|| async move {
                let overview = reload.list().await;
                let list = spawn_blocking(move || answer::sites(overview));
                list.await.unwrap_or_default()
            });
            answer::shared(answer::JSON, list.await)
        }
        Question::History { name, whole } => {
            // What has just gone live is written behind the publisher's back.
            reload.flush().await;
            history(name, whole, powers).await
        }
        Question::Gone { name, now } => match reload.gone(SiteName::new(name), now).await {
            true => answer::gone(),
            false => answer::refused(Refusal::NotDone("its file is still there".into())),
        },
        Question::Drain { wait: true } => {
            let mut ended = about.ended.subscribe();
            about.drain.notify_one();
            // Whoever would say so is there as long as we are.
            let cut = ended.wait_for(Option::is_some).await;
            answer::drained(cut.ok().and_then(|cut| *cut).unwrap_or_default())
        }
        Question::Drain { wait: false } => {
            about.drain.notify_one();
            answer::draining(about.shared().limits.drain_time, answer::open(about))
        }
        Question::Explain(question) => explain(&question, reload, about).await,
        Question::Reload { accept_removals } => {
            let (reply, reloaded) = oneshot::channel();
            let again = Again {
                accept_removals,
                reply,
            };
            // One that is about to end reads nothing any more.
            drop(powers.again.send(again));
            answer::reloaded(&reloaded.await.unwrap_or_default())
        }
        Question::Wait { name, until, time } => {
            let waited = reload.wait(name, until, time).await;
            // What serves for a few seconds more is no deployment.
            let is_draining = about.draining.load(Ordering::Relaxed);
            match waited {
                Waited::Serving if is_draining => answer::waited(&Waited::Draining),
                waited => answer::waited(&waited),
            }
        }
    }
}

async fn history(name: String, whole: bool, powers: &Powers) -> Answer {
    let about = &powers.about;
    let (state, site) = (about.state.clone(), SiteName::new(name.as_str()));
    // Given back when they have been read, also where whoever asked has gone meanwhile. It is never closed.
    let place = Arc::clone(&powers.lists.histories.0).acquire_owned().await;
    let read = spawn_blocking(move || {
        let versions = history::versions(&state, &site);
        drop(place);
        versions
    });
    let (versions, has_present) = read.await.unwrap_or_default();
    let file = directory::path_of(&about.sites, &SiteName::new(name.as_str()));
    answer::history((&name, &file), &versions, has_present, whole)
}

/// By the table in force, and the files that would like to be in it.
async fn explain(question: &explain::Question, reload: &Reload, about: &About) -> Answer {
    let host = match explain::host_of(question) {
        Ok(host) => host,
        Err(what) => return answer::refused(Refusal::BadParameter(what)),
    };
    let table = about.current.snapshot();
    let winner = table.find(&host).map(|site| site.name.clone());
    let contest = reload.contest(&host, winner).await;
    let scene = Scene {
        table: &table,
        shared: about.shared(),
        listening: &about.listening,
        offline: false,
    };
    match explain::explain(question, scene, &contest) {
        Ok(explanation) => answer::explained(&explanation),
        Err(what) => answer::refused(Refusal::BadParameter(what)),
    }
}

/// What `reply` answers; `None` where whoever asked is `gone` before: somebody who waits and gives up is not kept until the
/// end of the time. What takes work is not even begun then; anything else is there at once, and is told also to those who
/// say at once that they have nothing more to ask.
async fn unless_gone<T>(
    reply: impl Future<Output = T>,
    gone: impl Future<Output = ()>,
    takes_work: bool,
) -> Option<T> {
    let (mut reply, mut gone) = (pin!(reply), pin!(gone));
    poll_fn(|cx| {
        if takes_work && gone.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(answer) = reply.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        match takes_work {
            true => Poll::Pending,
            false => gone.as_mut().poll(cx).map(|()| None),
        }
    })
    .await
}

/// Returns when the other side has closed; bytes behind the request are nobody's.
async fn gone<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut ignored = [0; 256];
    while !matches!(stream.read(&mut ignored).await, Ok(0) | Err(_)) {}
}
