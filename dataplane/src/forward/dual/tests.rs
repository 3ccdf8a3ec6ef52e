use super::*;
use crate::packet::buf::{RxChecksum, TestBuf};
use crate::packet::build::Build;
use crate::packet::parse::{Parsed, parse};
use crate::packet::parse6;

const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PORT: Mac = Mac([2, 0, 0, 0, 0, 2]);
const HOP: Mac = Mac([2, 0, 0, 0, 0, 3]);
const DIP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const RIP4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 9);
const DIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x10);
const RIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x9);
const KEY: Option<u32> = Some(0x0102_0304);

fn inner4() -> (Vec<u8>, Inner) {
    let frame = Build::eth(CLIENT, PORT)
        .ipv4([198, 51, 100, 1].into(), [192, 0, 2, 80].into())
        .tos(0xb9)
        .df(true)
        .udp(1024, 53)
        .payload(b"hi!")
        .pad(60)
        .finish();
    let Ok(Parsed::Ipv4(ip)) = parse(&frame, frame.len(), RxChecksum::Unknown) else { panic!() };
    (frame, Inner::of4(&ip, 0xabcde))
}

fn inner6() -> (Vec<u8>, Inner) {
    let (cip, vip) = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], [0x2001, 0xdb8, 0x80, 0, 0, 0, 0, 0x80]);
    let frame = Build::eth(CLIENT, PORT)
        .ipv6(cip.into(), vip.into())
        .tos(0xb9)
        .flow_label(7)
        .udp(1024, 53)
        .payload(b"hi!")
        .pad(70)
        .finish();
    let ip = parse6::parse(&frame, frame.len()).unwrap();
    (frame, Inner::of6(&ip, 0xabcde))
}

fn through(tunnel: &DualTunnel, (frame, inner): (Vec<u8>, Inner)) -> String {
    let mut buf = TestBuf::new(&frame);
    tunnel.forward(&mut buf, PORT, HOP, &inner, 0x1234).unwrap();
    buf.data().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As scapy builds them, Ethernet header, outer header, tunnel header and inner packet a line each.
#[test]
fn emits_golden_bytes() {
    let options = |checksum, key| GreOptions { checksum, key };
    let over6 = "02000000000302000000000286dd";
    let over4 = "0200000000030200000000020800";
    let packet6 = "6b900007000b113f20010db800000000000000000000000120010db8008000000000000000000080\
                   04000035000b15c7686921";
    let packet4 = "45b9001f000040003f114e90c6336401c0000250\
                   04000035000b85b4686921";
    let addresses6 = "20010db8000a0000000000000000001020010db8000a00000000000000000009";
    for (tunnel, inner, outer, addresses, gre) in [
        (DualTunnel::ipip6(DIP6, RIP6), 6, "6b9abcde0033293f", addresses6, ""),
        (DualTunnel::ipip6(DIP6, RIP6), 4, "6b9abcde001f043f", addresses6, ""),
        (DualTunnel::ipip4(DIP4, RIP4), 6, "45b90047123400003f299c86", "c000020a0a080009", ""),
        (
            DualTunnel::gre6(DIP6, RIP6, options(false, None)),
            6,
            "6b9abcde00372f3f",
            addresses6,
            "000086dd",
        ),
        (
            DualTunnel::gre6(DIP6, RIP6, options(true, KEY)),
            4,
            "6b9abcde002b2f3f",
            addresses6,
            "a0000800409b000001020304",
        ),
        (
            DualTunnel::gre4(DIP4, RIP4, options(false, KEY)),
            6,
            "45b9004f123400003f2f9c78",
            "c000020a0a080009",
            "200086dd01020304",
        ),
    ] {
        let (inner, packet) = if inner == 6 { (inner6(), packet6) } else { (inner4(), packet4) };
        let eth = if addresses == addresses6 { over6 } else { over4 };
        let expected = [eth, outer, addresses, gre, packet].concat();
        assert_eq!(through(&tunnel, inner), expected, "{tunnel:?}");
        let overhead = (outer.len() + addresses.len() + gre.len()) / 2;
        assert_eq!(usize::from(tunnel.overhead()), overhead);
    }
}

#[test]
fn what_is_too_long_is_told_by_family() {
    let (over4, over6) = (DualTunnel::ipip4(DIP4, RIP4), DualTunnel::ipip6(DIP6, RIP6));
    let v4 = Inner { total_len: 1481, label: 0, ttl: 9, tos: 0, df: false, v6: false };
    let v4_df = Inner { df: true, ..v4 };
    let v6 = Inner { v6: true, ..v4_df };
    for (tunnel, inner, mtu, expected) in [
        (over4, v4, 1501, Fit::Whole),
        (over4, v4, 1500, Fit::FragmentOuter),
        (over4, v4_df, 1500, Fit::TooBig { mtu: 1480 }),
        (over4, v6, 1500, Fit::TooBig { mtu: 1480 }),
        (over6, v4, 1521, Fit::Whole),
        (over6, v4, 1500, Fit::FragmentInner { mtu: 1460 }),
        (over6, v4_df, 1500, Fit::TooBig { mtu: 1460 }),
        (over6, v6, 1500, Fit::TooBig { mtu: 1460 }),
        // A client is never asked to send less than 1280 bytes.
        (over4, v6, 1290, Fit::TooBig { mtu: 1280 }),
        (over6, v6, 1290, Fit::TooBig { mtu: 1280 }),
        (over4, v6.piece(1280), 1290, Fit::FragmentOuter),
        (over6, v6.piece(1280), 1290, Fit::Never),
        (over6, v6.piece(1280), over6.least_mtu(), Fit::Whole),
        (over6, v4_df, 30, Fit::TooBig { mtu: 0 }),
    ] {
        assert_eq!(tunnel.fit(&inner, mtu), expected, "{tunnel:?} {inner:?} {mtu}");
    }
    assert_eq!((over4.least_mtu(), over6.least_mtu()), (68, 1320));
}

#[test]
fn the_least_ipv6_packet_may_be_cut_on_the_way() {
    for (len, df) in [(1281 - 48, 0x40), (1280 - 48, 0)] {
        let (src, dst) = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2]);
        let frame = Build::eth(CLIENT, PORT).ipv6(src.into(), dst.into()).udp(1, 2);
        let frame = frame.payload(&vec![0; len]).finish();
        let inner = Inner::of6(&parse6::parse(&frame, frame.len()).unwrap(), 1);
        let mut buf = TestBuf::new(&frame);
        DualTunnel::ipip4(DIP4, RIP4).forward(&mut buf, PORT, HOP, &inner, 0x1234).unwrap();
        assert_eq!(buf.data()[20], df, "{len}");
        assert_eq!(buf.data()[18..20] == [0x12, 0x34], df == 0);
    }
}

#[test]
fn refusals_change_nothing() {
    let (frame, inner) = inner6();
    let (over4, over6) = (DualTunnel::ipip4(DIP4, RIP4), DualTunnel::ipip6(DIP6, RIP6));
    let refused = |tunnel: &DualTunnel, bytes: &[u8], inner: &Inner, taken, error| {
        let mut buf = TestBuf::new(bytes);
        assert!(buf.prepend(taken));
        let before = buf.clone();
        assert_eq!(tunnel.forward(&mut buf, PORT, HOP, inner, 1), Err(error));
        assert_eq!(buf, before);
    };
    refused(&over4, &frame[..53], &inner, 0, ForwardError::NoIpHeader);
    refused(&over4, &frame, &inner.piece(65516), 0, ForwardError::TooLong);
    refused(&over6, &frame, &inner.piece(65536), 0, ForwardError::TooLong);
    let taken = TestBuf::HEADROOM - 39;
    refused(&over6, &frame, &inner, taken, ForwardError::NoHeadroom);
}
