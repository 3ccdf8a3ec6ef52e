//! Numbers and addresses as `ipvsadm` reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::names::Names;
use crate::types::{Ports, Protocol};

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

/// The number a text begins with, as `atoi(3)` reads it; 0 when there is none.
pub(super) fn leading_number(text: &str) -> u32 {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace());
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().unwrap_or(0)
}

/// `host[:port]`, with `[…]` around an IPv6 address that has a port. Names lead to IPv4 addresses
/// only.
pub(super) fn host_and_port(
    text: &str,
    protocol: Protocol,
    names: &dyn Names,
) -> Option<(IpAddr, Option<u16>)> {
    let port = |text: &str| match number(text, 0..=65_535) {
        Some(port) => u16::try_from(port).ok(),
        // The system's look-up takes numbers too, and wraps large ones.
        None if text.bytes().any(|b| b.is_ascii_alphabetic()) => names.port(text, protocol),
        None => None,
    };
    let text = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, text) = rest.split_once(']')?;
            let text = text.strip_prefix(':')?;
            if let Ok(address) = inner.parse::<Ipv6Addr>() {
                return Some((address.into(), Some(port(text)?)));
            }
            // What else is in brackets is taken as if it stood alone.
            inner
        }
        None => text,
    };
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some((address.into(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, text)) => (host, Some(port(text)?)),
        None => (text, None),
    };
    if host.is_empty() || host.starts_with(|c: char| c.is_ascii_whitespace()) {
        return None;
    }
    let address = ipv4(host).or_else(|| names.address(host))?;
    Some((address.into(), port))
}

/// A virtual service's `host[:port]`, or `host:first-last`, which the original does not know. All
/// L4 ports without one, or with 0.
pub(super) fn host_and_ports(
    text: &str,
    protocol: Protocol,
    names: &dyn Names,
) -> Option<(IpAddr, Ports)> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // The names of hosts and services have dashes too.
    let ends = text.rsplit_once('-').filter(|(head, last)| {
        digits(last) && head.rsplit_once(':').is_some_and(|(_, first)| digits(first))
    });
    let Some((head, last)) = ends else {
        let (host, port) = host_and_port(text, protocol, names)?;
        return Some((host, port.unwrap_or(0).into()));
    };
    let (host, first) = host_and_port(head, protocol, names)?;
    Some((host, Ports::range(first?, last.parse().ok()?)?))
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
    fn leading_numbers_are_read_as_by_atoi() {
        for (text, number) in
            [("48", 48), (" +48x", 48), ("0048", 48), ("255.255.0.0", 255), ("99999999999", 0)]
        {
            assert_eq!(leading_number(text), number, "{text:?}");
        }
        for text in ["", "x", "-1", "é", "+ 1"] {
            assert_eq!(leading_number(text), 0, "{text:?}");
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
        let vip = IpAddr::from([192, 0, 2, 100]);
        let vip6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(read("192.0.2.100"), Some((vip, None)));
        assert_eq!(read("192.0.2.100:80"), Some((vip, Some(80))));
        assert_eq!(read("www.example.com:http"), Some((vip, Some(80))));
        assert_eq!(read("[2001:db8::1]:80"), Some((vip6, Some(80))));
        assert_eq!(read("[2001:0DB8:0::1]:http"), Some((vip6, Some(80))));
        assert_eq!(read("2001:db8::1"), Some((vip6, None)));
        assert_eq!(read("[192.0.2.100]:80"), Some((vip, None)));
        assert_eq!(read("[192.0.2.100:80]:"), Some((vip, Some(80))));
        let wrong = [
            "",
            ":80",
            "192.0.2.100:",
            "192.0.2.100:x",
            "192.0.2.100:65536",
            "192.0.2.300:80",
            "[2001:db8::1]",
            "[2001:db8::1",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "[2001:db8::1%eth0]:80",
            "2001:db8::x",
            "[",
            "[]:80",
            "none.example.com:80",
            " 192.0.2.1:80",
        ];
        for text in wrong {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_virtual_service_may_have_several_ports() {
        let read = |text| host_and_ports(text, Protocol::Tcp, &Few);
        let vip = IpAddr::from([192, 0, 2, 100]);
        let few = Ports::range(8000, 8999).unwrap();
        assert_eq!(read("192.0.2.100"), Some((vip, Ports::ALL)));
        assert_eq!(read("192.0.2.100:0"), Some((vip, Ports::ALL)));
        assert_eq!(read("www.example.com:http"), Some((vip, Ports::one(80))));
        assert_eq!(read("www.example.com:8000-8999"), Some((vip, few)));
        assert_eq!(read("[2001:db8::1]:8000-8999").map(|(_, ports)| ports), Some(few));
        for text in [
            "192.0.2.100:8000-",
            "192.0.2.100:8999-8000",
            "192.0.2.100:0-9",
            "192.0.2.100:http-90",
            "192.0.2.100:80-65536",
            "none-80",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
