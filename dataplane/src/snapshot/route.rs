//! Which port and next hop lead to a real server.

use std::net::Ipv4Addr;

use super::spec::PortSpec;
use crate::types::{ForwardMethod, PortId};

/// A port and the neighbor on it that a packet is handed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// Egress port.
    pub port: PortId,
    /// The real server itself when on-link, else the gateway.
    pub next_hop: Ipv4Addr,
}

/// Why there is no way to a real server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// `dr` rewrites the MAC address only, so the real server must share a segment.
    #[error(
        "real server {0} is in no port's network ({1}): forward = \"dr\" needs it on-link; \
         use \"ipip\" or \"gre\", or add an address of its network to a port"
    )]
    NotOnLink(Ipv4Addr, String),
    /// No network contains it and no port has a gateway.
    #[error(
        "real server {0} is in no port's network ({1}) and no port with an address has a gateway; \
         add `gateway = [\"…\"]` to the port that leads to it"
    )]
    Unreachable(Ipv4Addr, String),
    /// The address belongs to the director.
    #[error("real server {0} is the director's own address")]
    Own(Ipv4Addr),
    /// Network or broadcast address of a port's network.
    #[error("real server {0} is the network or broadcast address of {1}")]
    NotAHost(Ipv4Addr, String),
}

/// The way to `real`: the longest matching on-link network, else (not for `dr`) the first gateway.
pub fn route(
    ports: &[PortSpec],
    real: Ipv4Addr,
    method: ForwardMethod,
) -> Result<Route, RouteError> {
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
            if net.is_network_or_broadcast(real) {
                return Err(RouteError::NotAHost(real, net.to_string()));
            }
            if net.contains(real) && best.is_none_or(|(length, _)| net.length > length) {
                best = Some((net.length, PortId(index as u16)));
            }
        }
    }
    if let Some((_, port)) = best {
        return Ok(Route { port, next_hop: real });
    }
    if method == ForwardMethod::Dr {
        return Err(RouteError::NotOnLink(real, networks()));
    }
    ports
        .iter()
        .enumerate()
        // A port without an address has none to tunnel, or to ask for the gateway, from.
        .filter(|(_, p)| !p.addresses.is_empty())
        .find_map(|(index, p)| {
            let gateway = *p.gateways.first()?;
            Some(Route { port: PortId(index as u16), next_hop: gateway })
        })
        .ok_or_else(|| RouteError::Unreachable(real, networks()))
}

/// The DIP a port uses towards a next hop: of the longest network that contains it, else its first.
pub fn source(port: &PortSpec, next_hop: Ipv4Addr) -> Option<Ipv4Addr> {
    let mut best = port.addresses.first()?;
    for net in port.addresses.iter().filter(|net| net.contains(next_hop)) {
        if !best.contains(next_hop) || net.length > best.length {
            best = net;
        }
    }
    Some(best.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Mac;

    fn ports() -> Vec<PortSpec> {
        let port = |name: &str, address: &str, gateway: Option<&str>| PortSpec {
            name: name.into(),
            mac: Mac::ZERO,
            mtu: 1500,
            addresses: vec![address.parse().unwrap()],
            gateways: gateway.iter().map(|g| g.parse().unwrap()).collect(),
        };
        vec![port("a", "192.0.2.10/24", None), port("b", "198.51.100.1/25", Some("198.51.100.126"))]
    }

    #[test]
    fn on_link_first_then_the_gateway() {
        let way = |rip: &str, method| route(&ports(), rip.parse().unwrap(), method);
        let on_link = way("192.0.2.9", ForwardMethod::Dr).unwrap();
        assert_eq!((on_link.port, on_link.next_hop.to_string()), (PortId(0), "192.0.2.9".into()));
        let far = way("203.0.113.9", ForwardMethod::Gre).unwrap();
        assert_eq!((far.port, far.next_hop.to_string()), (PortId(1), "198.51.100.126".into()));
        assert!(matches!(way("203.0.113.9", ForwardMethod::Dr), Err(RouteError::NotOnLink(..))));
        assert!(matches!(way("192.0.2.10", ForwardMethod::Dr), Err(RouteError::Own(_))));
        assert!(matches!(way("192.0.2.255", ForwardMethod::Dr), Err(RouteError::NotAHost(..))));
        let mut bare = ports();
        bare[1].addresses.clear();
        let unaddressed = route(&bare, "203.0.113.9".parse().unwrap(), ForwardMethod::Ipip);
        assert!(matches!(unaddressed, Err(RouteError::Unreachable(..))));
        let lone = route(&ports()[..1], "203.0.113.9".parse().unwrap(), ForwardMethod::Ipip);
        assert!(matches!(lone, Err(RouteError::Unreachable(..))));
    }

    #[test]
    fn the_source_is_the_nearest_dip_to_the_next_hop() {
        let mut port = ports().remove(0);
        port.addresses =
            ["192.0.2.10/24", "10.0.0.1/8", "10.1.0.1/16"].map(|a| a.parse().unwrap()).to_vec();
        let from = |hop: &str| source(&port, hop.parse().unwrap()).unwrap().to_string();
        assert_eq!(from("10.1.2.3"), "10.1.0.1");
        assert_eq!(from("10.2.2.3"), "10.0.0.1");
        assert_eq!(from("192.0.2.1"), "192.0.2.10");
        assert_eq!(from("203.0.113.1"), "192.0.2.10", "an off-link gateway");
    }
}
