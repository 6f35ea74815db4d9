//! Which certificate a handshake shows. The site was chosen before the library saw a byte; this hands its choice over.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::{CommonState, Error, PeerIncompatible};

use super::certificate::Certificate;
use super::session::Side;
use super::shake::{Handshake, Step};

thread_local! {
    /// The certificates of the site that the handshake is for whose step is being made. One configuration serves all
    /// sites of a policy, so the choice cannot stand in it.
    static CHOSEN: RefCell<Option<Arc<[Arc<Certificate>]>>> = const { RefCell::new(None) };
    /// The client can check the signature of none of them. The library has no error of its own for that.
    static NONE_FITS: Cell<bool> = const { Cell::new(false) };
}

/// A handshake that may show one of `certificates`.
pub(super) struct Showing {
    pub(super) certificates: Arc<[Arc<Certificate>]>,
    pub(super) connection: UnbufferedServerConnection,
}

impl Handshake for Showing {
    fn common(&self) -> &CommonState {
        self.connection.common()
    }

    fn step(&mut self, came: &mut [u8], out: &mut Vec<u8>) -> (usize, Result<Step, Error>) {
        CHOSEN.set(Some(Arc::clone(&self.certificates)));
        let (done, step) = self.connection.step(came, out);
        CHOSEN.set(None);
        let step = match NONE_FITS.take() {
            true => Err(PeerIncompatible::NoSignatureSchemesInCommon.into()),
            false => step,
        };
        (done, step)
    }

    fn finish(self) -> Side {
        self.connection.finish()
    }
}

#[derive(Debug)]
pub(super) struct Chosen;

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = CHOSEN.with_borrow(|certificates| {
            let fit =
                |certificate: &&Arc<Certificate>| certificate.is_for(hello.signature_schemes());
            certificates
                .as_ref()?
                .iter()
                .find(fit)
                .map(|certificate| Arc::clone(&certificate.certified))
        });
        NONE_FITS.set(chosen.is_none());
        chosen
    }
}
