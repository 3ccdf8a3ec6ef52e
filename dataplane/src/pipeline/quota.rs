//! How much of what workers share the packets of one source network may take.
//!
//! A source may be made up, so what strangers send is bounded twice: what one network takes, so
//! that a hostile one competes with itself, and what all take together, so that a flood from
//! anywhere costs no more than this.

use crate::hash::Seed;
use crate::types::Tick;

/// Networks that are told apart; others share an account, which ones outsiders cannot foresee.
pub(super) const NETWORKS: usize = 256;

/// A source network: the first 24 bits of an IPv4 address, 48 of an IPv6 address (what a site is
/// given, RFC 6177), hashed under a secret to one of [`NETWORKS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourceNetwork(u8);

impl SourceNetwork {
    /// Of an IPv4 address.
    pub(super) fn of4(source: u32, seed: &Seed) -> SourceNetwork {
        SourceNetwork(seed.hash(u64::from(source >> 8), 4) as u8)
    }

    /// Of an IPv6 address.
    pub(super) fn of6(source: u128, seed: &Seed) -> SourceNetwork {
        SourceNetwork(seed.hash((source >> 80) as u64, 6) as u8)
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What may be taken at once, and how much comes back each millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) depth: u32,
    pub(super) rate: u32,
}

/// What is left, and since when.
#[derive(Debug, Clone, Copy)]
struct Account {
    left: u32,
    at: Tick,
}

impl Account {
    fn refill(&mut self, measure: Measure, now: Tick) {
        let elapsed = now.0.wrapping_sub(self.at.0);
        if elapsed > 0 {
            let back = elapsed.saturating_mul(measure.rate);
            *self = Account { left: self.left.saturating_add(back).min(measure.depth), at: now };
        }
    }
}

/// Accounts of all and of each source network. Fixed size.
#[derive(Debug)]
pub(super) struct Quota {
    measure: Measure,
    /// One network's.
    share: Measure,
    all: Account,
    networks: Box<[Account]>,
}

impl Quota {
    /// All together may take `measure`, and one network a share of it.
    pub(super) fn new(measure: Measure) -> Quota {
        let Measure { depth, rate } = measure;
        let share = Measure { depth: depth / 2, rate: (rate / 4).max(1) };
        let full = |measure: Measure| Account { left: measure.depth, at: Tick(0) };
        Quota { measure, share, all: full(measure), networks: vec![full(share); NETWORKS].into() }
    }

    /// Takes one, unless there is none left, or, for one that can do without (`spare`), less than
    /// half of what there may be: the others come first.
    pub(super) fn take(&mut self, network: SourceNetwork, spare: bool, now: Tick) -> bool {
        let Some(account) = self.networks.get_mut(network.index()) else { return false };
        self.all.refill(self.measure, now);
        account.refill(self.share, now);
        let kept = if spare { self.measure.depth / 2 } else { 0 };
        if account.left == 0 || self.all.left <= kept {
            return false;
        }
        account.left -= 1;
        self.all.left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURE: Measure = Measure { depth: 64, rate: 8 };

    fn taken(quota: &mut Quota, network: u8, spare: bool, tries: usize, now: u32) -> usize {
        (0..tries).filter(|_| quota.take(SourceNetwork(network), spare, Tick(now))).count()
    }

    #[test]
    fn one_network_takes_its_share_and_leaves_the_rest() {
        let mut quota = Quota::new(MEASURE);
        assert_eq!(taken(&mut quota, 1, false, 1000, 0), 32);
        assert_eq!(taken(&mut quota, 2, false, 20, 0), 20);
        assert_eq!(taken(&mut quota, 1, false, 1000, 10), 20, "two come back a millisecond");
        assert_eq!(taken(&mut quota, 1, false, 1000, u32::MAX), 32);
        assert_eq!(taken(&mut quota, 1, false, 1000, 2), 6, "when ticks wrap, too");
    }

    #[test]
    fn all_together_take_no_more_than_there_is() {
        let mut quota = Quota::new(MEASURE);
        let all: usize = (0..=255).map(|network| taken(&mut quota, network, false, 9, 0)).sum();
        assert_eq!(all, 64);
        let all: usize = (0..=255).map(|network| taken(&mut quota, network, false, 9, 3)).sum();
        assert_eq!(all, 24);
    }

    #[test]
    fn who_can_do_without_leaves_half_to_the_others() {
        let mut quota = Quota::new(MEASURE);
        for now in 0..100 {
            for network in 0..=255 {
                taken(&mut quota, network, true, 9, now);
            }
            assert!(quota.all.left >= 32);
        }
        assert_eq!(taken(&mut quota, 7, false, 8, 100), 8);
    }

    #[test]
    fn networks_are_24_bits_of_ipv4_and_48_of_ipv6() {
        let seed = Seed::new(7);
        let of4 = |address: u32| SourceNetwork::of4(address, &seed);
        let of6 = |address: u128| SourceNetwork::of6(address, &seed);
        assert_eq!(of4(0xc633_6401), of4(0xc633_64fe));
        assert_eq!(of6(0x2001_0db8_0001 << 80), of6((0x2001_0db8_0001 << 80) + (1 << 79)));
        let different = (0..256u32).filter(|n| of4(n << 8) != of4(0)).count();
        assert!(different > 240, "{different}");
        let different = (0..256u128).filter(|n| of6(n << 80) != of6(0)).count();
        assert!(different > 240, "{different}");
    }
}
