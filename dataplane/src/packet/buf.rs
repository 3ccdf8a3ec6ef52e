//! A packet buffer, as the pure layers see it.
//!
//! The DPDK mbuf and [`TestBuf`] implement it, so the whole pipeline runs in tests without DPDK.

/// What the NIC says about the IPv4 header checksum of a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RxChecksum {
    /// Not looked at: software must.
    #[default]
    Unknown,
    /// The NIC found it right.
    Good,
    /// The NIC found it wrong.
    Bad,
}

/// One packet: its bytes, with room in front for headers.
///
/// A packet may lie in several segments (jumbo frames, memif). The headers the director reads lie
/// in the first; [`PacketBuf::data`] shows only that one, [`PacketBuf::len`] counts all.
/// Dropping a buffer gives it back to where it came from.
pub trait PacketBuf: Sized {
    /// The bytes of the first segment, from the first byte of the Ethernet header.
    fn data(&self) -> &[u8];
    /// The same, to be changed.
    fn data_mut(&mut self) -> &mut [u8];
    /// Length of the packet in bytes, all segments together.
    fn len(&self) -> usize;
    /// Whether there is no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Makes room for `n` bytes in front; false, and nothing changed, when there is none.
    #[must_use]
    fn prepend(&mut self, n: usize) -> bool;
    /// Cuts `n` bytes off the front; false, and nothing changed, when the first segment is shorter.
    #[must_use]
    fn trim_front(&mut self, n: usize) -> bool;
    /// Cuts the packet to `len` bytes in all (Ethernet padding); a longer `len` changes nothing.
    /// False, and nothing changed, when the cut would reach into an earlier segment than the last.
    #[must_use]
    fn truncate(&mut self, len: usize) -> bool;
    /// Appends `n` bytes (content unspecified); false, and nothing changed, when there is no room.
    #[must_use]
    fn append(&mut self, n: usize) -> bool;
    /// Copies packet bytes `[offset, offset + out.len())` into `out`, across segments; false when
    /// the packet is shorter (then `out` is unspecified).
    #[must_use]
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool;
    /// The NIC's word on the IPv4 header checksum.
    fn rx_ip_checksum(&self) -> RxChecksum {
        RxChecksum::Unknown
    }
}

/// Where new packets (replies, fragments, ARP requests) come from.
pub trait BufPool<B: PacketBuf> {
    /// An empty buffer with headroom, or `None` when the pool is empty.
    fn alloc(&self) -> Option<B>;
}

/// A buffer on the heap, for tests, benchmarks and offline tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestBuf {
    bytes: Vec<u8>,
    start: usize,
    limit: usize,
}

impl TestBuf {
    /// Bytes in front, as DPDK's `RTE_PKTMBUF_HEADROOM`.
    pub const HEADROOM: usize = 128;
    /// Longest packet, as DPDK's `RTE_MBUF_DEFAULT_DATAROOM`.
    pub const DATAROOM: usize = 2048;

    /// A buffer that holds `packet`.
    pub fn new(packet: &[u8]) -> TestBuf {
        let mut bytes = vec![0; Self::HEADROOM];
        bytes.extend_from_slice(packet);
        let limit = Self::HEADROOM + packet.len().max(Self::DATAROOM);
        TestBuf { bytes, start: Self::HEADROOM, limit }
    }
}

impl PacketBuf for TestBuf {
    fn data(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }
    fn prepend(&mut self, n: usize) -> bool {
        let ok = n <= self.start;
        if ok {
            self.start -= n;
        }
        ok
    }
    fn trim_front(&mut self, n: usize) -> bool {
        let ok = n <= self.len();
        if ok {
            self.start += n;
        }
        ok
    }
    fn truncate(&mut self, len: usize) -> bool {
        self.bytes.truncate(self.start + len);
        true
    }
    fn append(&mut self, n: usize) -> bool {
        let ok = self.bytes.len() + n <= self.limit;
        if ok {
            self.bytes.resize(self.bytes.len() + n, 0);
        }
        ok
    }
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        match self.data().get(offset..offset.saturating_add(out.len())) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }
}

/// An endless [`BufPool`] of [`TestBuf`], or one of a given size to test exhaustion.
#[derive(Debug)]
pub struct TestPool {
    left: std::cell::Cell<usize>,
}

impl TestPool {
    /// A pool that gives `n` buffers and then none.
    pub fn of(n: usize) -> TestPool {
        TestPool { left: std::cell::Cell::new(n) }
    }
}

impl Default for TestPool {
    fn default() -> TestPool {
        TestPool::of(usize::MAX)
    }
}

impl BufPool<TestBuf> for TestPool {
    fn alloc(&self) -> Option<TestBuf> {
        let left = self.left.get().checked_sub(1)?;
        self.left.set(left);
        Some(TestBuf::new(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_shrinks_at_both_ends() {
        let mut buf = TestBuf::new(&[1, 2, 3]);
        assert!(buf.prepend(2));
        assert_eq!(buf.data(), [0, 0, 1, 2, 3]);
        assert!(buf.trim_front(3));
        assert!(buf.append(1));
        assert_eq!(buf.data(), [2, 3, 0]);
        assert!(buf.truncate(2));
        assert_eq!(buf.data(), [2, 3]);
        assert!(!buf.prepend(TestBuf::HEADROOM + 10));
        assert!(!buf.trim_front(3));
        let mut two = [0; 2];
        assert!(buf.copy_to(0, &mut two));
        assert!(!buf.copy_to(1, &mut two));
    }

    #[test]
    fn a_pool_runs_dry() {
        let pool = TestPool::of(1);
        assert!(pool.alloc().is_some());
        assert!(pool.alloc().is_none());
    }
}
