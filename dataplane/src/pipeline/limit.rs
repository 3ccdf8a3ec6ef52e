//! How many answers a worker asks the slow path for.
//!
//! Anybody can have the slow path answer: by pings, by segments of no flow, by packets that are too
//! long or have come too far. Faster than it answers, they would fill their [`Lane`] to it, and keep
//! out what others ask for by the same. So workers ask for no more than this, before the lane.
//!
//! # Fairness
//! Each lane has limits of its own. Within a lane each of [`GROUPS`] groups of source networks (24
//! bits of an IPv4 address, 48 of an IPv6 one, for who is given a site may send from all of it) has a
//! share of its own, and what it wants beyond that it takes out of what all have in common. So a flood from some networks
//! takes no more than the common part, and whoever is not in a group with one of them is answered
//! as long as it wants no more than its share. Which networks are in one group is a secret.
//! A flood from everywhere takes all.
//!
//! # Units
//! Answers a second, and at once. Levels are thousandths of an answer, so that a millisecond adds as
//! many as there are a second. The common part is divided among the workers; shares are each
//! worker's, as a NIC gives all packets of a source to one worker.

use super::lane::Lane;
use crate::hash::Seed;
use crate::packet::buf::PacketBuf;
use crate::packet::ethernet::{EtherType, Frame};
use crate::types::{Punt, Tick};

/// Groups of source networks; a power of two.
const GROUPS: usize = 256;

/// So many a second, and so many at once.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: u32,
    burst: u32,
}

/// The limits of one lane.
#[derive(Debug, Clone, Copy)]
struct Limit {
    common: Rate,
    share: Rate,
}

/// Of pings: generous, for whoever watches many VIPs from one place.
const ECHO: Limit = Limit {
    common: Rate { per_second: 10_000, burst: 1_000 },
    share: Rate { per_second: 16, burst: 16 },
};
/// Of errors, resets and whatever else the slow path answers or reads. The common part is half of
/// what it sends of each kind in a second, so that the shares are not lost there.
const OTHERS: Limit =
    Limit { common: Rate { per_second: 500, burst: 50 }, share: Rate { per_second: 1, burst: 4 } };

/// Of what is awaited at the director's own L4 ports: enough for the answers of 10,000 real servers
/// that are probed every second. They come from few VIPs, so what one network takes says nothing,
/// and a stranger has to guess an L4 port at which something is awaited just now.
const AWAITED: Limit = Limit {
    common: Rate { per_second: 40_000, burst: 2_000 },
    share: Rate { per_second: 16, burst: 16 },
};

/// A token bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: u32,
    filled_at: Tick,
}

impl Bucket {
    const fn full(rate: Rate) -> Bucket {
        Bucket { level: rate.burst * 1000, filled_at: Tick(0) }
    }

    /// Takes one; false when there is none. A worker's ticks never go back, and wrap.
    fn take(&mut self, rate: Rate, now: Tick) -> bool {
        let passed = u64::from(now.0.wrapping_sub(self.filled_at.0));
        let level = u64::from(self.level) + passed * u64::from(rate.per_second);
        self.level = level.min(u64::from(rate.burst) * 1000) as u32;
        self.filled_at = now;
        let left = self.level.checked_sub(1000);
        self.level = left.unwrap_or(self.level);
        left.is_some()
    }
}

/// What is left of one lane's limits.
#[derive(Debug)]
struct Left {
    limit: Limit,
    common: Bucket,
    shares: Box<[Bucket; GROUPS]>,
}

impl Left {
    fn new(limit: Limit, workers: u16) -> Left {
        let part = |all: u32| (all / u32::from(workers.max(1))).max(1);
        let Rate { per_second, burst } = limit.common;
        let common = Rate { per_second: part(per_second), burst: part(burst) };
        let shares = Box::new([Bucket::full(limit.share); GROUPS]);
        Left { limit: Limit { common, ..limit }, common: Bucket::full(common), shares }
    }
}

/// The limits of one worker.
#[derive(Debug)]
pub(super) struct AnswerLimits {
    /// By lane; `None` where there is no limit.
    lanes: [Option<Left>; Lane::ALL.len()],
    seed: Seed,
}

impl AnswerLimits {
    /// Of one of so many workers.
    pub(super) fn new(seed: Seed, workers: u16) -> AnswerLimits {
        let left = |lane| Self::limit(lane).map(|limit| Left::new(limit, workers));
        AnswerLimits { lanes: Lane::ALL.map(left), seed }
    }

    /// Neighbors may say what they like, for without them nothing is forwarded, and what waits for
    /// one is bounded in the slow path.
    const fn limit(lane: Lane) -> Option<Limit> {
        match lane {
            Lane::Neighbors | Lane::Segment | Lane::Resolve => None,
            Lane::Awaited => Some(AWAITED),
            Lane::Echo => Some(ECHO),
            Lane::TooLong | Lane::Told | Lane::Groups => Some(OTHERS),
            Lane::Expired | Lane::Strays | Lane::Unserved => Some(OTHERS),
        }
    }

    /// Whether the slow path is to be given this packet now; that counts.
    #[inline(never)]
    pub(super) fn allows<B: PacketBuf>(&mut self, punt: &Punt<B>, now: Tick) -> bool {
        let left = self.lanes.get_mut(Lane::of(punt).index());
        let Some(left) = left.and_then(Option::as_mut) else { return true };
        let Limit { common, share } = left.limit;
        let group = self.seed.hash(source_network(punt.buf.data()), 0) as usize % GROUPS;
        left.shares[group].take(share, now) || left.common.take(common, now)
    }
}

/// The network a packet comes from: 24 bits of an IPv4 address, 48 of an IPv6 one (what a site is
/// given, RFC 6177).
fn source_network(frame: &[u8]) -> u64 {
    let Ok(frame) = Frame::new(frame) else { return 0 };
    let (at, bits) = match frame.ethertype() {
        EtherType::IPV4 => (12, 24),
        EtherType::IPV6 => (8, 48),
        _ => return 0,
    };
    let source = frame.payload().get(at..).and_then(|bytes| bytes.first_chunk());
    source.map_or(0, |source| u64::from_be_bytes(*source) >> (64 - bits))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::buf::TestBuf;
    use crate::packet::build::Build;
    use crate::types::{Mac, PortId, PuntReason};

    const SEED: Seed = Seed::new(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);
    const SECOND: u32 = 1000;

    fn from(network: u32, host: u8) -> Vec<u8> {
        let src = (0x0a00_0000 | network << 8 | u32::from(host)).into();
        Build::eth(Mac::ZERO, Mac::ZERO).ipv4(src, [192, 0, 2, 1].into()).icmp(8, 0, 1).finish()
    }

    fn from6(network: u16, host: u16) -> Vec<u8> {
        // From any of a site's links.
        let src = [0x2001, 0xdb8, network, host, 0, 0, 0, host].into();
        let dst = [0x2001, 0xdb8, 9, 0, 0, 0, 0, 1].into();
        Build::eth(Mac::ZERO, Mac::ZERO).ipv6(src, dst).icmp6(128, 0, 1).finish()
    }

    fn given(
        limits: &mut AnswerLimits,
        reason: PuntReason,
        frame: &[u8],
        times: u32,
        ms: u32,
    ) -> u32 {
        let punt = Punt { ingress: PortId(0), reason, buf: TestBuf::new(frame) };
        (0..times).filter(|_| limits.allows(&punt, Tick(ms))).count() as u32
    }

    #[test]
    fn one_network_gets_the_common_part_and_its_share() {
        for workers in [1, 4] {
            for frame in [from(1, 1), from6(1, 1)] {
                let mut limits = AnswerLimits::new(SEED, workers);
                let part = |all| all / u32::from(workers);
                let got = given(&mut limits, PuntReason::Echo, &frame, 20_000, 1);
                assert_eq!(got, part(1_000) + 16);
                let more: u32 = (2..2 + SECOND)
                    .map(|ms| given(&mut limits, PuntReason::Echo, &frame, 99, ms))
                    .sum();
                assert_eq!(more, part(10_000) + 16);
            }
        }
    }

    #[test]
    fn a_flood_leaves_others_their_share_and_other_lanes_alone() {
        let mut limits = AnswerLimits::new(SEED, 2);
        let mut answered = 0;
        for ms in 1..=10 * SECOND {
            // Pings from four networks, 400,000 a second.
            for network in 0..4 {
                given(&mut limits, PuntReason::Echo, &from(network, ms as u8), 100, ms);
            }
            // A hundred others send one a second each.
            if ms % 10 == 0 {
                let other = from(1_000 + ms / 10 % 100, 7);
                answered += given(&mut limits, PuntReason::Echo, &other, 1, ms);
                let reset = given(&mut limits, PuntReason::TcpReset, &other, 1, ms);
                assert_eq!(reset, 1, "{ms}");
            }
        }
        // But for those that share a group with one of the four.
        assert!(answered >= 960, "{answered} of 1000");
    }

    #[test]
    fn what_is_no_answer_is_not_limited() {
        let mut limits = AnswerLimits::new(SEED, 1);
        for reason in [PuntReason::Arp, PuntReason::Ndp] {
            assert_eq!(given(&mut limits, reason, &from(1, 1), 10_000, 5), 10_000);
        }
    }

    #[test]
    fn all_of_a_network_are_one_source() {
        assert_eq!(source_network(&from(7, 1)), source_network(&from(7, 200)));
        assert_eq!(source_network(&from6(7, 1)), source_network(&from6(7, 200)));
        assert_ne!(source_network(&from(7, 1)), source_network(&from(8, 1)));
        assert_ne!(source_network(&from6(7, 1)), source_network(&from6(8, 1)));
        assert_eq!((source_network(&[]), source_network(&[8; 14])), (0, 0));
    }

    #[test]
    fn after_any_time_there_is_some_again() {
        let mut limits = AnswerLimits::new(SEED, 1);
        let frame = from(1, 1);
        given(&mut limits, PuntReason::TcpReset, &frame, 1_000, 3);
        // Longer than half of what a tick counts, and across its end.
        let month = 31 * 24 * 3_600 * SECOND;
        for now in [month, month.wrapping_mul(2)] {
            assert_eq!(given(&mut limits, PuntReason::TcpReset, &frame, 1_000, now), 54);
        }
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(
            steps in proptest::collection::vec((0u32..3_000, 0u32..200, 0u32..3), 0..40),
        ) {
            let mut limits = AnswerLimits::new(SEED, 1);
            let (mut now, mut got) = (0, 0);
            for (wait, times, network) in steps {
                now += wait;
                got += given(&mut limits, PuntReason::TtlExceeded, &from(network, 1), times, now);
                prop_assert!(got <= 50 + 3 * 4 + now * (500 + 3) / 1000 + 1);
            }
        }
    }
}
