//! The flow label of outer IPv6 headers, RFC 6437 and 6438.
//!
//! Routers spread what goes through a tunnel over equal paths by outer addresses and flow label, as
//! the inner L4 ports are out of their sight. So all packets of a flow must have one label, and
//! different flows different ones. RFC 6438 3: the label comes from a hash of the inner packet.
//!
//! The inner label is not copied: clients change theirs within a connection to try another path,
//! and many send none. Fragments are hashed without L4 ports, the first as the later ones, so that
//! they stay together; of IPv6 by addresses alone, for a later fragment does not tell the protocol
//! behind destination options (RFC 8200 4.5: its next header is the first header of the
//! fragmentable part).
//!
//! The hash has a secret of its own. Labels leave the machine, and the flow table's hash must not
//! be told from them.

use crate::hash::mix::{PI, fold};
use crate::packet::ipv6::FLOW_LABEL_MASK;
use crate::packet::parse::Ipv4Packet;
use crate::packet::parse6::Ipv6Packet;

/// Gives flow labels, by a secret drawn at random when the daemon starts. All workers share it, so
/// that a flow has its label whichever worker has it.
#[derive(Clone, Copy)]
pub struct Labels([u64; 2]);

impl Labels {
    /// Expands the random `bits`.
    pub const fn new(bits: u128) -> Labels {
        // No multiplication by zero: the constants are digits of pi.
        Labels([bits as u64 ^ PI[0], (bits >> 64) as u64 ^ PI[1]])
    }

    /// The label for an IPv4 packet in a tunnel; 20 bits, and never 0, which means none.
    #[inline]
    pub fn of4(&self, ip: &Ipv4Packet) -> u32 {
        let addresses = u64::from(ip.src.to_bits()) << 32 | u64::from(ip.dst.to_bits());
        let ports = ip.ports().filter(|_| !ip.fragment.is_fragment());
        self.label(addresses, rest(ip.protocol, ports))
    }

    /// The label for an IPv6 packet in a tunnel.
    #[inline]
    pub fn of6(&self, ip: &Ipv6Packet) -> u32 {
        let (src, dst) = (ip.src.to_bits(), ip.dst.to_bits());
        let addresses = self.mix((src >> 64) as u64, src as u64)
            ^ self.mix((dst >> 64) as u64, dst as u64).rotate_left(1);
        let rest = if ip.is_fragment() { 0 } else { rest(ip.protocol, ip.ports()) };
        self.label(addresses, rest)
    }

    #[inline(always)]
    fn label(&self, a: u64, b: u64) -> u32 {
        let hash = self.mix(self.mix(a, b), b);
        ((hash >> 40) as u32 & FLOW_LABEL_MASK).max(1)
    }

    /// A folded multiplication of two words, each masked with a secret.
    #[inline(always)]
    fn mix(&self, a: u64, b: u64) -> u64 {
        fold(a ^ self.0[0], b ^ self.0[1])
    }
}

impl std::fmt::Debug for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Labels(secret)")
    }
}

/// All but the addresses in one word.
#[inline(always)]
fn rest(protocol: u8, ports: Option<(u16, u16)>) -> u64 {
    let (sport, dport) = ports.unwrap_or_default();
    u64::from(protocol) << 32 | u64::from(sport) << 16 | u64::from(dport)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::packet::buf::RxChecksum;
    use crate::packet::build::Build;
    use crate::packet::parse::{Parsed, parse};
    use crate::packet::parse6;
    use crate::types::Mac;

    const LABELS: Labels = Labels::new(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);

    fn label4(change: impl Fn(Build) -> Build) -> u32 {
        let build =
            Build::eth(Mac::ZERO, Mac::ZERO).ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let frame = change(build).finish();
        let Ok(Parsed::Ipv4(ip)) = parse(&frame, frame.len(), RxChecksum::Unknown) else {
            panic!()
        };
        LABELS.of4(&ip)
    }

    fn label6(change: impl Fn(Build) -> Build) -> u32 {
        let (src, dst) = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2]);
        let frame = change(Build::eth(Mac::ZERO, Mac::ZERO).ipv6(src.into(), dst.into())).finish();
        LABELS.of6(&parse6::parse(&frame, frame.len()).unwrap())
    }

    #[test]
    fn a_flow_has_one_label() {
        let base = label4(|b| b.udp(1, 2));
        assert_eq!(base, label4(|b| b.udp(1, 2).ttl(9).tos(3).id(7).payload(b"more")));
        let base = label6(|b| b.udp(1, 2));
        assert_eq!(base, label6(|b| b.udp(1, 2).ttl(9).tos(3).flow_label(7).payload(b"more")));
    }

    #[test]
    fn fragments_of_a_packet_stay_together() {
        let first = label4(|b| b.fragment(0, true).udp(1, 2));
        assert_eq!(first, label4(|b| b.fragment(8, false).protocol(17).payload(b"?")));
        let first = label6(|b| b.fragment6(0, true, 1).udp(1, 2));
        assert_eq!(first, label6(|b| b.fragment6(8, false, 1).protocol(17).payload(b"?")));
        // Behind destination options: the later ones tell of them, not of UDP.
        let options = [0, 1, 4, 0, 0, 0, 0];
        let first = label6(|b| b.fragment6(0, true, 1).ext(60, &options).udp(1, 2));
        assert_eq!(first, label6(|b| b.fragment6(8, false, 1).protocol(60).payload(b"?")));
        // An atomic fragment is whole.
        assert_eq!(label6(|b| b.fragment6(0, false, 1).udp(1, 2)), label6(|b| b.udp(1, 2)));
    }

    #[test]
    fn flows_spread() {
        for label in [|p| label4(|b| b.udp(p, 53)), |p: u16| label6(|b| b.udp(p, 53))] {
            let labels: HashSet<u32> = (0..4096).map(label).collect();
            // By chance eight of 4096 collide in 2^20.
            assert!(labels.len() > 4060, "{}", labels.len());
            assert!(labels.iter().all(|&l| (1..1 << 20).contains(&l)));
            let cells: HashSet<u32> = labels.iter().map(|l| l >> 14).collect();
            assert_eq!(cells.len(), 64);
        }
        assert_ne!(label6(|b| b.udp(1, 2)), label6(|b| b.tcp(1, 2, Default::default(), 0)));
    }
}
