//! Checks of virtual services and their real servers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter::repeat;
use std::net::IpAddr;

use super::super::error::at;
use super::super::model::{Config, Port, Real, Service};
use super::super::real_spec;
use super::{Findings, TIMEOUT_RANGE, not_a_far_host};
use crate::schedule::{MAX_MEMBERS, MAX_WEIGHT};
use crate::snapshot::route::route;
use crate::snapshot::spec::PortSpec;
use crate::types::{Netmask, Protocol, ServiceKey};
use crate::vocabulary::{ForwardMethod, SchedulerFlags};

/// What is around virtual services: they are checked against it.
#[derive(Debug)]
pub(in crate::config) struct Around {
    ports: Vec<PortSpec>,
    /// With the port's name.
    gateways: HashMap<IpAddr, String>,
    maglev_size: usize,
}

impl Around {
    pub(in crate::config) fn of(config: &Config) -> Around {
        let gateways =
            |port: &Port| port.gateway.clone().into_iter().zip(repeat(port.name.clone()));
        Around {
            ports: config.port_specs(&[]),
            gateways: config.ports.iter().flat_map(gateways).collect(),
            maglev_size: config.scheduling.maglev_size as usize,
        }
    }
}

pub(super) fn services(config: &Config, findings: &mut Findings) {
    let around = Around::of(config);
    let vips: BTreeMap<_, _> =
        config.services.iter().rev().map(|s| (s.address.vip, s.key())).collect();
    let mut keys = BTreeSet::new();
    for (i, one) in config.services.iter().enumerate() {
        if !keys.insert(one.key()) {
            findings.add(
                at!["service", i, "address"],
                format!("virtual service {} is configured twice", one.key()),
            );
        }
        vip(one, i, &around, findings);
        options(one, i, findings);
        let mut rips = BTreeSet::new();
        for (j, server) in one.reals.iter().enumerate() {
            if !rips.insert(server.address) {
                findings.add(
                    at!["service", i, "real", j, "address"],
                    format!(
                        "real server {} is configured twice in virtual service {}",
                        server.address,
                        one.key()
                    ),
                );
            }
            let vip = vips.get(&server.address).copied();
            real(server, (one, i, j), (vip, &around), findings);
        }
        members(one, one.reals.len(), (i, &around), findings);
    }
    overlaps(config, findings);
    let reals = config.services.iter().map(|s| s.reals.len()).sum();
    sizes(config, config.services.len(), reals, findings);
}

/// A virtual service, the `i`th of the configuration, for all but its real servers, of which it has
/// so many.
pub(in crate::config) fn service(
    service: &Service,
    members: usize,
    (i, around): (usize, &Around),
    findings: &mut Findings,
) {
    vip(service, i, around, findings);
    options(service, i, findings);
    self::members(service, members, (i, around), findings);
}

/// Whether a virtual service may have so many real servers.
pub(in crate::config) fn members(
    service: &Service,
    members: usize,
    (i, around): (usize, &Around),
    findings: &mut Findings,
) {
    let key = service.key();
    if members > MAX_MEMBERS {
        findings.add(
            at!["service", i, "real"],
            format!(
                "virtual service {key} has {members} real servers, at most {MAX_MEMBERS} are \
                 allowed"
            ),
        );
    }
    let slots = around.maglev_size;
    if service.scheduler.is_hash() && members > slots {
        findings.add(
            at!["service", i, "scheduler"],
            format!(
                "virtual service {key} has {members} real servers, but scheduling.maglev_size is \
                 {slots}"
            ),
        );
    }
}

/// Ranges of L4 ports that share some. One that is single or all is told apart from the others by
/// how much it says.
fn overlaps(config: &Config, findings: &mut Findings) {
    let mut ranges: Vec<_> = config
        .services
        .iter()
        .enumerate()
        .map(|(i, service)| (service.key(), i))
        .filter(|(key, _)| key.ports.is_range())
        .collect();
    // By protocol and VIP, then by the first L4 port. What is configured twice is said elsewhere.
    ranges.sort_unstable();
    ranges.dedup_by_key(|(key, _)| *key);
    let mut widest = ranges.first().copied();
    for (key, i) in ranges.into_iter().skip(1) {
        let before = widest.filter(|(b, _)| (b.protocol, b.vip) == (key.protocol, key.vip));
        if let Some((other, j)) = before.filter(|(b, _)| b.ports.overlaps(key.ports)) {
            let (later, earlier, i) = if i > j { (key, other, i) } else { (other, key, j) };
            overlap(later, earlier, i, findings);
        }
        if before.is_none_or(|(b, _)| b.ports.last() < key.ports.last()) {
            widest = Some((key, i));
        }
    }
}

/// A virtual service, the `i`th, that shares L4 ports with an earlier one.
pub(in crate::config) fn overlap(
    key: ServiceKey,
    earlier: ServiceKey,
    i: usize,
    findings: &mut Findings,
) {
    findings.add(
        at!["service", i, "address"],
        format!(
            "virtual service {key} overlaps virtual service {earlier}; ranges of L4 ports must not"
        ),
    );
}

/// Whether there is room for so many virtual services and real servers.
pub(in crate::config) fn sizes(
    config: &Config,
    services: usize,
    reals: usize,
    findings: &mut Findings,
) {
    if services > config.dataplane.max_services as usize {
        findings.add(
            at!["dataplane", "max_services"],
            format!(
                "found {}, but {services} virtual services are configured",
                config.dataplane.max_services
            ),
        );
    }
    if reals > config.dataplane.max_real_servers as usize {
        findings.add(
            at!["dataplane", "max_real_servers"],
            format!(
                "found {}, but {reals} real servers are configured",
                config.dataplane.max_real_servers
            ),
        );
    }
}

fn options(service: &Service, i: usize, findings: &mut Findings) {
    let of = format!("virtual service {}", service.key());
    let scheduler = service.scheduler;
    for (flag, name, kind) in SchedulerFlags::ALL {
        if service.scheduler_flags.has(*flag) && scheduler != *kind {
            findings.add(
                at!["service", i, "scheduler_flags"],
                format!("{of}: `{name}` is a flag of scheduler \"{kind}\", found \"{scheduler}\""),
            );
        }
    }
    if service.one_packet && service.protocol != Protocol::Udp {
        findings.add(
            at!["service", i, "one_packet"],
            format!("{of}: only udp can be scheduled packet by packet; remove it"),
        );
    }
    let (low, high) = TIMEOUT_RANGE;
    match service.persistence {
        Some(time) if time < low || time > high => findings.add(
            at!["service", i, "persistence"],
            format!(
                "{of}: found \"{}\", allowed are \"1s\" to \"24days\"; leave it out for none",
                humantime::format_duration(time)
            ),
        ),
        None if service.persistence_netmask.is_some() => findings.add(
            at!["service", i, "persistence_netmask"],
            format!("{of}: this needs persistence, such as persistence = \"300s\""),
        ),
        _ => {}
    }
    if let Some(netmask) = service.persistence_netmask {
        if let Some(wanted) = no_netmask(netmask, service.address.vip) {
            findings.add(
                at!["service", i, "persistence_netmask"],
                format!("{of}: found {netmask}, expected {wanted}"),
            );
        }
    }
}

/// What it should be, if this is not a netmask for clients of a VIP.
fn no_netmask(netmask: Netmask, vip: IpAddr) -> Option<&'static str> {
    let is_right = netmask.is_for(vip)
        && match netmask {
            Netmask::V4(mask) => {
                let bits = mask.to_bits();
                bits != 0 && bits.leading_ones() + bits.trailing_zeros() == u32::BITS
            }
            Netmask::V6(length) => (1..=128).contains(&length),
        };
    match vip {
        _ if is_right => None,
        IpAddr::V4(_) => Some("a netmask from 128.0.0.0 to 255.255.255.255 such as 255.255.255.0"),
        IpAddr::V6(_) => Some("a prefix length from 1 to 128 such as 64"),
    }
}

fn vip(service: &Service, i: usize, around: &Around, findings: &mut Findings) {
    let path = at!["service", i, "address"];
    let vip = service.address.vip;
    let nets = || around.ports.iter().flat_map(|p| p.addresses.iter().map(move |a| (p, a)));
    if let Some(what) = not_a_far_host(vip) {
        findings.add(path, format!("VIP {vip} is {what}; expected a host's"));
    } else if let Some((port, _)) = nets().find(|(_, net)| net.address == vip) {
        findings.add(
            path,
            format!(
                "VIP {vip} is the director's own address on port {:?} (DIP); they must differ",
                port.name
            ),
        );
    } else if let Some((net, what)) = nets().find_map(|(_, net)| Some((net, net.reserved(vip)?))) {
        findings.add(path, format!("VIP {vip} is {what} of {net}"));
    } else if let Some(port) = around.gateways.get(&vip) {
        findings.add(path, format!("VIP {vip} is a gateway of port {port:?}"));
    }
}

/// A real server, the `j`th of the `i`th virtual service; `vip` is one that has its address as VIP.
pub(in crate::config) fn real(
    real: &Real,
    (service, i, j): (&Service, usize, usize),
    (vip, around): (Option<ServiceKey>, &Around),
    findings: &mut Findings,
) {
    let Real { address, weight, forward, gre, upper_threshold, lower_threshold } = *real;
    let path = at!["service", i, "real", j, "address"];
    let of = format!("real server {address} of virtual service {}", service.key());
    if let Some(what) = not_a_far_host(address) {
        findings.add(path, format!("{of}: this is {what}; expected a host's"));
    } else if let Some(other) = vip {
        findings.add(
            path,
            format!(
                "{of}: this is the VIP of virtual service {other}; a real server needs its own"
            ),
        );
    } else if let Err(error) = route(&around.ports, service.address.vip, &real_spec(real)) {
        findings.add(path, format!("virtual service {}: {error}", service.key()));
    }
    if weight > MAX_WEIGHT {
        findings.add(
            at!["service", i, "real", j, "weight"],
            format!("{of}: found weight {weight}, allowed are 0 (drain) to {MAX_WEIGHT}"),
        );
    }
    if lower_threshold > upper_threshold {
        findings.add(
            at!["service", i, "real", j, "lower_threshold"],
            format!(
                "{of}: found {lower_threshold}, allowed are 0 to upper_threshold, which is \
                 {upper_threshold}"
            ),
        );
    }
    if gre.is_some() && forward != ForwardMethod::Gre {
        findings.add(
            at!["service", i, "real", j, "gre"],
            format!("{of}: gre options need forward = \"gre\", found \"{forward}\""),
        );
    }
}
