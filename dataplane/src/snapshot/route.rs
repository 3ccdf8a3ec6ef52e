//! Which port and next hop lead to a real server, and through which tunnel.

use std::net::IpAddr;

use super::Tunnel;
use super::spec::{PortSpec, RealSpec};
use crate::forward::{DualTunnel, GreOptions, TunnelTemplate};
use crate::packet::ipv6;
use crate::types::PortId;
use crate::vocabulary::ForwardMethod;

/// The least MTU of a port that IPv6 packets leave by, in bytes (RFC 8200 5).
pub const MIN_MTU6: u16 = ipv6::MIN_MTU;

/// The way from the director to a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Egress port.
    pub port: PortId,
    /// The real server itself when on-link, else the gateway.
    pub next_hop: IpAddr,
    /// The outer headers, unless the method is `dr`.
    pub tunnel: Option<Tunnel>,
    /// The least MTU by which packets that every client may send get there, in bytes.
    pub least_mtu: u16,
}

/// Why there is no way to a real server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// `dr` leaves the packet as it is, so that the real server must be of its family.
    #[error(
        "real server {real} is not of the same family as the VIP {vip}: forward = \"dr\" cannot \
         lead there; use \"ipip\" or \"gre\""
    )]
    Family {
        /// RIP.
        real: IpAddr,
        /// VIP.
        vip: IpAddr,
    },
    /// `dr` rewrites the MAC address only, so the real server must share a segment.
    #[error(
        "real server {0} is in no port's network ({1}): forward = \"dr\" needs it on-link; \
         use \"ipip\" or \"gre\", or add an address of its network to a port"
    )]
    NotOnLink(IpAddr, String),
    /// A tunnel needs a source address of the real server's family.
    #[error(
        "real server {real} needs an outer {family} header, but no port has an {family} address \
         to send it from; add one to `address = [\"…\"]` of the port that leads to it"
    )]
    NoSource {
        /// RIP.
        real: IpAddr,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// No network contains it and no port has a gateway.
    #[error(
        "real server {0} is in no port's network ({1}) and no port with an {2} address has an \
         {2} gateway; add `gateway = [\"…\"]` to the port that leads to it"
    )]
    Unreachable(IpAddr, String, &'static str),
    /// The address belongs to the director.
    #[error("real server {0} is the director's own address")]
    Own(IpAddr),
    /// An address of a port's network that no host may have: what it is, and of which network.
    #[error("real server {0} is {1} of {2}")]
    NotAHost(IpAddr, &'static str, String),
    /// A packet of 1280 bytes, which every client may send, would not fit.
    #[error(
        "real server {real}: port {port:?} has an MTU of {mtu} bytes, but IPv6 this way needs \
         {least}"
    )]
    Mtu {
        /// RIP.
        real: IpAddr,
        /// The egress port's name.
        port: String,
        /// Its MTU.
        mtu: u16,
        /// The least that would do.
        least: u16,
    },
}

const fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The way to a real server of a virtual service at `vip`: the longest matching on-link network,
/// else (not for `dr`) the first gateway of its family.
pub fn route(ports: &[PortSpec], vip: IpAddr, real: &RealSpec) -> Result<Route, RouteError> {
    let (address, method) = (real.address, real.method);
    if method == ForwardMethod::Dr && address.is_ipv4() != vip.is_ipv4() {
        return Err(RouteError::Family { real: address, vip });
    }
    let (id, next_hop) = way(ports, address, method)?;
    let port = &ports[id.index()];
    let tunnel = match (method, source(port, next_hop)) {
        (ForwardMethod::Dr, _) => None,
        (_, Some(dip)) => tunnel(vip, dip, real),
        (_, None) => {
            return Err(RouteError::NoSource { real: address, family: family(address) });
        }
    };
    let least = match &tunnel {
        Some(Tunnel::Dual(dual)) if vip.is_ipv6() => dual.least_mtu(),
        _ if address.is_ipv6() => MIN_MTU6,
        _ => 0,
    };
    if port.mtu < least {
        let (port, mtu) = (port.name.clone(), port.mtu);
        return Err(RouteError::Mtu { real: address, port, mtu, least });
    }
    Ok(Route { port: id, next_hop, tunnel, least_mtu: least })
}

fn way(
    ports: &[PortSpec],
    real: IpAddr,
    method: ForwardMethod,
) -> Result<(PortId, IpAddr), RouteError> {
    let networks = || {
        let all: Vec<_> =
            ports.iter().flat_map(|p| &p.addresses).map(ToString::to_string).collect();
        if all.is_empty() { "no port has an address".to_owned() } else { all.join(", ") }
    };
    let mut best: Option<(u8, PortId)> = None;
    for (index, port) in ports.iter().enumerate() {
        for net in &port.addresses {
            if net.address == real {
                return Err(RouteError::Own(real));
            }
            if let Some(what) = net.reserved(real) {
                return Err(RouteError::NotAHost(real, what, net.to_string()));
            }
            if net.contains(real) && best.is_none_or(|(length, _)| net.length > length) {
                best = Some((net.length, PortId(index as u16)));
            }
        }
    }
    if let Some((_, port)) = best {
        return Ok((port, real));
    }
    if method == ForwardMethod::Dr {
        return Err(RouteError::NotOnLink(real, networks()));
    }
    let same = |address: &IpAddr| address.is_ipv4() == real.is_ipv4();
    // A port without an address has none to tunnel, or to ask for the gateway, from.
    let mut addressed = ports
        .iter()
        .enumerate()
        .filter(|(_, port)| port.addresses.iter().any(|net| same(&net.address)))
        .peekable();
    if addressed.peek().is_none() {
        return Err(RouteError::NoSource { real, family: family(real) });
    }
    addressed
        .find_map(|(index, port)| {
            let gateway = port.gateways.iter().find(|gateway| same(gateway))?;
            Some((PortId(index as u16), *gateway))
        })
        .ok_or_else(|| RouteError::Unreachable(real, networks(), family(real)))
}

/// The DIP a port uses towards a next hop: of the longest network that contains it, else its first
/// of the same family.
pub fn source(port: &PortSpec, next_hop: IpAddr) -> Option<IpAddr> {
    let mut same = port.addresses.iter().filter(|n| n.address.is_ipv4() == next_hop.is_ipv4());
    let mut best = same.next()?;
    for net in same.filter(|net| net.contains(next_hop)) {
        if !best.contains(next_hop) || net.length > best.length {
            best = net;
        }
    }
    Some(best.address)
}

/// The tunnel from `dip` to a real server; `None` unless both are of one family.
fn tunnel(vip: IpAddr, dip: IpAddr, real: &RealSpec) -> Option<Tunnel> {
    let gre = real.method == ForwardMethod::Gre;
    let options = GreOptions { checksum: real.gre.checksum, key: real.gre.key };
    Some(match (dip, real.address) {
        (IpAddr::V4(dip), IpAddr::V4(rip)) if vip.is_ipv4() => Tunnel::Narrow(if gre {
            TunnelTemplate::gre(dip, rip, options)
        } else {
            TunnelTemplate::ipip(dip, rip)
        }),
        (IpAddr::V4(dip), IpAddr::V4(rip)) => Tunnel::Dual(if gre {
            DualTunnel::gre4(dip, rip, options)
        } else {
            DualTunnel::ipip4(dip, rip)
        }),
        (IpAddr::V6(dip), IpAddr::V6(rip)) => Tunnel::Dual(if gre {
            DualTunnel::gre6(dip, rip, options)
        } else {
            DualTunnel::ipip6(dip, rip)
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Thresholds;
    use crate::snapshot::spec::GreSpec;
    use crate::types::Mac;

    const VIP: &str = "192.0.2.100";
    const VIP6: &str = "2001:db8:2::100";

    fn ports() -> Vec<PortSpec> {
        let port = |name: &str, addresses: &[&str], gateways: &[&str]| PortSpec {
            name: name.into(),
            mac: Mac::ZERO,
            mtu: 1500,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            gateways: gateways.iter().map(|g| g.parse().unwrap()).collect(),
        };
        vec![
            port("a", &["192.0.2.10/24", "2001:db8:2::10/64"], &[]),
            port(
                "b",
                &["198.51.100.1/25", "2001:db8:51::1/64"],
                &["198.51.100.126", "fe80::1", "2001:db8:51::ff"],
            ),
        ]
    }

    fn to(
        ports: &[PortSpec],
        vip: &str,
        rip: &str,
        method: ForwardMethod,
    ) -> Result<Route, RouteError> {
        let real = RealSpec {
            address: rip.parse().unwrap(),
            weight: 1,
            method,
            gre: GreSpec::default(),
            thresholds: Thresholds::default(),
        };
        route(ports, vip.parse().unwrap(), &real)
    }

    #[test]
    fn on_link_first_then_the_gateway() {
        let way = |rip, method| to(&ports(), VIP, rip, method);
        let on_link = way("192.0.2.9", ForwardMethod::Dr).unwrap();
        assert_eq!((on_link.port, on_link.next_hop.to_string()), (PortId(0), "192.0.2.9".into()));
        let far = way("203.0.113.9", ForwardMethod::Gre).unwrap();
        assert_eq!((far.port, far.next_hop.to_string()), (PortId(1), "198.51.100.126".into()));
        assert!(matches!(way("203.0.113.9", ForwardMethod::Dr), Err(RouteError::NotOnLink(..))));
        assert!(matches!(way("192.0.2.10", ForwardMethod::Dr), Err(RouteError::Own(_))));
        assert!(matches!(way("192.0.2.255", ForwardMethod::Dr), Err(RouteError::NotAHost(..))));
        let mut bare = ports();
        bare[1].addresses.clear();
        let unaddressed = to(&bare, VIP, "203.0.113.9", ForwardMethod::Ipip);
        assert!(matches!(unaddressed, Err(RouteError::Unreachable(..))));
        let lone = to(&ports()[..1], VIP, "203.0.113.9", ForwardMethod::Ipip);
        assert!(matches!(lone, Err(RouteError::Unreachable(..))));
    }

    #[test]
    fn ipv6_goes_by_its_own_networks_and_gateways() {
        let way = |vip, rip, method| {
            to(&ports(), vip, rip, method).map(|r| (r.port, r.next_hop.to_string(), r.tunnel))
        };
        let dr = way(VIP6, "2001:db8:2::21", ForwardMethod::Dr).unwrap();
        assert_eq!(dr, (PortId(0), "2001:db8:2::21".into(), None));
        let (port, hop, tunnel) = way(VIP6, "2001:db8:9::9", ForwardMethod::Ipip).unwrap();
        assert_eq!((port, hop), (PortId(1), "fe80::1".into()));
        let [dip, rip] = ["2001:db8:51::1", "2001:db8:9::9"].map(|a| a.parse().unwrap());
        assert_eq!(tunnel, Some(Tunnel::Dual(DualTunnel::ipip6(dip, rip))));
        // Either family inside either.
        let overhead = |vip, rip, method| {
            let (_, _, tunnel) = way(vip, rip, method).unwrap();
            let tunnel = tunnel.unwrap();
            (matches!(tunnel, Tunnel::Dual(_)), tunnel.overhead())
        };
        assert_eq!(overhead(VIP, "203.0.113.9", ForwardMethod::Ipip), (false, 20));
        assert_eq!(overhead(VIP6, "203.0.113.9", ForwardMethod::Ipip), (true, 20));
        assert_eq!(overhead(VIP6, "203.0.113.9", ForwardMethod::Gre), (true, 24));
        assert_eq!(overhead(VIP, "2001:db8:9::9", ForwardMethod::Ipip), (true, 40));
        assert_eq!(overhead(VIP, "2001:db8:9::9", ForwardMethod::Gre), (true, 44));
        for (vip, rip) in [(VIP, "2001:db8:2::21"), (VIP6, "192.0.2.21")] {
            let refused = way(vip, rip, ForwardMethod::Dr);
            assert!(matches!(refused, Err(RouteError::Family { .. })), "{rip}");
        }
        let anycast = way(VIP6, "2001:db8:2::", ForwardMethod::Dr);
        assert!(matches!(anycast, Err(RouteError::NotAHost(..))));
    }

    #[test]
    fn an_outer_header_needs_a_source_of_its_family_and_ipv6_room() {
        let mut only4 = ports();
        only4.iter_mut().for_each(|p| p.addresses.truncate(1));
        let refused = to(&only4, VIP, "2001:db8:9::9", ForwardMethod::Ipip).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "real server 2001:db8:9::9 needs an outer IPv6 header, but no port has an IPv6 address \
             to send it from; add one to `address = [\"…\"]` of the port that leads to it"
        );
        let mut narrow = ports();
        narrow[1].mtu = 1319;
        let refused = to(&narrow, VIP6, "2001:db8:9::9", ForwardMethod::Ipip).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "real server 2001:db8:9::9: port \"b\" has an MTU of 1319 bytes, but IPv6 this way \
             needs 1320"
        );
        assert!(to(&narrow, VIP, "2001:db8:9::9", ForwardMethod::Ipip).is_ok());
        assert!(to(&narrow, VIP6, "203.0.113.9", ForwardMethod::Ipip).is_ok());
        narrow[0].mtu = 1279;
        let refused = to(&narrow, VIP6, "2001:db8:2::21", ForwardMethod::Dr);
        assert!(matches!(refused, Err(RouteError::Mtu { least: 1280, .. })));
    }

    #[test]
    fn the_source_is_the_nearest_dip_to_the_next_hop() {
        let mut port = ports().remove(0);
        port.addresses = ["192.0.2.10/24", "2001:db8::1/32", "10.0.0.1/8", "10.1.0.1/16"]
            .map(|a| a.parse().unwrap())
            .to_vec();
        let from = |hop: &str| source(&port, hop.parse().unwrap()).unwrap().to_string();
        assert_eq!(from("10.1.2.3"), "10.1.0.1");
        assert_eq!(from("10.2.2.3"), "10.0.0.1");
        assert_eq!(from("192.0.2.1"), "192.0.2.10");
        assert_eq!(from("203.0.113.1"), "192.0.2.10", "an off-link gateway");
        assert_eq!(from("fe80::1"), "2001:db8::1", "a link-local gateway");
    }
}
