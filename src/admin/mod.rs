//! The socket that `ls`, `wait`, `reload` and deploy scripts talk to: HTTP/1.1 and JSON on a unix socket. For browsers
//! and Prometheus the same, read-only, on a loopback address, where one is named.
//!
//! One request per connection, no bodies: `curl --unix-socket STATE/admin.sock http://onedoor/v1/sites` is a client.
//! Runs on the control thread; nothing here is on the way of a proxied request.

mod answer;
pub mod client;
mod conversation;
mod costly;
mod metrics;
mod question;
mod reply;
mod reserve;
mod room;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::sleep;

use crate::http::Shared;
use crate::observe::Counters;
use crate::observe::access::Writer;
use crate::observe::events::Events;
use crate::reload::{Reload, Report};
use crate::route::Current;
use crate::settings::Renewed;
use conversation::converse;
use costly::Costly;
use question::Refusal;
use reserve::Reserve;
use room::Room;

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

/// Whether who asks is root or the user that we run as: the group may read.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|who| who.uid() == 0 || who.uid() == own)
}
