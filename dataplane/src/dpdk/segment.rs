//! One segment of an mbuf, borrowed: its fields by name.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;

use dpdk_sys as sys;

use super::field;

/// A live segment, for reading.
///
/// # Invariants
/// `raw`, and all that its `next` leads to, are live and not written to during `'a`.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    raw: NonNull<sys::rte_mbuf>,
    borrow: PhantomData<&'a [u8]>,
}

/// A live segment, for writing.
///
/// # Invariants
/// A segment that may be written: nothing else refers to the chain during `'a`.
pub(super) struct SegmentMut<'a> {
    raw: NonNull<sys::rte_mbuf>,
    borrow: PhantomData<&'a mut [u8]>,
}

macro_rules! getters {
    ($($name:ident: $kind:ty = $field:ident;)*) => {
        $(
            #[inline(always)]
            pub(super) fn $name(self) -> $kind {
                // SAFETY: the segment is live and nobody writes it (invariant).
                unsafe { field::$field.get(self.raw) }
            }
        )*
    };
}

macro_rules! setters {
    ($($name:ident: $kind:ty = $field:ident;)*) => {
        $(
            #[inline(always)]
            pub(super) fn $name(&mut self, value: $kind) {
                // SAFETY: the segment is live and ours alone (invariant).
                unsafe { field::$field.set(self.raw, value) }
            }
        )*
    };
}

impl<'a> Segment<'a> {
    /// Borrows a segment.
    ///
    /// # Safety
    /// The invariant holds for `raw` and `'a`.
    #[inline(always)]
    pub(super) unsafe fn new(raw: NonNull<sys::rte_mbuf>) -> Segment<'a> {
        Segment { raw, borrow: PhantomData }
    }

    getters! {
        data_off: u16 = DATA_OFF;
        data_len: u16 = DATA_LEN;
        buf_len: u16 = BUF_LEN;
        pkt_len: u32 = PKT_LEN;
        nb_segs: u16 = NB_SEGS;
        port: u16 = PORT;
        ol_flags: u64 = OL_FLAGS;
        packet_type: u32 = PACKET_TYPE;
    }

    #[inline(always)]
    fn start(self) -> NonNull<u8> {
        // SAFETY: the segment is live; its buffer is never null, and the data offset lies inside
        // the buffer (or at its end).
        unsafe { field::BUF_ADDR.get(self.raw).add(usize::from(self.data_off())) }
    }

    /// The segment's bytes.
    #[inline(always)]
    pub(super) fn bytes(self) -> &'a [u8] {
        // SAFETY: `data_len` bytes from the start lie inside the segment's buffer (an invariant
        // of every mbuf), which was zeroed by the kernel when the pool's memory was mapped and is
        // not written to during 'a.
        unsafe { slice::from_raw_parts(self.start().as_ptr(), usize::from(self.data_len())) }
    }

    /// The segment after this one.
    #[inline(always)]
    pub(super) fn next(self) -> Option<Segment<'a>> {
        // SAFETY: the segment is live; a chain's `next` is null or a live segment of the chain,
        // for which the invariant holds as well.
        unsafe { Some(Segment::new(field::NEXT.get(self.raw)?)) }
    }

    /// The last segment of the chain; the packet's count of segments, in the first cache line,
    /// spares a look at `next`, which is in the second, for nearly every packet.
    #[inline(always)]
    pub(super) fn last(self) -> Segment<'a> {
        let mut last = self;
        if self.nb_segs() > 1 {
            while let Some(next) = last.next() {
                last = next;
            }
        }
        last
    }

    /// Bytes free behind the segment's bytes.
    #[inline(always)]
    pub(super) fn tailroom(self) -> usize {
        usize::from(self.buf_len()) - usize::from(self.data_off()) - usize::from(self.data_len())
    }
}

impl<'a> SegmentMut<'a> {
    /// Borrows a segment exclusively.
    ///
    /// # Safety
    /// The invariant holds for `raw` and `'a`.
    #[inline(always)]
    pub(super) unsafe fn new(raw: NonNull<sys::rte_mbuf>) -> SegmentMut<'a> {
        SegmentMut { raw, borrow: PhantomData }
    }

    setters! {
        set_data_off: u16 = DATA_OFF;
        set_data_len: u16 = DATA_LEN;
        set_pkt_len: u32 = PKT_LEN;
    }

    /// The same segment, for reading.
    #[inline(always)]
    pub(super) fn get(&self) -> Segment<'_> {
        Segment { raw: self.raw, borrow: PhantomData }
    }

    /// The segment's bytes.
    #[inline(always)]
    pub(super) fn into_bytes(self) -> &'a mut [u8] {
        let (start, len) = (self.get().start(), usize::from(self.get().data_len()));
        // SAFETY: as in `Segment::bytes`; and nothing else refers to them during 'a (invariant).
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    /// The last segment of the chain.
    #[inline(always)]
    pub(super) fn into_last(self) -> SegmentMut<'a> {
        SegmentMut { raw: self.get().last().raw, borrow: PhantomData }
    }
}
