//! Devices: which ones DPDK drives, and adding and removing them while the EAL runs.
//!
//! # Limits of virtual devices (seen with DPDK 22.11)
//! - net_af_packet joins a fanout group that has the kernel reassemble IPv4 fragments, with one
//!   queue pair too: fragments arrive as one packet, longer than the MTU.
//! - net_af_packet cuts frames to its frame size (`framesz`, 2048, less 66) without a word: a
//!   packet may be shorter than its IP header says.
//! - net_af_packet refuses an MTU above 1500: it says that no frame is longer than 1518 bytes.
//! - net_af_packet hands over what the host itself sends on the interface: frames from the port's
//!   own Ethernet address.
//! - net_af_packet with several queue pairs spreads by the kernel's flow hash, but a queue that is
//!   full spills into the others: a flow may show up on another worker.
//! - net_ring, net_pcap, net_memif and net_vhost cannot change their MTU once configured.
//! - net_tap, net_af_xdp and NICs hold mbufs in their queues while they are open (net_tap as many
//!   as it has descriptors); net_af_xdp keeps its mbufs when closed.

use std::ffi::{CStr, CString, c_char};

use dpdk_sys as sys;

use super::eal::{EalNotRunning, EalUser, PortClaim};
use super::errno::Errno;

/// Why a device was not attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Devices are the EAL's.
    #[error(transparent)]
    EalNotRunning(#[from] EalNotRunning),
    /// A name with a NUL byte in it.
    #[error("device {0:?} has a NUL byte in it")]
    Name(String),
    /// No driver took it.
    #[error(
        "device {device:?} cannot be attached: {errno}; a PCI device must be bound to vfio-pci \
         (`dpdk-devbind.py --status`), a vdev is written `net_<driver><n>,<key>=<value>`, and its \
         driver must be in DPDK's plugin directory{log}"
    )]
    Attach {
        /// As given.
        device: String,
        /// DPDK's reason.
        errno: Errno,
        /// DPDK's log.
        log: String,
    },
    /// A port of the device is still open, or there is no such device.
    #[error("device {device:?} cannot be detached: {errno}")]
    Detach {
        /// As given.
        device: String,
        /// DPDK's reason.
        errno: Errno,
    },
}

/// Attaches a device and returns the name its port goes by.
///
/// `device` is a PCI address, or a vdev with its arguments (`"net_af_packet0,iface=veth0"`). A
/// device that is attached already, by the EAL's arguments for example, is fine.
pub fn attach(device: &str) -> Result<String, DeviceError> {
    let eal = EalUser::new()?;
    let name = device.split(',').next().unwrap_or(device);
    if port_by_name(&eal, name)?.is_some() {
        return Ok(name.to_owned());
    }
    let devargs = c_string(device)?;
    // SAFETY: the EAL is running, the string is NUL-terminated, and calls do not overlap.
    let (rc, log) = eal.exclusively_heard(|| unsafe { sys::rte_dev_probe(devargs.as_ptr()) });
    match (Errno::check(rc), port_by_name(&eal, name)?) {
        (Ok(_), Some(_)) => Ok(name.to_owned()),
        (rc, _) => {
            let errno = rc.err().unwrap_or(Errno::ENOENT);
            Err(DeviceError::Attach { device: device.to_owned(), errno, log })
        }
    }
}

/// Removes a device by the name [`attach`] returned. Drop its [`super::Port`] and queues first.
pub fn detach(name: &str) -> Result<(), DeviceError> {
    let eal = EalUser::new()?;
    let error = |errno| DeviceError::Detach { device: name.to_owned(), errno };
    let _claim = match port_by_name(&eal, name)? {
        Some(ethdev) => Some(PortClaim::new(EalUser::new()?, ethdev).ok_or(error(Errno::EBUSY))?),
        None => None,
    };
    let bus = if name.contains(':') { c"pci" } else { c"vdev" };
    let c_name = c_string(name)?;
    // SAFETY: the EAL is running, both strings are NUL-terminated, calls do not overlap, and no
    // queue of the device's port exists.
    let rc =
        eal.exclusively(|| unsafe { sys::rte_eal_hotplug_remove(bus.as_ptr(), c_name.as_ptr()) });
    Errno::check(rc).map(drop).map_err(error)
}

/// Names of all ports there are, in the order of their numbers.
pub fn devices() -> Vec<String> {
    let Ok(eal) = EalUser::new() else { return Vec::new() };
    all_names(&eal)
}

pub(super) fn all_names(_eal: &EalUser) -> Vec<String> {
    let mut names = Vec::new();
    let mut next = 0;
    loop {
        // SAFETY: the EAL is running; the function checks its argument and returns
        // RTE_MAX_ETHPORTS past the last port.
        let port = unsafe { sys::rte_eth_find_next(next) };
        if u32::from(port) >= sys::RTE_MAX_ETHPORTS {
            return names;
        }
        let mut name = [0 as c_char; sys::RTE_ETH_NAME_MAX_LEN as usize];
        // SAFETY: names have at most RTE_ETH_NAME_MAX_LEN bytes, the NUL included; the function
        // checks the port number.
        if unsafe { sys::rte_eth_dev_get_name_by_port(port, name.as_mut_ptr()) } == 0 {
            // SAFETY: on success the array holds a NUL-terminated string.
            let name = unsafe { CStr::from_ptr(name.as_ptr()) };
            names.push(name.to_string_lossy().into_owned());
        }
        next = port + 1;
    }
}

/// DPDK's number of the port with that name.
pub(super) fn port_by_name(_eal: &EalUser, name: &str) -> Result<Option<u16>, DeviceError> {
    let name = c_string(name)?;
    let mut port = 0;
    // SAFETY: the EAL is running, the string is NUL-terminated, and `port` is ours to write.
    let rc = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut port) };
    Ok((rc == 0).then_some(port))
}

fn c_string(text: &str) -> Result<CString, DeviceError> {
    CString::new(text).map_err(|_| DeviceError::Name(text.to_owned()))
}
