//! What safe Rust does not offer of the processor: cache prefetch, and large pages.
//!
//! This is, beside `dpdk`, the only module that may use `unsafe`.
#![allow(unsafe_code)]

/// Asks the processor to bring the cache line of `value` close, for reading and writing soon.
///
/// A hint without effect on the program's result; a no-op on processors other than x86-64.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    prefetch_address(std::ptr::from_ref(value).cast());
}

#[inline(always)]
fn prefetch_address(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: PREFETCHT0 never faults, whatever the address, and reads nothing the program sees.
    // SSE, which has it, is part of the x86-64 baseline.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast::<i8>());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for the cache line of a place in a slice. Out of range asks for some other line: no harm is done, so no
/// check either.
#[inline(always)]
pub fn prefetch_at<T>(slice: &[T], index: usize) {
    prefetch_address(slice.as_ptr().wrapping_add(index).cast());
}

/// Asks for huge pages behind the memory that `empty` has reserved, before it is touched.
///
/// A table of many million flows has more pages than the processor remembers, so that every look
/// into it would wait for a page's address as well. A hint: without transparent huge pages
/// (`/sys/kernel/mm/transparent_hugepage/enabled` says `never`) nothing happens.
pub fn prefer_huge_pages<T>(empty: &mut Vec<T>) {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::mman::{MmapAdvise, madvise};
        const PAGE: usize = 4096;
        const HUGE: usize = 2 << 20;
        let (start, bytes) = (empty.as_mut_ptr().cast::<u8>(), empty.capacity() * size_of::<T>());
        let skip = start.align_offset(PAGE);
        if bytes < 2 * HUGE || skip > bytes {
            return;
        }
        let start = std::ptr::NonNull::new(start.wrapping_add(skip).cast());
        if let Some(start) = start {
            let length = (bytes - skip) / PAGE * PAGE;
            // A kernel without huge pages refuses; then there are none.
            // SAFETY: the range lies in the vector's own allocation, and this advice changes
            // neither its content nor what may be done with it.
            let _ = unsafe { madvise(start, length, MmapAdvise::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = empty;
}
