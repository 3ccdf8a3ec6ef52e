//! How long a frame may be, and whether it fits one buffer, as drivers count.
//!
//! Drivers differ in what they add to the MTU, and in how much of a buffer they use:
//! - most count the Ethernet header, the frame check sequence, and one or two VLAN tags;
//! - net_virtio counts its own header of 12 bytes, which lies in the buffer too, and one tag;
//! - igb and ixgbe use buffers in KiB, i40e and ice in 128 bytes, and net_e1000_em in powers of
//!   two; what does not fit they spread over several buffers, whether that was asked for or not.

/// Most that a driver adds to the MTU: Ethernet header, two VLAN tags, frame check sequence, and
/// virtio's header.
const OVERHEAD: u32 = 14 + 2 * 4 + 4 + 12;

/// What a driver may say that it adds, without our doubting it.
const PLAUSIBLE: u32 = 128;

/// Bytes of packet room in a buffer that frames of this MTU fit, for every driver that can have
/// them in one. A whole number of KiB.
pub(super) fn room(mtu: u16) -> u16 {
    let room = (u32::from(mtu) + OVERHEAD).next_multiple_of(1024);
    u16::try_from(room).unwrap_or(u16::MAX - 1023)
}

/// What a driver adds to the MTU, by its own numbers if they make sense: net_virtio's do not when
/// the host has set the MTU, nor do those of drivers without a limit.
pub(super) fn overhead(max_rx_pktlen: u32, max_mtu: u16) -> u32 {
    match max_rx_pktlen.checked_sub(u32::from(max_mtu)) {
        Some(said) if said <= PLAUSIBLE => said.max(OVERHEAD),
        _ => OVERHEAD,
    }
}

/// Whether a driver may spread a frame over several buffers with `room` bytes each.
///
/// Pessimistic, for a driver that does it unasked must have been asked to send in several, too:
/// only the largest power of two within the room counts.
pub(super) fn may_scatter(mtu: u16, overhead: u32, room: u16) -> bool {
    let used = room.checked_ilog2().map_or(0, |bits| 1u32 << bits);
    u32::from(mtu) + overhead > used
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Driver, its longest frame and MTU as it reports them, and what it needs for an MTU.
    const DRIVERS: [(&str, u32, u16, u32); 9] = [
        ("net_virtio", 9728, 9698, 14 + 4 + 12),
        ("net_virtio, host's MTU", 9728, 1500, 14 + 4 + 12),
        ("net_e1000_em", 0x3f00, 0x3f00 - 18, 14 + 4),
        ("net_e1000_igb", 0x3fff, 0x3fff - 22, 14 + 4 + 4),
        ("net_ixgbe", 15872, 15872 - 18, 14 + 4 + 8),
        ("net_i40e", 9728, 9728 - 26, 14 + 4 + 8),
        ("net_vmxnet3", 16384, 9000, 14 + 4 + 4),
        ("mlx5_pci", 65536, u16::MAX, 14 + 4 + 4),
        ("net_af_packet", 1518, 1500, 14),
    ];

    #[test]
    fn every_drivers_frame_fits_the_room_made_for_its_mtu() {
        for (driver, longest, max_mtu, needs) in DRIVERS {
            for mtu in [68, 1500, 2018, 2019, 2030, 4000, 8192, 9000, 9216] {
                let frame = u32::from(mtu) + needs;
                assert!(frame <= u32::from(room(mtu)), "{driver}, MTU {mtu}");
                let overhead = overhead(longest, max_mtu);
                assert!((needs..=PLAUSIBLE).contains(&overhead), "{driver}: {overhead}");
            }
        }
    }

    #[test]
    fn the_usual_mtu_goes_in_one_buffer_and_a_jumbo_frame_may_take_several() {
        for (driver, longest, max_mtu, needs) in DRIVERS {
            let may = |mtu, room| may_scatter(mtu, overhead(longest, max_mtu), room);
            assert!(!may(1500, 2048), "{driver}");
            assert!(may(9000, room(9000)), "{driver}: 9216 bytes are 8192 to net_e1000_em");
            assert!(!may(9000, 16384), "{driver}");
            // Never said to fit where it does not.
            for mtu in 1900..=2100u16 {
                assert!(may(mtu, 2048) || u32::from(mtu) + needs <= 2048, "{driver}, MTU {mtu}");
            }
        }
    }

    #[test]
    fn rooms_are_whole_kibibytes_and_never_overflow() {
        assert_eq!((room(1500), room(2010), room(2011)), (2048, 2048, 3072));
        assert_eq!(room(9000), 9216);
        for mtu in [0, 68, 9216, u16::MAX] {
            assert_eq!(room(mtu) % 1024, 0, "{mtu}");
        }
        assert!(may_scatter(68, 0, 0));
    }
}
