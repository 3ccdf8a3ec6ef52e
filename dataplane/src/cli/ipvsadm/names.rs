//! Hosts and L4 ports by name, as the system knows them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use dns_lookup::{AddrFamily, AddrInfoHints, SockType};

use crate::types::{Ports, Protocol};

/// Finds addresses by name and names by address.
pub(super) trait Names {
    /// An address of a host.
    fn address(&self, host: &str) -> Option<Ipv4Addr>;
    /// An L4 port by its service's name.
    fn port(&self, service: &str, protocol: Protocol) -> Option<u16>;
    /// The name of a host.
    fn host(&self, address: IpAddr) -> Option<String>;
    /// The name of an L4 port's service.
    fn service(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// Longest text of an address with its L4 port; the original cuts longer ones, also where they are
/// read again.
const LONGEST: usize = 59;

/// `address:port` by names, or by numbers where there are none. In brackets for IPv6, also a name.
///
/// A range, which the original does not have, is `address:first-last`.
pub(super) fn shown(
    names: Option<&dyn Names>,
    address: IpAddr,
    ports: impl Into<Ports>,
    protocol: Protocol,
) -> String {
    let ports = ports.into();
    let host = names.and_then(|n| n.host(address)).unwrap_or_else(|| address.to_string());
    let named = names.filter(|_| !ports.is_range());
    let service = named.and_then(|n| n.service(ports.first(), protocol));
    let service = service.unwrap_or_else(|| ports.to_string());
    let text = match address {
        IpAddr::V4(_) => format!("{host}:{service}"),
        IpAddr::V6(_) => format!("[{host}]:{service}"),
    };
    text.chars().take(LONGEST).collect()
}

/// The names of this machine: its files, and whatever else it is set up to ask.
#[derive(Default)]
pub(super) struct System {
    /// A listing of connections asks for the same few again and again.
    hosts: RefCell<HashMap<IpAddr, Option<String>>>,
    services: RefCell<HashMap<(u16, Protocol), Option<String>>>,
}

/// Most names remembered of each kind: clients are many.
const REMEMBERED: usize = 65_536;

/// `NI_DGRAM` of `getnameinfo(3)`.
const DATAGRAM: i32 = 16;

fn remember<K: std::hash::Hash + Eq, V: Clone>(
    known: &RefCell<HashMap<K, V>>,
    key: K,
    find: impl FnOnce() -> V,
) -> V {
    let mut known = known.borrow_mut();
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.entry(key).or_insert_with(find).clone()
}

impl Names for System {
    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        let found = (host, 0).to_socket_addrs().ok()?;
        found
            .filter_map(|address| match address.ip() {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            })
            .next()
    }

    fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
        let socktype = match protocol {
            Protocol::Tcp => SockType::Stream,
            Protocol::Udp => SockType::DGram,
        };
        let hints = AddrInfoHints {
            socktype: socktype.into(),
            address: AddrFamily::Inet.into(),
            ..AddrInfoHints::default()
        };
        let mut found = dns_lookup::getaddrinfo(None, Some(service), Some(hints)).ok()?;
        found.next()?.ok().map(|info| info.sockaddr.port())
    }

    fn host(&self, address: IpAddr) -> Option<String> {
        remember(&self.hosts, address, || {
            let name = dns_lookup::lookup_addr(&address).ok()?;
            (name != address.to_string()).then_some(name)
        })
    }

    fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
        remember(&self.services, (port, protocol), || {
            let flags = if protocol == Protocol::Udp { DATAGRAM } else { 0 };
            // Of the loopback address, whose name is in a file and is not asked for elsewhere.
            let of = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let (_, name) = dns_lookup::getnameinfo(&of, flags).ok()?;
            (name != port.to_string()).then_some(name)
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Knows a handful of names.
    pub(in super::super) struct Few;

    impl Names for Few {
        fn address(&self, host: &str) -> Option<Ipv4Addr> {
            (host == "www.example.com").then_some(Ipv4Addr::new(192, 0, 2, 100))
        }

        fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
            match (service, protocol) {
                ("http", Protocol::Tcp) => Some(80),
                ("domain", _) => Some(53),
                _ => None,
            }
        }

        fn host(&self, address: IpAddr) -> Option<String> {
            match address.to_string().as_str() {
                "192.0.2.100" | "2001:db8::100" => Some("www.example.com".to_owned()),
                "192.0.2.21" => Some("a-very-long-host-name-of-a-real-server".to_owned()),
                "2001:db8::21" => Some("a-very-long-host-name-of-an-ipv6-real-server".repeat(2)),
                _ => None,
            }
        }

        fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
            match (port, protocol) {
                (80, Protocol::Tcp) => Some("http".to_owned()),
                (53, _) => Some("domain".to_owned()),
                _ => None,
            }
        }
    }

    #[test]
    fn names_are_shown_where_there_are_some() {
        let show = |names: Option<&dyn Names>, last, port| {
            shown(names, [192, 0, 2, last].into(), port, Protocol::Tcp)
        };
        assert_eq!(show(Some(&Few), 100, 80), "www.example.com:http");
        assert_eq!(show(Some(&Few), 22, 8080), "192.0.2.22:8080");
        assert_eq!(show(None, 100, 80), "192.0.2.100:80");
        let show = |names: Option<&dyn Names>, address: &str| {
            shown(names, address.parse().unwrap(), 80, Protocol::Tcp)
        };
        assert_eq!(show(Some(&Few), "2001:db8::100"), "[www.example.com]:http");
        assert_eq!(show(None, "2001:db8::100"), "[2001:db8::100]:80");
        let cut = "[a-very-long-host-name-of-an-ipv6-real-servera-very-long-hos";
        assert_eq!(show(Some(&Few), "2001:db8::21"), cut[..59]);
    }

    #[test]
    fn the_system_knows_localhost() {
        let system = System::default();
        assert_eq!(system.address("localhost"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(system.host(Ipv4Addr::LOCALHOST.into()).as_deref(), Some("localhost"));
        assert_eq!(system.service(0, Protocol::Tcp), None);
    }
}
