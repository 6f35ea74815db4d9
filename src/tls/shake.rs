//! Drives a handshake of either side over a connection, up to the session that comes of it.

use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{AlertDescription, CommonState, Error, ProtocolVersion};
use tokio::net::TcpStream;

use super::handshake::HandshakeError;
use super::record;
use super::session::{Session, Side, encode_behind};
use super::stream::TlsStream;
use crate::block::Block;

/// A handshake that is not over.
pub(super) trait Handshake {
    fn common(&self) -> &CommonState;

    /// Takes the bytes that came, up to the end of a record, and puts what is to be sent behind `out`. Returns how
    /// many bytes are done with, whatever became of them.
    fn step(&mut self, came: &mut [u8], out: &mut Vec<u8>) -> (usize, Result<Step, Error>);

    fn finish(self) -> Side;
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Another step with the bytes that are left.
    Again,
    /// What was put out is sent, and then more must come, unless the handshake is over.
    Wait,
}

/// What is known when it is over.
#[derive(Debug)]
pub(super) struct Shaken {
    pub(super) stream: TlsStream,
    pub(super) version: ProtocolVersion,
    pub(super) peer: Option<CertificateDer<'static>>,
}

/// Goes through with `handshake`, of which `came` has come already.
///
/// # Errors
/// `Refused`, when the other side has been told why; `Broken`.
pub(super) async fn shake<H: Handshake>(
    mut handshake: H,
    mut tcp: TcpStream,
    came: Box<[u8]>,
) -> Result<Shaken, HandshakeError> {
    // Bytes that came and are not done with. As long as the handshake waits it holds these, and not a block.
    let mut held = Vec::from(came);
    match to_the_end(&mut handshake, &mut tcp, &mut held).await {
        Ok(()) => {}
        Err(Stop::Refused(why)) => return Err(HandshakeError::Refused { why, tcp }),
        Err(Stop::Broken(error)) => return Err(HandshakeError::Broken(error)),
    }
    let common = handshake.common();
    let alpn = common.alpn_protocol().map(Box::from);
    let version = common
        .protocol_version()
        .unwrap_or(ProtocolVersion::TLSv1_2);
    let peer = common.peer_certificates().and_then(<[_]>::first).cloned();
    let session = Session::new(handshake.finish());
    Ok(Shaken {
        stream: TlsStream::new(tcp, session, alpn, held.into()),
        version,
        peer,
    })
}

/// Why it goes no further.
enum Stop {
    Refused(Error),
    Broken(io::Error),
}

async fn to_the_end<H: Handshake>(
    handshake: &mut H,
    tcp: &mut TcpStream,
    held: &mut Vec<u8>,
) -> Result<(), Stop> {
    // Those of the bytes held that the library has seen.
    let mut seen = 0;
    loop {
        let mut out = Vec::new();
        let stepped = steps(handshake, held, &mut seen, &mut out);
        put_all(tcp, &out, stepped.is_err())
            .await
            .map_err(Stop::Broken)?;
        stepped.map_err(Stop::Refused)?;
        if !handshake.common().is_handshaking() {
            return Ok(());
        }
        more(tcp, held).await?;
    }
}

/// All steps that can be made with what has come, a record at a time: what comes behind the handshake is for whoever
/// reads the stream.
fn steps<H: Handshake>(
    handshake: &mut H,
    held: &mut Vec<u8>,
    seen: &mut usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    loop {
        let (done, step) = handshake.step(&mut held[..*seen], out);
        held.drain(..done.min(*seen));
        *seen = seen.saturating_sub(done);
        match step {
            Ok(Step::Again) => {}
            Ok(Step::Wait) if handshake.common().is_handshaking() => {
                match record::whole(&held[*seen..]) {
                    Some(count) => *seen += count,
                    None => return Ok(()),
                }
            }
            Ok(Step::Wait) => return Ok(()),
            Err(error) => {
                // The alert that goes with it comes out of another step, which then reads nothing.
                while handshake.common().wants_write() {
                    if handshake.step(&mut [], out).1 != Ok(Step::Again) {
                        break;
                    }
                }
                return Err(error);
            }
        }
    }
}

/// Sends all of `out`. The last words to somebody who is refused are not waited for.
async fn put_all(tcp: &TcpStream, out: &[u8], are_last_words: bool) -> io::Result<()> {
    let mut sent = 0;
    while sent < out.len() {
        match tcp.try_write(&out[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !are_last_words => {
                tcp.writable().await?;
            }
            Err(_) if are_last_words => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn more(tcp: &mut TcpStream, held: &mut Vec<u8>) -> Result<(), Stop> {
    poll_fn(|cx| {
        ready!(tcp.poll_read_ready(cx)).map_err(Stop::Broken)?;
        let mut block = Block::lend();
        if !block.append(held) || !block.has_room() {
            // As much as the library takes of a message.
            return Poll::Ready(Err(Stop::Refused(
                rustls::InvalidMessage::HandshakePayloadTooLarge.into(),
            )));
        }
        match ready!(block.poll_fill(cx, tcp)) {
            Ok(0) => Poll::Ready(Err(Stop::Broken(io::ErrorKind::UnexpectedEof.into()))),
            Ok(_) => {
                held.clear();
                held.extend_from_slice(block.filled());
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(Stop::Broken(error))),
        }
    })
    .await
}

impl Handshake for UnbufferedServerConnection {
    fn common(&self) -> &CommonState {
        self
    }

    fn step(&mut self, came: &mut [u8], out: &mut Vec<u8>) -> (usize, Result<Step, Error>) {
        step(self.process_tls_records(came), out)
    }

    fn finish(self) -> Side {
        Side::Server(Box::new(self))
    }
}

impl Handshake for UnbufferedClientConnection {
    fn common(&self) -> &CommonState {
        self
    }

    fn step(&mut self, came: &mut [u8], out: &mut Vec<u8>) -> (usize, Result<Step, Error>) {
        step(self.process_tls_records(came), out)
    }

    fn finish(self) -> Side {
        Side::Client(Box::new(self))
    }
}

fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { discard, state } = status;
    let step = state.and_then(|state| match state {
        ConnectionState::EncodeTlsData(message) => {
            encode_behind(message, out)?;
            Ok(Step::Again)
        }
        // It is, before anything is waited for.
        ConnectionState::TransmitTlsData(message) => {
            message.done();
            Ok(Step::Again)
        }
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => Ok(Step::Wait),
        ConnectionState::PeerClosed | ConnectionState::Closed => {
            Err(Error::AlertReceived(AlertDescription::CloseNotify))
        }
        // Nothing of this can come before the end of a handshake, and nothing behind it is shown to the library.
        _ => Err(Error::HandshakeNotComplete),
    });
    (discard, step)
}
