//! What a configuration must hold beyond its types. All violations are found, not just the first.
//!
//! The checks work on values, not on text, so they serve the file and the control socket alike;
//! every finding carries the path of its key, from which the file's line is found.

mod links;
mod services;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

pub(super) use services::{Around, members, overlap, real, service, sizes};

use super::MAX_ISSUES;
use super::buffers::{DESCRIPTORS, mbufs_needed};
use super::error::{MAX_MESSAGE, Path, at};
use super::model::Config;
use crate::schedule::Options;
use crate::vocabulary::clip;

/// Lcores the EAL knows (`RTE_MAX_LCORE` of a stock build).
pub const MAX_LCORES: u32 = 128;
/// Most flow table entries of a worker.
pub const MAX_FLOWS: u32 = 1 << 28;
/// Shortest and longest flow timer. The longest is what fits a tick's span.
pub const TIMEOUT_RANGE: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(24 * 24 * 3600));
/// Longest and shortest MTU: RFC 791's minimum, and a usual NIC's jumbo frame. A port with an IPv6
/// address needs 1280 (RFC 8200 5).
pub const MTU_RANGE: (u16, u16) = (68, 9216);
/// Longest path of a unix socket (`sun_path` without its final zero).
pub const MAX_SOCKET_PATH: usize = 107;

/// Longest text of the configuration, in bytes, where nothing else is said: arguments of devices
/// and of the EAL, and names.
pub const MAX_TEXT: usize = 1024;

/// What was found, by path.
#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) Vec<(Path, String)>);

impl Findings {
    /// Adds a finding. Beyond as many as are reported, it is left out.
    fn add(&mut self, at: Path, message: impl Into<String>) {
        if self.0.len() < MAX_ISSUES {
            self.0.push((at, clip(&message.into(), MAX_MESSAGE)));
        }
    }

    /// Adds a finding unless a text is short enough to be shown wherever it is used, and on one
    /// line.
    fn text(&mut self, at: Path, text: &str) {
        let length = text.len();
        if length > MAX_TEXT {
            self.add(at, format!("found a text of {length} bytes, at most {MAX_TEXT} are allowed"));
        } else if text.contains(char::is_control) {
            self.add(at, format!("found {text:?}, control characters are not allowed"));
        }
    }

    /// Adds a finding unless `value` lies in the range, bounds included.
    fn range<T: PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        at: Path,
        value: T,
        low: T,
        high: T,
    ) {
        if value < low || value > high {
            self.add(at, format!("found {value}, allowed are {low} to {high}"));
        }
    }
}

/// Everything wrong with `config`, in the order of the file's tables.
pub(super) fn all(config: &Config) -> Findings {
    let mut findings = Findings::default();
    dataplane(config, &mut findings);
    control(config, &mut findings);
    timeouts(config, &mut findings);
    scheduling(config, &mut findings);
    if !links::names(config, &mut findings) {
        return findings;
    }
    links::ports(config, &mut findings);
    links::neighbors(config, &mut findings);
    services::services(config, &mut findings);
    findings
}

fn dataplane(config: &Config, findings: &mut Findings) {
    let d = &config.dataplane;
    if d.workers.is_empty() {
        findings.add(at!["dataplane", "workers"], "found no lcore, at least one is needed");
    }
    let mut seen = BTreeSet::new();
    for (i, &lcore) in d.workers.iter().enumerate() {
        let path = at!["dataplane", "workers", i];
        findings.range(path.clone(), lcore, 0, MAX_LCORES - 1);
        if !seen.insert(lcore) {
            findings.add(path, format!("lcore {lcore} is listed twice; each runs one worker"));
        }
    }
    findings.range(at!["dataplane", "flows_per_worker"], d.flows_per_worker, 1, MAX_FLOWS);
    findings.range(at!["dataplane", "flows6_per_worker"], d.flows6_per_worker, 1, MAX_FLOWS);
    findings.range(at!["dataplane", "mbufs"], d.mbufs, 1024, 1 << 26);
    mbufs(config, findings);
    findings.range(at!["dataplane", "max_services"], d.max_services, 1, 1 << 16);
    findings.range(at!["dataplane", "max_real_servers"], d.max_real_servers, 1, 1 << 20);
    findings.range(at!["dataplane", "max_neighbors"], d.max_neighbors, 1, 1 << 16);
    findings.range(at!["dataplane", "persistence_entries"], d.persistence_entries, 1, 1 << 26);
    for (i, argument) in d.eal.iter().enumerate() {
        let path = at!["dataplane", "eal", i];
        match argument.as_str() {
            "" => findings.add(path, "found an empty argument"),
            "--" => findings.add(path, "\"--\" would end the EAL's arguments; remove it"),
            _ => findings.text(path, argument),
        }
    }
}

/// A NIC needs a buffer for each descriptor of its queues, and how many queue pairs it will have is
/// known here as far as it is configured; one is certain. Several NICs may be on nodes of their
/// own, with so many buffers each, and virtual devices may need none.
fn mbufs(config: &Config, findings: &mut Findings) {
    let workers = config.dataplane.workers.len().clamp(1, MAX_LCORES as usize);
    let configured = config.ports.iter().filter_map(|port| port.queues).min();
    let pairs = configured.map_or(1, usize::from).clamp(1, workers);
    let needed = mbufs_needed(pairs as u64 * 2 * u64::from(DESCRIPTORS), pairs);
    let found = config.dataplane.mbufs;
    let has_nic = config.ports.iter().any(|port| port.device.is_some());
    if has_nic && (1024..needed).contains(&u64::from(found)) {
        findings.add(
            at!["dataplane", "mbufs"],
            format!(
                "found {found}, but a NIC with {pairs} queue pair(s), each of {DESCRIPTORS} RX and \
                 {DESCRIPTORS} TX descriptors, and what the lcores keep need {needed} at least"
            ),
        );
    }
}

fn control(config: &Config, findings: &mut Findings) {
    let socket = &config.control.socket;
    let path = at!["control", "socket"];
    let length = socket.as_os_str().len();
    if !socket.is_absolute() {
        findings.add(
            path,
            format!(
                "found {socket:?}, expected an absolute path such as \"/run/shunt/control.sock\""
            ),
        );
    } else if length > MAX_SOCKET_PATH {
        findings.add(
            path,
            format!("found a path of {length} bytes, at most {MAX_SOCKET_PATH} are allowed"),
        );
    } else if socket.file_name().is_none() || socket.to_string_lossy().contains(char::is_control) {
        findings.add(path, format!("found {socket:?}, expected the path of a file"));
    }
    if config.control.group.as_deref() == Some("") {
        findings.add(
            at!["control", "group"],
            "found \"\", expected a group's name; leave the key out for root only",
        );
    }
    if let Some(group) = &config.control.group {
        findings.text(at!["control", "group"], group);
    }
}

pub(super) fn timeouts(config: &Config, findings: &mut Findings) {
    let t = &config.timeouts;
    let (low, high) = TIMEOUT_RANGE;
    for (key, value) in [("tcp", t.tcp), ("tcp_fin", t.tcp_fin), ("udp", t.udp)] {
        if value < low || value > high {
            findings.add(
                at!["timeouts", key],
                format!(
                    "found \"{}\", allowed are \"1s\" to \"24days\"",
                    humantime::format_duration(value)
                ),
            );
        }
    }
}

fn scheduling(config: &Config, findings: &mut Findings) {
    let options = Options { maglev_size: config.scheduling.maglev_size, ..Options::default() };
    if let Err(error) = options.check() {
        findings.add(at!["scheduling", "maglev_size"], error.to_string());
    }
    let mode = config.scheduling.conn_reuse_mode;
    findings.range(at!["scheduling", "conn_reuse_mode"], mode, 0, 2);
}

/// Why no host has this address, if so.
fn not_a_host(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => match address.octets()[0] {
            0 => Some("an address of \"this network\""),
            240.. => Some("a broadcast or reserved address"),
            _ if address.is_loopback() => Some("a loopback address"),
            _ if address.is_multicast() => Some("a multicast address"),
            _ => None,
        },
        IpAddr::V6(address) if address.is_unspecified() => Some("the unspecified address"),
        IpAddr::V6(address) if address.is_loopback() => Some("the loopback address"),
        IpAddr::V6(address) if address.is_multicast() => Some("a multicast address"),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        IpAddr::V6(_) => None,
    }
}

/// The same for an address that must be known beyond one link: VIP, RIP and DIP.
fn not_a_far_host(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => Some("a link-local address"),
        _ => not_a_host(address),
    }
}
