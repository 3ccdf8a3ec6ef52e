//! What the process may still do: nothing more than an ordinary user of its uid, once it runs.

use caps::{CapSet, CapsHashSet};

use crate::dpdk;

/// Makes sure that no program that this process, or a thread of it, executes has any capability,
/// whatever its uid. To be called while there is one thread, for threads inherit this.
///
/// What this thread may do itself stays, for the EAL needs it to start.
pub(super) fn confine() {
    if let Err(error) = nix::sys::prctl::set_no_new_privs() {
        log::warn!("cannot set no_new_privs: {error}");
    }
    for (set, outcome) in [
        ("ambient", caps::clear(None, CapSet::Ambient)),
        ("inheritable", caps::set(None, CapSet::Inheritable, &CapsHashSet::new())),
        ("bounding", caps::clear(None, CapSet::Bounding)),
    ] {
        // Without CAP_SETPCAP the bounding set stays as it is; no_new_privs closes the way to it.
        if let Err(error) = outcome {
            log::info!("the {set} set of capabilities stays as it is: {error}");
        }
    }
}

/// Gives up every capability of every thread. Ports must be open, and memory mapped.
pub(super) fn drop_all() {
    if let Err(error) = dpdk::drop_capabilities() {
        log::warn!("cannot drop all capabilities: {error}");
    }
}
