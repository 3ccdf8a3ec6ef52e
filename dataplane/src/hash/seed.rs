//! The keyed hash of all that outsiders choose.
//!
//! # Construction
//!
//! Two rounds of a folded 64 x 64 -> 128 bit multiplication, as in the wyhash family. The first
//! multiplies two words, each masked with a secret; both halves of the product, masked with two
//! more secrets, are multiplied again and folded by exclusive or. For two inputs chosen without the
//! seed, a collision is about as likely as by chance. It is no message authentication code.
//!
//! A wider input is folded first, a multiplication for each pair of words, and the three words left
//! go through the same two rounds. The pairs are masked in the fold by the secrets of the second
//! round, so that whoever owns a whole IPv6 prefix has nothing to choose clients by.
//!
//! # Invariant
//! Every step is part of the contract between directors that share a key for their hash schedulers:
//! what is changed here moves clients.

use std::fmt;

use super::mix::{PI, fold, multiply};

/// A 128-bit secret and the hash under it.
///
/// Those with the same secret hash alike, so that a hash computed once serves for all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed([u64; 4]);

impl Seed {
    /// Expands the random `bits`.
    pub const fn new(bits: u128) -> Seed {
        let (low, high) = (bits as u64, (bits >> 64) as u64);
        // The second round's secrets depend on all 128 bits; with digits of pi.
        let third = fold(low ^ PI[0], high ^ PI[1]);
        let fourth = fold(high ^ PI[2], low ^ PI[3]);
        Seed([low, high, third, fourth])
    }

    /// Hashes two words, all 64 bits of the result being good.
    #[inline(always)]
    pub const fn hash(&self, a: u64, b: u64) -> u64 {
        let product = multiply(a ^ self.0[0], b ^ self.0[1]);
        fold(product as u64 ^ self.0[2], (product >> 64) as u64 ^ self.0[3])
    }

    /// Hashes two pairs of words and a fifth, all 64 bits of the result being good.
    #[inline(always)]
    pub const fn hash_wide(&self, words: &[u64; 5]) -> u64 {
        let [a, b, c, d, e] = *words;
        let [first, second, third, fourth] = self.0;
        // Secrets in another order for the second pair: swapping the pairs is another key.
        let pair = fold(a ^ third, b ^ fourth);
        let other = fold(c ^ fourth.rotate_left(32), d ^ third.rotate_left(32));
        let product = multiply(pair ^ first, other ^ e ^ second);
        fold(product as u64 ^ third, (product >> 64) as u64 ^ fourth)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed::new(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);

    #[test]
    fn one_key_bit_flips_half_of_the_hash() {
        // Avalanche: over many keys each input bit flips each output bit about every second time.
        let samples = 2000;
        for bit in 0..64 {
            let mut flips = [0u32; 64];
            for i in 0..samples {
                let (a, b) = (i * 0x9e37_79b9, i ^ 0x5050);
                let changed = SEED.hash(a, b) ^ SEED.hash(a ^ 1 << bit, b);
                let changed_b = SEED.hash(a, b) ^ SEED.hash(a, b ^ 1 << bit);
                for (out, count) in flips.iter_mut().enumerate() {
                    *count += (changed >> out & 1) as u32 + (changed_b >> out & 1) as u32;
                }
            }
            for (out, &count) in flips.iter().enumerate() {
                // 4000 tosses: mean 2000, standard deviation 32.
                assert!((1800..2200).contains(&count), "in {bit} out {out}: {count}");
            }
        }
    }

    #[test]
    fn one_bit_of_a_wide_key_flips_half_of_the_hash() {
        let samples = 1000;
        for bit in 0..5 * 64 {
            let mut flips = [0u32; 64];
            for i in 0..samples {
                let words = [0xb80d_0120, i * 0x9e37_79b9, 0x8000_b80d_0120, 1, i ^ 0x5050];
                let mut other = words;
                other[bit / 64] ^= 1 << (bit % 64);
                let changed = SEED.hash_wide(&words) ^ SEED.hash_wide(&other);
                for (out, count) in flips.iter_mut().enumerate() {
                    *count += (changed >> out & 1) as u32;
                }
            }
            for (out, &count) in flips.iter().enumerate() {
                // 1000 tosses: mean 500, standard deviation 16.
                assert!((405..595).contains(&count), "in {bit} out {out}: {count}");
            }
        }
    }

    #[test]
    fn a_seed_is_not_printed() {
        assert_eq!(format!("{SEED:?}"), "Seed(secret)");
    }
}
