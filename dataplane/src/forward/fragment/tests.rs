use super::*;
use crate::packet::buf::{TestBuf, TestPool};
use crate::packet::build::Build;
use crate::types::Mac;

fn packet(payload: &[u8]) -> Build {
    let (a, b) = (Mac([2; 6]), Mac([4; 6]));
    Build::eth(a, b)
        .ipv4([198, 51, 100, 1].into(), [192, 0, 2, 80].into())
        .tos(0xb8)
        .id(0x1234)
        .ttl(9)
        .protocol(17)
        .payload(payload)
}

fn cut(frame: Build, mtu: u16) -> Result<Vec<Vec<u8>>, FragmentError> {
    let mut out = Vec::new();
    let buf = TestBuf::new(&frame.finish());
    let n = fragment(&buf, &TestPool::default(), mtu, |f: TestBuf| out.push(f.data().to_vec()))?;
    assert_eq!(n, out.len());
    Ok(out)
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}

#[test]
fn cuts_at_multiples_of_eight() {
    let data = bytes(100);
    // 69 - 20 = 49 bytes of room, 48 of them used.
    let expected = [
        packet(&data[..48]).fragment(0, true).finish(),
        packet(&data[48..96]).fragment(48, true).finish(),
        packet(&data[96..]).fragment(96, false).finish(),
    ];
    assert_eq!(cut(packet(&data), 69).unwrap(), expected);
    // Ethernet padding stays behind.
    assert_eq!(cut(packet(&data).pad(200), 69).unwrap(), expected);
}

#[test]
fn a_packet_that_fits_is_copied() {
    let data = bytes(48);
    assert_eq!(cut(packet(&data), 68).unwrap(), [packet(&data).finish()]);
    assert_eq!(cut(packet(&bytes(51)), 71).unwrap(), [packet(&bytes(51)).finish()]);
    assert_eq!(cut(packet(&[]), 68).unwrap(), [packet(&[]).finish()]);
}

#[test]
fn a_fragment_is_cut_again() {
    let data = bytes(64);
    for more in [true, false] {
        let fragments = cut(packet(&data).fragment(1480, more), 68).unwrap();
        let first = packet(&data[..48]).fragment(1480, true).finish();
        let last = packet(&data[48..]).fragment(1528, more).finish();
        assert_eq!(fragments, [first, last]);
    }
}

#[test]
fn options_go_into_later_fragments_when_marked_so() {
    let data = bytes(80);
    // No operation, record route (not copied), router alert (copied), end.
    let all = [1, 7, 3, 4, 0x94, 4, 0, 0, 1, 0x82, 3, 9, 0];
    let fragments = cut(packet(&data).options(&all), 84).unwrap();
    let first = packet(&data[..48]).options(&all).fragment(0, true).finish();
    let later = [0x94, 4, 0, 0, 0x82, 3, 9, 0];
    let last = packet(&data[48..]).options(&later).fragment(48, false).finish();
    assert_eq!(fragments, [first, last]);
}

#[test]
fn options_that_cannot_be_read_end_the_chain() {
    for broken in [&[0x94][..], &[0x94, 1, 0, 0], &[0x94, 5, 0, 0], &[0x94, 0]] {
        assert!(copied_options(broken).is_empty());
        assert_eq!(copied_options(&[&[0x83, 3, 4], broken].concat())[..], [0x83, 3, 4, 0]);
    }
    assert!(copied_options(&[0, 0x94, 4, 0, 0]).is_empty());
    assert_eq!(copied_options(&[0x94; 40]).len(), 0);
    assert_eq!(copied_options(&[[0x94, 4, 0, 0]; 10].concat()).len(), 40);
}

#[test]
fn refuses_by_name() {
    let data = bytes(3000);
    assert_eq!(cut(packet(&data).df(true), 1500), Err(FragmentError::DontFragment));
    assert_eq!(cut(packet(&data), 67), Err(FragmentError::TooManyFragments));
    assert_eq!(cut(packet(&bytes(64 * 48)), 68).map(|f| f.len()), Ok(64));
    assert_eq!(cut(packet(&bytes(64 * 48 + 1)), 68), Err(FragmentError::TooManyFragments));
    assert_eq!(cut(packet(&data), 2100), Err(FragmentError::BufferTooSmall));
    assert_eq!(cut(packet(&data).fragment(65528, false), 1500), Err(FragmentError::BadPacket));
    let pool = TestPool::default();
    for frame in [&[][..], &[0; 14], &[0; 60], &packet(&data).finish()[..1500]] {
        let mut emitted = 0;
        let result = fragment(&TestBuf::new(frame), &pool, 1500, |_| emitted += 1);
        assert_eq!((result, emitted), (Err(FragmentError::BadPacket), 0));
    }
}

#[test]
fn nothing_is_emitted_when_the_pool_runs_dry() {
    let buf = TestBuf::new(&packet(&bytes(3000)).finish());
    for (left, expected) in
        [(0, Err(FragmentError::NoBuffer)), (2, Err(FragmentError::NoBuffer)), (3, Ok(3))]
    {
        let mut emitted = 0;
        let result = fragment(&buf, &TestPool::of(left), 1500, |_| emitted += 1);
        assert_eq!(result, expected);
        assert_eq!(emitted, expected.unwrap_or(0));
    }
}

#[test]
fn tells_what_needs_it() {
    assert!(!needs_fragmentation(1500, 0, 1500));
    assert!(needs_fragmentation(1501, 0, 1500));
    assert!(!needs_fragmentation(1480, 20, 1500));
    assert!(needs_fragmentation(1477, 24, 1500));
    assert!(needs_fragmentation(u16::MAX, 32, u16::MAX));
}
