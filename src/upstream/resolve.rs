//! Names of backends -> addresses. Asked off the way of requests, by whoever watches the names.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};

use crate::site::backend::{LinkLocal, is_link_local};

/// More than this nobody has behind one name on purpose, and each may get checks of its own.
const MOST_ADDRESSES: usize = 64;

/// The addresses of `name`, in order, each once. Blocks for as long as the system's resolver does.
///
/// What may not be a backend by its address may not be one by a name that leads there, such as `0xa9fea9fe`.
///
/// # Errors
/// What the resolver says, and when nothing that may be a backend is left.
pub fn look_up(name: &str, link_local: LinkLocal) -> io::Result<Box<[IpAddr]>> {
    let found = (name, 0).to_socket_addrs()?;
    admitted(found.map(|at| at.ip()).collect(), link_local)
}

fn admitted(mut addresses: Vec<IpAddr>, link_local: LinkLocal) -> io::Result<Box<[IpAddr]>> {
    // Resolvers turn the order about; the same addresses are the same answer.
    addresses.sort();
    addresses.dedup();
    let found = addresses.len();
    addresses.retain(|&ip| link_local == LinkLocal::Allowed || !is_link_local(ip));
    addresses.truncate(MOST_ADDRESSES);
    if addresses.is_empty() {
        let why = match found {
            0 => "the name has no address",
            _ => {
                "the name leads to a link-local address, which needs allow_link_local in onedoor.toml"
            }
        };
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    Ok(addresses.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str], link_local: LinkLocal) -> Result<Vec<String>, String> {
        let addresses = texts.iter().map(|text| text.parse().expect(text)).collect();
        admitted(addresses, link_local)
            .map(|all| all.iter().map(IpAddr::to_string).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_same_addresses_in_another_order_are_the_same_answer() {
        let (a, b, c) = ("10.0.0.2", "10.0.0.1", "::1");
        let wanted = Ok(vec![b.to_owned(), a.to_owned(), c.to_owned()]);
        for order in [[a, b, c], [c, b, a], [b, c, a]] {
            let twice = [order, order].concat();
            assert_eq!(read(&twice, LinkLocal::Refused), wanted);
        }
    }

    #[test]
    fn link_local_addresses_are_left_out_and_one_with_no_other_is_no_answer() {
        let both = ["169.254.169.254", "10.0.0.1"];
        assert_eq!(read(&both, LinkLocal::Refused), Ok(vec!["10.0.0.1".into()]));
        assert_eq!(read(&both, LinkLocal::Allowed).map(|all| all.len()), Ok(2));
        let only = read(&both[..1], LinkLocal::Refused);
        assert!(only.expect_err("fenced").contains("allow_link_local"));
        assert!(
            read(&[], LinkLocal::Refused)
                .expect_err("none")
                .contains("no address")
        );
    }

    #[test]
    fn a_name_with_very_many_addresses_is_bounded() {
        let many: Vec<IpAddr> = (0..1000u32)
            .map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n).into())
            .collect();
        let kept = admitted(many, LinkLocal::Refused).expect("some");
        assert_eq!(kept.len(), MOST_ADDRESSES);
    }

    /// Numeric in any spelling: needs no resolver.
    #[test]
    fn a_spelling_of_a_link_local_address_is_fenced() {
        assert!(look_up("0xa9fea9fe", LinkLocal::Refused).is_err());
        let loopback = look_up("127.1", LinkLocal::Refused).expect("an address");
        assert_eq!(&*loopback, [IpAddr::from([127, 0, 0, 1])]);
    }
}
