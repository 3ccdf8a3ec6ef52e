//! Integer mixers, each once: what tables without a secret spread their keys by, and what the keyed
//! hash is made of.

/// 2^64 over the golden ratio: a multiplication by it spreads consecutive numbers over the upper bits
/// (Fibonacci hashing, Knuth 6.4).
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The first 256 bits of the fraction of pi: constants nobody chose.
pub const PI: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

/// The factors of [`finish`].
pub const MURMUR: [u64; 2] = [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53];

/// The product of two words, of 128 bits.
#[inline(always)]
pub const fn multiply(a: u64, b: u64) -> u128 {
    (a as u128).wrapping_mul(b as u128)
}

/// Both halves of the product, one over the other.
#[inline(always)]
pub const fn fold(a: u64, b: u64) -> u64 {
    let product = multiply(a, b);
    product as u64 ^ (product >> 64) as u64
}

/// The finalizer of MurmurHash3: each bit of the outcome depends on each of the input, and no two
/// inputs have one outcome.
#[inline(always)]
pub const fn finish(word: u64) -> u64 {
    let word = (word ^ word >> 33).wrapping_mul(MURMUR[0]);
    let word = (word ^ word >> 33).wrapping_mul(MURMUR[1]);
    word ^ word >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `fmix64` of Appleby's MurmurHash3.cpp: 0 stays, 1 is as published.
    #[test]
    fn finishes_as_published() {
        assert_eq!(finish(0), 0);
        assert_eq!(finish(1), 0xb456_bcfc_34c2_cb2c);
    }
}
