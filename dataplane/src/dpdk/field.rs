//! Typed access to the fields of `struct rte_mbuf`, wherever the DPDK at hand has them.

use std::marker::PhantomData;
use std::ptr::NonNull;

use dpdk_sys as sys;

/// One field: its offset, from the C headers, and its Rust type.
pub(super) struct Field<T> {
    offset: usize,
    kind: PhantomData<T>,
}

impl<T: Copy> Field<T> {
    /// Fails to compile when the C field has another width than `T`.
    const fn new(offset: u32, bytes: u32) -> Field<T> {
        assert!(size_of::<T>() == bytes as usize, "an mbuf field changed its width");
        assert!(offset as usize % align_of::<T>() == 0, "an mbuf field is not aligned");
        Field { offset: offset as usize, kind: PhantomData }
    }

    /// Reads the field.
    ///
    /// # Safety
    /// `mbuf` is live and no other thread writes it.
    #[inline(always)]
    pub(super) const unsafe fn get(&self, mbuf: NonNull<sys::rte_mbuf>) -> T {
        // SAFETY: the offset lies inside the struct and is aligned (see `new`); the caller
        // vouches for the mbuf.
        unsafe { mbuf.as_ptr().byte_add(self.offset).cast::<T>().read() }
    }

    /// Writes the field.
    ///
    /// # Safety
    /// `mbuf` is live and no other thread touches it.
    #[inline(always)]
    pub(super) const unsafe fn set(&self, mbuf: NonNull<sys::rte_mbuf>, value: T) {
        // SAFETY: as in `get`.
        unsafe { mbuf.as_ptr().byte_add(self.offset).cast::<T>().write(value) }
    }
}

macro_rules! fields {
    ($($name:ident: $kind:ty = $offset:ident, $bytes:ident;)*) => {
        $(pub(super) const $name: Field<$kind> = Field::new(sys::$offset, sys::$bytes);)*
    };
}

fields! {
    BUF_ADDR: NonNull<u8> = SHIM_MBUF_BUF_ADDR, SHIM_MBUF_BUF_ADDR_BYTES;
    DATA_OFF: u16 = SHIM_MBUF_DATA_OFF, SHIM_MBUF_DATA_OFF_BYTES;
    NB_SEGS: u16 = SHIM_MBUF_NB_SEGS, SHIM_MBUF_NB_SEGS_BYTES;
    PORT: u16 = SHIM_MBUF_PORT, SHIM_MBUF_PORT_BYTES;
    OL_FLAGS: u64 = SHIM_MBUF_OL_FLAGS, SHIM_MBUF_OL_FLAGS_BYTES;
    PACKET_TYPE: u32 = SHIM_MBUF_PACKET_TYPE, SHIM_MBUF_PACKET_TYPE_BYTES;
    PKT_LEN: u32 = SHIM_MBUF_PKT_LEN, SHIM_MBUF_PKT_LEN_BYTES;
    DATA_LEN: u16 = SHIM_MBUF_DATA_LEN, SHIM_MBUF_DATA_LEN_BYTES;
    BUF_LEN: u16 = SHIM_MBUF_BUF_LEN, SHIM_MBUF_BUF_LEN_BYTES;
    NEXT: Option<NonNull<sys::rte_mbuf>> = SHIM_MBUF_NEXT, SHIM_MBUF_NEXT_BYTES;
}
