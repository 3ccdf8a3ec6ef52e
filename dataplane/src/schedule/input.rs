//! What a scheduler is built from, and what can be wrong with it.

use std::net::IpAddr;

use super::HashKey;
use super::prime;

/// Most real servers of one virtual service.
pub const MAX_MEMBERS: usize = 65_535;
/// Highest weight, as in LVS.
pub const MAX_WEIGHT: u32 = 65_535;
/// Slots of a Maglev table unless configured: the smaller of the NSDI paper's two sizes.
pub const DEFAULT_MAGLEV_SIZE: u32 = 65_537;
/// Most slots of a Maglev table, the largest prime below 2^24: 32 MiB a table.
pub const MAX_MAGLEV_SIZE: u32 = 16_777_213;

/// One real server as the scheduler sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member {
    /// RIP; what the hash schedulers know a member by.
    pub address: IpAddr,
    /// Share of new flows, 0 to 65535; 0 drains.
    pub weight: u32,
}

/// What a scheduler is told beside its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Key of the hash schedulers. The default is all zeros, which everybody knows.
    pub hash_key: HashKey,
    /// Whether `sh` and `mh` hash the client's L4 port beside its address (LVS: `sh-port`,
    /// `mh-port`). Off, all flows of a client go to one real server.
    pub hash_ports: bool,
    /// Whether another member stands in for one that is full (LVS: `sh-fallback`,
    /// `mh-fallback`). Off, its clients' new flows have nobody.
    pub fallback: bool,
    /// Slots of the table of `sh`, `dh` and `mh`: a prime, 2 to [`MAX_MAGLEV_SIZE`], at least the
    /// number of real servers and better a hundred times that.
    pub maglev_size: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            hash_key: HashKey::default(),
            hash_ports: false,
            fallback: false,
            maglev_size: DEFAULT_MAGLEV_SIZE,
        }
    }
}

impl Options {
    /// Whether some service could be built with these, so that a configuration without a hash
    /// scheduler is checked as well.
    pub fn check(&self) -> Result<(), BuildError> {
        let size = self.maglev_size;
        if size <= MAX_MAGLEV_SIZE && prime::is_prime(size) {
            return Ok(());
        }
        Err(BuildError::MaglevSize { size, nearest: prime::nearest(size.min(MAX_MAGLEV_SIZE)) })
    }
}

/// Why there is no scheduler for these members and options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Too many real servers in one virtual service.
    #[error("{count} real servers in one virtual service; at most {MAX_MEMBERS} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// A real server occurs twice.
    #[error("real server {address} is listed twice; each address is allowed once in a service")]
    Duplicate {
        /// Its address.
        address: IpAddr,
    },
    /// A weight is out of range.
    #[error("real server {address} has weight {weight}; allowed are 0 (drain) to {MAX_WEIGHT}")]
    Weight {
        /// Whose weight.
        address: IpAddr,
        /// The weight found.
        weight: u32,
    },
    /// The size of the table is no prime or out of range.
    #[error(
        "maglev_size {size} is not allowed: it must be a prime from 2 to {MAX_MAGLEV_SIZE}; \
         the nearest is {nearest}"
    )]
    MaglevSize {
        /// The size found.
        size: u32,
        /// The nearest one that is allowed.
        nearest: u32,
    },
    /// The table has fewer slots than there are real servers.
    #[error(
        "maglev_size {size} is too small for {count} real servers (drained ones count): \
         it must be a prime of at least {count}; {better} gives shares within about 1 %"
    )]
    TooFewSlots {
        /// The size found.
        size: u32,
        /// How many real servers there are.
        count: usize,
        /// A size of a hundred slots for each.
        better: u32,
    },
}

/// What every scheduler asks of its members.
pub(super) fn check_members(members: &[Member]) -> Result<(), BuildError> {
    if members.len() > MAX_MEMBERS {
        return Err(BuildError::TooMany { count: members.len() });
    }
    if let Some(&Member { address, weight }) = members.iter().find(|m| m.weight > MAX_WEIGHT) {
        return Err(BuildError::Weight { address, weight });
    }
    let mut addresses: Vec<_> = members.iter().map(|m| m.address).collect();
    addresses.sort_unstable();
    match addresses.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(BuildError::Duplicate { address: pair[0] }),
        None => Ok(()),
    }
}

/// The members that take new flows, each with its index. They fit since [`check_members`].
pub(super) fn takers(members: &[Member]) -> impl Iterator<Item = (u16, &Member)> {
    (0..=u16::MAX).zip(members).filter(|(_, m)| m.weight > 0)
}

/// A member that takes new flows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taker {
    /// Its index.
    pub(super) member: u16,
    /// 1 to 65535.
    pub(super) weight: u32,
}

impl Taker {
    #[inline(always)]
    pub(super) const fn index(self) -> usize {
        self.member as usize
    }
}

/// The members that take new flows, in the order configured.
pub(super) fn in_order(members: &[Member]) -> Box<[Taker]> {
    takers(members).map(|(member, m)| Taker { member, weight: m.weight }).collect()
}

/// The members that take new flows, heaviest first; among equals as configured.
pub(super) fn by_weight(members: &[Member]) -> Box<[Taker]> {
    let mut takers = in_order(members);
    takers.sort_by_key(|t| std::cmp::Reverse(t.weight));
    takers
}
