//! Packets in several segments.

use dataplane::packet::buf::{BufPool, PacketBuf, TestBuf};

/// A packet of which only the first bytes lie in the first segment, as a chained mbuf's.
pub struct Chained {
    pub bytes: Vec<u8>,
    pub first: usize,
}

impl PacketBuf for Chained {
    fn data(&self) -> &[u8] {
        &self.bytes[..self.first.min(self.bytes.len())]
    }
    fn data_mut(&mut self) -> &mut [u8] {
        let end = self.first.min(self.bytes.len());
        &mut self.bytes[..end]
    }
    fn len(&self) -> usize {
        self.bytes.len()
    }
    fn prepend(&mut self, _: usize) -> bool {
        false
    }
    fn trim_front(&mut self, _: usize) -> bool {
        false
    }
    fn truncate(&mut self, len: usize) -> bool {
        let ok = len >= self.first;
        if ok {
            self.bytes.truncate(len);
        }
        ok
    }
    fn append(&mut self, n: usize) -> bool {
        // A fresh one has all its bytes in one segment.
        self.bytes.resize(self.bytes.len() + n, 0);
        true
    }
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        let test = TestBuf::new(&self.bytes);
        test.copy_to(offset, out)
    }
}

/// Gives buffers of one segment.
pub struct ChainedPool;

impl BufPool<Chained> for ChainedPool {
    fn alloc(&self) -> Option<Chained> {
        Some(Chained { bytes: Vec::new(), first: usize::MAX })
    }
}
