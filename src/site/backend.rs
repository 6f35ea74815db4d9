//! An address written in a site file, in all its spellings.
//!
//! Text in, value out: whether a file's fences allow the address is decided by `file`, whether anybody listens
//! there by `upstream`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backend_tls::BackendTls;
use super::hostname::{Hostname, HostnameError};
use crate::document::problem::is_risky;

/// The longest path `sockaddr_un` holds, without its final NUL (unix(7)).
const SOCKET_PATH_BYTES: usize = 107;
/// The one name whose addresses are known.
const LOCALHOST: &str = "localhost";

/// Where requests go, and what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub address: Address,
    /// `None`: clear text.
    pub tls: Option<Box<BackendTls>>,
    /// HTTP/2 in clear text, by prior knowledge. With TLS the backend says what it speaks.
    pub h2c: bool,
}

/// Where a backend listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// 127.0.0.1, and `[::1]` when that refuses.
    Loopback {
        port: u16,
    },
    Ip(SocketAddr),
    /// Resolved off the data path.
    Name {
        name: Arc<str>,
        port: u16,
    },
    Unix(Arc<Path>),
}

/// Whether addresses such as 169.254.169.254, where clouds hand out credentials, may be backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLocal {
    Refused,
    Allowed,
}

impl Backend {
    /// Reads `5000`, `:5000`, `localhost:5000`, `10.0.0.7:5000`, `[::1]:5000`, `app.internal:5000`,
    /// `http://host:port`, `h2c://host:port`, `https://host:port` and `unix:/a/path`; a relative socket path starts at `folder`.
    ///
    /// # Errors
    /// What cannot be connected to, what is not built yet, and a path behind the address, which `[[path]]` is for.
    pub fn parse(
        text: &str,
        folder: &Path,
        link_local: LinkLocal,
    ) -> Result<Backend, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return read_socket_path(path, folder).map(Backend::from);
        }
        if let Some(error) = misspelt(text) {
            return Err(error);
        }
        let Some((scheme, authority)) = text.split_once("://") else {
            let (address, _) = read_authority(text, None, link_local)?;
            return Ok(address.into());
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {
                let (address, _) = read_authority(authority, Some(80), link_local)?;
                Ok(address.into())
            }
            "https" => {
                let (address, name) = read_authority(authority, Some(443), link_local)?;
                let tls = Some(Box::new(BackendTls::to(name)));
                Ok(Backend {
                    address,
                    tls,
                    h2c: false,
                })
            }
            "h2c" => {
                let (address, _) = read_authority(authority, Some(80), link_local)?;
                Ok(Backend {
                    h2c: true,
                    ..address.into()
                })
            }
            _ => Err(AddressError::UnknownScheme(scheme.into())),
        }
    }
}

/// Something that is an address in the files of other programs.
fn misspelt(text: &str) -> Option<AddressError> {
    if is_socket_path(text) {
        return Some(AddressError::SocketWithoutUnix(text.into()));
    }
    // No address has one of these.
    let mut pieces = text
        .split([',', ';', ' '])
        .filter(|piece| !piece.is_empty());
    let first = pieces.next()?;
    let rest: Vec<&str> = pieces.collect();
    let is_port = |piece: &str| {
        piece
            .rsplit(':')
            .next()
            .is_some_and(|port| read_port(port).is_ok())
    };
    // What has a password in it is told so, and not quoted.
    (!text.contains('@')
        && !rest.is_empty()
        && rest.iter().all(|piece| is_port(piece))
        && is_port(first))
    .then(|| AddressError::Several(std::iter::once(first).chain(rest).map(Box::from).collect()))
}

/// `/run/shop.sock`, `./shop.sock`, `run/shop.sock`.
fn is_socket_path(text: &str) -> bool {
    let is_path = text.starts_with(['/', '.']) && !text.ends_with('/');
    is_path || text.ends_with(".sock") && !text.contains([':', '@'])
}

impl Backend {
    /// What stands in Host when it is asked for by its own address.
    pub fn host(&self) -> String {
        let usual = if self.tls.is_some() { 443 } else { 80 };
        match &self.address {
            Address::Loopback { port } => format!("127.0.0.1:{port}"),
            Address::Ip(at) => at.to_string(),
            Address::Name { name, port } if *port == usual => name.to_string(),
            Address::Name { name, port } => format!("{name}:{port}"),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// In clear text.
impl From<Address> for Backend {
    fn from(address: Address) -> Backend {
        Backend {
            address,
            tls: None,
            h2c: false,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tls.is_some() {
            f.write_str("https://")?;
        }
        if self.h2c {
            f.write_str("h2c://")?;
        }
        self.address.fmt(f)
    }
}

impl Address {
    /// `to = 5000`. The caller has refused port 0.
    pub fn loopback(port: u16) -> Address {
        Address::Loopback { port }
    }
}

/// `host:port`; without a port it is the scheme's. The address, and its host as a certificate would name it.
fn read_authority(
    authority: &str,
    scheme_port: Option<u16>,
    link_local: LinkLocal,
) -> Result<(Address, Hostname), AddressError> {
    // First: a password may have a slash in it, and is not to be quoted as a path.
    if authority.contains('@') {
        return Err(AddressError::Credentials);
    }
    if let Some(at) = authority.find(['/', '?', '#']) {
        return Err(AddressError::Path(authority[at..].into()));
    }
    let (host, port) = split_port(authority, scheme_port)?;
    let port = port.or(scheme_port).ok_or(AddressError::NoPort)?;
    if port == 0 {
        return Err(AddressError::PortZero);
    }
    let host = if host.is_empty() { LOCALHOST } else { host };
    let name = Hostname::parse(host).map_err(AddressError::Host)?;
    if name.as_str() == LOCALHOST {
        return Ok((Address::loopback(port), name));
    }
    match name.as_str().parse() {
        Ok(ip) => {
            let at = read_ip(ip, port, link_local)?;
            Ok((Address::Ip(at), at.ip().into()))
        }
        Err(_) => {
            let address = Address::Name {
                name: name.as_str().into(),
                port,
            };
            Ok((address, name))
        }
    }
}

/// The host, perhaps empty, and the port, if there is one. Digits alone are a port, except behind a scheme.
fn split_port(text: &str, scheme_port: Option<u16>) -> Result<(&str, Option<u16>), AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if scheme_port.is_none() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(("", Some(read_port(text)?)));
    }
    // "localhost:80:80" is no attempt at one.
    let is_ipv6 = |byte: u8| byte.is_ascii_hexdigit() || b":.".contains(&byte);
    if text.bytes().filter(|&b| b == b':').count() > 1
        && text.bytes().take_while(|&b| b != b'%').all(is_ipv6)
    {
        return Err(AddressError::Brackets);
    }
    let after_host = if text.starts_with('[') {
        text.find(']').map_or(0, |at| at + 1)
    } else {
        0
    };
    match text[after_host..].find(':') {
        None => Ok((text, None)),
        Some(at) => Ok((
            &text[..after_host + at],
            Some(read_port(&text[after_host + at + 1..])?),
        )),
    }
}

fn read_port(digits: &str) -> Result<u16, AddressError> {
    if digits.is_empty() {
        return Err(AddressError::NoPort);
    }
    // `parse` alone would take "+80".
    if !digits.bytes().all(|b| b.is_ascii_digit()) || digits.len() > 5 {
        return Err(AddressError::Port(digits.into()));
    }
    digits
        .parse()
        .map_err(|_| AddressError::Port(digits.into()))
}

fn read_ip(ip: IpAddr, port: u16, link_local: LinkLocal) -> Result<SocketAddr, AddressError> {
    let plain = ip.to_canonical();
    if plain.is_unspecified() {
        return Err(AddressError::Unspecified(port));
    }
    if link_local == LinkLocal::Refused && is_link_local(plain) {
        return Err(AddressError::LinkLocal(plain));
    }
    Ok(SocketAddr::new(plain, port))
}

/// 169.254.0.0/16 and fe80::/10.
pub fn is_link_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn read_socket_path(text: &str, folder: &Path) -> Result<Address, AddressError> {
    // `unix:///run/x` is how other programs spell `unix:/run/x`.
    let text = text
        .strip_prefix("//")
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(text);
    if text.is_empty() || text.ends_with('/') {
        return Err(AddressError::NoSocketPath);
    }
    if text.starts_with("~/") {
        return Err(AddressError::Home);
    }
    if text.starts_with('@') || text.contains('\0') {
        return Err(AddressError::AbstractSocket);
    }
    if let Some(c) = text.chars().find(|&c| is_risky(c)) {
        return Err(AddressError::Unprintable(c));
    }
    let path: PathBuf = folder.join(text);
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > SOCKET_PATH_BYTES {
        return Err(AddressError::LongSocketPath(bytes));
    }
    Ok(Address::Unix(path.into()))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Loopback { port } => write!(f, "localhost:{port}"),
            Address::Ip(address) => write!(f, "{address}"),
            Address::Name { name, port } => write!(f, "{name}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a text is no backend address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    Empty,
    NoPort,
    PortZero,
    Port(Box<str>),
    Path(Box<str>),
    Credentials,
    /// The path of a socket, as other programs write it.
    SocketWithoutUnix(Box<str>),
    /// More than one address in one text.
    Several(Box<[Box<str>]>),
    Brackets,
    Host(HostnameError),
    UnknownScheme(Box<str>),
    Unspecified(u16),
    LinkLocal(IpAddr),
    NoSocketPath,
    /// `~`, which is a word of shells.
    Home,
    AbstractSocket,
    /// In the path of a socket, which is shown to people.
    Unprintable(char),
    LongSocketPath(usize),
}

impl AddressError {
    /// What to do about it, where the message does not already say.
    pub fn help(&self) -> Option<String> {
        match self {
            AddressError::Path(path) if **path == *"/" => Some(
                "drop the \"/\" at its end: requests go on with the path they came with".into(),
            ),
            AddressError::Path(path) => Some(format!(
                "for requests below {path} write [[path]] with match = {path:?} and its own \"to\""
            )),
            AddressError::SocketWithoutUnix(path) => Some(format!("write \"unix:{path}\"")),
            AddressError::Several(pieces) => Some(format!("write {pieces:?}")),
            AddressError::NoPort => Some("write the port, as in \"10.0.0.7:5000\"".into()),
            AddressError::Unspecified(port) => Some(format!(
                "an app that listens there is reached with to = {port}"
            )),
            AddressError::LinkLocal(_) => {
                Some("if you mean it, the daemon file must say allow_link_local = true".into())
            }
            AddressError::Brackets => Some("write \"[::1]:5000\"".into()),
            _ => None,
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::Empty => f.write_str("a backend address is not empty"),
            AddressError::NoPort => f.write_str("the backend has no port"),
            AddressError::PortZero => f.write_str("port 0 is no port a backend can listen on"),
            AddressError::Port(text) => write!(f, "{text:?} is not a port, ports are 1 to 65535"),
            AddressError::Path(path) => {
                write!(f, "a backend is an address without a path, found {path:?}")
            }
            AddressError::Credentials => {
                f.write_str("a backend address has no user and no password")
            }
            AddressError::SocketWithoutUnix(_) => {
                f.write_str("the path of a socket stands behind \"unix:\"")
            }
            AddressError::Several(_) => f.write_str("several backends stand in a list"),
            AddressError::Brackets => {
                f.write_str("an IPv6 backend stands in brackets with a port behind them")
            }
            AddressError::Host(error) => write!(f, "the backend's host is wrong: {error}"),
            AddressError::UnknownScheme(scheme) => {
                write!(
                    f,
                    "unknown scheme \"{scheme}://\", backends are http:// (or no scheme), h2c://, https:// or unix:"
                )
            }
            AddressError::Unspecified(_) => {
                f.write_str("0.0.0.0 and [::] are listened on, not connected to")
            }
            AddressError::LinkLocal(ip) => write!(
                f,
                "{ip} is a link-local address, where clouds keep credentials"
            ),
            AddressError::NoSocketPath => {
                f.write_str("unix: needs the path of a socket, as in \"unix:/run/shop.sock\"")
            }
            AddressError::Home => {
                f.write_str("\"~\" is not expanded here, as a shell would; write the whole path")
            }
            AddressError::AbstractSocket => {
                f.write_str("abstract sockets are not supported, write a path")
            }
            AddressError::Unprintable(c) => write!(
                f,
                "the path of a socket has no control characters, and {c:?} is one"
            ),
            AddressError::LongSocketPath(bytes) => {
                write!(
                    f,
                    "the socket's path has {bytes} bytes, the system takes {SOCKET_PATH_BYTES}"
                )
            }
        }
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, AddressError> {
        Backend::parse(text, Path::new("/etc/sites.d"), LinkLocal::Refused).map(|a| a.to_string())
    }

    #[test]
    fn every_spelling_of_a_backend_has_one_canonical_form() {
        for (text, canonical) in [
            ("5000", "localhost:5000"),
            (":5000", "localhost:5000"),
            ("localhost:5000", "localhost:5000"),
            ("LOCALHOST:5000", "localhost:5000"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("10.0.0.7:5000", "10.0.0.7:5000"),
            ("[::1]:5000", "[::1]:5000"),
            ("[::ffff:10.0.0.7]:5000", "10.0.0.7:5000"),
            ("App.Internal:5000", "app.internal:5000"),
            ("http://10.0.0.7", "10.0.0.7:80"),
            ("HTTP://app.internal:81", "app.internal:81"),
            ("http://localhost:5000", "localhost:5000"),
            ("http://[::1]", "[::1]:80"),
            ("h2c://10.0.0.9:5003", "h2c://10.0.0.9:5003"),
            ("H2C://app.internal", "h2c://app.internal:80"),
            ("https://10.0.0.9:8443", "https://10.0.0.9:8443"),
            ("HTTPS://App.Internal", "https://app.internal:443"),
            ("https://:5001", "https://localhost:5001"),
            ("unix:/run/shop.sock", "unix:/run/shop.sock"),
            ("unix:///run/shop.sock", "unix:/run/shop.sock"),
            ("unix:shop.sock", "unix:/etc/sites.d/shop.sock"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(canonical), "{text}");
            assert_eq!(parse(canonical).as_deref(), Ok(canonical), "{text}");
        }
        assert_eq!(
            Backend::parse("127.0.0.1:80", Path::new("/"), LinkLocal::Refused),
            Ok(Address::Ip(([127, 0, 0, 1], 80).into()).into())
        );
    }

    #[test]
    fn what_cannot_be_a_backend_says_why() {
        use AddressError::*;
        for (text, error) in [
            ("", Empty),
            ("http://", Empty),
            ("0", PortZero),
            ("localhost:0", PortZero),
            ("localhost", NoPort),
            ("10.0.0.7", NoPort),
            ("a:", NoPort),
            ("[::1]", NoPort),
            ("65536", Port("65536".into())),
            ("a:+80", Port("+80".into())),
            ("a:x", Port("x".into())),
            ("localhost:80:80", Port("80:80".into())),
            ("/run/x.sock", SocketWithoutUnix("/run/x.sock".into())),
            ("./x.sock", SocketWithoutUnix("./x.sock".into())),
            ("run/x.sock", SocketWithoutUnix("run/x.sock".into())),
            ("a:1, b:2", Several(["a:1".into(), "b:2".into()].into())),
            ("5000 5001", Several(["5000".into(), "5001".into()].into())),
            ("::1", Brackets),
            ("::1:5000", Brackets),
            ("http://a:1/x", Path("/x".into())),
            ("a:1/", Path("/".into())),
            ("u:p@a:1", Credentials),
            ("https://u:p/w@a:1", Credentials),
            ("https://", Empty),
            ("https://a/x", Path("/x".into())),
            ("h2c://", Empty),
            ("h2c://a/x", Path("/x".into())),
            ("tcp://a:1", UnknownScheme("tcp".into())),
            ("0.0.0.0:80", Unspecified(80)),
            ("[::]:80", Unspecified(80)),
            ("unix:", NoSocketPath),
            ("unix:/run/", NoSocketPath),
            ("unix:~/x.sock", Home),
            ("unix:@x", AbstractSocket),
            ("unix:/a\u{1b}]0;x\u{7}", Unprintable('\u{1b}')),
            ("unix:/a\nevil  live", Unprintable('\n')),
            ("unix:/a\u{9b}31m", Unprintable('\u{9b}')),
            ("unix:/a\u{202e}b", Unprintable('\u{202e}')),
            ("a b:1", Host(HostnameError::Character(' '))),
            ("nowhere", NoPort),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_backend_behind_https_is_expected_to_be_who_its_address_says() {
        for (text, name) in [
            ("https://app.internal:8443", "app.internal"),
            ("https://10.0.0.9", "10.0.0.9"),
            ("https://[::1]:1", "::1"),
            ("https://localhost:5001", "localhost"),
        ] {
            let tls = Backend::parse(text, Path::new("/"), LinkLocal::Refused)
                .ok()
                .and_then(|backend| backend.tls);
            assert_eq!(tls.expect(text).server_name.as_str(), name);
        }
    }

    #[test]
    fn a_backends_own_host_has_a_port_unless_it_is_the_schemes() {
        for (text, host) in [
            ("http://app.internal", "app.internal"),
            ("http://app.internal:443", "app.internal:443"),
            ("https://app.internal", "app.internal"),
            ("https://app.internal:80", "app.internal:80"),
            ("https://10.0.0.9:8443", "10.0.0.9:8443"),
            ("5000", "127.0.0.1:5000"),
            ("unix:/run/x.sock", "localhost"),
        ] {
            let backend = Backend::parse(text, Path::new("/"), LinkLocal::Refused).expect(text);
            assert_eq!(backend.host(), host);
        }
    }

    #[test]
    fn link_local_backends_need_leave() {
        for text in [
            "169.254.169.254:80",
            "[fe80::1]:80",
            "[::ffff:169.254.0.1]:80",
        ] {
            assert!(
                matches!(parse(text), Err(AddressError::LinkLocal(_))),
                "{text}"
            );
            assert!(
                Backend::parse(text, Path::new("/"), LinkLocal::Allowed).is_ok(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_socket_path_may_have_107_bytes() {
        let longest = format!("unix:/{}", "x".repeat(106));
        assert_eq!(parse(&longest).as_deref(), Ok(longest.as_str()));
        assert_eq!(
            parse(&format!("{longest}x")),
            Err(AddressError::LongSocketPath(108))
        );
    }
}
