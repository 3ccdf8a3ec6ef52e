//! DPDK's error numbers, with their text.

use std::ffi::CStr;
use std::fmt;

use dpdk_sys as sys;

/// An errno value as DPDK uses it (positive), including DPDK's own above 1000.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    pub(super) const ENOENT: Errno = Errno(2);
    pub(super) const EPERM: Errno = Errno(1);
    pub(super) const ENOMEM: Errno = Errno(12);
    pub(super) const EACCES: Errno = Errno(13);
    pub(super) const EBUSY: Errno = Errno(16);
    pub(super) const EEXIST: Errno = Errno(17);
    pub(super) const ENOTSUP: Errno = Errno(95);

    /// The calling thread's `rte_errno`.
    pub(super) fn last() -> Errno {
        // SAFETY: reads a thread-local integer; allowed at any time on any thread.
        Errno(unsafe { sys::shim_errno() })
    }

    /// The meaning of a return code that is `-errno` on failure.
    pub(super) fn check(code: i32) -> Result<i32, Errno> {
        if code < 0 { Err(Errno(-code)) } else { Ok(code) }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: rte_strerror returns a NUL-terminated string in a static table or in the calling
        // thread's own buffer, which nothing overwrites before it is copied here.
        let text = unsafe { CStr::from_ptr(sys::rte_strerror(self.0)) };
        // Many drivers return a bare -1, which is not meant as EPERM.
        let or = if *self == Errno::EPERM { ", or no reason given" } else { "" };
        write!(f, "{}{or} (errno {})", text.to_string_lossy(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_return_codes() {
        assert_eq!(Errno::check(0), Ok(0));
        assert_eq!(Errno::check(7), Ok(7));
        assert_eq!(Errno::check(-22), Err(Errno(22)));
        assert_eq!(Errno(22).to_string(), "Invalid argument (errno 22)");
    }
}
