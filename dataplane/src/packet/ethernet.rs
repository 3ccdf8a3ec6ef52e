//! Ethernet II, IEEE 802.3 3.1 with a type field (RFC 894 for IPv4). The frame check sequence is
//! the NIC's.

use std::fmt;

use super::HeaderError;
use super::field::{get_mac, get16, set_mac, set16};
use crate::types::Mac;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 14;
/// Shortest frame without frame check sequence: shorter ones are padded (IEEE 802.3 3.2.8).
pub const MIN_FRAME_LEN: usize = 60;

mod at {
    pub(super) const DST: usize = 0;
    pub(super) const SRC: usize = 6;
    pub(super) const TYPE: usize = 12;
}

/// What a frame carries. Below 0x0600 it is the length of an 802.3 frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4, RFC 894.
    pub const IPV4: EtherType = EtherType(0x0800);
    /// ARP, RFC 826.
    pub const ARP: EtherType = EtherType(0x0806);
    /// A VLAN tag, IEEE 802.1Q.
    pub const VLAN: EtherType = EtherType(0x8100);
    /// IPv6, RFC 2464.
    pub const IPV6: EtherType = EtherType(0x86dd);
    /// A service VLAN tag, IEEE 802.1ad.
    pub const QINQ: EtherType = EtherType(0x88a8);

    /// Whether it is one of these.
    #[inline(always)]
    pub const fn is_known(self) -> bool {
        matches!(
            self,
            EtherType::IPV4 | EtherType::ARP | EtherType::VLAN | EtherType::IPV6 | EtherType::QINQ
        )
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EtherType::IPV4 => f.write_str("ipv4"),
            EtherType::ARP => f.write_str("arp"),
            EtherType::VLAN => f.write_str("vlan"),
            EtherType::IPV6 => f.write_str("ipv6"),
            EtherType::QINQ => f.write_str("qinq"),
            EtherType(other) => write!(f, "0x{other:04x}"),
        }
    }
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A view of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Frame<T> {
    /// A view of `bytes`, at least 14 of them.
    #[inline]
    pub fn new(bytes: T) -> Result<Frame<T>, HeaderError> {
        if bytes.as_ref().len() < HEADER_LEN {
            return Err(HeaderError::TooShort);
        }
        Ok(Frame { bytes })
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Mac {
        get_mac(self.bytes.as_ref(), at::DST)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Mac {
        get_mac(self.bytes.as_ref(), at::SRC)
    }

    /// What the frame carries.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(get16(self.bytes.as_ref(), at::TYPE))
    }

    /// What follows the header, padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes.as_ref()[HEADER_LEN..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Frame<T> {
    /// Sets both addresses.
    #[inline]
    pub fn set_addresses(&mut self, src: Mac, dst: Mac) {
        set_mac(self.bytes.as_mut(), at::DST, dst);
        set_mac(self.bytes.as_mut(), at::SRC, src);
    }

    /// What follows the header, to be changed.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes.as_mut()[HEADER_LEN..]
    }
}

impl<T: AsRef<[u8]>> fmt::Display for Frame<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}", self.src(), self.dst(), self.ethertype())
    }
}

/// The header as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Destination address.
    pub dst: Mac,
    /// Source address.
    pub src: Mac,
    /// What the frame carries.
    pub ethertype: EtherType,
}

impl Header {
    /// Reads the header at the front of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let frame = Frame::new(bytes)?;
        Ok(Header { dst: frame.dst(), src: frame.src(), ethertype: frame.ethertype() })
    }

    /// Writes the header to the front of `out`.
    pub fn emit(&self, out: &mut [u8]) -> Result<(), HeaderError> {
        let out = out.get_mut(..HEADER_LEN).ok_or(HeaderError::TooShort)?;
        set_mac(out, at::DST, self.dst);
        set_mac(out, at::SRC, self.src);
        set16(out, at::TYPE, self.ethertype.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES: [u8; 15] =
        [0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x08, 0x06, 0x77];

    #[test]
    fn reads_a_frame() {
        let frame = Frame::new(&BYTES[..]).unwrap();
        assert_eq!(frame.dst(), Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(frame.src(), Mac([2, 0, 0, 0, 0, 2]));
        assert_eq!(frame.ethertype(), EtherType::ARP);
        assert_eq!(frame.payload(), [0x77]);
        assert_eq!(frame.to_string(), "02:00:00:00:00:02 -> 02:00:00:00:00:01 arp");
    }

    #[test]
    fn changes_a_frame() {
        let mut frame = Frame::new(BYTES).unwrap();
        frame.set_addresses(Mac([4; 6]), Mac([6; 6]));
        frame.payload_mut()[0] = 1;
        assert_eq!((frame.src(), frame.dst()), (Mac([4; 6]), Mac([6; 6])));
        assert_eq!(frame.payload(), [1]);
        assert_eq!(frame.ethertype(), EtherType::ARP);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            match Header::parse(&bytes) {
                Err(error) => {
                    prop_assert_eq!(error, HeaderError::TooShort);
                    prop_assert!(bytes.len() < HEADER_LEN);
                }
                Ok(header) => {
                    let mut out = [0; HEADER_LEN];
                    header.emit(&mut out).unwrap();
                    prop_assert_eq!(&out, &bytes[..HEADER_LEN]);
                    prop_assert_eq!(header.emit(&mut out[1..]), Err(HeaderError::TooShort));
                }
            }
        }
    }
}
