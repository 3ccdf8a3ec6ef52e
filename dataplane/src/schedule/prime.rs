//! Primes up to [`super::MAX_MAGLEV_SIZE`], by trial division. Off-path.

/// Whether `n` is a prime: at most 2048 divisions for 24 bits.
pub(super) fn is_prime(n: u32) -> bool {
    n == 2 || n >= 3 && n % 2 == 1 && (3..).step_by(2).take_while(|d| d * d <= n).all(|d| n % d > 0)
}

/// The prime nearest to `n`, the greater of two. `n` below 2^24.
pub(super) fn nearest(n: u32) -> u32 {
    let distances = 0..=n.max(2);
    distances
        .flat_map(|d| [n.saturating_add(d), n.saturating_sub(d)])
        .find(|&candidate| is_prime(candidate))
        .unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{DEFAULT_MAGLEV_SIZE, MAX_MAGLEV_SIZE};

    #[test]
    fn agrees_with_a_sieve() {
        let mut composite = vec![false; 70_000];
        for n in 2..composite.len() {
            if !composite[n] {
                (n * n..70_000).step_by(n).for_each(|m| composite[m] = true);
            }
        }
        for (n, composite) in composite.iter().enumerate() {
            assert_eq!(is_prime(n as u32), n >= 2 && !composite, "{n}");
        }
        assert!(is_prime(DEFAULT_MAGLEV_SIZE) && is_prime(MAX_MAGLEV_SIZE));
        assert!((MAX_MAGLEV_SIZE + 1..1 << 24).all(|n| !is_prime(n)));
    }

    #[test]
    fn nearest_is_near() {
        let pairs = [(0, 2), (1, 2), (2, 2), (4, 5), (9, 11), (65_536, 65_537), (90, 89)];
        for (n, wanted) in pairs {
            assert_eq!(nearest(n), wanted, "{n}");
        }
    }
}
