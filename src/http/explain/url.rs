//! What somebody types for an address -> what a client would send for it. No I/O.

use std::net::IpAddr;

use crate::site::Wire;
use crate::site::hostname::Hostname;

/// A URL as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub wire: Wire,
    /// What is sent as Host: the name in punycode, and the port where it was written.
    pub authority: String,
    /// Normalised, as far as it is a name at all.
    pub host: String,
    pub port: Option<u16>,
    /// Path and query.
    pub target: String,
}

impl Url {
    /// Reads `http://shop.test/a?b`, `https://shop.test:8443`, `shop.test/a` (which is http). What follows `#` is not sent
    /// by anybody; characters that cannot be in a request line are percent-encoded, as browsers do.
    ///
    /// # Errors
    /// What to write instead.
    pub fn read(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let wire = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => Wire::ClearText,
            "https" | "wss" => Wire::Tls,
            _ => return Err(format!("{scheme:?} is neither http nor https")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?', '\\']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err("a user name in the URL is not sent to the server; leave it out".into());
        }
        let (name, port) = split_port(authority)?;
        if name.is_empty() {
            return Err("the URL names no host; write http://shop.example.com/path".into());
        }
        // A name that is none is sent all the same: the answer to it is worth knowing.
        let host = Hostname::parse(name).map(|host| host.to_string());
        let host = host.unwrap_or_else(|_| name.to_ascii_lowercase());
        let shown = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => format!("[{host}]"),
            _ => encoded(&host),
        };
        let target = match target {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{}", encoded(query)),
            path => encoded(path),
        };
        Ok(Url {
            wire,
            authority: match port {
                Some(port) => format!("{shown}:{port}"),
                None => shown,
            },
            host,
            port,
            target,
        })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let inside = authority.rfind(']').unwrap_or(0);
    let Some(colon) = authority[inside..].rfind(':').map(|at| at + inside) else {
        return Ok((authority, None));
    };
    let (name, digits) = (&authority[..colon], &authority[colon + 1..]);
    if digits.is_empty() {
        return Ok((name, None));
    }
    let port = digits.parse();
    port.map(|port| (name, Some(port)))
        .map_err(|_| format!("{digits:?} is no port"))
}

/// Bytes that cannot stand in a request line, percent-encoded; everything else as it is.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if !matches!(byte, b'"' | b'<' | b'>' | b'`' | b'{' | b'}') => {
                encoded.push(byte.into());
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, String) {
        let url = Url::read(text).expect(text);
        (url.authority, url.target)
    }

    #[test]
    fn a_url_is_what_a_client_would_send_for_it() {
        for (text, authority, target) in [
            ("shop.test", "shop.test", "/"),
            (
                "http://Shop.Test:80/a b?c=ü#top",
                "shop.test:80",
                "/a%20b?c=%C3%BC",
            ),
            ("https://bücher.test?x", "xn--bcher-kva.test", "/?x"),
            ("http://[::1]:8080/", "[::1]:8080", "/"),
            ("http://[::1]", "[::1]", "/"),
            ("shop.test:/x", "shop.test", "/x"),
        ] {
            assert_eq!(read(text), (authority.into(), target.into()), "{text}");
        }
        assert_eq!(Url::read("wss://a.test").expect("url").wire, Wire::Tls);
    }

    #[test]
    fn what_is_no_url_says_what_to_write() {
        for (text, part) in [
            ("ftp://a.test", "neither http nor https"),
            ("http://", "names no host"),
            ("http://me@a.test/", "leave it out"),
            ("http://a.test:99999/", "no port"),
        ] {
            let error = Url::read(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
