//! Which clients are one to persistence.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A netmask as persistence has it: of IPv4 as an address (`255.255.255.0`), of IPv6 as the length
/// of a prefix (`64`), as `ipvsadm -M` takes and shows both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Netmask {
    /// Of IPv4 addresses. Only contiguous ones are of use; configuration refuses others.
    V4(Ipv4Addr),
    /// Bits of an IPv6 address, 1 to 128.
    V6(u8),
}

impl Netmask {
    /// The one by which each client is its own, for a virtual service at `vip`.
    pub const fn one_client(vip: IpAddr) -> Netmask {
        match vip {
            IpAddr::V4(_) => Netmask::V4(Ipv4Addr::BROADCAST),
            IpAddr::V6(_) => Netmask::V6(128),
        }
    }

    /// Whether each client is its own.
    pub const fn is_one_client(self) -> bool {
        match self {
            Netmask::V4(mask) => mask.to_bits() == u32::MAX,
            Netmask::V6(length) => length >= 128,
        }
    }

    /// Whether it is for addresses of the same family as this one.
    pub const fn is_for(self, address: IpAddr) -> bool {
        matches!((self, address), (Netmask::V4(_), IpAddr::V4(_)) | (Netmask::V6(_), IpAddr::V6(_)))
    }

    /// The network of an IPv4 client; a netmask of IPv6 leaves it as it is.
    #[inline]
    pub const fn network4(self, client: Ipv4Addr) -> Ipv4Addr {
        match self {
            Netmask::V4(mask) => Ipv4Addr::from_bits(client.to_bits() & mask.to_bits()),
            Netmask::V6(_) => client,
        }
    }

    /// The network of an IPv6 client; a netmask of IPv4 leaves it as it is.
    #[inline]
    pub const fn network6(self, client: Ipv6Addr) -> Ipv6Addr {
        match self {
            Netmask::V6(0) => Ipv6Addr::UNSPECIFIED,
            Netmask::V6(length) if length < 128 => {
                Ipv6Addr::from_bits(client.to_bits() & u128::MAX << (128 - length))
            }
            _ => client,
        }
    }
}

impl fmt::Display for Netmask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Netmask::V4(mask) => mask.fmt(f),
            Netmask::V6(length) => length.fmt(f),
        }
    }
}

impl FromStr for Netmask {
    type Err = ();

    fn from_str(text: &str) -> Result<Netmask, ()> {
        if let Ok(mask) = text.parse() {
            return Ok(Netmask::V4(mask));
        }
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let length = text.parse().ok().filter(|length| digits && (1..=128).contains(length));
        length.map(Netmask::V6).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_as_they_are_read() {
        for text in ["255.255.255.0", "255.255.255.255", "1", "64", "128"] {
            assert_eq!(text.parse::<Netmask>().unwrap().to_string(), text);
        }
        for text in ["", "0", "129", "+64", "/64", "ffff::", "255.255.255"] {
            assert!(text.parse::<Netmask>().is_err(), "{text}");
        }
    }

    #[test]
    fn clients_are_one_by_their_first_bits() {
        let mask = |text: &str| text.parse::<Netmask>().unwrap();
        let network = |text: &str| mask(text).network6("2001:db8:1:2:3:4:5:6".parse().unwrap());
        assert_eq!(network("64").to_string(), "2001:db8:1:2::");
        assert_eq!(network("1").to_string(), "::");
        assert_eq!(network("127").to_string(), "2001:db8:1:2:3:4:5:6");
        assert_eq!(network("128").to_string(), "2001:db8:1:2:3:4:5:6");
        let network = |text: &str| mask(text).network4([192, 0, 2, 77].into());
        assert_eq!(network("255.255.255.192").to_string(), "192.0.2.64");
        for vip in ["192.0.2.1", "2001:db8::1"].map(|vip| vip.parse::<IpAddr>().unwrap()) {
            let one = Netmask::one_client(vip);
            assert!(one.is_one_client() && one.is_for(vip));
        }
        assert!(!mask("64").is_one_client() && !mask("64").is_for([192, 0, 2, 1].into()));
    }
}
