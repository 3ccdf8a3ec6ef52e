//! A real server's rewrite, made ready: what goes in front of a packet by a few wide stores.
//!
//! [`dr`](super::dr), [`ipip`](super::ipip) and [`gre`](super::gre) say what each forwarding method
//! does to a packet, and do it for any. This does the same to the packets that come by the
//! million, with all that depends on the real server alone worked out when the configuration is
//! compiled. Both write the same bytes (a property of the tests).
//!
//! Words hold bytes in the order of the wire, the first one in the low end.

use super::{TunnelTemplate, gre};
use crate::packet::buf::PacketBuf;
use crate::packet::{ethernet, ipv4};
use crate::types::Mac;

/// Ethernet and outer IPv4 header, in bytes.
const OUTER: usize = ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN;
/// Where the TTL stands in a frame.
const TTL: usize = 22;
/// Where the hop limit of IPv6 stands.
const HOP_LIMIT: usize = 21;
/// What an outer header takes from the inner one's bytes 2 to 9, as they stand on the wire: DF (of
/// byte 6) and TTL (byte 8).
const KEPT: u64 = 1 << DF | 0xff << 48;
/// Where DF stands in that.
const DF: u32 = 38;
const _: () = assert!((ipv4::FragmentBits::DF.0.to_be() as u64) << 32 == 1 << DF);

/// How a frame is rewritten for one real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FastRewrite {
    /// The first two bytes of the port's Ethernet address, in the upper end.
    src_head: u64,
    /// The other four, Ethernet type IPv4, and the first byte of an IPv4 header.
    src_tail: u64,
    /// Outer addresses, the DIP first.
    addresses: u64,
    /// Sum of the outer header's constant words, but for the protocol.
    sum: u32,
    /// Whether nothing is put in front of the packet.
    is_dr: bool,
    /// Bytes in front of the packet: 20 for ipip, 24 or 28 for gre, or [`FastRewrite::SLOW`].
    overhead: u8,
    /// What is added to [`KEPT`] of the inner header: the protocol, and one hop less.
    rest: u64,
    /// GRE header without a checksum.
    gre: [u8; 8],
}

impl FastRewrite {
    /// No rewrite: [`FastRewrite::write`] refuses.
    pub const NONE: FastRewrite = FastRewrite {
        src_head: 0,
        src_tail: 0,
        addresses: 0,
        sum: 0,
        is_dr: false,
        overhead: FastRewrite::SLOW,
        rest: 0,
        gre: [0; 8],
    };

    /// Overhead of what this does not do: a GRE checksum is computed over the whole packet.
    const SLOW: u8 = u8::MAX;

    /// The rewrite for frames sent from `src_mac`, through `tunnel` if there is one.
    pub fn new(src_mac: Mac, tunnel: Option<&TunnelTemplate>) -> FastRewrite {
        let [a, b, c, d, e, f] = src_mac.0;
        let front = FastRewrite {
            src_head: u64::from_le_bytes([0, 0, 0, 0, 0, 0, a, b]),
            src_tail: u64::from_le_bytes([c, d, e, f, 0x08, 0x00, 0x45, 0]),
            is_dr: true,
            ..FastRewrite::NONE
        };
        let (outer, overhead, gre) = match tunnel {
            None => return front,
            Some(TunnelTemplate::Ipip(template)) => (template.outer(), 20, [0; 8]),
            Some(TunnelTemplate::Gre(template)) => {
                let (overhead, header) = Self::gre(template);
                (template.outer(), overhead, header)
            }
        };
        let (src, dst, protocol) = outer.constants();
        let ([a, b, c, d], [e, f, g, h]) = (src.octets(), dst.octets());
        let words = [[a, b], [c, d], [e, f], [g, h], [0x45, 0]];
        let sum = words.into_iter().map(|w| u32::from(u16::from_le_bytes(w))).sum();
        let addresses = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let rest = (u64::from(protocol) << 56) - (1 << 48);
        FastRewrite { addresses, sum, is_dr: false, overhead, rest, gre, ..front }
    }

    fn gre(template: &gre::Template) -> (u8, [u8; 8]) {
        let mut header = [0; 8];
        let overhead = match template.constant_header() {
            Some(bytes) if bytes.len() == 4 => 24,
            Some(bytes) if bytes.len() == 8 => 28,
            _ => return (FastRewrite::SLOW, header),
        };
        for (to, from) in header.iter_mut().zip(template.constant_header().into_iter().flatten()) {
            *to = *from;
        }
        (overhead, header)
    }

    /// Puts the packet on its way to `dst` ([`Mac::to_wire`]), one hop less. False, and nothing has
    /// changed, when this cannot do it, its TTL is used up or there is no headroom.
    ///
    /// The frame holds an IPv4 packet of `total_len` bytes, the outer one being no longer than
    /// 65535; `id` is the outer identification of the packet before, and is counted up when DF is
    /// clear.
    #[inline(always)]
    pub fn write<B: PacketBuf>(&self, buf: &mut B, dst: u64, total_len: u16, id: &mut u16) -> bool {
        // First of all, for most have it. It has a field of its own, so that what is left are too few
        // cases for a jump by table.
        if self.is_dr {
            let Some(frame) = buf.data_mut().first_chunk_mut::<OUTER>() else { return false };
            let Some(hops) = frame[TTL..].first_chunk_mut::<4>() else { return false };
            let word = u32::from_le_bytes(*hops);
            if word as u8 <= 1 {
                return false;
            }
            *hops = less(word).to_le_bytes();
            frame[..8].copy_from_slice(&(dst | self.src_head).to_le_bytes());
            frame[8..12].copy_from_slice(&(self.src_tail as u32).to_le_bytes());
            return true;
        }
        match self.overhead {
            20 => self.encapsulate::<OUTER, { OUTER + 20 }, B>(buf, dst, total_len, id),
            24 => self.encapsulate::<{ OUTER + 4 }, { OUTER + 24 }, B>(buf, dst, total_len, id),
            28 => self.encapsulate::<{ OUTER + 8 }, { OUTER + 28 }, B>(buf, dst, total_len, id),
            _ => false,
        }
    }

    /// Puts an IPv6 packet on its way to `dst` ([`Mac::to_wire`]), one hop less, by dr only. False,
    /// and nothing has changed, for a tunnel, and when its hop limit is used up.
    #[inline(always)]
    pub fn write6<B: PacketBuf>(&self, buf: &mut B, dst: u64) -> bool {
        let Some(frame) = buf.data_mut().first_chunk_mut::<{ HOP_LIMIT + 1 }>() else {
            return false;
        };
        if !self.is_dr || frame[HOP_LIMIT] <= 1 {
            return false;
        }
        frame[HOP_LIMIT] -= 1;
        frame[..8].copy_from_slice(&(dst | self.src_head).to_le_bytes());
        frame[8..12].copy_from_slice(&(self.src_tail as u32).to_le_bytes());
        true
    }

    /// `FRONT` bytes end up in front of the inner packet, `ALL` with its header.
    #[inline(always)]
    fn encapsulate<const FRONT: usize, const ALL: usize, B: PacketBuf>(
        &self,
        buf: &mut B,
        dst: u64,
        total_len: u16,
        id: &mut u16,
    ) -> bool {
        const { assert!(ALL == FRONT + ipv4::MIN_HEADER_LEN && FRONT >= OUTER) };
        let Some(inner) = buf.data().first_chunk::<OUTER>() else { return false };
        let Some(word) = inner[16..].first_chunk::<8>() else { return false };
        let (kept, tos) = (u64::from_le_bytes(*word) & KEPT, inner[15]);
        let overhead = FRONT - ethernet::HEADER_LEN;
        if inner[TTL] <= 1 || !buf.prepend(overhead) {
            return false;
        }
        let total_len = total_len + overhead as u16;
        // Ethernet padding: see `outer::encapsulate`.
        let _ = buf.truncate(ethernet::HEADER_LEN + usize::from(total_len));
        let Some(frame) = buf.data_mut().first_chunk_mut::<ALL>() else {
            // Never: a parsed packet has a whole IPv4 header.
            let _ = buf.trim_front(overhead);
            return false;
        };
        // What each field is copied from, and why: `outer::Outer::header`.
        let may_be_cut = kept >> DF & 1 ^ 1;
        *id = id.wrapping_add(may_be_cut as u16);
        let id = u64::from(id.to_be()) * may_be_cut;
        let middle = (kept.wrapping_add(self.rest) | id << 16) + u64::from(total_len.to_be());
        // Below 2^63, as the protocol is. A word and its rotation by half: the upper half is the sum
        // of both halves, the carry out of the lower one added in.
        let sum = middle + u64::from(self.sum + (u32::from(tos) << 8));
        let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
        let check = !(sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16;
        let tail = self.src_tail | u64::from(tos) << 56;
        frame[..8].copy_from_slice(&(dst | self.src_head).to_le_bytes());
        frame[8..16].copy_from_slice(&tail.to_le_bytes());
        frame[16..24].copy_from_slice(&middle.to_le_bytes());
        frame[24..26].copy_from_slice(&check.to_le_bytes());
        frame[26..34].copy_from_slice(&self.addresses.to_le_bytes());
        frame[OUTER..FRONT].copy_from_slice(&self.gre[..FRONT - OUTER]);
        if let Some(hops) = frame[FRONT + 8..].first_chunk_mut::<4>() {
            *hops = less(u32::from_le_bytes(*hops)).to_le_bytes();
        }
        true
    }
}

/// TTL, protocol and checksum, with a TTL one less; it is not 0 before.
#[inline(always)]
const fn less(word: u32) -> u32 {
    // RFC 1624 eqn. 3, as in `ipv4::decrement_ttl`: the sum of the header gets less by 0x0100, so
    // the checksum gets more by that, which in the order of the wire is one. A carry goes round,
    // and 0xffff is written 0x0000: both mean one more.
    match word.checked_add((2 << 16) - 1) {
        Some(twice) => twice - (1 << 16),
        None => word.wrapping_add((2 << 16) - 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::forward::{GreOptions, dr, dr6};
    use crate::packet::buf::{RxChecksum, TestBuf};
    use crate::packet::build::Build;
    use crate::packet::parse::{Parsed, parse};
    use crate::packet::tcp::Flags;

    const PORT: Mac = Mac([2, 0, 0, 0, 0xfe, 2]);
    const HOP: Mac = Mac([2, 0xff, 0, 7, 0, 3]);

    fn tunnels() -> Vec<Option<TunnelTemplate>> {
        let (dip, rip) = ([192, 0, 2, 10].into(), [10, 8, 255, 9].into());
        let gre = |key| TunnelTemplate::gre(dip, rip, GreOptions { checksum: false, key });
        let key = Some(0x0102_0304);
        vec![None, Some(TunnelTemplate::ipip(dip, rip)), Some(gre(None)), Some(gre(key))]
    }

    /// The packet sent by the way that does any, and by the short one.
    fn both(frame: &[u8], tunnel: Option<&TunnelTemplate>, id: u16) -> (Vec<u8>, Vec<u8>) {
        let parsed = parse(frame, frame.len(), RxChecksum::Unknown);
        let Ok(Parsed::Ipv4(ip)) = parsed else { panic!("{parsed:?}") };
        let mut by_the_book = TestBuf::new(frame);
        match tunnel {
            None => dr::forward(&mut by_the_book, PORT, HOP),
            Some(tunnel) => tunnel.forward(&mut by_the_book, PORT, HOP, &ip, id),
        }
        .expect("forwarded");
        let mut short = TestBuf::new(frame);
        let front = FastRewrite::new(PORT, tunnel);
        assert!(front.write(
            &mut short,
            HOP.to_wire(),
            ip.total_len,
            &mut id.wrapping_sub(u16::from(!ip.fragment.df()))
        ));
        (by_the_book.data().to_vec(), short.data().to_vec())
    }

    proptest! {
        #[test]
        fn writes_what_the_long_way_writes(
            src in 0x0100_0000u32..0x7e00_0000, tos in any::<u8>(), ttl in 2u8..,
            id in any::<u16>(), inner_id in any::<u16>(), df in any::<bool>(),
            options in any::<bool>(), payload in 0usize..1400, pad in 60usize..90,
        ) {
            let ip = Build::eth(Mac([2, 0, 0, 0, 0, 1]), PORT)
                .ipv4(src.into(), [192, 0, 2, 80].into())
                .tos(tos).ttl(ttl).id(inner_id).df(df);
            let ip = if options { ip.options(&[148, 4, 0, 0]) } else { ip };
            let frame = ip.tcp(1, 80, Flags::ACK, 1).payload(&vec![7; payload]).pad(pad).finish();
            for tunnel in tunnels() {
                let (by_the_book, short) = both(&frame, tunnel.as_ref(), id);
                prop_assert_eq!(by_the_book, short, "{:?}", tunnel);
            }
        }
    }

    #[test]
    fn writes_what_the_long_way_writes_of_ipv6() {
        let packet = |hop_limit| {
            Build::eth(Mac([2, 0, 0, 0, 0, 1]), PORT)
                .ipv6(
                    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
                    [0x2001, 0xdb8, 1, 0, 0, 0, 0, 2].into(),
                )
                .ttl(hop_limit)
                .tos(0xb9)
                .flow_label(0x12345)
                .udp(1024, 53)
                .payload(b"of a flow")
                .finish()
        };
        let [dr, ipip, ..] = &tunnels()[..] else { panic!() };
        for hop_limit in 0..=255 {
            let frame = packet(hop_limit);
            let mut by_the_book = TestBuf::new(&frame);
            let mut short = by_the_book.clone();
            let done = FastRewrite::new(PORT, dr.as_ref()).write6(&mut short, HOP.to_wire());
            assert_eq!(done, hop_limit > 1);
            if done {
                dr6::forward(&mut by_the_book, PORT, HOP).expect("a packet");
            }
            assert_eq!(by_the_book, short);
        }
        let mut buf = TestBuf::new(&packet(64));
        let before = buf.clone();
        assert!(!FastRewrite::new(PORT, ipip.as_ref()).write6(&mut buf, 1));
        assert!(!FastRewrite::NONE.write6(&mut buf, 1));
        assert_eq!(buf, before);
    }

    #[test]
    fn one_hop_less_is_right_for_every_checksum() {
        for check in 0..=u16::MAX {
            for ttl in [2u8, 64, 255] {
                let [high, low] = check.to_be_bytes();
                let mut header = [0; 20];
                header[8..12].copy_from_slice(&[ttl, 6, high, low]);
                let short = less(u32::from_le_bytes([ttl, 6, high, low])).to_le_bytes();
                ipv4::decrement_ttl(&mut header);
                assert_eq!(header[8..12], short, "{check:04x} {ttl}");
            }
        }
    }

    #[test]
    fn refuses_what_it_cannot_do_and_leaves_it_alone() {
        let frame = Build::eth(Mac([2, 0, 0, 0, 0, 1]), PORT)
            .ipv4([198, 51, 100, 1].into(), [192, 0, 2, 80].into())
            .udp(1, 2)
            .pad(60)
            .finish();
        let checksum = GreOptions { checksum: true, key: None };
        let slow = TunnelTemplate::gre([192, 0, 2, 10].into(), [10, 8, 0, 9].into(), checksum);
        let mut buf = TestBuf::new(&frame);
        assert!(!FastRewrite::new(PORT, Some(&slow)).write(&mut buf, 1, 28, &mut 0));
        assert!(!FastRewrite::NONE.write(&mut buf, 1, 28, &mut 0));
        // A TTL that is used up.
        for tunnel in tunnels() {
            for ttl in [0, 1] {
                let mut frame = frame.clone();
                frame[TTL] = ttl;
                let mut buf = TestBuf::new(&frame);
                assert!(!FastRewrite::new(PORT, tunnel.as_ref()).write(&mut buf, 1, 28, &mut 0));
                assert_eq!(buf.data(), frame);
            }
        }
        // No headroom.
        assert!(buf.prepend(TestBuf::HEADROOM - 10) && buf.trim_front(0));
        let before = buf.data().to_vec();
        let [_, ipip, ..] = &tunnels()[..] else { panic!() };
        assert!(!FastRewrite::new(PORT, ipip.as_ref()).write(&mut buf, 1, 28, &mut 0));
        assert_eq!(buf.data(), before);
    }
}
