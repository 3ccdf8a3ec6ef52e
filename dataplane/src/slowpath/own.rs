//! Which addresses are the director's own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::snapshot::neighbors::Links;
use crate::snapshot::spec::PortSpec;
use crate::types::{Mac, PortId};

/// Ports with their DIPs, and VIPs.
#[derive(Debug, Default)]
pub(super) struct Own {
    ports: Vec<PortSpec>,
    /// Sorted.
    vips: Vec<Ipv4Addr>,
}

impl Own {
    pub(super) fn of(links: &Links) -> Own {
        let mut vips: Vec<_> = links.vips.iter().copied().filter_map(v4).collect();
        vips.sort_unstable();
        Own { ports: links.ports.clone(), vips }
    }

    pub(super) fn port(&self, port: PortId) -> Option<&PortSpec> {
        self.ports.get(port.index())
    }

    /// The port's name, for the log.
    pub(super) fn port_name(&self, port: PortId) -> &str {
        self.port(port).map_or("?", |p| &p.name)
    }

    /// The port's Ethernet address, once it has one.
    pub(super) fn mac(&self, port: PortId) -> Option<Mac> {
        self.port(port).map(|p| p.mac).filter(|mac| mac.is_station())
    }

    pub(super) fn is_vip(&self, address: Ipv4Addr) -> bool {
        self.vips.binary_search(&address).is_ok()
    }

    /// Whether ARP for `address` is answered on `port`: a VIP on any, a DIP on its own.
    pub(super) fn answers_for(&self, port: PortId, address: Ipv4Addr) -> bool {
        self.is_vip(address)
            || self
                .port(port)
                .is_some_and(|p| p.addresses.iter().any(|a| v4(a.address) == Some(address)))
    }

    /// Whether it is a VIP, or the DIP of any port.
    pub(super) fn is_local(&self, address: Ipv4Addr) -> bool {
        self.is_vip(address)
            || self.ports.iter().flat_map(|p| &p.addresses).any(|a| v4(a.address) == Some(address))
    }

    /// Whether it is the Ethernet address of one of the ports.
    pub(super) fn is_own_mac(&self, mac: Mac) -> bool {
        self.ports.iter().any(|p| p.mac == mac)
    }

    /// Whether it is the network or broadcast address of a port's network.
    pub(super) fn is_network_or_broadcast(&self, address: Ipv4Addr) -> bool {
        self.ports
            .iter()
            .flat_map(|p| &p.addresses)
            .any(|a| a.is_network_or_broadcast(address.into()))
    }

    /// The port's address in the network of `peer`, else its first.
    pub(super) fn address_towards(&self, port: PortId, peer: Ipv4Addr) -> Option<Ipv4Addr> {
        let addresses = &self.port(port)?.addresses;
        let near = addresses.iter().find(|a| a.contains(peer.into()));
        let first = || addresses.iter().find_map(|a| v4(a.address));
        near.and_then(|a| v4(a.address)).or_else(first)
    }

    /// What is announced where, with which Ethernet address: DIPs on their port; VIPs on the ports
    /// whose networks contain them, else on all.
    pub(super) fn announced(&self) -> BTreeMap<(PortId, Ipv4Addr), Mac> {
        let ports = || {
            let numbered = self.ports.iter().enumerate().map(|(i, p)| (PortId(i as u16), p));
            numbered.filter(|(_, p)| p.mac.is_station())
        };
        let mut all = BTreeMap::new();
        for (id, port) in ports() {
            let dips = port.addresses.iter().filter_map(|a| v4(a.address));
            all.extend(dips.map(|a| ((id, a), port.mac)));
        }
        for &vip in &self.vips {
            let is_near = |p: &PortSpec| p.addresses.iter().any(|a| a.contains(vip.into()));
            let somewhere = ports().any(|(_, p)| is_near(p));
            let on = ports().filter(|(_, p)| !somewhere || is_near(p));
            all.extend(on.map(|(id, p)| ((id, vip), p.mac)));
        }
        all
    }
}

const fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(last: u8, addresses: &[&str]) -> PortSpec {
        PortSpec {
            name: format!("p{last}"),
            mac: Mac([2, 0, 0, 0, 0, last]),
            mtu: 1500,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            gateways: Vec::new(),
        }
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn own() -> Own {
        Own::of(&Links {
            ports: vec![
                port(1, &["192.0.2.1/24", "10.1.0.1/16"]),
                port(2, &["198.51.100.1/24"]),
                port(3, &[]),
            ],
            vips: vec![ip("203.0.113.80").into(), ip("192.0.2.80").into()],
            neighbors: Vec::new(),
        })
    }

    #[test]
    fn a_vip_is_answered_everywhere_and_a_dip_on_its_port() {
        let own = own();
        assert!((0..3).all(|p| own.answers_for(PortId(p), ip("192.0.2.80"))));
        assert!(own.answers_for(PortId(0), ip("10.1.0.1")));
        assert!(!own.answers_for(PortId(1), ip("10.1.0.1")));
        assert!(!own.answers_for(PortId(9), ip("10.1.0.1")));
        assert!(own.is_local(ip("198.51.100.1")) && !own.is_local(ip("198.51.100.2")));
        assert!(own.is_network_or_broadcast(ip("10.1.255.255")));
    }

    #[test]
    fn asks_from_the_address_nearest_to_the_peer() {
        let own = own();
        assert_eq!(own.address_towards(PortId(0), ip("10.1.9.9")), Some(ip("10.1.0.1")));
        assert_eq!(own.address_towards(PortId(0), ip("8.8.8.8")), Some(ip("192.0.2.1")));
        assert_eq!(own.address_towards(PortId(2), ip("8.8.8.8")), None);
    }

    #[test]
    fn announces_a_vip_where_its_network_is_else_everywhere() {
        let all = own().announced();
        let ports_of = |a: &str| -> Vec<u16> {
            all.keys().filter(|(_, x)| *x == ip(a)).map(|(p, _)| p.0).collect()
        };
        assert_eq!(ports_of("192.0.2.80"), [0]);
        assert_eq!(ports_of("203.0.113.80"), [0, 1, 2]);
        assert_eq!(ports_of("10.1.0.1"), [0]);
        assert_eq!(all[&(PortId(1), ip("203.0.113.80"))], Mac([2, 0, 0, 0, 0, 2]));
        assert_eq!(all.len(), 3 + 1 + 3);
    }
}
