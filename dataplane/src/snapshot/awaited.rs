//! L4 ports of the director's own at which somebody in this process awaits packets.
//!
//! Whoever sends packets of the director's own ([`Pipeline::inject`](crate::pipeline::Pipeline::inject))
//! marks the L4 port the answer comes to, and workers give the slow path what comes to a marked one
//! ([`PuntReason::Awaited`](crate::types::PuntReason::Awaited)). What comes to any other is the
//! counted drop `to_director`, so a stranger has to guess an L4 port that is marked just now.
//!
//! # Threading
//! One for all snapshots. Anybody may mark and unmark at any time; workers see it with their next
//! packet, and no configuration has to be compiled for it.
//!
//! # Limits
//! One bit for each L4 port of each protocol: 16 kB, allocated once. Looked at only for packets to
//! a DIP.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::types::Protocol;

/// Bits in a word.
const BITS: usize = u64::BITS as usize;
/// Words for all L4 ports.
const WORDS: usize = (u16::MAX as usize + 1) / BITS;

/// The L4 ports of the director's own at which packets are awaited now, by protocol.
pub struct Awaited {
    tcp: Box<[AtomicU64]>,
    udp: Box<[AtomicU64]>,
}

impl Awaited {
    /// Nothing is awaited.
    pub fn new() -> Awaited {
        let none = || (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        Awaited { tcp: none(), udp: none() }
    }

    fn place(&self, protocol: Protocol, port: u16) -> (&AtomicU64, u64) {
        let words = match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        };
        // There is a word for each L4 port.
        (&words[usize::from(port) / BITS], 1 << (usize::from(port) % BITS))
    }

    /// From now on packets to `port` of any DIP are awaited. To be called before the packet leaves
    /// whose answer it is.
    pub fn expect(&self, protocol: Protocol, port: u16) {
        let (word, bit) = self.place(protocol, port);
        word.fetch_or(bit, Relaxed);
    }

    /// Packets to `port` are awaited no longer. Some that were may still be on their way to the slow
    /// path.
    pub fn forget(&self, protocol: Protocol, port: u16) {
        let (word, bit) = self.place(protocol, port);
        word.fetch_and(!bit, Relaxed);
    }

    /// Whether a packet to `port` of a DIP is awaited.
    #[inline]
    pub fn is_awaited(&self, protocol: Protocol, port: u16) -> bool {
        let (word, bit) = self.place(protocol, port);
        word.load(Relaxed) & bit != 0
    }
}

impl Default for Awaited {
    fn default() -> Awaited {
        Awaited::new()
    }
}

impl fmt::Debug for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |words: &[AtomicU64]| -> u32 {
            words.iter().map(|word| word.load(Relaxed).count_ones()).sum()
        };
        f.debug_struct("Awaited")
            .field("tcp", &count(&self.tcp))
            .field("udp", &count(&self.udp))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_l4_port_of_each_protocol_is_marked_alone() {
        let awaited = Awaited::new();
        for port in [0, 1, 63, 64, 40_000, u16::MAX] {
            for (protocol, other) in
                [(Protocol::Tcp, Protocol::Udp), (Protocol::Udp, Protocol::Tcp)]
            {
                awaited.expect(protocol, port);
                let marked = |p| (0..=u16::MAX).filter(|n| awaited.is_awaited(p, *n)).collect();
                let (this, that): (Vec<_>, Vec<_>) = (marked(protocol), marked(other));
                assert_eq!((this, that), (vec![port], vec![]));
                awaited.forget(protocol, port);
                assert!(!awaited.is_awaited(protocol, port));
            }
        }
    }
}
