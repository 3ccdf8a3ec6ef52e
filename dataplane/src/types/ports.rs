//! The L4 ports of a virtual service, and its address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One L4 port, several that follow one another, or all. Host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// All L4 ports; written as 0, as LVS does.
    pub const ALL: Ports = Ports { first: 0, last: u16::MAX };

    /// One; all when it is 0.
    pub const fn one(port: u16) -> Ports {
        if port == 0 { Ports::ALL } else { Ports { first: port, last: port } }
    }

    /// From `first` to `last`, both included. `None` when there is none, or when 0 is among them.
    pub const fn range(first: u16, last: u16) -> Option<Ports> {
        if first == 0 || first > last { None } else { Some(Ports { first, last }) }
    }

    /// The first of them; 0 when it is all.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last of them.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether it is one.
    pub const fn is_one(self) -> bool {
        self.first == self.last
    }

    /// Whether it is all, 0 included.
    pub const fn is_all(self) -> bool {
        self.first == 0
    }

    /// Whether it is several, but not all.
    pub const fn is_range(self) -> bool {
        !self.is_one() && !self.is_all()
    }

    /// Whether a packet to this L4 port may be meant.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether some L4 port is in both.
    pub const fn overlaps(self, other: Ports) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl From<u16> for Ports {
    fn from(port: u16) -> Ports {
        Ports::one(port)
    }
}

/// `80`, `8000-8999`, or `0` for all.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_range() {
            true => write!(f, "{}-{}", self.first, self.last),
            false => self.first.fmt(f),
        }
    }
}

/// VIP and L4 ports: `192.0.2.100:80`, `[2001:db8::100]:8000-8999`, `192.0.2.100:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceAddress {
    /// The VIP.
    pub vip: IpAddr,
    /// Its L4 ports.
    pub ports: Ports,
}

impl ServiceAddress {
    /// A VIP's L4 ports.
    pub fn new(vip: IpAddr, ports: impl Into<Ports>) -> ServiceAddress {
        ServiceAddress { vip, ports: ports.into() }
    }
}

impl From<SocketAddr> for ServiceAddress {
    fn from(address: SocketAddr) -> ServiceAddress {
        ServiceAddress::new(address.ip(), address.port())
    }
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServiceAddress { vip, ports } = self;
        match vip {
            IpAddr::V4(vip) => write!(f, "{vip}:{ports}"),
            IpAddr::V6(vip) => write!(f, "[{vip}]:{ports}"),
        }
    }
}

impl FromStr for ServiceAddress {
    type Err = ();

    fn from_str(text: &str) -> Result<ServiceAddress, ()> {
        // A zone would be lost: nothing here has one.
        if text.contains('%') {
            return Err(());
        }
        let Some((head, last)) = text.rsplit_once('-') else {
            return text.parse::<SocketAddr>().map(ServiceAddress::from).map_err(|_| ());
        };
        let first: SocketAddr = head.parse().map_err(|_| ())?;
        // A sign is not part of a number.
        let last = Some(last).filter(|l| l.bytes().all(|b| b.is_ascii_digit()));
        let last = last.and_then(|l| l.parse().ok()).ok_or(())?;
        let ports = Ports::range(first.port(), last).ok_or(())?;
        Ok(ServiceAddress { vip: first.ip(), ports })
    }
}

impl Serialize for ServiceAddress {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServiceAddress {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<ServiceAddress, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(|()| {
            serde::de::Error::custom(format_args!("{text:?} is not an address with L4 ports"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in [
            "192.0.2.100:80",
            "192.0.2.100:8000-8999",
            "192.0.2.100:0",
            "192.0.2.100:1-65535",
            "[2001:db8::100]:53",
            "[2001:db8::100]:1-2",
            "[2001:db8::100]:0",
        ] {
            let read: ServiceAddress = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
            assert_eq!(serde_json::to_value(read).unwrap(), text);
            assert_eq!(serde_json::from_value::<ServiceAddress>(text.into()).unwrap(), read);
        }
        assert_eq!("192.0.2.1:7-7".parse::<ServiceAddress>().unwrap().to_string(), "192.0.2.1:7");
        for text in [
            "192.0.2.100",
            "192.0.2.100:",
            "192.0.2.100:80-",
            "192.0.2.100:80-79",
            "192.0.2.100:0-79",
            "192.0.2.100:0-0",
            "192.0.2.100:-80",
            "192.0.2.100:80-+90",
            "192.0.2.100:80-90-100",
            "192.0.2.100:80-65536",
            "2001:db8::100:1-2",
            "[2001:db8::100%1]:80-90",
            "192.0.2.1-192.0.2.9:80",
            "",
        ] {
            assert!(text.parse::<ServiceAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn ports_are_one_several_or_all() {
        let (one, few) = (Ports::one(80), Ports::range(80, 90).unwrap());
        assert!(one.is_one() && few.is_range() && Ports::ALL.is_all());
        assert!(!one.is_range() && !Ports::ALL.is_range() && !Ports::ALL.is_one());
        assert_eq!(Ports::one(0), Ports::ALL);
        for (port, there) in [(79, false), (80, true), (90, true), (91, false)] {
            assert_eq!((few.contains(port), Ports::ALL.contains(port)), (there, true));
        }
        let last = Ports::range(90, 99).unwrap();
        assert!(few.overlaps(last) && last.overlaps(few));
        assert!(!last.overlaps(one) && !one.overlaps(last));
    }
}
