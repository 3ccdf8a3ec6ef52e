//! The processor's own instructions that safe Rust does not offer: cache prefetch.
//!
//! This is, beside [`crate::dpdk`], the only module that may use `unsafe`.
#![allow(unsafe_code)]

/// Asks the processor to bring the cache line of `value` close, for reading and writing soon.
///
/// A hint without effect on the program's result; a no-op on processors other than x86-64.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: PREFETCHT0 never faults, whatever the address; this one comes from a reference.
    // SSE, which has it, is part of the x86-64 baseline.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast::<i8>());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// The same for a place in a slice; out of range is no prefetch.
#[inline(always)]
pub fn prefetch_at<T>(slice: &[T], index: usize) {
    if let Some(value) = slice.get(index) {
        prefetch(value);
    }
}
