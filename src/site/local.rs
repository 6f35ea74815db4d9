//! Names that nobody on the internet owns: those for which the local authority may give certificates.

use std::net::IpAddr;

use super::HostPattern;

/// RFC 6761 (localhost, test), RFC 8375 (home.arpa), and internal, which ICANN keeps for private use.
pub const SUFFIXES: [&str; 4] = ["localhost", "test", "internal", "home.arpa"];

/// Whether `host` (normalised) is such a name, or a loopback address.
pub fn is_local(host: &str) -> bool {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return ip.is_loopback();
    }
    SUFFIXES.iter().any(|suffix| {
        host.strip_suffix(suffix)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Whether some name that `pattern` stands for may be one.
pub fn may_be_local(pattern: &HostPattern) -> bool {
    match pattern {
        HostPattern::Exact(name) | HostPattern::Wildcard(name) => is_local(name.as_str()),
        HostPattern::Any => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_owns_are_local() {
        for host in [
            "localhost",
            "blue.localhost",
            "a.b.test",
            "x.internal",
            "nas.home.arpa",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "example.com",
            "notlocalhost",
            "atest",
            "arpa",
            "home.arpa.example.com",
            "10.0.0.1",
            "::2",
            "",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
