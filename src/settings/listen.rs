//! Addresses to listen on, in the ways people write them.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

/// `8080` and `:8080` (all IPv4 interfaces), `127.0.0.1:0`, `[::1]:80`, `localhost:8080` (127.0.0.1).
pub fn read_listen(text: &str) -> Result<SocketAddr, ListenError> {
    let wrong = || ListenError(text.into());
    let port = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse::<u16>().map_err(|_| wrong()),
        false => Err(wrong()),
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match text.rsplit_once(':') {
        None => Ok((Ipv4Addr::UNSPECIFIED, port(text)?).into()),
        Some(("" | "*", digits)) => Ok((Ipv4Addr::UNSPECIFIED, port(digits)?).into()),
        Some((host, digits)) if host.eq_ignore_ascii_case("localhost") => {
            Ok((Ipv4Addr::LOCALHOST, port(digits)?).into())
        }
        Some(_) => Err(wrong()),
    }
}

/// As [`read_listen`], and only on this machine: what is shown there is not for others.
///
/// # Errors
/// What to write instead.
pub fn read_admin_listen(text: &str) -> Result<SocketAddr, String> {
    // A port alone would be all interfaces.
    let text = match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("127.0.0.1:{text}"),
        false => text.to_owned(),
    };
    let address = read_listen(&text)?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err(format!(
            "{address} is not of this machine alone; write \"127.0.0.1:{}\"",
            address.port()
        )),
    }
}

/// The text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenError(Box<str>);

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no address to listen on, write 8080, \"127.0.0.1:8080\" or \"[::1]:8080\"",
            self.0
        )
    }
}

impl std::error::Error for ListenError {}

impl From<ListenError> for String {
    fn from(error: ListenError) -> String {
        error.to_string()
    }
}
