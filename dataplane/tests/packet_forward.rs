//! Forwarding, seen from the real server: what comes out of the tunnel, or of reassembly, is the
//! packet the client sent with one hop less, whatever its length, options, padding or segments.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dataplane::forward::{
    ForwardError, GreOptions, TunnelTemplate, dr, fragment, needs_fragmentation,
};
use dataplane::packet::buf::{BufPool, PacketBuf, RxChecksum, TestBuf};
use dataplane::packet::build::Build;
use dataplane::packet::parse::{Ipv4Packet, Parsed, parse};
use dataplane::types::Mac;
use etherparse::Ipv4Header;
use proptest::prelude::*;

mod packet_support;

use packet_support::Chained;

const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PORT: Mac = Mac([2, 0, 0, 0, 0, 2]);
const HOP: Mac = Mac([2, 0, 0, 0, 0, 3]);
const CIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const DIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const RIP: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 9);

/// Buffers as large as any fragment here.
struct Pool;

impl BufPool<TestBuf> for Pool {
    fn alloc(&self) -> Option<TestBuf> {
        let mut buf = TestBuf::new(&[0; 66_000]);
        buf.truncate(0).then_some(buf)
    }
}

impl BufPool<Chained> for Pool {
    fn alloc(&self) -> Option<Chained> {
        Some(Chained { first: self.alloc()?, last: Vec::new() })
    }
}

#[derive(Debug, Clone)]
struct Sent {
    tos: u8,
    ttl: u8,
    id: u16,
    df: bool,
    fragment: (u16, bool),
    options: Vec<u8>,
    payload: Vec<u8>,
    padding: usize,
}

impl Sent {
    fn build(&self, ttl: u8) -> Vec<u8> {
        Build::eth(CLIENT, PORT)
            .ipv4(CIP, VIP)
            .tos(self.tos)
            .ttl(ttl)
            .id(self.id)
            .df(self.df)
            .fragment(self.fragment.0, self.fragment.1)
            .options(&self.options)
            .udp(1024, 53)
            .payload(&self.payload)
            .finish()
    }

    /// The frame, and what the parser says of it.
    fn frame(&self) -> (Vec<u8>, Ipv4Packet) {
        let mut frame = self.build(self.ttl);
        frame.resize(frame.len() + self.padding, 0xa5);
        match parse(&frame, frame.len(), RxChecksum::Unknown) {
            Ok(Parsed::Ipv4(ip)) => (frame, ip),
            other => panic!("{other:?}"),
        }
    }

    /// The IP packet as the real server is to get it.
    fn delivered(&self) -> Vec<u8> {
        self.build(self.ttl - 1)[14..].to_vec()
    }
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let router_alert = [0x94, 4, 0, 0];
    let record_route = [1, 7, 7, 4, 0, 0, 0, 0];
    let both = [&router_alert[..], &record_route].concat();
    prop::sample::select(vec![vec![], vec![], router_alert.into(), record_route.into(), both])
}

prop_compose! {
    fn sent()(
        tos: u8, ttl in 1u8.., id: u16, df: bool, more: bool,
        offset in prop_oneof![3 => Just(0u16), 1 => (3u16..4000).prop_map(|n| n * 8)],
        options in options(), len in prop_oneof![0usize..30, 0usize..3000], seed: u8,
        padding in prop_oneof![Just(0), 0usize..60],
    ) -> Sent {
        let payload = (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        Sent { tos, ttl, id, df, fragment: (offset, more), options, payload, padding }
    }
}

/// A template, and the options it was made from when it is GRE's.
type Tunnel = (TunnelTemplate, Option<GreOptions>);

fn tunnels() -> impl Strategy<Value = Tunnel> {
    let gre = (any::<bool>(), any::<Option<u32>>()).prop_map(|(checksum, key)| {
        let options = GreOptions { checksum, key };
        (TunnelTemplate::gre(DIP, RIP, options), Some(options))
    });
    prop_oneof![Just((TunnelTemplate::ipip(DIP, RIP), None)), gre]
}

fn bytes_of<B: PacketBuf>(buf: &B) -> Vec<u8> {
    let mut out = vec![0; buf.len()];
    assert!(buf.copy_to(0, &mut out));
    out
}

/// The one's complement sum, word by word, with 0 for both zeros.
fn sum(bytes: &[u8]) -> u64 {
    let word = |w: &[u8]| u64::from(w[0]) << 8 | u64::from(*w.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum::<u64>() % 0xffff
}

fn outer_header(packet: &[u8]) -> Ipv4Header {
    let (header, _) = Ipv4Header::from_slice(packet).expect("an IPv4 header");
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    header
}

/// Takes the tunnel's header off an outer packet's payload, checking it.
fn strip(payload: &[u8], gre: Option<GreOptions>) -> &[u8] {
    let Some(options) = gre else { return payload };
    let flags = u8::from(options.checksum) << 7 | u8::from(options.key.is_some()) << 5;
    assert_eq!(payload[..4], [flags, 0, 8, 0]);
    let mut rest = &payload[4..];
    if options.checksum {
        assert_eq!(sum(payload), 0);
        assert_eq!(rest[2..4], [0, 0]);
        rest = &rest[4..];
    }
    if let Some(key) = options.key {
        assert_eq!(rest[..4], key.to_be_bytes());
        rest = &rest[4..];
    }
    rest
}

/// Sends through the tunnel and checks all that the real server sees.
fn through<B: PacketBuf>(mut buf: B, sent: &Sent, ip: &Ipv4Packet, tunnel: &Tunnel, id: u16) -> B {
    tunnel.0.forward(&mut buf, PORT, HOP, ip, id).expect("room for the tunnel");
    let frame = bytes_of(&buf);
    let overhead = usize::from(tunnel.0.overhead());
    let inner = sent.delivered();
    assert_eq!(frame[..14], [&HOP.0[..], &PORT.0, &[8, 0]].concat());
    let outer = outer_header(&frame[14..]);
    assert_eq!(outer.header_len(), 20);
    assert_eq!(usize::from(outer.total_len), overhead + inner.len());
    assert_eq!((outer.source, outer.destination), (DIP.octets(), RIP.octets()));
    assert_eq!(outer.protocol.0, if tunnel.1.is_some() { 47 } else { 4 });
    assert_eq!(outer.dscp.value() << 2 | outer.ecn.value(), sent.tos);
    assert_eq!(outer.time_to_live, sent.ttl - 1);
    assert_eq!(outer.dont_fragment, sent.df);
    assert!(!outer.more_fragments && outer.fragment_offset.value() == 0);
    assert_eq!(outer.identification, if sent.df { 0 } else { id });
    let payload = &frame[34..14 + usize::from(outer.total_len)];
    assert_eq!(strip(payload, tunnel.1), inner);
    buf
}

fn cut<B: PacketBuf>(buf: &B, mtu: u16) -> Vec<Vec<u8>>
where
    Pool: BufPool<B>,
{
    let mut out = Vec::new();
    let n = fragment(buf, &Pool, mtu, |f| out.push(bytes_of::<B>(&f))).expect("fragments");
    assert_eq!(n, out.len());
    out
}

/// Puts fragments together; independent of the code under test. Gives the first header and the
/// payload, and whether more was to follow the last.
fn reassemble(frames: &[Vec<u8>], mtu: u16) -> (Ipv4Header, Vec<u8>, bool) {
    let mut parts = BTreeMap::new();
    for frame in frames {
        let header = outer_header(&frame[14..]);
        assert_eq!(frame.len(), 14 + usize::from(header.total_len));
        assert!(header.total_len <= mtu);
        let payload = frame[14 + header.header_len()..].to_vec();
        parts.insert(header.fragment_offset.value(), (header, payload));
    }
    assert_eq!(parts.len(), frames.len(), "two fragments at one offset");
    let (first, _) = parts.values().next().expect("a fragment").clone();
    let (mut whole, mut more) = (Vec::new(), true);
    for (offset, (header, payload)) in parts {
        assert!(more, "a fragment behind the last");
        assert_eq!(usize::from(offset - first.fragment_offset.value()) * 8, whole.len());
        assert_eq!(header.identification, first.identification);
        assert_eq!(header.protocol, first.protocol);
        assert_eq!((header.dscp, header.ecn), (first.dscp, first.ecn));
        assert_eq!(header.time_to_live, first.time_to_live);
        more = header.more_fragments;
        whole.extend(payload);
    }
    (first, whole, more)
}

proptest! {
    #[test]
    fn dr_delivers_the_packet(sent in sent()) {
        let (frame, ip) = sent.frame();
        let mut buf = TestBuf::new(&frame);
        dr::forward(&mut buf, PORT, HOP).unwrap();
        prop_assert_eq!(&buf.data()[..14], [&HOP.0[..], &PORT.0, &[8, 0]].concat());
        let end = 14 + usize::from(ip.total_len);
        prop_assert_eq!(&buf.data()[14..end], sent.delivered());
        prop_assert_eq!(&buf.data()[end..], &frame[end..]);
    }

    #[test]
    fn tunnels_deliver_the_packet(sent in sent(), tunnel in tunnels(), id: u16) {
        let (frame, ip) = sent.frame();
        let buf = through(TestBuf::new(&frame), &sent, &ip, &tunnel, id);
        // Nothing is left of the padding.
        let len = 14 + usize::from(tunnel.0.overhead()) + usize::from(ip.total_len);
        prop_assert_eq!(buf.len(), len);
    }

    #[test]
    fn tunnels_deliver_a_packet_in_segments(
        sent in sent(), tunnel in tunnels(), id: u16, split in 42usize..3200, mtu in 300u16..1600,
    ) {
        let (frame, ip) = sent.frame();
        let split = split.max(ip.l4_offset() + 8).min(frame.len());
        let buf = Chained { first: TestBuf::new(&frame[..split]), last: frame[split..].to_vec() };
        let buf = through(buf, &sent, &ip, &tunnel, id);
        if !sent.df {
            let (_, payload, _) = reassemble(&cut(&buf, mtu), mtu);
            prop_assert_eq!(strip(&payload, tunnel.1), sent.delivered());
        }
    }

    #[test]
    fn without_headroom_nothing_changes(sent in sent(), tunnel in tunnels(), room in 0usize..32) {
        prop_assume!(room < usize::from(tunnel.0.overhead()));
        let (frame, ip) = sent.frame();
        let taken = TestBuf::HEADROOM - room;
        let mut buf = TestBuf::new(&frame[taken.min(frame.len())..]);
        prop_assume!(frame.len() > taken && buf.prepend(taken));
        buf.data_mut()[..taken].copy_from_slice(&frame[..taken]);
        let before = buf.clone();
        let result = tunnel.0.forward(&mut buf, PORT, HOP, &ip, 1);
        prop_assert_eq!(result, Err(ForwardError::NoHeadroom));
        prop_assert_eq!(buf, before);
    }

    #[test]
    fn the_outer_packet_in_fragments_delivers_the_packet(
        mut sent in sent(), tunnel in tunnels(), id: u16, mtu in 300u16..1600,
    ) {
        sent.df = false;
        let (frame, ip) = sent.frame();
        let buf = through(TestBuf::new(&frame), &sent, &ip, &tunnel, id);
        let frames = cut(&buf, mtu);
        let several = needs_fragmentation(ip.total_len, tunnel.0.overhead(), mtu);
        prop_assert_eq!(frames.len() > 1, several);
        let (outer, payload, more) = reassemble(&frames, mtu);
        prop_assert_eq!(outer.identification, id);
        prop_assert!(!more);
        prop_assert_eq!(strip(&payload, tunnel.1), sent.delivered());
    }

    #[test]
    fn a_packet_in_fragments_is_the_packet(mut sent in sent(), mtu in 140u16..1600) {
        sent.df = false;
        let (frame, ip) = sent.frame();
        let mut buf = TestBuf::new(&frame);
        dr::forward(&mut buf, PORT, HOP).unwrap();
        let frames = cut(&buf, mtu);
        prop_assert_eq!(frames.len() > 1, needs_fragmentation(ip.total_len, 0, mtu));
        let (first, payload, more) = reassemble(&frames, mtu);
        prop_assert_eq!(first.fragment_offset.value() * 8, sent.fragment.0);
        prop_assert_eq!(more, sent.fragment.1);
        let packet = sent.delivered();
        let header_len = usize::from(ip.header_len);
        prop_assert_eq!(&first.options[..], &packet[20..header_len]);
        prop_assert_eq!(payload, &packet[header_len..]);
        let copied = usize::from(sent.options.starts_with(&[0x94])) * 4;
        for later in &frames[1..] {
            prop_assert_eq!(usize::from(later[14] & 0xf) * 4, 20 + copied);
        }
    }

    #[test]
    fn fragments_of_any_bytes_do_not_panic(
        mut frame in proptest::collection::vec(any::<u8>(), 0..200), mtu in 0u16..300,
    ) {
        if frame.len() > 20 {
            frame[14] = 0x40 | frame[14] & 0xf;
            frame[16] = 0;
            frame[20] &= !0x40;
        }
        let _ = fragment(&TestBuf::new(&frame), &Pool, mtu, drop);
    }
}

#[test]
fn an_outer_packet_past_64_kib_is_refused() {
    let sent = Sent {
        tos: 0,
        ttl: 64,
        id: 1,
        df: false,
        fragment: (0, false),
        options: vec![],
        payload: vec![0; 65535 - 28 - 19],
        padding: 0,
    };
    let (frame, ip) = sent.frame();
    let mut buf = TestBuf::new(&frame);
    let before = buf.clone();
    let result = TunnelTemplate::ipip(DIP, RIP).forward(&mut buf, PORT, HOP, &ip, 1);
    assert_eq!(result, Err(ForwardError::TooLong));
    assert_eq!(buf, before);
}
