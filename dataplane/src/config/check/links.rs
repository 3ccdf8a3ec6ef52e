//! Checks of ports and static neighbors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::error::{Path, at};
use super::super::model::{Config, Port};
use super::{Findings, MTU_RANGE, not_a_far_host, not_a_host};
use crate::snapshot::route::MIN_MTU6;
use crate::snapshot::spec::Prefixed;

/// Whether all ports have names that others' findings may have in them, as often as they like.
pub(super) fn names(config: &Config, findings: &mut Findings) -> bool {
    let wrong = || config.ports.iter().enumerate().filter(|(_, port)| !is_name(&port.name));
    for (i, port) in wrong() {
        let name = &port.name;
        findings.add(
            at!["port", i, "name"],
            format!("found {name:?}, expected 1 to 32 letters, digits, \"-\", \"_\" or \".\""),
        );
    }
    wrong().next().is_none()
}

pub(super) fn ports(config: &Config, findings: &mut Findings) {
    if config.ports.is_empty() {
        findings.add(at!["port"], "found no [[port]], at least one is needed");
    }
    let mut names = BTreeSet::new();
    let mut devices = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for (i, port) in config.ports.iter().enumerate() {
        let name = &port.name;
        if !names.insert(name) {
            findings.add(at!["port", i, "name"], format!("port {name:?} is configured twice"));
        }
        let path = device(port, i, findings);
        if let (Some(path), Some(device)) = (path, identity(port)) {
            if let Some(other) = devices.insert(device.clone(), name) {
                findings.add(path, format!("{device} is already port {other:?}"));
            }
        }
        port_addresses(port, i, &mut addresses, findings);
        gateways(port, i, findings);
        findings.range(at!["port", i, "mtu"], port.mtu, MTU_RANGE.0, MTU_RANGE.1);
        if port.mtu < MIN_MTU6 && port.address.iter().any(|net| net.address.is_ipv6()) {
            findings.add(
                at!["port", i, "mtu"],
                format!(
                    "found {}, but port {name:?} has an IPv6 address, which needs an MTU of at \
                     least {}",
                    port.mtu, MIN_MTU6
                ),
            );
        }
        if let Some(queues) = port.queues {
            let workers = config.dataplane.workers.len().clamp(1, usize::from(u16::MAX)) as u16;
            if queues == 0 || queues > workers {
                findings.add(
                    at!["port", i, "queues"],
                    format!("found {queues}, allowed are 1 to {workers}, the number of workers"),
                );
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
}

/// Checks `device` and `vdev`; returns the path of the one that is there.
fn device(port: &Port, i: usize, findings: &mut Findings) -> Option<Path> {
    let (key, text) = match (&port.device, &port.vdev) {
        (Some(device), None) => ("device", device),
        (None, Some(vdev)) => ("vdev", vdev),
        (Some(_), Some(_)) => {
            findings.add(
                at!["port", i, "vdev"],
                format!("port {:?} has both device and vdev; exactly one is allowed", port.name),
            );
            return None;
        }
        (None, None) => {
            findings.add(
                at!["port", i, "device"],
                format!(
                    "port {:?} needs device = \"0000:03:00.0\" or \
                     vdev = \"net_af_packet0,iface=eth0\"",
                    port.name
                ),
            );
            return None;
        }
    };
    let path = at!["port", i, key];
    if text.is_empty() || text.starts_with(',') || text.contains(['\0', ' ', '\n', '\t']) {
        let example = if key == "device" { "0000:03:00.0" } else { "net_af_packet0,iface=eth0" };
        findings.add(path, format!("found {text:?}, expected a device such as {example:?}"));
        return None;
    }
    findings.text(path.clone(), text);
    Some(path)
}

/// The device without its arguments, PCI addresses with their domain.
fn identity(port: &Port) -> Option<String> {
    let (text, is_pci) = match (&port.device, &port.vdev) {
        (Some(device), _) => (device.strip_prefix("pci:").unwrap_or(device), true),
        (None, Some(vdev)) => (vdev.as_str(), false),
        (None, None) => return None,
    };
    let name = text.split(',').next().unwrap_or(text).to_ascii_lowercase();
    let short = is_pci && name.len() == "03:00.0".len() && name.as_bytes().get(2) == Some(&b':');
    Some(if short { format!("0000:{name}") } else { name })
}

fn port_addresses<'c>(
    port: &'c Port,
    i: usize,
    seen: &mut BTreeMap<IpAddr, &'c str>,
    findings: &mut Findings,
) {
    if port.address.is_empty() {
        findings.add(
            at!["port", i, "address"],
            format!("port {:?} needs at least one address, its DIP", port.name),
        );
    }
    for (j, net) in port.address.iter().enumerate() {
        let path = at!["port", i, "address", j];
        if net.length == 0 {
            let longest = if net.address.is_ipv4() { 32 } else { 128 };
            findings.add(path, format!("found {net}, allowed prefix lengths are 1 to {longest}"));
        } else if let Some(what) = not_a_far_host(net.address) {
            findings.add(path, format!("{} is {what}; expected a host's", net.address));
        } else if let Some(what) = net.reserved(net.address) {
            findings.add(path, format!("{} is {what} of {net}", net.address));
        } else if let Some(other) = seen.insert(net.address, &port.name) {
            findings.add(path, format!("{} is already an address of port {other:?}", net.address));
        }
    }
}

/// The port's network in which no host may have this address, and what it is there.
fn reserved(port: &Port, address: IpAddr) -> Option<(Prefixed, &'static str)> {
    port.address.iter().find_map(|net| Some((*net, net.reserved(address)?)))
}

/// Whether an address is a neighbor's on this port. A link-local one is on every link with IPv6.
fn is_on_link(port: &Port, address: IpAddr) -> bool {
    match address {
        IpAddr::V6(a) if a.is_unicast_link_local() => {
            port.address.iter().any(|net| net.address.is_ipv6())
        }
        _ => port.address.iter().any(|net| net.contains(address)),
    }
}

fn gateways(port: &Port, i: usize, findings: &mut Findings) {
    let networks = || {
        let all: Vec<_> = port.address.iter().map(ToString::to_string).collect();
        all.join(", ")
    };
    for (j, gateway) in port.gateway.iter().enumerate() {
        let path = at!["port", i, "gateway", j];
        if port.address.iter().any(|net| net.address == *gateway) {
            findings.add(path, format!("gateway {gateway} is the port's own address"));
        } else if let Some(what) = not_a_host(*gateway) {
            findings.add(path, format!("gateway {gateway} is {what}; expected a host's"));
        } else if let Some((net, what)) = reserved(port, *gateway) {
            findings.add(path, format!("gateway {gateway} is {what} of {net}"));
        } else if !is_on_link(port, *gateway) {
            findings.add(
                path,
                format!(
                    "gateway {gateway} is not on-link: it must be in a network of port {:?} ({})",
                    port.name,
                    networks()
                ),
            );
        }
    }
}

pub(super) fn neighbors(config: &Config, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (i, neighbor) in config.neighbors.iter().enumerate() {
        let address = neighbor.address;
        let Some(port) = config.ports.iter().find(|p| p.name == neighbor.port) else {
            let names: Vec<_> = config.ports.iter().map(|p| p.name.as_str()).collect();
            findings.add(
                at!["neighbor", i, "port"],
                format!("unknown port {:?} (configured are: {})", neighbor.port, names.join(", ")),
            );
            continue;
        };
        let path = at!["neighbor", i, "address"];
        if port.address.iter().any(|net| net.address == address) {
            findings.add(path, format!("{address} is the port's own address"));
        } else if !is_on_link(port, address) {
            findings.add(path, format!("{address} is in no network of port {:?}", neighbor.port));
        } else if !seen.insert((&neighbor.port, address)) {
            findings.add(
                path,
                format!("neighbor {address} of port {:?} is configured twice", neighbor.port),
            );
        }
        if !neighbor.mac.is_station() {
            findings.add(
                at!["neighbor", i, "mac"],
                format!("found {}, expected the address of one station", neighbor.mac),
            );
        }
    }
}
