use proptest::prelude::*;

use super::*;

const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PORT: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// A frame as scapy builds it: its Ethernet destination, IPv6 addresses, and ICMPv6 message.
fn golden(dst_mac: [u8; 6], src: &str, dst: &str, icmp: &[u8]) -> Vec<u8> {
    let eth = [&dst_mac[..], &PORT.0, &[0x86, 0xdd]].concat();
    let head = [0x60, 0, 0, 0, 0, icmp.len() as u8, 58, 255];
    [&eth[..], &head, &ip(src).octets(), &ip(dst).octets(), icmp].concat()
}

#[rustfmt::skip]
const SOLICITATION: [u8; 32] = [
    135, 0, 0x1b, 0x1b, 0, 0, 0, 0,
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80,
    1, 1, 2, 0, 0, 0, 0, 2,
];
#[rustfmt::skip]
const DUPLICATE_PROBE: [u8; 24] = [
    135, 0, 0x4b, 0xef, 0, 0, 0, 0,
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80,
];
#[rustfmt::skip]
const ADVERTISEMENT: [u8; 32] = [
    136, 0, 0x89, 0x75, 0x60, 0, 0, 0,
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80,
    2, 1, 2, 0, 0, 0, 0, 2,
];
const TO_GROUP: [u8; 6] = [0x33, 0x33, 0xff, 0, 0, 0x80];

fn frame(message: &Message, neighbor: Mac) -> Vec<u8> {
    let mut out = [0xee; MAX_FRAME_LEN];
    let n = message.emit_frame(PORT, neighbor, &mut out).unwrap();
    assert!(message.emit_frame(PORT, neighbor, &mut out[..n - 1]).is_err());
    out[..n].to_vec()
}

fn read(frame: &[u8]) -> Result<Message, HeaderError> {
    Message::parse(&ipv6::Packet::new(&frame[14..]).unwrap())
}

#[test]
fn emits_golden_bytes() {
    let solicitation = Message::solicitation(PORT, ip("2001:db8::10"), ip("2001:db8::80"));
    let bytes = golden(TO_GROUP, "2001:db8::10", "ff02::1:ff00:80", &SOLICITATION);
    assert_eq!(frame(&solicitation, Mac::ZERO), bytes);
    assert_eq!(read(&bytes), Ok(solicitation));
    assert_eq!(solicitation.neighbor(), Some((ip("2001:db8::10"), PORT)));
    assert_eq!(solicitation.to_string(), "ndp who-has 2001:db8::80 tell 2001:db8::10");

    let duplicate = Message::duplicate_probe(ip("2001:db8::80"));
    let bytes = golden(TO_GROUP, "::", "ff02::1:ff00:80", &DUPLICATE_PROBE);
    assert_eq!(frame(&duplicate, Mac::ZERO), bytes);
    assert_eq!(read(&bytes), Ok(duplicate));
    assert!(duplicate.is_duplicate_probe() && !solicitation.is_duplicate_probe());
    assert_eq!(duplicate.neighbor(), None);

    let probe = Message::probe(CLIENT, ip("2001:db8::1"), ip("2001:db8::80"));
    assert_eq!(probe.dst, ip("2001:db8::80"));
    let answer = probe.answer(PORT);
    let bytes = golden(CLIENT.0, "2001:db8::80", "2001:db8::1", &ADVERTISEMENT);
    assert_eq!(frame(&answer, CLIENT), bytes);
    assert_eq!(read(&bytes), Ok(answer));
    assert_eq!(answer.to_string(), "ndp 2001:db8::80 is-at 02:00:00:00:00:02");
}

#[test]
fn a_duplicate_probe_is_answered_to_all() {
    let answer = Message::duplicate_probe(ip("2001:db8::80")).answer(PORT);
    assert_eq!(answer.dst, ipv6::ALL_NODES);
    assert!(matches!(answer.body, Body::Advertisement { solicited: false, overrides: true, .. }));
    assert_eq!(frame(&answer, CLIENT)[..6], [0x33, 0x33, 0, 0, 0, 1]);
    let announcement = Message::announcement(PORT, ip("2001:db8::80"), ip("2001:db8::80"));
    assert_eq!(answer, announcement);
}

/// Changes bytes of a frame and makes the checksum right again.
fn with(mut frame: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for &(at, byte) in changes {
        frame[at] = byte;
    }
    let (src, dst) = (ipv6_at(&frame, 22), ipv6_at(&frame, 38));
    let icmp = &mut frame[54..];
    let rest = u32::from_be_bytes([icmp[4], icmp[5], icmp[6], icmp[7]]);
    let (kind, code) = (icmp[0], icmp[1]);
    icmpv6::Header { kind, code, rest }.emit(icmp, src, dst).unwrap();
    frame
}

fn ipv6_at(frame: &[u8], at: usize) -> Ipv6Addr {
    get_ipv6(frame, at)
}

#[test]
fn what_rfc_4861_7_1_calls_invalid_is_refused() {
    let solicitation = golden(TO_GROUP, "2001:db8::10", "ff02::1:ff00:80", &SOLICITATION);
    let duplicate = golden(TO_GROUP, "::", "ff02::1:ff00:80", &DUPLICATE_PROBE);
    let advertisement = golden(CLIENT.0, "2001:db8::80", "2001:db8::1", &ADVERTISEMENT);
    let from_none = golden(TO_GROUP, "::", "ff02::1:ff00:80", &SOLICITATION);
    let to_host = golden(TO_GROUP, "::", "2001:db8::80", &DUPLICATE_PROBE);
    let to_other_group = golden(TO_GROUP, "::", "ff02::1:ff00:81", &DUPLICATE_PROBE);
    let to_all = golden(TO_GROUP, "2001:db8::80", "ff02::1", &ADVERTISEMENT);
    let by_none = golden(CLIENT.0, "::", "2001:db8::1", &ADVERTISEMENT);
    for (name, frame) in [
        ("hop limit", with(solicitation.clone(), &[(21, 254)])),
        ("code", with(advertisement.clone(), &[(55, 1)])),
        ("group as target", with(solicitation.clone(), &[(62, 0xff)])),
        ("option of length 0", with(solicitation.clone(), &[(87 - 8, 0)])),
        ("option too long", with(solicitation.clone(), &[(79, 2)])),
        ("group's Ethernet address", with(advertisement.clone(), &[(80, 3)])),
        ("address from none", with(from_none, &[])),
        ("from none to a host", with(to_host, &[])),
        ("from none to another group", with(to_other_group, &[])),
        ("solicited to a group", with(to_all.clone(), &[])),
        ("advertised by none", with(by_none, &[])),
        ("from a group", with(advertisement.clone(), &[(22, 0xff)])),
    ] {
        assert_eq!(read(&frame), Err(HeaderError::Malformed), "{name}");
    }
    assert!(read(&with(to_all, &[(58, 0x20)])).is_ok());
    assert!(read(&with(duplicate.clone(), &[])).is_ok());
    let mut damaged = duplicate;
    damaged[57] ^= 1;
    assert_eq!(read(&damaged), Err(HeaderError::Checksum));
    assert_eq!(read(&with(solicitation.clone(), &[(54, 134)])), Err(HeaderError::Unsupported));
    assert_eq!(read(&with(solicitation.clone(), &[(20, 44)])), Err(HeaderError::Unsupported));
    let cut = ipv6::Packet::new_in(&solicitation[14..80], 72).unwrap();
    assert_eq!(Message::parse(&cut), Err(HeaderError::TooShort));
}

#[test]
fn unknown_options_are_skipped() {
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let icmp = [&SOLICITATION[..24], &nonce, &SOLICITATION[24..], &nonce].concat();
    let frame = with(golden(TO_GROUP, "2001:db8::10", "ff02::1:ff00:80", &icmp), &[]);
    let body = Body::Solicitation { mac: Some(PORT) };
    assert_eq!(read(&frame).map(|message| message.body), Ok(body));
    // RFC 4862 5.4.2 and RFC 7527: a probe may carry a nonce.
    let icmp = [&DUPLICATE_PROBE[..], &nonce].concat();
    let frame = with(golden(TO_GROUP, "::", "ff02::1:ff00:80", &icmp), &[]);
    assert!(read(&frame).unwrap().is_duplicate_probe());
    // An advertisement may come without an address (RFC 4861 4.4).
    let frame = with(golden(CLIENT.0, "2001:db8::80", "2001:db8::1", &ADVERTISEMENT[..24]), &[]);
    let message = read(&frame).unwrap();
    assert_eq!(
        (message.neighbor(), message.to_string()),
        (None, "ndp 2001:db8::80 is there".into())
    );
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(
        mut icmp in proptest::collection::vec(any::<u8>(), 8..60), advertisement: bool,
        lens in proptest::collection::vec(0u8..3, 5),
    ) {
        icmp[..2].copy_from_slice(&[135 + u8::from(advertisement), 0]);
        for (option, len) in icmp.chunks_mut(8).skip(3).zip(lens) {
            if let Some(to) = option.get_mut(1) {
                *to = len;
            }
            option[0] %= 4;
        }
        let frame = with(golden(TO_GROUP, "2001:db8::10", "2001:db8::80", &icmp), &[]);
        if let Ok(message) = read(&frame) {
            let again = self::frame(&message, CLIENT);
            prop_assert_eq!(read(&again), Ok(message));
        }
    }
}
