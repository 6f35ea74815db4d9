//! Names of backends, resolved off the data path and remembered.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use crate::site::backend::{LinkLocal, is_link_local};

/// How long an answer is used without asking again. getaddrinfo does not show a TTL; 30 s is what most zones of
/// moving services use.
const FRESH: Duration = Duration::from_secs(30);

/// The addresses last found for each name. An old answer is better than none: it is used while a new one is
/// looked for, and kept when that fails.
#[derive(Debug)]
pub struct Resolver {
    known: DashMap<Arc<str>, Known>,
    allows_link_local: AtomicBool,
}

#[derive(Clone, Debug)]
struct Known {
    addresses: Arc<[IpAddr]>,
    asked: Instant,
    doubted: bool,
}

impl Resolver {
    /// What may not be a backend by its address may not be one by a name that leads there, such as `0xa9fea9fe`.
    pub fn new(link_local: LinkLocal) -> Resolver {
        Resolver {
            known: DashMap::default(),
            allows_link_local: AtomicBool::new(link_local == LinkLocal::Allowed),
        }
    }

    /// From now on; also names that have been found before are looked up anew.
    pub fn change(&self, link_local: LinkLocal) {
        let is_allowed = link_local == LinkLocal::Allowed;
        if self.allows_link_local.swap(is_allowed, Ordering::Relaxed) != is_allowed {
            self.known.clear();
        }
    }

    /// The addresses of `name`: at once when they have been found before.
    ///
    /// # Errors
    /// What the system's resolver says to a name never resolved yet.
    pub(super) async fn addresses(
        self: &Arc<Resolver>,
        name: &Arc<str>,
    ) -> io::Result<Arc<[IpAddr]>> {
        let known = self.known.get_mut(name).map(|mut entry| {
            let known = entry.clone();
            if !known.doubted && known.asked.elapsed() >= FRESH {
                // Whoever comes next uses the old ones too, and does not ask again.
                entry.asked = Instant::now();
            }
            known
        });
        match known {
            Some(known) if known.doubted => Ok(self.look_up(name).await.unwrap_or(known.addresses)),
            Some(known) => {
                if known.asked.elapsed() >= FRESH {
                    let (resolver, name) = (Arc::clone(self), Arc::clone(name));
                    // When it fails, the old answer stays.
                    tokio::spawn(async move { resolver.look_up(&name).await.ok() });
                }
                Ok(known.addresses)
            }
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
        let found = addresses.len();
        let is_allowed = self.allows_link_local.load(Ordering::Relaxed);
        addresses.retain(|&ip| is_allowed || !is_link_local(ip));
        if addresses.is_empty() {
            let why = match found {
                0 => "the name has no address",
                _ => {
                    "the name leads to a link-local address, which needs allow_link_local in onedoor.toml"
                }
            };
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn an_old_answer_is_used_at_once_while_a_new_one_is_looked_for() {
        let name: Arc<str> = "app.invalid".into();
        let resolver = Arc::new(Resolver::new(LinkLocal::Refused));
        let Some(long_ago) = Instant::now().checked_sub(2 * FRESH) else {
            return; // the machine has just started
        };
        let known = Known {
            addresses: [IpAddr::from([127, 0, 0, 1])].into(),
            asked: long_ago,
            doubted: false,
        };
        resolver.known.insert(Arc::clone(&name), known);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let _inside = runtime.enter();
        for _ in 0..2 {
            let addresses =
                pin!(resolver.addresses(&name)).poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(addresses, Poll::Ready(Ok(found)) if found.len() == 1));
        }
        assert_eq!(
            runtime.metrics().num_alive_tasks(),
            1,
            "one look-up for both"
        );
    }
}
