//! Names of backends, resolved off the data path and remembered.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;

/// How long an answer is used without asking again. getaddrinfo does not show a TTL; 30 s is what most zones of
/// moving services use.
const FRESH: Duration = Duration::from_secs(30);

/// The addresses last found for each name. An old answer is better than none: it is used while a new one is
/// looked for, and kept when that fails.
#[derive(Debug, Default)]
pub struct Resolver {
    known: DashMap<Arc<str>, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    addresses: Arc<[IpAddr]>,
    asked: Instant,
    doubted: bool,
}

impl Resolver {
    /// The addresses of `name`: at once when they have been found before.
    ///
    /// # Errors
    /// What the system's resolver says to a name never resolved yet.
    pub(super) async fn addresses(self: &Resolver, name: &Arc<str>) -> io::Result<Arc<[IpAddr]>> {
        let known = self.known.get(name).map(|entry| entry.value().clone());
        match known {
            Some(known) if !known.doubted && known.asked.elapsed() < FRESH => Ok(known.addresses),
            Some(known) => Ok(self.look_up(name).await.unwrap_or(known.addresses)),
            None => self.look_up(name).await,
        }
    }

    /// None of the addresses answered: ask again next time.
    pub(super) fn doubt(&self, name: &Arc<str>) {
        if let Some(mut known) = self.known.get_mut(name) {
            known.doubted = true;
        }
    }

    async fn look_up(&self, name: &Arc<str>) -> io::Result<Arc<[IpAddr]>> {
        let mut addresses: Vec<IpAddr> = tokio::net::lookup_host((&**name, 0))
            .await?
            .map(|at| at.ip())
            .collect();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        let addresses: Arc<[IpAddr]> = addresses.into();
        let known = Known {
            addresses: Arc::clone(&addresses),
            asked: Instant::now(),
            doubted: false,
        };
        self.known.insert(Arc::clone(name), known);
        Ok(addresses)
    }
}
