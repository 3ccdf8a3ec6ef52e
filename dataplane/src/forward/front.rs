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
/// Don't fragment, as it stands on the wire, the first byte in the low end.
const DF: u16 = ipv4::FragmentBits::DF.0.to_be();

/// How a frame is rewritten for one real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Front {
    /// The first two bytes of the port's Ethernet address, in the upper end.
    src_head: u64,
    /// The other four, Ethernet type IPv4, and the first byte of an IPv4 header.
    src_tail: u64,
    /// Outer addresses, the DIP first.
    addresses: u64,
    /// Sum of the outer header's constant words.
    sum: u32,
    kind: Kind,
    /// Whether it is [`Kind::Dr`].
    is_dr: bool,
    protocol: u8,
    /// GRE header without a checksum.
    gre: [u8; 8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dr,
    Ipip,
    Gre4,
    Gre8,
    /// A GRE checksum is computed over the whole packet: not by this.
    Slow,
}

impl Front {
    /// No rewrite: [`Front::write`] refuses.
    pub const NONE: Front = Front {
        src_head: 0,
        src_tail: 0,
        addresses: 0,
        sum: 0,
        kind: Kind::Slow,
        is_dr: false,
        protocol: 0,
        gre: [0; 8],
    };

    /// The rewrite for frames sent from `src_mac`, through `tunnel` if there is one.
    pub fn new(src_mac: Mac, tunnel: Option<&TunnelTemplate>) -> Front {
        let [a, b, c, d, e, f] = src_mac.0;
        let front = Front {
            src_head: u64::from_le_bytes([0, 0, 0, 0, 0, 0, a, b]),
            src_tail: u64::from_le_bytes([c, d, e, f, 0x08, 0x00, 0x45, 0]),
            kind: Kind::Dr,
            is_dr: true,
            ..Front::NONE
        };
        let (outer, kind, gre) = match tunnel {
            None => return front,
            Some(TunnelTemplate::Ipip(template)) => (template.outer(), Kind::Ipip, [0; 8]),
            Some(TunnelTemplate::Gre(template)) => {
                let (kind, header) = Self::gre(template);
                (template.outer(), kind, header)
            }
        };
        let (src, dst, protocol) = outer.constants();
        let ([a, b, c, d], [e, f, g, h]) = (src.octets(), dst.octets());
        let words = [[a, b], [c, d], [e, f], [g, h], [0x45, 0], [0, protocol]];
        let sum = words.into_iter().map(|w| u32::from(u16::from_le_bytes(w))).sum();
        let addresses = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Front { addresses, sum, kind, is_dr: false, protocol, gre, ..front }
    }

    fn gre(template: &gre::Template) -> (Kind, [u8; 8]) {
        let mut header = [0; 8];
        let kind = match template.constant_header() {
            Some(bytes) if bytes.len() == 4 => Kind::Gre4,
            Some(bytes) if bytes.len() == 8 => Kind::Gre8,
            _ => return (Kind::Slow, header),
        };
        for (to, from) in header.iter_mut().zip(template.constant_header().into_iter().flatten()) {
            *to = *from;
        }
        (kind, header)
    }

    /// Puts the packet on its way to `dst` ([`Mac::to_wire`]), one hop less. False, and nothing has
    /// changed, when this cannot do it, its TTL is used up or there is no headroom.
    ///
    /// The frame holds an IPv4 packet of `total_len` bytes, the outer one being no longer than
    /// 65535; `id` is the outer identification of the packet before, and is counted up when DF is
    /// clear.
    #[inline(always)]
    pub fn write<B: PacketBuf>(&self, buf: &mut B, dst: u64, total_len: u16, id: &mut u16) -> bool {
        // First of all, and no jump by table, for most have it.
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
        match self.kind {
            Kind::Ipip => self.encapsulate::<OUTER, { OUTER + 20 }, B>(buf, dst, total_len, id),
            Kind::Gre4 => {
                self.encapsulate::<{ OUTER + 4 }, { OUTER + 24 }, B>(buf, dst, total_len, id)
            }
            Kind::Gre8 => {
                self.encapsulate::<{ OUTER + 8 }, { OUTER + 28 }, B>(buf, dst, total_len, id)
            }
            Kind::Dr | Kind::Slow => false,
        }
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
        let (ttl, tos) = (inner[TTL], inner[15]);
        let fragment = u16::from_le_bytes([inner[20], inner[21]]) & DF;
        let overhead = FRONT - ethernet::HEADER_LEN;
        if ttl <= 1 || !buf.prepend(overhead) {
            return false;
        }
        let total_len = total_len + overhead as u16;
        // Ethernet padding: see `tunnel::encapsulate`.
        let _ = buf.truncate(ethernet::HEADER_LEN + usize::from(total_len));
        let Some(frame) = buf.data_mut().first_chunk_mut::<ALL>() else {
            // Never: a parsed packet has a whole IPv4 header.
            let _ = buf.trim_front(overhead);
            return false;
        };
        // What each field is copied from, and why: `tunnel::Outer::header`.
        *id = id.wrapping_add(u16::from(fragment == 0));
        let id = if fragment == 0 { id.to_be() } else { 0 };
        let (len, ttl) = (total_len.to_be(), ttl - 1);
        let sum = self.sum
            + (u32::from(tos) << 8)
            + u32::from(len)
            + u32::from(id)
            + u32::from(fragment)
            + u32::from(ttl);
        let sum = (sum & 0xffff) + (sum >> 16);
        let check = !(sum + (sum >> 16)) as u16;
        let tail = self.src_tail | u64::from(tos) << 56;
        let middle = u64::from(len)
            | u64::from(id) << 16
            | u64::from(fragment) << 32
            | u64::from(ttl) << 48
            | u64::from(self.protocol) << 56;
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
    let (twice, again) = word.overflowing_add((2 << 16) - 1);
    if again { twice } else { word.wrapping_add((1 << 16) - 1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::forward::{GreOptions, dr};
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
        let front = Front::new(PORT, tunnel);
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
        assert!(!Front::new(PORT, Some(&slow)).write(&mut buf, 1, 28, &mut 0));
        assert!(!Front::NONE.write(&mut buf, 1, 28, &mut 0));
        // A TTL that is used up.
        for tunnel in tunnels() {
            for ttl in [0, 1] {
                let mut frame = frame.clone();
                frame[TTL] = ttl;
                let mut buf = TestBuf::new(&frame);
                assert!(!Front::new(PORT, tunnel.as_ref()).write(&mut buf, 1, 28, &mut 0));
                assert_eq!(buf.data(), frame);
            }
        }
        // No headroom.
        assert!(buf.prepend(TestBuf::HEADROOM - 10) && buf.trim_front(0));
        let before = buf.data().to_vec();
        let [_, ipip, ..] = &tunnels()[..] else { panic!() };
        assert!(!Front::new(PORT, ipip.as_ref()).write(&mut buf, 1, 28, &mut 0));
        assert_eq!(buf.data(), before);
    }
}
