//! Capabilities of all threads, those included that DPDK has started for itself.
//!
//! The kernel lets a thread give up its own capabilities only. DPDK starts threads as the EAL
//! starts (interrupts, telemetry, messages of secondary processes) and drivers may start more, and
//! none of them runs our code. So each is sent a signal whose handler does it, as libc does for
//! setuid.

use std::ffi::c_int;
use std::{fs, io, mem, ptr, time};

use nix::libc;

/// Why a thread has capabilities still.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// What the kernel says of the threads cannot be read.
    #[error("cannot look at the threads in /proc/self/task: {0}")]
    Threads(#[source] io::Error),
    /// The signal that tells threads cannot be used.
    #[error("cannot handle signal {signal}: {error}")]
    Signal {
        /// The signal.
        signal: c_int,
        /// Why.
        error: io::Error,
    },
    /// They block signals, or the kernel refuses.
    #[error("these threads have capabilities still: {0}")]
    Kept(String),
}

/// Gives up all capabilities of all threads of this process, and returns when none has any.
///
/// Threads that sleep in a system call go on sleeping, or see `EINTR` where they must expect it
/// (epoll_wait). A real-time signal that nothing else here uses stays handled for good.
pub fn drop_capabilities() -> Result<(), CapabilityError> {
    let signal = libc::SIGRTMIN() + 7;
    handle(signal).map_err(|error| CapabilityError::Signal { signal, error })?;
    // Twice at least: a thread may have been started by one that was yet to be told.
    for attempt in 0..200u64 {
        let threads = threads_with_capabilities().map_err(CapabilityError::Threads)?;
        if threads.is_empty() {
            return Ok(());
        }
        for (thread, _) in threads {
            // SAFETY: sends a signal, which is handled, to a thread of this process; of a thread
            // that has ended meanwhile it says so.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
        }
        std::thread::sleep(time::Duration::from_millis(attempt.min(20)));
    }
    let kept = threads_with_capabilities().map_err(CapabilityError::Threads)?;
    let names: Vec<_> = kept.into_iter().map(|(_, name)| name).collect();
    if names.is_empty() { Ok(()) } else { Err(CapabilityError::Kept(names.join(", "))) }
}

/// Number and name of each thread with any capability.
fn threads_with_capabilities() -> io::Result<Vec<(libc::pid_t, String)>> {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?;
        // A thread may end at any time.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
        let Some(number) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if has_capabilities(&status) {
            let name = status.lines().find_map(|line| line.strip_prefix("Name:\t"));
            found.push((number, name.unwrap_or("?").to_owned()));
        }
    }
    Ok(found)
}

/// Whether a thread may do more than its uid may, or could again: by its `/proc/…/status`.
fn has_capabilities(status: &str) -> bool {
    ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"].iter().any(|set| {
        let line = status.lines().find_map(|line| line.strip_prefix(set));
        line.is_none_or(|bits| bits.trim().bytes().any(|digit| digit != b'0'))
    })
}

fn handle(signal: c_int) -> io::Result<()> {
    // SAFETY: all zero is a sigaction without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = give_up as extern "C" fn(c_int) as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is complete, and its handler does nothing that a signal handler must not.
    match unsafe { libc::sigaction(signal, &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What `capset` takes: `struct __user_cap_header_struct`, and two `struct __user_cap_data_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION: u32 = 0x2008_0522;

extern "C" fn give_up(_signal: c_int) {
    let header = Header { version: VERSION, pid: 0 };
    let none = [[0u32; 3]; 2];
    // SAFETY: a system call with two structures of the layout it wants, which takes nothing but
    // rights from the calling thread; errno is this thread's, and is put back.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::syscall(libc::SYS_capset, &header, &none);
        *errno = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_capability_of_any_set_counts() {
        let none = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
                    CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\n";
        assert!(!has_capabilities(none));
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let some = none.replace(&format!("{set}:\t0"), &format!("{set}:\t4"));
            assert!(has_capabilities(&some), "{set}");
        }
        assert!(has_capabilities(""), "what is not known is not none");
    }
}
