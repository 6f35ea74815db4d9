//! Why there is no upstream, for a person.

use crate::site::Site;
use crate::upstream::{Phase, UpstreamError};

pub(super) fn of(error: &UpstreamError) -> String {
    match error {
        UpstreamError::Refused { backend, source } => {
            format!("{backend} does not accept connections: {source}")
        }
        UpstreamError::TimedOut {
            backend,
            after,
            during,
        } => match during {
            Phase::Others => {
                format!(
                    "{backend} gave those who came before no connection to share within {after:?}"
                )
            }
            Phase::Connect => format!("{backend} did not accept within {after:?}"),
            Phase::Handshake => format!(
                "{backend} accepted and did not finish the TLS handshake within {after:?}; does it speak TLS?"
            ),
            Phase::Greeting => {
                format!("{backend} accepted and said nothing in HTTP/2 within {after:?}")
            }
            Phase::Files => {
                format!("the files that TLS with {backend} needs were not read within {after:?}")
            }
        },
        UpstreamError::Tls { why, .. } | UpstreamError::NoHttp2 { why, .. } => why.clone(),
        UpstreamError::Unresolved { backend, source } => {
            format!("{backend} has no address: {source}")
        }
        UpstreamError::Exhausted { source } => {
            format!("onedoor cannot open another connection: {source}")
        }
    }
}

pub(super) fn of_site(site: &Site, why: &str) -> String {
    format!("site {}: {why}", site.name)
}
