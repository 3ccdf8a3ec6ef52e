//! What is logged when another station uses an address of the director's, and how often.
//!
//! The words must hold whoever it is: a real server that answers ARP for its VIP, a gateway that does
//! for others, a second director on the segment, or anybody else. The first two are known by their
//! Ethernet addresses, as neighbors; of all others nothing is known.

use std::fmt;
use std::net::IpAddr;

use crate::slowpath::limit::{Gate, TokenBucket};
use crate::types::{Mac, Millis};

/// Between two warnings about one address, in milliseconds.
const WARN_INTERVAL: u64 = 60_000;

/// Who uses the address, as far as the director knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Station {
    /// The real server with this address.
    Real(IpAddr),
    /// The gateway with this address.
    Gateway(IpAddr),
    /// No neighbor.
    Other,
}

/// One warning.
#[derive(Debug)]
pub(super) struct Conflict<'a> {
    /// The port's name.
    pub(super) port: &'a str,
    /// The address that both have.
    pub(super) address: IpAddr,
    /// Whether it is a VIP; a port's address else.
    pub(super) is_vip: bool,
    /// The other's Ethernet address.
    pub(super) mac: Mac,
    /// Whose that is.
    pub(super) station: Station,
}

impl fmt::Display for Conflict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conflict { port, address, is_vip, mac, station } = *self;
        let (how, quiet) = match address {
            IpAddr::V4(_) => ("ARP", "set arp_ignore = 1 and arp_announce = 2 there"),
            IpAddr::V6(_) => ("neighbor discovery", "give it the VIP on lo only"),
        };
        let what = if is_vip { "VIP" } else { "the director's own address" };
        match station {
            Station::Real(real) => write!(f, "real server {real} ({mac}) on port {port}")?,
            Station::Gateway(gateway) => write!(f, "gateway {gateway} ({mac}) on port {port}")?,
            Station::Other => write!(f, "another station, {mac} on port {port},")?,
        }
        write!(f, " uses {what} {address} in {how}: ")?;
        match (station, is_vip) {
            (Station::Real(_), true) => write!(f, "it must not; {quiet}"),
            (Station::Gateway(_), true) => {
                f.write_str("does it answer for others (proxy ARP), or have the address itself?")
            }
            (Station::Other, true) => write!(
                f,
                "it is no neighbor that `shunt neighbor list` knows, but a second director with the \
                 same virtual service, of which one only may run at a time, or a host with the same \
                 address, or a real server by another Ethernet address ({quiet})"
            ),
            (_, false) => f.write_str("each station needs one of its own"),
        }
    }
}

/// How often anything is logged about conflicts: ten at once, one a second, so that two directors
/// with a thousand VIPs do not fill the log.
#[derive(Debug)]
pub(super) struct Warnings {
    all: TokenBucket,
    /// Not logged, as there were too many of all addresses together.
    missed: u64,
}

impl Warnings {
    pub(super) const fn new() -> Warnings {
        Warnings { all: TokenBucket::new(1, 10), missed: 0 }
    }

    /// The gate of one address.
    pub(super) const fn gate() -> Gate {
        Gate::new(WARN_INTERVAL)
    }

    /// How many messages were not logged since the last that was, when this one is to be.
    pub(super) fn pass(&mut self, gate: &mut Gate, now: Millis) -> Option<u64> {
        let missed = gate.pass(now)?;
        if self.all.take(now) {
            return Some(missed + std::mem::take(&mut self.missed));
        }
        self.missed += missed + 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_is_called_what_it_is() {
        let say = |address: &str, is_vip, station| {
            let address = address.parse().unwrap();
            let mac = Mac([2, 0, 0, 0, 0, 0x21]);
            Conflict { port: "lan", address, is_vip, mac, station }.to_string()
        };
        let real = Station::Real([192, 0, 2, 21].into());
        assert_eq!(
            say("192.0.2.100", true, real),
            "real server 192.0.2.21 (02:00:00:00:00:21) on port lan uses VIP 192.0.2.100 in ARP: it \
             must not; set arp_ignore = 1 and arp_announce = 2 there"
        );
        assert_eq!(
            say("2001:db8::100", true, real),
            "real server 192.0.2.21 (02:00:00:00:00:21) on port lan uses VIP 2001:db8::100 in \
             neighbor discovery: it must not; give it the VIP on lo only"
        );
        assert!(say("192.0.2.100", true, Station::Other).starts_with(
            "another station, 02:00:00:00:00:21 on port lan, uses VIP 192.0.2.100 in ARP: it is no \
             neighbor that `shunt neighbor list` knows, but a second director"
        ));
        assert_eq!(
            say("192.0.2.10", false, Station::Other),
            "another station, 02:00:00:00:00:21 on port lan, uses the director's own address \
             192.0.2.10 in ARP: each station needs one of its own"
        );
        let gateway = Station::Gateway([192, 0, 2, 1].into());
        assert!(say("192.0.2.100", true, gateway).contains("proxy ARP"));
    }

    #[test]
    fn many_addresses_in_dispute_do_not_fill_the_log() {
        let mut warnings = Warnings::new();
        let mut gates: Vec<_> = (0..1000).map(|_| Warnings::gate()).collect();
        let mut logged = 0;
        for gate in &mut gates {
            logged += u32::from(warnings.pass(gate, Millis(1)).is_some());
        }
        assert_eq!(logged, 10);
        assert_eq!(warnings.pass(&mut gates[0], Millis(59_000)), None, "once a minute each");
        assert_eq!(warnings.pass(&mut gates[0], Millis(60_001)), Some(990 + 1), "all are counted");
    }
}
