//! Numbers and addresses as `ipvsadm` reads them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::names::Names;
use crate::types::Protocol;

/// A decimal number, perhaps after blanks and a plus sign, within a range.
pub(super) fn number(text: &str, allowed: RangeInclusive<u32>) -> Option<u32> {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_whitespace());
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| allowed.contains(number))
}

/// An IPv4 address in any form `inet_aton(3)` takes: `192.0.2.1`, `10.1`, `0x0a000001`, with
/// octal and hexadecimal parts.
pub(super) fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').collect();
    let (last, octets) = parts.split_last()?;
    if octets.len() > 3 {
        return None;
    }
    let mut address = 0;
    for (i, octet) in octets.iter().enumerate() {
        address |= part(octet).filter(|n| *n <= 255)? << (24 - 8 * i);
    }
    let room = u32::MAX >> (8 * octets.len());
    Some(Ipv4Addr::from(address | part(last).filter(|n| *n <= room)?))
}

fn part(text: &str) -> Option<u32> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// Where a service address or a server address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host {
    V4(Ipv4Addr),
    V6,
}

/// `host[:port]`, with `[…]` around an IPv6 address that has a port.
pub(super) fn host_and_port(
    text: &str,
    protocol: Protocol,
    names: &dyn Names,
) -> Option<(Host, Option<u16>)> {
    let port = |text: &str| match number(text, 0..=65_535) {
        Some(port) => u16::try_from(port).ok(),
        // The system's look-up takes numbers too, and wraps large ones.
        None if text.bytes().any(|b| b.is_ascii_alphabetic()) => names.port(text, protocol),
        None => None,
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (address, text) = rest.split_once("]:")?;
        address.parse::<Ipv6Addr>().ok()?;
        return Some((Host::V6, Some(port(text)?)));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some((Host::V6, None));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, text)) => (host, Some(port(text)?)),
        None => (text, None),
    };
    if host.is_empty() || host.starts_with(|c: char| c.is_ascii_whitespace()) {
        return None;
    }
    let address = ipv4(host).or_else(|| names.address(host))?;
    Some((Host::V4(address), port))
}

#[cfg(test)]
mod tests {
    use super::super::names::tests::Few;
    use super::*;

    #[test]
    fn numbers_are_decimal_and_whole() {
        let read = |text| number(text, 0..=100);
        assert_eq!(
            [read("3"), read(" 3"), read("+3"), read("010")].map(Option::unwrap),
            [3, 3, 3, 10]
        );
        for text in ["", " ", "+", "-1", "x", "3x", "3 ", "1.5", "0x10", "101", "99999999999"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn addresses_have_the_forms_of_inet_aton() {
        for (text, expected) in [
            ("192.0.2.1", [192, 0, 2, 1]),
            ("010.1.2.3", [8, 1, 2, 3]),
            ("10.1", [10, 0, 0, 1]),
            ("192.0.2", [192, 0, 0, 2]),
            ("24", [0, 0, 0, 24]),
            ("0x0a000001", [10, 0, 0, 1]),
            ("0", [0, 0, 0, 0]),
        ] {
            assert_eq!(ipv4(text), Some(Ipv4Addr::from(expected)), "{text}");
        }
        for text in
            ["", ".", "1.2.3.4.5", "256.1", "1.2.3.256", "1.+2", "09", "0x", "foo", "1.2.3."]
        {
            assert_eq!(ipv4(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_port_may_be_absent_or_a_name() {
        let read = |text| host_and_port(text, Protocol::Tcp, &Few);
        let vip = Host::V4(Ipv4Addr::new(192, 0, 2, 100));
        assert_eq!(read("192.0.2.100"), Some((vip, None)));
        assert_eq!(read("192.0.2.100:80"), Some((vip, Some(80))));
        assert_eq!(read("www.example.com:http"), Some((vip, Some(80))));
        assert_eq!(read("[2001:db8::1]:80"), Some((Host::V6, Some(80))));
        assert_eq!(read("2001:db8::1"), Some((Host::V6, None)));
        let wrong = [
            "",
            ":80",
            "192.0.2.100:",
            "192.0.2.100:x",
            "192.0.2.100:65536",
            "192.0.2.300:80",
            "[2001:db8::1]",
            "[2001:db8::1",
            "[",
            "[]:80",
            "none.example.com:80",
            " 192.0.2.1:80",
        ];
        for text in wrong {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
