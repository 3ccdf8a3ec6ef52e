//! What drivers say of their NICs and is not so (seen with DPDK 22.11).
//!
//! - net_e1000_em reports two queue pairs for all its NICs. The PCI and PCI-X ones (82540 to
//!   82547) have one: what is sent on the second never leaves, and is counted as sent. The PCI
//!   Express ones (82571 and later, 82574 among them) send on both, and receive on the first only,
//!   for the driver has no RSS.
//!
//! Looked at and found right, or refused aloud by the driver: igb, igbvf, ixgbe (receives on its
//! first 16 queues only), i40e, ice, iavf, ena, virtio (as many pairs as the host gives), vmxnet3
//! (wants a power of two of older hypervisors, and says so), af_packet (as many as `qpairs=`).
//! net_memif sends nothing on a queue its other side lacks, and says so to the worker.

use std::fs;

/// PCI identifiers of Intel's 82540 to 82547 and what came before: one queue pair.
const E1000: [u16; 35] = [
    0x1000, 0x1001, 0x1004, 0x1008, 0x1009, 0x100c, 0x100d, 0x100e, 0x100f, 0x1010, 0x1011, 0x1012,
    0x1013, 0x1014, 0x1015, 0x1016, 0x1017, 0x1018, 0x1019, 0x101a, 0x101d, 0x101e, 0x1026, 0x1027,
    0x1028, 0x1075, 0x1076, 0x1077, 0x1078, 0x1079, 0x107a, 0x107b, 0x107c, 0x108a, 0x1099,
];

/// Manufacturer and model of a PCI device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PciId {
    vendor: u16,
    device: u16,
}

impl PciId {
    /// Of the device at a PCI address; `None` for anything else.
    pub(super) fn of(address: &str) -> Option<PciId> {
        let read = |file: &str| {
            let text = fs::read_to_string(format!("/sys/bus/pci/devices/{address}/{file}")).ok()?;
            u16::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
        };
        // Not a path to somewhere else.
        let is_address = address.bytes().all(|c| c.is_ascii_hexdigit() || b":.".contains(&c));
        if !is_address {
            return None;
        }
        Some(PciId { vendor: read("vendor")?, device: read("device")? })
    }
}

/// Queue pairs that work, of those a driver reports.
pub(super) fn working_pairs(driver: &str, id: Option<PciId>, reported: u16) -> u16 {
    let is_e1000 = |id: PciId| id.vendor == 0x8086 && E1000.contains(&id.device);
    match driver {
        "net_e1000_em" if id.is_none_or(is_e1000) => reported.min(1),
        _ => reported,
    }
}

/// How packets come to the queues of a port that does no RSS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// The other side of the device chooses: a kernel, a hypervisor or another program.
    OtherSide,
    /// Most likely all come to the first queue.
    FirstQueue,
}

/// See [`Spread`].
pub(super) fn spread_without_rss(driver: &str) -> Spread {
    const VIRTUAL: [&str; 10] = [
        "net_af_packet",
        "net_af_xdp",
        "net_memif",
        "net_null",
        "net_pcap",
        "net_ring",
        "net_tap",
        "net_vhost",
        "net_virtio",
        "net_virtio_user",
    ];
    if VIRTUAL.contains(&driver) { Spread::OtherSide } else { Spread::FirstQueue }
}

/// Whether a driver keeps mbufs in its queues: as many as there are descriptors, in the end.
pub(super) fn holds_mbufs(driver: &str) -> bool {
    const COPIES: [&str; 6] =
        ["net_af_packet", "net_memif", "net_null", "net_pcap", "net_ring", "net_vhost"];
    !COPIES.contains(&driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intel(device: u16) -> Option<PciId> {
        Some(PciId { vendor: 0x8086, device })
    }

    #[test]
    fn legacy_e1000_has_one_queue_pair_and_e1000e_two() {
        // 82540EM (QEMU, VirtualBox), 82545EM (VMware), 82541, 82546, 82547.
        for device in [0x100e, 0x100f, 0x1011, 0x1013, 0x1010, 0x101d, 0x1019, 0x1076, 0x1079] {
            assert_eq!(working_pairs("net_e1000_em", intel(device), 2), 1, "{device:#x}");
        }
        // 82571EB, 82573L, 82574L (QEMU's e1000e), 82583V, I217, I219.
        for device in [0x105e, 0x109a, 0x10d3, 0x150c, 0x153a, 0x156f] {
            assert_eq!(working_pairs("net_e1000_em", intel(device), 2), 2, "{device:#x}");
        }
        assert_eq!(working_pairs("net_e1000_em", None, 2), 1, "not known: the safe one");
    }

    #[test]
    fn other_drivers_are_believed() {
        for driver in ["net_e1000_igb", "net_ixgbe", "net_virtio", "net_vmxnet3", "net_null"] {
            assert_eq!(working_pairs(driver, intel(0x100e), 8), 8, "{driver}");
        }
        assert_eq!(working_pairs("net_e1000_em", None, 0), 0);
    }

    #[test]
    fn a_name_that_is_no_address_is_not_looked_up() {
        for name in ["net_null0", "../../../../etc", "", "0000:ff:1f.7/.."] {
            assert_eq!(PciId::of(name), None, "{name:?}");
        }
    }
}
