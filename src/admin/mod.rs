//! The socket that `ls`, `wait`, `reload` and deploy scripts talk to: HTTP/1.1 and JSON on a unix socket.
//!
//! One request per connection, no bodies: `curl --unix-socket STATE/admin.sock http://onedoor/v1/sites` is a client.
//! Runs on the control thread; nothing here is on the way of a proxied request.

mod answer;
pub mod client;
mod question;
mod reserve;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::observe::Counters;
use crate::reload::{Reload, Report};
use crate::settings::Renewed;
use answer::Answer;
use question::{Parsed, Question, Refusal};
use reserve::Reserve;

/// From connect to a whole request, and for an answer to be taken. 5 s: everybody here is on this machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request head; there is nothing to say at length.
const HEAD_BYTES: usize = 4 << 10;
/// Connections at once. Waiting deploy scripts are the many; a program that loops must not take the descriptors.
const CONNECTIONS: usize = 256;
/// How long accepting rests where there is nothing to accept with.
const PAUSE: Duration = Duration::from_millis(50);

/// What can be done by those who ask.
#[derive(Clone, Debug)]
pub struct Powers {
    pub reload: Reload,
    /// To whoever reads the daemon file.
    pub again: mpsc::UnboundedSender<Again>,
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
}

/// What is told about this process.
#[derive(Clone, Debug)]
pub struct About {
    pub listening: Vec<SocketAddr>,
    pub sites: PathBuf,
    pub state: PathBuf,
    /// One block per worker.
    pub counters: Vec<Arc<Counters>>,
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
pub async fn serve(
    listener: std::os::unix::net::UnixListener,
    powers: Powers,
    about: About,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let about = Arc::new(about);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let reserve = Reserve::keep(&listener);
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return Ok(());
        };
        match listener.accept().await {
            Ok((mut stream, _)) => {
                let (powers, about, reserve) = (powers.clone(), about.clone(), reserve.clone());
                tokio::spawn(async move {
                    // A client that went away early has nobody left to tell.
                    drop(converse(&mut stream, &powers, &about).await);
                    reserve.close(stream);
                    drop(slot);
                });
            }
            Err(_) if reserve.spend() => {}
            // Out of descriptors or memory passes; a full turn of the loop would burn the processor meanwhile.
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn converse(stream: &mut UnixStream, powers: &Powers, about: &About) -> io::Result<()> {
    let answer = match timeout(PATIENCE, read(stream)).await {
        Ok(Ok(Ok(question))) => {
            tokio::select! {
                biased;
                answer = reply(question, powers, about) => answer,
                // Somebody who waits and gives up is not kept until the end of the time.
                () = gone(stream) => return Ok(()),
            }
        }
        Ok(Ok(Err(refusal))) => answer::refused(refusal),
        Ok(Err(error)) => return Err(error),
        Err(_) => answer::refused(Refusal::TooSlow),
    };
    let written = timeout(PATIENCE, stream.write_all(&answer.into_bytes())).await;
    written.unwrap_or_else(|elapsed| Err(elapsed.into()))?;
    stream.shutdown().await
}

async fn read(stream: &mut UnixStream) -> io::Result<Result<Question, Refusal>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match question::parse(&head) {
            Ok(Parsed::Complete(question)) => return Ok(Ok(question)),
            Ok(Parsed::NeedMore) if head.len() < HEAD_BYTES => {}
            Ok(Parsed::NeedMore) => return Ok(Err(Refusal::TooLong)),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
}

async fn reply(question: Question, powers: &Powers, about: &About) -> Answer {
    let reload = &powers.reload;
    match question {
        Question::Status => answer::status(about),
        Question::Counters => answer::counters(about),
        Question::Sites => answer::sites(&reload.list().await),
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
            answer::waited(&reload.wait(name, until, time).await)
        }
    }
}

/// Returns when the other side has closed; bytes behind the request are nobody's.
async fn gone(stream: &mut UnixStream) {
    let mut ignored = [0; 256];
    while !matches!(stream.read(&mut ignored).await, Ok(0) | Err(_)) {}
}
