//! The listing of `ipvsadm -L`: byte for byte the layout of the original, which scripts cut by
//! columns.

use std::fmt::Write;
use std::net::IpAddr;

use super::names::{Names, shown};
use super::options::Opt;
use super::parse::Line;
use crate::control::protocol::{Rate, RealRow, ServiceRow};
use crate::stats::Traffic;
use crate::types::{Ports, Protocol};
use crate::vocabulary::ForwardMethod;

/// Width of an address, and where longer ones of IPv4 are cut.
const ADDRESS: usize = 28;

/// Which columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    Connections,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    TunnelInfo,
}

/// How to list.
#[derive(Clone, Copy)]
pub(super) struct View<'n> {
    pub(super) columns: Columns,
    pub(super) exact: bool,
    /// Without it, in the order of the configuration, newest first.
    pub(super) sorted: bool,
    /// Names instead of numbers.
    pub(super) names: Option<&'n dyn Names>,
}

impl<'n> View<'n> {
    /// What a command line asks for. Where it asks for several, the first of these is shown.
    pub(super) fn of(line: &Line, names: &'n dyn Names) -> View<'n> {
        let columns = [
            (Opt::Stats, Columns::Stats),
            (Opt::Rate, Columns::Rate),
            (Opt::Thresholds, Columns::Thresholds),
            (Opt::PersistentConn, Columns::PersistentConn),
            (Opt::TunnelInfo, Columns::TunnelInfo),
        ];
        let found = columns.into_iter().find(|(option, _)| line.has(*option));
        View {
            columns: found.map_or(Columns::Connections, |(_, columns)| columns),
            exact: line.has(Opt::Exact),
            sorted: !line.has(Opt::NoSort),
            names: (!line.has(Opt::Numeric)).then_some(names),
        }
    }

    /// The listing of all virtual services; `size` is that of the connection table.
    pub(super) fn all(&self, rows: &[ServiceRow], size: u64) -> String {
        let mut text = format!("IP Virtual Server version 1.2.1 (size={size})\n");
        text.push_str(self.heading());
        for row in order(rows, self.sorted, service_order) {
            self.service(row, &mut text);
        }
        text
    }

    /// The listing of one virtual service.
    pub(super) fn one(&self, row: &ServiceRow) -> String {
        let mut text = self.heading().to_owned();
        self.service(row, &mut text);
        text
    }

    const fn heading(&self) -> &'static str {
        match self.columns {
            Columns::Connections => {
                "Prot LocalAddress:Port Scheduler Flags\n  \
                 -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
            }
            Columns::Stats => {
                "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  \
                 -> RemoteAddress:Port\n"
            }
            Columns::Rate => {
                "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n  \
                 -> RemoteAddress:Port\n"
            }
            Columns::Thresholds => {
                "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  \
                 -> RemoteAddress:Port\n"
            }
            Columns::PersistentConn => {
                "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  \
                 -> RemoteAddress:Port\n"
            }
            Columns::TunnelInfo => {
                "Prot LocalAddress:Port Scheduler Flags\n  \
                 -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
            }
        }
    }

    fn service(&self, row: &ServiceRow, text: &mut String) {
        let name = self.address(row.address.vip, row.address.ports, row.protocol);
        let _ = write!(text, "{:<4} ", row.protocol.to_string().to_uppercase());
        match self.columns {
            Columns::Stats | Columns::Rate => {
                let _ = write!(text, "{name:<ADDRESS$}");
                self.counts(&row.traffic, &row.rate, text);
            }
            _ => {
                let _ = write!(text, "{name} {}{}", row.scheduler, flags(row));
            }
        }
        text.push('\n');
        for real in order(&row.reals, self.sorted, real_order) {
            let name = self.address(real.real, row.address.ports, row.protocol);
            let _ = write!(text, "  -> {name:<ADDRESS$}");
            self.real(real, row.protocol, text);
            text.push('\n');
        }
    }

    fn real(&self, real: &RealRow, protocol: Protocol, text: &mut String) {
        let (active, inactive) = match (protocol, real.traffic) {
            (Protocol::Tcp, Traffic { active, inactive, .. }) => (active, inactive),
            // To LVS only TCP connections are active.
            (Protocol::Udp, Traffic { active, inactive, .. }) => (0, active + inactive),
        };
        // What it counts as now: keepalived's users know a real server that is down by its 0.
        let (weight, forward) = (real.effective_weight(), forward(real.forward));
        let _ = match self.columns {
            Columns::Connections => {
                write!(text, " {forward:<7} {weight:<6} {active:<10} {inactive:<10}")
            }
            Columns::TunnelInfo => {
                let tunnel = tunnel(real);
                write!(text, " {forward:<7} {tunnel:<13} {weight:<6} {active:<10} {inactive:<10}")
            }
            Columns::Thresholds => {
                let (upper, lower) = (real.upper_threshold, real.lower_threshold);
                write!(text, " {upper:<10} {lower:<10} {active:<10} {inactive:<10}")
            }
            Columns::PersistentConn => {
                let templates = real.templates.unwrap_or_default();
                write!(text, " {weight:<9} {templates:<11} {active:<10} {inactive:<10}")
            }
            Columns::Stats | Columns::Rate => {
                self.counts(&real.traffic, &real.rate, text);
                Ok(())
            }
        };
    }

    /// Connections, packets and bytes in and out; out is always zero, for replies do not pass the
    /// director.
    fn counts(&self, traffic: &Traffic, rate: &Rate, text: &mut String) {
        let (connections, packets, bytes) = match self.columns {
            Columns::Rate => (rate.connections, rate.packets, rate.bytes),
            _ => (traffic.connections, traffic.packets, traffic.bytes),
        };
        for count in [connections, packets, 0, bytes, 0] {
            text.push_str(&number(count, self.exact));
        }
    }

    fn address(&self, address: IpAddr, ports: Ports, protocol: Protocol) -> String {
        let mut text = shown(self.names, address, ports, protocol);
        if let Some((end, _)) = text.char_indices().nth(ADDRESS).filter(|_| address.is_ipv4()) {
            text.truncate(end);
        }
        text
    }
}

/// What follows the scheduler's name: its flags, persistence, one-packet scheduling.
fn flags(row: &ServiceRow) -> String {
    let mut text = String::new();
    if !row.scheduler_flags.is_empty() {
        let _ = write!(text, " ({})", row.scheduler_flags);
    }
    if let Some(time) = row.persistence {
        let _ = write!(text, " persistent {}", time.as_secs());
        if let Some(mask) = row.persistence_netmask.filter(|mask| !mask.is_one_client()) {
            let _ = write!(text, " mask {mask}");
        }
    }
    if row.one_packet {
        text.push_str(" ops");
    }
    text
}

const fn forward(method: ForwardMethod) -> &'static str {
    match method {
        ForwardMethod::Dr => "Route",
        ForwardMethod::Ipip | ForwardMethod::Gre => "Tunnel",
    }
}

const fn tunnel(real: &RealRow) -> &'static str {
    match (real.forward, real.gre) {
        (ForwardMethod::Dr, _) => "n/a",
        (ForwardMethod::Ipip, _) => "ipip",
        (ForwardMethod::Gre, Some(gre)) if gre.checksum => "gre:+c",
        (ForwardMethod::Gre, _) => "gre:-c",
    }
}

/// A count in a column of nine; large ones in thousands, millions and so on unless exact.
fn number(count: u64, exact: bool) -> String {
    if exact {
        let digits = count.to_string();
        let width = if digits.len() <= 8 { 9 } else { digits.len() + 1 };
        return format!("{digits:>width$}");
    }
    let (unit, letter) = match count {
        0..100_000_000 => return format!(" {count:>8}"),
        100_000_000..1_000_000_000 => (1_000, 'K'),
        1_000_000_000..100_000_000_000 => (1_000_000, 'M'),
        100_000_000_000..100_000_000_000_000 => (1_000_000_000, 'G'),
        _ => (1_000_000_000_000, 'T'),
    };
    format!(" {:>7}{letter}", count / unit)
}

pub(super) fn service_order(one: &ServiceRow, other: &ServiceRow) -> i64 {
    let number = |protocol| if protocol == Protocol::Tcp { 6 } else { 17 };
    let family = i64::from(one.address.vip.is_ipv6()) - i64::from(other.address.vip.is_ipv6());
    let protocol = number(one.protocol) - number(other.protocol);
    let port = i64::from(one.address.ports.first()) - i64::from(other.address.ports.first());
    let address = address_order(one.address.vip, other.address.vip);
    first([family, protocol, address, port])
}

pub(super) fn real_order(one: &RealRow, other: &RealRow) -> i64 {
    address_order(one.real, other.real)
}

/// As the original compares addresses: by a difference that overflows, so that 10.0.0.1 comes
/// after 192.0.2.1, but before 128.0.0.1; of IPv6, 32 bits at a time. IPv4 comes first.
fn address_order(one: IpAddr, other: IpAddr) -> i64 {
    let word = |one: u32, other: u32| i64::from(one.wrapping_sub(other) as i32);
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => word(one.into(), other.into()),
        (IpAddr::V6(one), IpAddr::V6(other)) => first([96, 64, 32, 0].map(|shift| {
            let part = |address: u128| (address >> shift) as u32;
            word(part(one.into()), part(other.into()))
        })),
        (IpAddr::V4(_), IpAddr::V6(_)) => -1,
        (IpAddr::V6(_), IpAddr::V4(_)) => 1,
    }
}

/// The first difference there is.
fn first<const N: usize>(differences: [i64; N]) -> i64 {
    differences.into_iter().find(|difference| *difference != 0).unwrap_or(0)
}

/// Rows in the order they are listed.
pub(super) fn order<T>(rows: &[T], sorted: bool, compare: fn(&T, &T) -> i64) -> Vec<&T> {
    if sorted { merge_sort(rows.iter().collect(), compare) } else { rows.iter().rev().collect() }
}

/// Not the library's sort, which may panic when an order goes round in a circle, as that of
/// addresses does.
fn merge_sort<T>(mut rows: Vec<&T>, compare: fn(&T, &T) -> i64) -> Vec<&T> {
    if rows.len() < 2 {
        return rows;
    }
    let right = rows.split_off(rows.len() / 2);
    let mut left = merge_sort(rows, compare).into_iter().peekable();
    let mut right = merge_sort(right, compare).into_iter().peekable();
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
        let next = if compare(one, other) <= 0 { left.next() } else { right.next() };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}
