//! DPDK's log, handed to the `log` crate under the target `dpdk`.
//!
//! The daemon's logger decides where it goes (stderr). DPDK hands over warnings and worse unless
//! the EAL arguments say otherwise with `--log-level`. Without a logger nothing is printed.

use std::ffi::c_char;
use std::slice;
use std::sync::{Mutex, PoisonError};

use dpdk_sys as sys;

/// What DPDK said while the EAL was starting, for the error message; `None` = not listening.
static HEARD: Mutex<Option<String>> = Mutex::new(None);

/// Redirects DPDK's log for the rest of the process; call before the EAL starts.
pub(super) fn redirect(quiet: bool) {
    // SAFETY: both may be called before the EAL starts; `sink` is a function that never unwinds
    // into C (an `extern "C"` function aborts instead).
    unsafe {
        sys::shim_log_to(Some(sink));
        if quiet {
            sys::rte_log_set_global_level(sys::RTE_LOG_WARNING);
        }
    }
}

/// Starts remembering warnings and worse.
pub(super) fn listen() {
    *HEARD.lock().unwrap_or_else(PoisonError::into_inner) = Some(String::new());
}

/// Stops remembering, and returns what was heard, one message a line.
pub(super) fn heard() -> String {
    let heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner).take();
    heard.unwrap_or_default().trim_end().to_owned()
}

extern "C" fn sink(level: u32, text: *const c_char, len: usize) {
    // SAFETY: the C library passes its stream buffer, `len` bytes long, valid during this call.
    let text = unsafe { slice::from_raw_parts(text.cast::<u8>(), len) };
    let text = String::from_utf8_lossy(text);
    if level <= sys::RTE_LOG_WARNING {
        if let Some(heard) = HEARD.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            heard.push_str(&text);
        }
    }
    let level = match level {
        0..=sys::RTE_LOG_ERR => log::Level::Error,
        sys::RTE_LOG_WARNING => log::Level::Warn,
        sys::RTE_LOG_NOTICE | sys::RTE_LOG_INFO => log::Level::Info,
        _ => log::Level::Debug,
    };
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        log::log!(target: "dpdk", level, "{line}");
    }
}
