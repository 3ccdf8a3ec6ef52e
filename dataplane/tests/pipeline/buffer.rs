//! Buffers that are counted: each one that is made must be gone at the end, once.

use std::cell::Cell;
use std::rc::Rc;

use dataplane::packet::buf::{BufPool, PacketBuf, RxChecksum, TestBuf};

/// How many buffers there are now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Census(Rc<Cell<usize>>);

impl Census {
    pub(crate) fn alive(&self) -> usize {
        self.0.get()
    }

    pub(crate) fn buffer(&self, packet: &[u8]) -> Counted {
        self.0.set(self.0.get() + 1);
        Counted {
            inner: TestBuf::new(packet),
            headroom: TestBuf::HEADROOM,
            rx: RxChecksum::Unknown,
            census: self.clone(),
        }
    }
}

/// A [`TestBuf`] that its [`Census`] counts, with less headroom if so wanted.
#[derive(Debug)]
pub(crate) struct Counted {
    inner: TestBuf,
    pub(crate) headroom: usize,
    pub(crate) rx: RxChecksum,
    census: Census,
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Underflow would be a double free.
        self.census.0.set(self.census.0.get() - 1);
    }
}

impl PacketBuf for Counted {
    fn data(&self) -> &[u8] {
        self.inner.data()
    }
    fn data_mut(&mut self) -> &mut [u8] {
        self.inner.data_mut()
    }
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn prepend(&mut self, n: usize) -> bool {
        let ok = n <= self.headroom && self.inner.prepend(n);
        if ok {
            self.headroom -= n;
        }
        ok
    }
    fn trim_front(&mut self, n: usize) -> bool {
        let ok = self.inner.trim_front(n);
        if ok {
            self.headroom += n;
        }
        ok
    }
    fn truncate(&mut self, len: usize) -> bool {
        self.inner.truncate(len)
    }
    fn append(&mut self, n: usize) -> bool {
        self.inner.append(n)
    }
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        self.inner.copy_to(offset, out)
    }
    fn rx_ip_checksum(&self) -> RxChecksum {
        self.rx
    }
}

/// Gives counted buffers, `left` of them.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) census: Census,
    pub(crate) left: Cell<usize>,
}

impl BufPool<Counted> for Pool {
    fn alloc(&self) -> Option<Counted> {
        self.left.set(self.left.get().checked_sub(1)?);
        Some(self.census.buffer(&[]))
    }
}
