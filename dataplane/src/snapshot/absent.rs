//! Real servers that were removed, and whose flows wait for them (`expire_nodest_conn = false`).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::types::Tick;

/// A removed real server of a virtual service. Snapshots share it for as long as it is away.
#[derive(Debug)]
pub struct Absent {
    /// RIP.
    pub address: IpAddr,
    /// The tick at which a packet missed it first, with a bit above; 0 when none has.
    missed: AtomicU64,
}

impl Absent {
    const SEEN: u64 = 1 << 32;

    pub(super) const fn new(address: IpAddr) -> Absent {
        Absent { address, missed: AtomicU64::new(0) }
    }

    /// When the first packet of any worker missed it: `now`, if this is the first.
    pub fn missed(&self, now: Tick) -> Tick {
        let mine = Self::SEEN | u64::from(now.0);
        match self.missed.compare_exchange(0, mine, Relaxed, Relaxed) {
            Ok(_) => now,
            Err(first) => Tick(first as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_miss_it_says_when() {
        let absent = Absent::new([10, 0, 0, 1].into());
        assert_eq!(absent.missed(Tick(0)), Tick(0));
        assert_eq!(absent.missed(Tick(7)), Tick(0));
    }
}
