//! What libclang told bindgen about layouts is what the C compiler compiled.

use dpdk_sys as sys;

#[test]
fn mbuf_offsets_are_those_of_the_c_compiler() {
    let rust = [
        sys::SHIM_MBUF_BUF_ADDR,
        sys::SHIM_MBUF_DATA_OFF,
        sys::SHIM_MBUF_REFCNT,
        sys::SHIM_MBUF_NB_SEGS,
        sys::SHIM_MBUF_PORT,
        sys::SHIM_MBUF_OL_FLAGS,
        sys::SHIM_MBUF_PACKET_TYPE,
        sys::SHIM_MBUF_PKT_LEN,
        sys::SHIM_MBUF_DATA_LEN,
        sys::SHIM_MBUF_HASH_RSS,
        sys::SHIM_MBUF_BUF_LEN,
        sys::SHIM_MBUF_POOL,
        sys::SHIM_MBUF_NEXT,
        sys::SHIM_MBUF_TX_OFFLOAD,
        sys::SHIM_MBUF_SIZE,
    ];
    for (index, offset) in rust.iter().enumerate() {
        // SAFETY: the function reads a constant table and checks the index.
        let in_c = unsafe { sys::shim_mbuf_layout_at(index as u32) };
        assert_eq!(*offset as usize, in_c, "field {index}");
    }
    // SAFETY: as above.
    let past_the_end = unsafe { sys::shim_mbuf_layout_at(rust.len() as u32) };
    assert_eq!(past_the_end, usize::MAX, "a field that Rust does not compare");
    assert_eq!(size_of::<sys::rte_mbuf>(), sys::SHIM_MBUF_SIZE as usize);
    // Two cache lines: each hot field is in the first but `next`, whose place depends on the build.
    assert_eq!(align_of::<sys::rte_mbuf>(), 64);
}

#[test]
fn the_library_is_of_the_headers_series() {
    // SAFETY: returns a static string, before the EAL is started too.
    let version = unsafe { std::ffi::CStr::from_ptr(sys::rte_version()) };
    assert!(version.to_string_lossy().starts_with("DPDK 2"), "{version:?}");
}
