//! IPv6 through the forwarding methods, seen from the real server, with etherparse as an
//! independent judge: what comes out of the tunnel is the packet the client sent with one hop less.

use std::net::{Ipv4Addr, Ipv6Addr};

use dataplane::forward::{
    DualTunnel, Fit, GreOptions, Inner, Labels, TunnelTemplate, dr6, fragment,
};
use dataplane::packet::buf::{PacketBuf, RxChecksum, TestBuf, TestPool};
use dataplane::packet::build::Build;
use dataplane::packet::parse::{Ipv4Packet, Parsed, parse};
use dataplane::packet::parse6;
use dataplane::types::Mac;
use etherparse::{Ipv4Header, Ipv6Header};
use proptest::prelude::*;

mod packet_support;

use packet_support::Chained;

const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PORT: Mac = Mac([2, 0, 0, 0, 0, 2]);
const HOP: Mac = Mac([2, 0, 0, 0, 0, 3]);
const DIP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const RIP4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 9);
const DIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x10);
const RIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x9);
const LABELS: Labels = Labels::new(7);

#[derive(Debug, Clone)]
struct Sent {
    v6: bool,
    tos: u8,
    ttl: u8,
    df: bool,
    label: u32,
    ext: bool,
    payload: Vec<u8>,
    padding: usize,
}

impl Sent {
    fn build(&self, ttl: u8) -> Vec<u8> {
        let eth = Build::eth(CLIENT, PORT);
        let ip = if self.v6 {
            let (cip, vip) = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], [0x2001, 0xdb8, 8, 0, 0, 0, 0, 8]);
            let ip = eth.ipv6(cip.into(), vip.into()).flow_label(self.label);
            if self.ext { ip.ext(60, &[0, 1, 4, 0, 0, 0, 0]) } else { ip }
        } else {
            let options: &[u8] = if self.ext { &[0x94, 4, 0, 0] } else { &[] };
            let ip = eth.ipv4([198, 51, 100, 7].into(), [192, 0, 2, 80].into());
            ip.df(self.df).id(77).options(options)
        };
        ip.tos(self.tos).ttl(ttl).udp(1024, 53).payload(&self.payload).finish()
    }

    fn frame(&self) -> (Vec<u8>, Inner) {
        let mut frame = self.build(self.ttl);
        frame.resize(frame.len() + self.padding, 0xa5);
        let inner = if self.v6 {
            let ip = parse6::parse(&frame, frame.len()).expect("an IPv6 packet");
            Inner::of6(&ip, LABELS.of6(&ip))
        } else {
            let ip = ipv4_of(&frame);
            Inner::of4(&ip, LABELS.of4(&ip))
        };
        (frame, inner)
    }

    /// The IP packet as the real server is to get it.
    fn delivered(&self) -> Vec<u8> {
        self.build(self.ttl - 1)[14..].to_vec()
    }
}

fn ipv4_of(frame: &[u8]) -> Ipv4Packet {
    match parse(frame, frame.len(), RxChecksum::Unknown) {
        Ok(Parsed::Ipv4(ip)) => ip,
        other => panic!("{other:?}"),
    }
}

prop_compose! {
    fn sent()(
        v6: bool, tos: u8, ttl in 1u8.., df: bool, label in 0u32..1 << 20, ext: bool,
        len in prop_oneof![0usize..30, 0usize..1900], padding in prop_oneof![Just(0), 0usize..60],
        seed: u8,
    ) -> Sent {
        let payload = (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        Sent { v6, tos, ttl, df, label, ext, payload, padding }
    }
}

#[derive(Debug, Clone, Copy)]
struct Tunnel {
    over6: bool,
    gre: Option<GreOptions>,
}

impl Tunnel {
    fn built(self) -> DualTunnel {
        match (self.over6, self.gre) {
            (false, None) => DualTunnel::ipip4(DIP4, RIP4),
            (true, None) => DualTunnel::ipip6(DIP6, RIP6),
            (false, Some(options)) => DualTunnel::gre4(DIP4, RIP4, options),
            (true, Some(options)) => DualTunnel::gre6(DIP6, RIP6, options),
        }
    }
}

fn tunnels() -> impl Strategy<Value = Tunnel> {
    let options = (any::<bool>(), any::<Option<u32>>())
        .prop_map(|(checksum, key)| GreOptions { checksum, key });
    (any::<bool>(), prop::option::of(options)).prop_map(|(over6, gre)| Tunnel { over6, gre })
}

/// Takes the outer header off a frame, checking it; gives the next protocol and the payload.
fn outer<'a>(frame: &'a [u8], sent: &Sent, inner: &Inner, over6: bool, id: u16) -> (u8, &'a [u8]) {
    let ethertype = if over6 { [0x86, 0xdd] } else { [8, 0] };
    assert_eq!(frame[..14], [&HOP.0[..], &PORT.0, &ethertype].concat());
    if over6 {
        let (header, payload) = Ipv6Header::from_slice(&frame[14..]).expect("an IPv6 header");
        assert_eq!((header.source, header.destination), (DIP6.octets(), RIP6.octets()));
        assert_eq!(usize::from(header.payload_length), payload.len());
        assert_eq!((header.traffic_class, header.hop_limit), (sent.tos, sent.ttl - 1));
        assert_eq!(header.flow_label.value(), inner.label);
        assert!(inner.label != 0);
        return (header.next_header.0, payload);
    }
    let (header, payload) = Ipv4Header::from_slice(&frame[14..]).expect("an IPv4 header");
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!((header.source, header.destination), (DIP4.octets(), RIP4.octets()));
    assert_eq!(usize::from(header.total_len), 20 + payload.len());
    assert_eq!((header.time_to_live, header.header_len()), (sent.ttl - 1, 20));
    assert_eq!(header.dscp.value() << 2 | header.ecn.value(), sent.tos);
    let df = if sent.v6 { inner.total_len > 1280 } else { sent.df };
    assert_eq!((header.dont_fragment, header.identification), (df, if df { 0 } else { id }));
    assert!(!header.more_fragments && header.fragment_offset.value() == 0);
    (header.protocol.0, payload)
}

/// Takes the tunnel's own header off, checking it.
fn strip(protocol: u8, payload: &[u8], v6: bool, gre: Option<GreOptions>) -> &[u8] {
    let Some(options) = gre else {
        assert_eq!(protocol, if v6 { 41 } else { 4 });
        return payload;
    };
    assert_eq!(protocol, 47);
    let flags = u8::from(options.checksum) << 7 | u8::from(options.key.is_some()) << 5;
    let kind: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
    assert_eq!(payload[..4], [flags, 0, kind[0], kind[1]]);
    let mut rest = &payload[4..];
    if options.checksum {
        let word = |w: &[u8]| u64::from(w[0]) << 8 | u64::from(*w.get(1).unwrap_or(&0));
        assert_eq!(payload.chunks(2).map(word).sum::<u64>() % 0xffff, 0);
        assert_eq!(rest[2..4], [0, 0]);
        rest = &rest[4..];
    }
    if let Some(key) = options.key {
        assert_eq!(rest[..4], key.to_be_bytes());
        rest = &rest[4..];
    }
    rest
}

proptest! {
    #[test]
    fn tunnels_deliver_the_packet(sent in sent(), tunnel in tunnels(), id: u16) {
        let (frame, inner) = sent.frame();
        let built = tunnel.built();
        let mut buf = TestBuf::new(&frame);
        built.forward(&mut buf, PORT, HOP, &inner, id).unwrap();
        let expected = 14 + usize::from(built.overhead()) + inner.total_len as usize;
        prop_assert_eq!(buf.len(), expected);
        let (protocol, payload) = outer(buf.data(), &sent, &inner, tunnel.over6, id);
        prop_assert_eq!(strip(protocol, payload, sent.v6, tunnel.gre), sent.delivered());
    }

    #[test]
    fn tunnels_deliver_a_packet_in_segments(
        sent in sent(), tunnel in tunnels(), id: u16, split in 54usize..2000,
    ) {
        let (frame, inner) = sent.frame();
        let split = split.min(frame.len());
        let (first, last) = frame.split_at(split);
        let mut buf = Chained { first: TestBuf::new(first), last: last.to_vec() };
        tunnel.built().forward(&mut buf, PORT, HOP, &inner, id).unwrap();
        let mut out = vec![0; 14 + usize::from(tunnel.built().overhead()) + inner.total_len as usize];
        prop_assert!(buf.copy_to(0, &mut out));
        let (protocol, payload) = outer(&out, &sent, &inner, tunnel.over6, id);
        prop_assert_eq!(strip(protocol, payload, sent.v6, tunnel.gre), sent.delivered());
    }

    #[test]
    fn ipv4_in_ipv4_is_as_it_ever_was(mut sent in sent(), mut tunnel in tunnels(), id: u16) {
        (sent.v6, tunnel.over6) = (false, false);
        let (frame, inner) = sent.frame();
        let template = match tunnel.gre {
            None => TunnelTemplate::ipip(DIP4, RIP4),
            Some(options) => TunnelTemplate::gre(DIP4, RIP4, options),
        };
        let (mut old, mut new) = (TestBuf::new(&frame), TestBuf::new(&frame));
        template.forward(&mut old, PORT, HOP, &ipv4_of(&frame), id).unwrap();
        tunnel.built().forward(&mut new, PORT, HOP, &inner, id).unwrap();
        prop_assert_eq!(old, new);
        prop_assert_eq!(template.overhead(), tunnel.built().overhead());
    }

    #[test]
    fn what_fits_fits_and_pieces_of_the_rest_do(
        sent in sent(), tunnel in tunnels(), mtu in 400u16..2000,
    ) {
        let (frame, inner) = sent.frame();
        let built = tunnel.built();
        let outer_len = |inner: &Inner| inner.total_len + u32::from(built.overhead());
        match built.fit(&inner, mtu) {
            Fit::Whole => prop_assert!(outer_len(&inner) <= u32::from(mtu)),
            Fit::TooBig { mtu: told } => {
                prop_assert!(inner.df && inner.total_len > u32::from(told));
                prop_assert!(!sent.v6 || told >= 1280);
                if mtu >= built.least_mtu() && tunnel.over6 || !sent.v6 {
                    prop_assert_eq!(built.fit(&inner.piece(told.into()), mtu), Fit::Whole);
                }
            }
            Fit::FragmentInner { mtu: room } => {
                prop_assert!(!sent.v6 && !sent.df && tunnel.over6);
                let mut data = Vec::new();
                fragment(&TestBuf::new(&frame), &TestPool::default(), room, |mut piece: TestBuf| {
                    let inner = inner.piece(piece.len() as u32 - 14);
                    assert_eq!(built.fit(&inner, mtu), Fit::Whole);
                    built.forward(&mut piece, PORT, HOP, &inner, 1).expect("room for the tunnel");
                    assert!(piece.len() - 14 <= usize::from(mtu));
                    let (protocol, payload) = outer(piece.data(), &sent, &inner, true, 1);
                    let packet = strip(protocol, payload, false, tunnel.gre);
                    let (header, part) = Ipv4Header::from_slice(packet).expect("an IPv4 packet");
                    assert_eq!(header.header_checksum, header.calc_header_checksum());
                    assert_eq!((header.identification, header.time_to_live), (77, sent.ttl - 1));
                    data.extend_from_slice(part);
                }).unwrap();
                let header_len = if sent.ext { 24 } else { 20 };
                prop_assert_eq!(data, &sent.delivered()[header_len..]);
            }
            Fit::FragmentOuter => prop_assert!(!tunnel.over6),
            Fit::Never => prop_assert!(sent.v6 && tunnel.over6 && mtu < built.least_mtu()),
        }
    }

    #[test]
    fn dr_delivers_the_packet(mut sent in sent()) {
        sent.v6 = true;
        let (frame, inner) = sent.frame();
        let mut buf = TestBuf::new(&frame);
        dr6::forward(&mut buf, PORT, HOP).unwrap();
        let end = 14 + inner.total_len as usize;
        prop_assert_eq!(&buf.data()[..14], [&HOP.0[..], &PORT.0, &[0x86, 0xdd]].concat());
        prop_assert_eq!(&buf.data()[14..end], sent.delivered());
        prop_assert_eq!(&buf.data()[end..], &frame[end..]);
    }
}
