//! Which addresses are the director's own, and which of them may be used now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packet::ipv6;
use crate::snapshot::neighbors::{Links, TunnelSpec};
use crate::snapshot::spec::PortSpec;
use crate::types::{Mac, PortId};
use crate::vocabulary::AddressState;

/// Ports with their DIPs, and VIPs.
#[derive(Debug, Default)]
pub(super) struct Own {
    ports: Vec<PortSpec>,
    /// Whether a port speaks IPv6; see [`Own::link_local`].
    speaks_ipv6: Vec<bool>,
    /// Sorted.
    vips: Vec<IpAddr>,
    /// Sorted.
    tunnels: Vec<TunnelSpec>,
    /// IPv6 addresses of ports that are not to be used: being probed, or another station's too.
    not_ready: NotReady,
}

/// The states of addresses that are not [`AddressState::Ready`].
pub(super) type NotReady = BTreeMap<(PortId, Ipv6Addr), AddressState>;

/// An address to ask from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source<A> {
    /// This one.
    Ready(A),
    /// There will be one: it is being probed.
    Later,
    /// There is none.
    None,
}

impl<A> Source<A> {
    pub(super) fn map<T>(self, f: impl FnOnce(A) -> T) -> Source<T> {
        match self {
            Source::Ready(address) => Source::Ready(f(address)),
            Source::Later => Source::Later,
            Source::None => Source::None,
        }
    }
}

impl Own {
    /// All addresses of `links`; those in `not_ready` are not used.
    pub(super) fn of(links: &Links, not_ready: NotReady) -> Own {
        let mut vips = links.vips.clone();
        vips.sort_unstable();
        let ipv6_vips = vips.iter().any(IpAddr::is_ipv6);
        let speaks = |(i, port): (usize, &PortSpec)| {
            let mut behind = links.neighbors.iter().filter(|n| n.port.index() == i);
            ipv6_vips
                || port.addresses.iter().any(|a| a.address.is_ipv6())
                || behind.any(|n| n.address.is_ipv6())
        };
        let speaks_ipv6 = links.ports.iter().enumerate().map(speaks).collect();
        let mut tunnels = links.tunnels.clone();
        tunnels.sort_unstable();
        Own { ports: links.ports.clone(), speaks_ipv6, vips, tunnels, not_ready }
    }

    /// Whether the same addresses are announced as by another.
    pub(super) fn announces_as(&self, other: &Own) -> bool {
        self.asks_as(other) && self.vips == other.vips && self.not_ready == other.not_ready
    }

    /// Whether neighbors are asked from the same addresses as by another, ready or not.
    pub(super) fn asks_as(&self, other: &Own) -> bool {
        self.ports == other.ports && self.speaks_ipv6 == other.speaks_ipv6
    }

    /// Sets which IPv6 addresses of ports are not to be used.
    pub(super) fn set_not_ready(&mut self, not_ready: NotReady) {
        self.not_ready = not_ready;
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

    /// The port's link-local address, ready or not: a port has one that has an IPv6 address, or
    /// IPv6 neighbors behind it, and every port when there is an IPv6 VIP.
    pub(super) fn link_local(&self, port: PortId) -> Option<Ipv6Addr> {
        let speaks = self.speaks_ipv6.get(port.index()).copied().unwrap_or(false);
        self.mac(port).filter(|_| speaks).map(ipv6::link_local)
    }

    /// The port's link-local address, once it may be used.
    pub(super) fn ready_link_local(&self, port: PortId) -> Option<Ipv6Addr> {
        self.link_local(port).filter(|a| self.is_ready(port, *a))
    }

    /// The ports whose link-local addresses may be used.
    pub(super) fn link_locals(&self) -> BTreeSet<PortId> {
        let ports = (0..self.ports.len() as u16).map(PortId);
        ports.filter(|port| self.ready_link_local(*port).is_some()).collect()
    }

    pub(super) fn is_vip(&self, address: IpAddr) -> bool {
        self.vips.binary_search(&address).is_ok()
    }

    /// Whether it is the port's: a DIP, or its link-local address. Ready or not.
    pub(super) fn is_ports(&self, port: PortId, address: IpAddr) -> bool {
        let dip = self.port(port).is_some_and(|p| p.addresses.iter().any(|a| a.address == address));
        dip || self.link_local(port).is_some_and(|a| address == a)
    }

    /// Whether an IPv6 address of a port may be used.
    fn is_ready(&self, port: PortId, address: Ipv6Addr) -> bool {
        !self.not_ready.contains_key(&(port, address))
    }

    /// Whether ARP or a neighbor solicitation for `address` is answered on `port`: a VIP on any, a
    /// port's address on its own once it is ready.
    pub(super) fn answers_for(&self, port: PortId, address: IpAddr) -> bool {
        let ready = match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(a) => self.is_ready(port, a),
        };
        self.is_vip(address) || ready && self.is_ports(port, address)
    }

    /// The port whose address this is, as seen from `port`: link-local addresses are known there
    /// only. Ready or not.
    fn owner(&self, port: PortId, address: IpAddr) -> Option<PortId> {
        let other_link = matches!(address, IpAddr::V6(a) if ipv6::is_link_local(a));
        let mut ports = (0..self.ports.len() as u16).map(PortId);
        ports.find(|p| (*p == port || !other_link) && self.is_ports(*p, address))
    }

    /// Whether it is a VIP, or an address of any port; a link-local one only of `port`.
    pub(super) fn is_local(&self, port: PortId, address: IpAddr) -> bool {
        self.is_vip(address) || self.owner(port, address).is_some()
    }

    /// Whether the director uses `address` now, which [`Own::is_local`].
    pub(super) fn is_used(&self, port: PortId, address: IpAddr) -> bool {
        match (self.owner(port, address), address) {
            _ if self.is_vip(address) => true,
            (Some(owner), IpAddr::V6(a)) => self.is_ready(owner, a),
            (owner, _) => owner.is_some(),
        }
    }

    /// The longest outer packet, in bytes, that the director sends through this tunnel, if it is one
    /// of its own.
    pub(super) fn tunnel_mtu(&self, tunnel: &TunnelSpec) -> Option<u16> {
        self.tunnels.binary_search(tunnel).ok()?;
        let has_dip = |p: &&PortSpec| p.addresses.iter().any(|a| a.address == tunnel.dip);
        self.ports.iter().find(has_dip).map(|port| port.mtu)
    }

    /// Whether any tunnel leads to this real server.
    pub(super) fn has_tunnel_to(&self, real: IpAddr) -> bool {
        self.tunnels.binary_search_by_key(&real, |tunnel| tunnel.real).is_ok()
    }

    /// Whether it is the Ethernet address of one of the ports.
    pub(super) fn is_own_mac(&self, mac: Mac) -> bool {
        self.ports.iter().any(|p| p.mac == mac)
    }

    /// Whether it is the network or broadcast address of a port's network.
    pub(super) fn is_network_or_broadcast(&self, address: Ipv4Addr) -> bool {
        let mut networks = self.ports.iter().flat_map(|p| &p.addresses);
        networks.any(|a| a.address.is_ipv4() && a.is_network_or_broadcast(address.into()))
    }

    /// The port's address in the network of `peer`, else its first.
    pub(super) fn source4(&self, port: PortId, peer: Ipv4Addr) -> Source<Ipv4Addr> {
        let dips = self.port(port).into_iter().flat_map(|p| &p.addresses);
        let near = |a: &Ipv4Addr| {
            let network = dips.clone().find(|net| net.address == *a);
            network.is_some_and(|net| net.contains(peer.into()))
        };
        let all = || dips.clone().filter_map(|a| v4(a.address));
        all().find(near).or(all().next()).map_or(Source::None, Source::Ready)
    }

    /// The port's address in the network of `peer`, else its first, of those that are ready;
    /// towards a link-local address, and if there is no other, its link-local address.
    pub(super) fn source6(&self, port: PortId, peer: Ipv6Addr) -> Source<Ipv6Addr> {
        let networks = self.port(port).into_iter().flat_map(|p| &p.addresses);
        let near = networks.clone().filter(|net| net.contains(peer.into()));
        let link_local = self.link_local(port);
        let first = link_local.filter(|_| ipv6::is_link_local(peer));
        let all = first
            .into_iter()
            .chain(near.filter_map(|net| v6(net.address)))
            .chain(networks.filter_map(|net| v6(net.address)))
            .chain(link_local);
        let mut later = false;
        for address in all {
            match self.not_ready.get(&(port, address)) {
                None | Some(AddressState::Ready) => return Source::Ready(address),
                Some(AddressState::Tentative) => later = true,
                Some(AddressState::Duplicate) => {}
            }
        }
        if later { Source::Later } else { Source::None }
    }

    fn numbered(&self) -> impl Iterator<Item = (PortId, &PortSpec)> {
        let numbered = self.ports.iter().enumerate().map(|(i, p)| (PortId(i as u16), p));
        numbered.filter(|(_, p)| p.mac.is_station())
    }

    /// What is announced where, with which Ethernet address: DIPs on their port, once they are
    /// ready; VIPs on the ports whose networks contain them, else on all.
    pub(super) fn announced(&self) -> BTreeMap<(PortId, IpAddr), Mac> {
        let mut all = BTreeMap::new();
        for (id, port) in self.numbered() {
            let dips = port.addresses.iter().map(|a| a.address);
            let ready = dips.filter(|a| self.answers_for(id, *a));
            all.extend(ready.map(|a| ((id, a), port.mac)));
        }
        for &vip in &self.vips {
            let is_near = |p: &PortSpec| p.addresses.iter().any(|a| a.contains(vip));
            let somewhere = self.numbered().any(|(_, p)| is_near(p));
            let on = self.numbered().filter(|(_, p)| !somewhere || is_near(p));
            all.extend(on.map(|(id, p)| ((id, vip), p.mac)));
        }
        all
    }

    /// What is to be probed before it is used, with the port's Ethernet address: IPv6 addresses of
    /// ports. VIPs are not, for the real servers have them too.
    pub(super) fn probed(&self) -> BTreeMap<(PortId, Ipv6Addr), Mac> {
        let mut all = BTreeMap::new();
        for (id, port) in self.numbered() {
            let addresses = port.addresses.iter().filter_map(|a| v6(a.address));
            let addresses = addresses.chain(self.link_local(id));
            all.extend(addresses.map(|a| ((id, a), port.mac)));
        }
        all
    }

    /// The groups the director listens to: those in which its IPv6 addresses are asked for, and
    /// VIPs on every port, as they are answered on every port.
    pub(super) fn groups(&self) -> BTreeSet<(PortId, Ipv6Addr)> {
        let ports = self.probed().into_keys();
        let vips = self.vips.iter().filter_map(|vip| v6(*vip));
        let vips = vips.flat_map(|vip| self.numbered().map(move |(id, _)| (id, vip)));
        ports.chain(vips).map(|(id, a)| (id, ipv6::solicited_node(a))).collect()
    }
}

const fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(a) => Some(a),
        IpAddr::V6(_) => None,
    }
}

const fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(a) => Some(a),
        IpAddr::V4(_) => None,
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

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn six(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn links() -> Links {
        Links {
            ports: vec![
                port(1, &["192.0.2.1/24", "10.1.0.1/16", "2001:db8::1/64", "2001:db8:5::1/64"]),
                port(2, &["198.51.100.1/24"]),
                port(3, &[]),
            ],
            vips: vec![ip("203.0.113.80"), ip("2001:db8::80"), ip("192.0.2.80")],
            neighbors: Vec::new(),
            tunnels: Vec::new(),
        }
    }

    fn own() -> Own {
        Own::of(&links(), NotReady::new())
    }

    /// The first port's link-local address.
    const LOCAL: &str = "fe80::ff:fe00:1";

    #[test]
    fn a_vip_is_answered_everywhere_and_a_ports_address_on_its_port() {
        let own = own();
        for vip in ["192.0.2.80", "2001:db8::80"] {
            assert!((0..3).all(|p| own.answers_for(PortId(p), ip(vip))));
        }
        for address in ["10.1.0.1", "2001:db8::1", LOCAL] {
            assert!(own.answers_for(PortId(0), ip(address)));
            assert!(!own.answers_for(PortId(1), ip(address)));
            assert!(!own.answers_for(PortId(9), ip(address)));
        }
        assert!(own.is_local(PortId(2), ip("198.51.100.1")));
        assert!(!own.is_local(PortId(1), ip("198.51.100.2")));
        assert!(own.is_local(PortId(2), ip("2001:db8::1")));
        assert!(own.is_local(PortId(0), ip(LOCAL)) && !own.is_local(PortId(1), ip(LOCAL)));
        assert!(own.is_network_or_broadcast(Ipv4Addr::new(10, 1, 255, 255)));
    }

    #[test]
    fn a_port_has_a_link_local_address_when_it_speaks_ipv6() {
        let with_vip = own();
        assert!((0..3).all(|p| with_vip.link_local(PortId(p)).is_some()));
        let mut less = links();
        less.vips.clear();
        let of = |links: &Links| {
            let own = Own::of(links, NotReady::new());
            [0, 1, 2].map(|p| own.link_local(PortId(p)).is_some())
        };
        assert_eq!(of(&less), [true, false, false]);
        let id = crate::types::NeighborId(0);
        let behind = (PortId(1), ip("fe80::9"));
        less.neighbors.push(crate::snapshot::neighbors::NeighborSpec {
            id,
            port: behind.0,
            address: behind.1,
            fixed: None,
        });
        assert_eq!(of(&less), [true, true, false]);
        less.ports[1].mac = Mac::ZERO;
        assert_eq!(of(&less), [true, false, false]);
    }

    #[test]
    fn asks_from_the_address_nearest_to_the_peer() {
        let own = own();
        let v4 = |port, peer: [u8; 4]| own.source4(PortId(port), peer.into());
        assert_eq!(v4(0, [10, 1, 9, 9]), Source::Ready([10, 1, 0, 1].into()));
        assert_eq!(v4(0, [8, 8, 8, 8]), Source::Ready([192, 0, 2, 1].into()));
        assert_eq!(v4(2, [8, 8, 8, 8]), Source::None);
        let v6 = |port, peer| own.source6(PortId(port), six(peer));
        assert_eq!(v6(0, "2001:db8:5::9"), Source::Ready(six("2001:db8:5::1")));
        assert_eq!(v6(0, "2001:db8:9::9"), Source::Ready(six("2001:db8::1")));
        assert_eq!(v6(0, "fe80::9"), Source::Ready(six(LOCAL)));
        assert_eq!(v6(1, "2001:db8::9"), Source::Ready(six("fe80::ff:fe00:2")));
        assert_eq!(v6(7, "2001:db8::9"), Source::None);
    }

    #[test]
    fn what_is_not_ready_is_not_used() {
        use AddressState::{Duplicate, Tentative};
        let own = |states: &[(&str, AddressState)]| {
            let states = states.iter().map(|(a, state)| ((PortId(0), six(a)), *state));
            Own::of(&links(), states.collect())
        };
        let peer = six("2001:db8:5::9");
        let all = ["2001:db8:5::1", "2001:db8::1", LOCAL];
        let first = own(&[(all[0], Tentative)]);
        assert_eq!(first.source6(PortId(0), peer), Source::Ready(six(all[1])));
        assert!(!first.answers_for(PortId(0), ip(all[0])));
        assert!(first.is_local(PortId(1), ip(all[0])) && !first.is_used(PortId(1), ip(all[0])));
        assert!(!first.announced().contains_key(&(PortId(0), ip(all[0]))));
        assert_eq!(own(&all.map(|a| (a, Tentative))).source6(PortId(0), peer), Source::Later);
        assert_eq!(own(&all.map(|a| (a, Duplicate))).source6(PortId(0), peer), Source::None);
        assert_eq!(own(&[(LOCAL, Tentative)]).ready_link_local(PortId(0)), None);
    }

    #[test]
    fn announces_a_vip_where_its_network_is_else_everywhere() {
        let all = own().announced();
        let ports_of = |a: &str| -> Vec<u16> {
            all.keys().filter(|(_, x)| *x == ip(a)).map(|(p, _)| p.0).collect()
        };
        assert_eq!(ports_of("192.0.2.80"), [0]);
        assert_eq!(ports_of("2001:db8::80"), [0]);
        assert_eq!(ports_of("203.0.113.80"), [0, 1, 2]);
        assert_eq!(ports_of("10.1.0.1"), [0]);
        assert_eq!(all[&(PortId(1), ip("203.0.113.80"))], Mac([2, 0, 0, 0, 0, 2]));
        assert_eq!(all.len(), 5 + 2 + 3);
    }

    #[test]
    fn probes_what_is_a_ports_and_listens_for_all_it_answers_for() {
        let own = own();
        let probed = own.probed();
        assert_eq!(probed.len(), 2 + 3);
        assert!(probed.keys().all(|(_, a)| *a != six("2001:db8::80")));
        // Two addresses that end alike share a group.
        let on = |port| own.groups().into_iter().filter(move |(p, _)| p.0 == port);
        assert_eq!((on(0).count(), on(1).count(), on(2).count()), (3 - 1, 2, 2));
    }
}
