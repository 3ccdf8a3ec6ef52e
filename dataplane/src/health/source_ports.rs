//! Source ports of probes: in an order nobody can foresee, and none twice within two minutes.

use crate::hash::Random;

/// First L4 port of the DIP that probes come from: the first dynamic one (RFC 6335 6).
pub const FIRST_SOURCE_PORT: u16 = 49_152;
/// Last one.
pub const LAST_SOURCE_PORT: u16 = u16::MAX;
/// How long a real server does not see a source port again, in milliseconds: twice the longest life
/// of a segment (RFC 9293 3.4.1) as stacks have it.
pub const QUIET: u64 = 120_000;

const BITS: u32 = 14;
const HALF: u32 = BITS / 2;
const HALF_MASK: u16 = (1 << HALF) - 1;
const _: () = assert!(FIRST_SOURCE_PORT as u32 + (1 << BITS) - 1 == LAST_SOURCE_PORT as u32);

/// The source ports of one target, in its own order, each of all 16,384 once before any comes
/// again.
///
/// A permutation by four rounds of a Feistel network takes no memory for what was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourcePorts {
    key: u64,
    next: u16,
}

impl SourcePorts {
    /// The order that follows from `key`.
    pub(super) const fn new(key: u64) -> SourcePorts {
        SourcePorts { key, next: 0 }
    }

    /// The next one.
    pub(super) fn draw(&mut self) -> u16 {
        let (mut left, mut right) = (self.next >> HALF & HALF_MASK, self.next & HALF_MASK);
        for round in 0..4 {
            let mixed = Random::new(self.key ^ u64::from(right) << 8 ^ round).word() & HALF_MASK;
            (left, right) = (right, left ^ mixed);
        }
        self.next = self.next.wrapping_add(1);
        FIRST_SOURCE_PORT + (left << HALF | right)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_port_comes_once_before_any_comes_again(key in any::<u64>()) {
            let mut ports = SourcePorts::new(key);
            let first: Vec<_> = (0..1 << BITS).map(|_| ports.draw()).collect();
            let seen: HashSet<_> = first.iter().copied().collect();
            prop_assert_eq!(seen.len(), 1 << BITS);
            prop_assert!(seen.iter().all(|port| *port >= FIRST_SOURCE_PORT));
            let again: Vec<_> = (0..1 << BITS).map(|_| ports.draw()).collect();
            prop_assert_eq!(first, again, "so 16,384 probes lie between two with the same port");
        }
    }

    #[test]
    fn orders_of_two_targets_have_little_in_common() {
        let (mut a, mut b) = (SourcePorts::new(1), SourcePorts::new(2));
        let same = (0..1 << BITS).filter(|_| a.draw() == b.draw()).count();
        assert!(same < 20, "{same} of 16,384; one is to be expected by chance");
        let mut a = SourcePorts::new(1);
        let steps = (0..1000).filter(|_| a.draw().abs_diff(a.draw()) < 64).count();
        assert!(steps < 50, "{steps} of 1,000 are near the one before");
    }
}
