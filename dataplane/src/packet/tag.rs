//! VLAN tags, IEEE 802.1Q and 802.1ad: taken off where they name no VLAN.
//!
//! A tag with VLAN 0 tells a priority only ("priority-tagged"), and the frame belongs where an
//! untagged one does. Switches and hosts that mark priorities send such, and drivers hand them on
//! as they come. As in Linux (`skb_vlan_untag`), priority and "drop eligible" are forgotten, a tag
//! of a provider's bridge counts as one of 802.1Q, and one may stand before the other.

use super::buf::PacketBuf;
use super::ethernet::{EtherType, HEADER_LEN};
use super::field::get16;

/// Length of a tag in bytes.
const LEN: usize = 4;
/// Where the first one stands: behind both addresses.
const AT: usize = 12;
/// Of the tag's second half: the VLAN.
const VLAN: u16 = 0x0fff;
/// How many are taken off: one of a provider's bridge, and one of 802.1Q.
const MOST: usize = 2;

/// Why a frame's tags stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TagError {
    /// The frame ends in them.
    #[error("frame ends in its VLAN tags")]
    TooShort,
    /// One names a VLAN, or there are more of them than anybody sends.
    #[error("VLAN tag")]
    Vlan,
}

/// Takes all tags off the front of a frame that name no VLAN, so that it is an untagged one: the
/// addresses move up to the Ethernet type. A frame without a tag stays as it is.
///
/// # Errors
/// The frame is left as it is.
pub fn take_off<B: PacketBuf>(buf: &mut B) -> Result<(), TagError> {
    let frame = buf.data();
    let mut len = 0;
    loop {
        if frame.len() < HEADER_LEN + len {
            return Err(TagError::TooShort);
        }
        if !matches!(EtherType(get16(frame, AT + len)), EtherType::VLAN | EtherType::QINQ) {
            break;
        }
        if frame.len() < HEADER_LEN + len + LEN {
            return Err(TagError::TooShort);
        }
        if get16(frame, HEADER_LEN + len) & VLAN != 0 || len == MOST * LEN {
            return Err(TagError::Vlan);
        }
        len += LEN;
    }
    buf.data_mut().copy_within(..AT, len);
    // The first segment is longer.
    if buf.trim_front(len) { Ok(()) } else { Err(TagError::TooShort) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::buf::TestBuf;

    const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

    fn taken_off(behind_addresses: &[u8]) -> Result<Vec<u8>, TagError> {
        let frame = [&ADDRESSES, behind_addresses].concat();
        let mut buf = TestBuf::new(&frame);
        let result = take_off(&mut buf);
        if result.is_err() {
            assert_eq!(buf.data(), frame);
        }
        result.map(|()| {
            assert_eq!(buf.data()[..12], ADDRESSES);
            buf.data()[12..].to_vec()
        })
    }

    #[test]
    fn tags_without_a_vlan_are_taken_off() {
        for (tags, left) in [
            (&[0x08, 0x00, 0x45][..], Ok(vec![0x08, 0x00, 0x45])),
            (&[0x81, 0x00, 0x00, 0x00, 0x08, 0x00, 0x45], Ok(vec![0x08, 0x00, 0x45])),
            (&[0x81, 0x00, 0xf0, 0x00, 0x08, 0x06], Ok(vec![0x08, 0x06])),
            (&[0x88, 0xa8, 0x10, 0x00, 0x86, 0xdd, 0x60], Ok(vec![0x86, 0xdd, 0x60])),
            (&[0x88, 0xa8, 0, 0, 0x81, 0x00, 0, 0, 0x08, 0x00], Ok(vec![0x08, 0x00])),
            (&[0x81, 0x00, 0x00, 0x01, 0x08, 0x00], Err(TagError::Vlan)),
            (&[0x81, 0x00, 0xef, 0xff, 0x08, 0x00], Err(TagError::Vlan)),
            (&[0x81, 0x00, 0, 0, 0x81, 0x00, 0, 5, 0x08, 0x00], Err(TagError::Vlan)),
            (&[0x81, 0, 0, 0, 0x81, 0, 0, 0, 0x81, 0, 0, 0, 8, 0], Err(TagError::Vlan)),
            (&[0x81, 0x00, 0x00, 0x00, 0x08], Err(TagError::TooShort)),
            (&[0x81, 0x00, 0x00, 0x00], Err(TagError::TooShort)),
            (&[0x81, 0x00, 0x00], Err(TagError::TooShort)),
            (&[0x81], Err(TagError::TooShort)),
        ] {
            assert_eq!(taken_off(tags), left, "{tags:02x?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_only_tags_are_taken(bytes in proptest::collection::vec(
            prop_oneof![2 => Just(0u8), 2 => Just(0x81u8), 1 => any::<u8>()], 0..20)) {
            if let Ok(left) = taken_off(&bytes) {
                prop_assert!(bytes.ends_with(&left) && (bytes.len() - left.len()) % LEN == 0);
                prop_assert!(left[..2] != [0x81, 0x00] && left[..2] != [0x88, 0xa8]);
            }
        }
    }
}
