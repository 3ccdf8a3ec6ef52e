//! The Internet checksum: RFC 1071, its incremental update RFC 1624, the TCP/UDP pseudo header.
//!
//! A *sum* is the one's complement sum; a *checksum* is its complement, what stands in a header.
//! Both are in host byte order. Zero has two forms, 0x0000 and 0xffff: the sum of bytes that are
//! not all zero is never 0x0000, and a right header sums to 0xffff.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The one's complement sum of `bytes`, taken as big-endian 16-bit words, an odd last byte padded
/// with zero.
///
/// Inlined always: over a header of constant length nothing is left of the loop.
#[inline(always)]
pub fn sum(mut bytes: &[u8]) -> u16 {
    // RFC 1071 2(B): the sum is independent of byte order, so add in the machine's own and swap
    // once; 2(C): add words wider than 16 bits and fold them at the end.
    let mut acc = 0u64;
    while let Some((word, rest)) = bytes.split_first_chunk::<8>() {
        let word = u64::from_ne_bytes(*word);
        // Halves of 32 bits: 2^32 of them fit before the accumulator overflows.
        acc += (word & 0xffff_ffff) + (word >> 32);
        bytes = rest;
    }
    if let Some((word, rest)) = bytes.split_first_chunk::<4>() {
        acc += u64::from(u32::from_ne_bytes(*word));
        bytes = rest;
    }
    if let Some((word, rest)) = bytes.split_first_chunk::<2>() {
        acc += u64::from(u16::from_ne_bytes(*word));
        bytes = rest;
    }
    if let [last] = bytes {
        acc += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    u16::from_be(fold(acc))
}

/// The checksum of `bytes`, whose own checksum field is zero.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// Whether `bytes`, with their checksum field in place, sum up right.
#[inline(always)]
pub fn verify(bytes: &[u8]) -> bool {
    sum(bytes) == 0xffff
}

/// Folds the sum of many words to 16 bits, carries added back in.
#[inline(always)]
pub const fn fold(acc: u64) -> u16 {
    let acc = (acc >> 32) + (acc & 0xffff_ffff);
    let acc = (acc >> 16) + (acc & 0xffff);
    let acc = (acc >> 16) + (acc & 0xffff);
    let acc = (acc >> 16) + (acc & 0xffff);
    acc as u16
}

/// The sum of two sums. The first must be over an even number of bytes.
#[inline(always)]
pub const fn add(a: u16, b: u16) -> u16 {
    fold(a as u64 + b as u64)
}

/// The new checksum when a 16-bit word it covers changes from `old_word` to `new_word`.
///
/// What it covers must not be all zero afterwards: the checksum of that is 0xffff, and this gives
/// 0x0000, as of what sums up to minus zero. An IPv4 header never is, nor is anything with an IPv6
/// pseudo header.
#[inline(always)]
pub const fn update16(old_checksum: u16, old_word: u16, new_word: u16) -> u16 {
    // RFC 1624 eqn. 3: HC' = ~(~HC + ~m + m'). Unlike eqn. 4 it gives, as a full computation
    // does, 0x0000 and not 0xffff.
    !fold(!old_checksum as u64 + !old_word as u64 + new_word as u64)
}

/// The new checksum when an aligned 32-bit word it covers changes, under the same condition.
#[inline(always)]
pub const fn update32(old_checksum: u16, old_word: u32, new_word: u32) -> u16 {
    !fold(!old_checksum as u64 + !old_word as u64 + new_word as u64)
}

/// The sum of the IPv4 pseudo header of TCP (RFC 9293 3.1) and UDP (RFC 768); `len` is that of
/// L4 header and data in bytes.
#[inline]
pub fn pseudo_header_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16) -> u16 {
    fold(u64::from(src.to_bits()) + u64::from(dst.to_bits()) + u64::from(protocol) + u64::from(len))
}

/// The sum of the IPv6 pseudo header of TCP, UDP and ICMPv6 (RFC 8200 8.1); `protocol` is the last
/// next header, `len` that of L4 header and data in bytes.
#[inline]
pub fn pseudo_header_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: u32) -> u16 {
    let addresses = u64::from(sum(&src.octets())) + u64::from(sum(&dst.octets()));
    fold(addresses + u64::from(protocol) + u64::from(len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 section 4.1, word by word.
    fn sum_by_the_book(bytes: &[u8]) -> u16 {
        let mut acc = 0u32;
        for word in bytes.chunks(2) {
            acc += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
            acc = (acc & 0xffff) + (acc >> 16);
        }
        acc as u16
    }

    #[test]
    fn rfc_1071_section_3_example() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(checksum(&[]), 0xffff);
    }

    #[test]
    fn rfc_1624_section_4_example() {
        // HC = 0xDD2F, m = 0x5555, m' = 0x3285: the update gives 0x0000, not 0xFFFF.
        assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn a_known_ipv4_header() {
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert!(verify(&header));
    }

    proptest! {
        #[test]
        fn fast_sum_is_the_plain_one(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(sum(&bytes), sum_by_the_book(&bytes));
        }

        #[test]
        fn sums_add_up(a in proptest::collection::vec(any::<[u8; 2]>(), 0..50),
                       b in proptest::collection::vec(any::<u8>(), 0..50)) {
            let a = a.concat();
            prop_assert_eq!(add(sum(&a), sum(&b)), sum(&[a, b].concat()));
        }

        #[test]
        fn update_is_a_full_computation(mut words in proptest::collection::vec(any::<u16>(), 2..20),
                                        new in any::<u16>(), constant in 1u16..) {
            words[0] = constant; // As in IPv4, whose first word is never zero.
            let bytes = |w: &[u16]| w.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>();
            let (before, old) = (checksum(&bytes(&words)), words[1]);
            words[1] = new;
            prop_assert_eq!(update16(before, old, new), checksum(&bytes(&words)));
        }

        #[test]
        fn update32_is_two_updates(check in any::<u16>(), old in any::<u32>(), new in any::<u32>()) {
            let high = update16(check, (old >> 16) as u16, (new >> 16) as u16);
            let both = update16(high, old as u16, new as u16);
            let one = update32(check, old, new);
            // 0x0000 and 0xffff are one value.
            prop_assert!(one == both || one.min(both) == 0 && one.max(both) == 0xffff);
        }
    }

    #[test]
    fn the_ipv6_pseudo_header_is_summed_as_rfc_8200_draws_it() {
        let (src, dst) = ("2001:db8::ffff:1", "fe80::f:ffff");
        let (src, dst): (Ipv6Addr, Ipv6Addr) = (src.parse().unwrap(), dst.parse().unwrap());
        let mut drawn = [src.octets(), dst.octets()].concat();
        drawn.extend(70_000u32.to_be_bytes());
        drawn.extend([0, 0, 0, 58]);
        assert_eq!(pseudo_header_v6(src, dst, 58, 70_000), sum_by_the_book(&drawn));
    }

    #[test]
    fn update_is_right_for_every_word_around_zero() {
        for old in 0..=u16::MAX {
            for new in [0, 1, 0x00ff, 0x0100, 0x7fff, 0x8000, 0xfeff, 0xfffe, 0xffff] {
                let rest = 0x4500;
                let before = !add(rest, old);
                assert_eq!(update16(before, old, new), !add(rest, new), "{old:04x} {new:04x}");
            }
        }
    }
}
