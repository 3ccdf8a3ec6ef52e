//! The secret that tells answers to probes from forged ones.
//!
//! The sequence number of a probe's SYN is a keyed hash of its addresses and L4 ports. Whatever
//! answers it acknowledges that number or the next, and whoever has not seen the SYN cannot know
//! them. So an answer is known by itself, without a table of what was asked: a flood of forged ones
//! costs a hash each and goes no further.
//!
//! One guess in 2^31 is right, for one probe among those under way, and a real server that is down
//! is up only after several right ones in a row.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

/// The ends of a probe's connection, as the director sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// DIP and source port.
    pub local: SocketAddr,
    /// VIP and L4 port.
    pub remote: SocketAddr,
}

impl Tuple {
    /// From a DIP and a source port to a VIP and its L4 port.
    pub const fn new(dip: IpAddr, source_port: u16, to: SocketAddr) -> Tuple {
        Tuple { local: SocketAddr::new(dip, source_port), remote: to }
    }
}

/// The key of the hash; drawn at start, told to nobody.
#[derive(Clone, Copy)]
pub struct Numbers {
    hasher: SipHasher13,
}

impl std::fmt::Debug for Numbers {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Numbers")
    }
}

impl Numbers {
    /// Under a secret key of 16 random bytes.
    pub fn new(key: [u8; 16]) -> Numbers {
        Numbers { hasher: SipHasher13::new_with_key(&key) }
    }

    /// The sequence number of a probe's SYN.
    pub fn sequence(&self, tuple: &Tuple) -> u32 {
        let mut hasher = self.hasher;
        for end in [&tuple.local, &tuple.remote] {
            match end.ip() {
                IpAddr::V4(address) => hasher.write(&address.octets()),
                IpAddr::V6(address) => hasher.write(&address.octets()),
            }
            hasher.write(&end.port().to_be_bytes());
        }
        (hasher.finish() >> 32) as u32
    }

    /// Whether a segment that came back may be an answer to a probe: it acknowledges the SYN, or the
    /// FIN behind it.
    pub fn is_answer(&self, tuple: &Tuple, acknowledged: u32) -> bool {
        matches!(acknowledged.wrapping_sub(self.sequence(tuple)), 1 | 2)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn tuple(port: u16) -> Tuple {
        Tuple::new([192, 0, 2, 1].into(), port, "203.0.113.80:80".parse().unwrap())
    }

    #[test]
    fn an_answer_acknowledges_the_syn_or_the_fin_of_its_own_probe() {
        let numbers = Numbers::new([7; 16]);
        let sequence = numbers.sequence(&tuple(50_000));
        for (behind, is_answer) in [(0, false), (1, true), (2, true), (3, false)] {
            let acknowledged = sequence.wrapping_add(behind);
            assert_eq!(numbers.is_answer(&tuple(50_000), acknowledged), is_answer, "{behind}");
            assert!(!numbers.is_answer(&tuple(50_001), acknowledged));
        }
    }

    #[test]
    fn numbers_differ_by_key_address_and_port() {
        let numbers = Numbers::new([7; 16]);
        let mut seen: HashSet<_> = (49_152..=65_535).map(|p| numbers.sequence(&tuple(p))).collect();
        assert!(seen.len() > 16_380, "all but a few differ: {}", seen.len());
        let mut other = tuple(50_000);
        other.remote.set_ip("203.0.113.81".parse().unwrap());
        assert!(seen.insert(numbers.sequence(&other)));
        assert!(seen.insert(Numbers::new([8; 16]).sequence(&tuple(50_000))));
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", Numbers::new([7; 16])), "Numbers");
    }
}
