//! Packet buffers out of a slab: as large as an mbuf's handle, and free to recycle.
//!
//! A handle is one pointer, as `Mbuf` is, and start and length lie in front of the bytes, as an
//! mbuf's do, so that what the pipeline moves about and touches is the same. Dropping a handle
//! stores one word; getting buffers is the harness's business, outside of what is measured.

use std::cell::Cell;

use dataplane::packet::buf::{BufPool, PacketBuf, RxChecksum};

/// Bytes in front of a received packet, and of packet, as DPDK's defaults.
pub const HEADROOM: usize = 128;
const DATAROOM: usize = 2048;

/// Where a buffer is while no handle on it lives.
type Place = Cell<Option<Box<Slot>>>;

/// One buffer. Its size is an odd number of cache lines, so that the first lines of many buffers do
/// not share a few sets of the cache (DPDK's mempool pads its elements for that, too).
#[repr(C, align(64))]
struct Slot {
    home: &'static Place,
    start: u16,
    len: u16,
    rx: RxChecksum,
    rest_of_line: [u8; 51],
    bytes: [u8; HEADROOM + DATAROOM],
}

const _: () = assert!(std::mem::offset_of!(Slot, bytes) == 64 && size_of::<Slot>() / 64 % 2 == 1);

/// Buffers for one thread.
pub struct Slab {
    places: Vec<Place>,
}

/// A handle on one buffer of a [`Slab`]; the only one at a time. It is never empty but while it is
/// dropped.
pub struct Buf(Option<Box<Slot>>);

impl Slab {
    /// A slab of `n` buffers, all free. It is never freed: handles may outlive any scope.
    pub fn leak(n: usize) -> &'static Slab {
        let places = (0..n).map(|_| Cell::new(None)).collect();
        let slab: &'static Slab = Box::leak(Box::new(Slab { places }));
        for home in &slab.places {
            home.set(Some(Box::new(Slot {
                home,
                start: 0,
                len: 0,
                rx: RxChecksum::Unknown,
                rest_of_line: [0; 51],
                bytes: [0; HEADROOM + DATAROOM],
            })));
        }
        slab
    }

    /// Buffer `n`, empty, `None` while another handle on it lives.
    pub fn take(&'static self, n: usize) -> Option<Buf> {
        let mut slot = self.places.get(n)?.take()?;
        (slot.start, slot.len) = (HEADROOM as u16, 0);
        Some(Buf(Some(slot)))
    }
}

impl Buf {
    #[inline(always)]
    fn slot(&self) -> &Slot {
        self.0.as_ref().expect("a handle in use is not empty")
    }

    #[inline(always)]
    fn slot_mut(&mut self) -> &mut Slot {
        self.0.as_mut().expect("a handle in use is not empty")
    }

    /// Makes it a packet of `len` bytes just received: its first `N` bytes are for the caller to
    /// write, the others are as they were.
    #[inline(always)]
    pub fn receive<const N: usize>(&mut self, len: usize) -> &mut [u8; N] {
        assert!(len <= DATAROOM);
        let slot = self.slot_mut();
        slot.start = HEADROOM as u16;
        slot.len = len as u16;
        let (_, data) = slot.bytes.split_at_mut(HEADROOM);
        data.first_chunk_mut().expect("room for headers")
    }
}

impl Drop for Buf {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            let home = slot.home;
            home.set(Some(slot));
        }
    }
}

impl PacketBuf for Buf {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        let slot = self.slot();
        let start = usize::from(slot.start);
        &slot.bytes[start..start + usize::from(slot.len)]
    }
    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        let slot = self.slot_mut();
        let start = usize::from(slot.start);
        &mut slot.bytes[start..start + usize::from(slot.len)]
    }
    #[inline(always)]
    fn len(&self) -> usize {
        self.slot().len.into()
    }
    #[inline(always)]
    fn prepend(&mut self, n: usize) -> bool {
        let slot = self.slot_mut();
        let ok = n <= usize::from(slot.start);
        if ok {
            slot.start -= n as u16;
            slot.len += n as u16;
        }
        ok
    }
    #[inline(always)]
    fn trim_front(&mut self, n: usize) -> bool {
        let slot = self.slot_mut();
        let ok = n <= usize::from(slot.len);
        if ok {
            slot.start += n as u16;
            slot.len -= n as u16;
        }
        ok
    }
    #[inline(always)]
    fn truncate(&mut self, len: usize) -> bool {
        let slot = self.slot_mut();
        slot.len = slot.len.min(len.min(usize::from(u16::MAX)) as u16);
        true
    }
    #[inline(always)]
    fn append(&mut self, n: usize) -> bool {
        let slot = self.slot_mut();
        let ok = usize::from(slot.start) + usize::from(slot.len) + n <= slot.bytes.len();
        if ok {
            slot.len += n as u16;
        }
        ok
    }
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        let Some(bytes) = self.data().get(offset..offset.saturating_add(out.len())) else {
            return false;
        };
        out.copy_from_slice(bytes);
        true
    }
    #[inline(always)]
    fn rx_ip_checksum(&self) -> RxChecksum {
        self.slot().rx
    }
}

/// Scenarios make no new packets.
pub struct NoPool;

impl BufPool<Buf> for NoPool {
    fn alloc(&self) -> Option<Buf> {
        None
    }
}
