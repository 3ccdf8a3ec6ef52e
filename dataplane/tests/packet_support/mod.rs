//! What the tests of forwarding share.
#![allow(unreachable_pub)]

use dataplane::packet::buf::{PacketBuf, TestBuf};

/// A packet in two segments, as a jumbo frame in chained mbufs.
#[derive(Debug)]
pub struct Chained {
    /// The first segment.
    pub first: TestBuf,
    /// The bytes of the other.
    pub last: Vec<u8>,
}

impl PacketBuf for Chained {
    fn data(&self) -> &[u8] {
        self.first.data()
    }
    fn data_mut(&mut self) -> &mut [u8] {
        self.first.data_mut()
    }
    fn len(&self) -> usize {
        self.first.len() + self.last.len()
    }
    fn prepend(&mut self, n: usize) -> bool {
        self.first.prepend(n)
    }
    fn trim_front(&mut self, n: usize) -> bool {
        self.first.trim_front(n)
    }
    fn truncate(&mut self, len: usize) -> bool {
        let keep = len.checked_sub(self.first.len());
        keep.map(|n| self.last.truncate(n)).is_some()
    }
    fn append(&mut self, n: usize) -> bool {
        self.first.append(n)
    }
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        let all = [self.first.data(), &self.last].concat();
        let part = all.get(offset..offset + out.len());
        part.map(|part| out.copy_from_slice(part)).is_some()
    }
}
