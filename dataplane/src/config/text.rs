//! Values that a file or a request writes as a string, with errors that say what is wanted.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::snapshot::spec::Prefixed;
use crate::types::{Netmask, ServiceAddress};

/// A value with a text form.
pub(crate) trait Text: Sized {
    /// What the text should be, for errors.
    const WANTED: &'static str;
    /// Reads it; the error says what is wrong with it.
    fn read(text: &str) -> Result<Self, String>;
    /// Writes what [`Text::read`] reads.
    fn write(&self) -> String;
}

/// The error for `text`, which is not what `T` wants.
fn unlike<T: Text>(text: &str) -> String {
    format!("found {text:?}, expected {}", T::WANTED)
}

impl Text for IpAddr {
    const WANTED: &'static str = "an address such as \"192.0.2.21\" or \"2001:db8:2::21\"";

    fn read(text: &str) -> Result<IpAddr, String> {
        text.parse().map_err(|_| unlike::<Self>(text))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Text for Prefixed {
    const WANTED: &'static str = "an address with a prefix length of 0 to 32, or of IPv6 to 128, \
                                  such as \"192.0.2.10/24\" or \"2001:db8:2::10/64\"";

    fn read(text: &str) -> Result<Prefixed, String> {
        text.parse().map_err(|_| unlike::<Self>(text))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Text for SocketAddr {
    const WANTED: &'static str =
        "an address and L4 port such as \"192.0.2.100:80\" or \"[2001:db8::100]:80\"";

    fn read(text: &str) -> Result<SocketAddr, String> {
        // A zone would be lost: nothing here has one.
        text.parse().ok().filter(|_| !text.contains('%')).ok_or_else(|| unlike::<Self>(text))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Text for ServiceAddress {
    const WANTED: &'static str = "an address and L4 port such as \"192.0.2.100:80\" or \
                                  \"[2001:db8::100]:80\", a range of them such as \
                                  \"192.0.2.100:8000-8999\", or 0 for all";

    fn read(text: &str) -> Result<ServiceAddress, String> {
        text.parse().map_err(|()| unlike::<Self>(text))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Text for Netmask {
    const WANTED: &'static str =
        "a netmask such as \"255.255.255.0\", or a prefix length such as \"64\" for IPv6";

    fn read(text: &str) -> Result<Netmask, String> {
        text.parse().map_err(|()| unlike::<Self>(text))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Text for Duration {
    const WANTED: &'static str = "a time with its unit such as \"900s\" or \"15min\"";

    fn read(text: &str) -> Result<Duration, String> {
        humantime::parse_duration(text).map_err(|_| unlike::<Self>(text))
    }

    fn write(&self) -> String {
        if self.subsec_nanos() == 0 {
            format!("{}s", self.as_secs())
        } else {
            humantime::format_duration(*self).to_string()
        }
    }
}

/// A key of 128 bits.
impl Text for [u8; 16] {
    const WANTED: &'static str = "32 hexadecimal digits";

    fn read(text: &str) -> Result<[u8; 16], String> {
        // The text is not repeated: it is a secret, and this may end up in a log.
        let wrong = || format!("found {} characters, expected {}", text.len(), Self::WANTED);
        if text.len() != 32 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u128::from_str_radix(text, 16).map(u128::to_be_bytes).map_err(|_| wrong())
    }

    fn write(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(*self))
    }
}

/// Carries a [`Text`] through serde.
struct Wrapped<T>(T);

impl<T: Text> Serialize for Wrapped<&T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0.write())
    }
}

impl<'de, T: Text> Deserialize<'de> for Wrapped<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Wrapped<T>, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);

        impl<T: Text> Visitor<'_> for Reader<T> {
            type Value = Wrapped<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::WANTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Wrapped<T>, E> {
                T::read(text).map(Wrapped).map_err(E::custom)
            }
        }

        d.deserialize_str(Reader(std::marker::PhantomData))
    }
}

/// `#[serde(with)]` for one value.
pub(crate) mod value {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Text, Wrapped};

    pub(crate) fn serialize<T: Text, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        Wrapped(value).serialize(s)
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
        Wrapped::deserialize(d).map(|w| w.0)
    }
}

/// `#[serde(with)]` for a value that may be absent.
pub(crate) mod option {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Text, Wrapped};

    pub(crate) fn serialize<T: Text, S: Serializer>(
        value: &Option<T>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Wrapped).serialize(s)
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<T>, D::Error> {
        Option::<Wrapped<T>>::deserialize(d).map(|o| o.map(|w| w.0))
    }
}

/// `#[serde(with)]` for a list of values.
pub(crate) mod list {
    use super::{Deserialize, Deserializer, Serializer, Text, Wrapped};

    pub(crate) fn serialize<T: Text, S: Serializer>(values: &[T], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(values.iter().map(Wrapped))
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Vec<T>, D::Error> {
        Vec::<Wrapped<T>>::deserialize(d).map(|all| all.into_iter().map(|w| w.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let key = *b"shunt/hash-key/1";
        assert_eq!(<[u8; 16]>::read(&key.write()), Ok(key));
        for text in ["900s", "1s 500ms"] {
            assert_eq!(Duration::read(text).unwrap().write(), text);
        }
        assert_eq!(Duration::read("15min").unwrap().write(), "900s");
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        for text in ["192.0.2.21", "2001:db8:2::21", "::ffff:192.0.2.1"] {
            assert_eq!(IpAddr::read(text).unwrap().write(), text);
        }
        for text in ["192.0.2.100:80", "[2001:db8::100]:80"] {
            assert_eq!(SocketAddr::read(text).unwrap().write(), text);
        }
        for text in ["192.0.2.10/32", "2001:db8:2::10/128", "::/0"] {
            assert_eq!(Prefixed::read(text).unwrap().write(), text);
        }
        for text in ["192.0.2.10/33", "2001:db8::/129", "2001:db8::", "/64"] {
            assert!(Prefixed::read(text).is_err(), "{text}");
        }
        for text in ["2001:db8::100:80:", "[2001:db8::100]", "[fe80::1%1]:80", "[192.0.2.1]:80"] {
            assert!(SocketAddr::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn says_what_is_wanted() {
        assert_eq!(
            IpAddr::read("192.0.2").unwrap_err(),
            "found \"192.0.2\", expected an address such as \"192.0.2.21\" or \"2001:db8:2::21\""
        );
        assert!(<[u8; 16]>::read("+123456789abcdef0123456789abcdef").is_err());
    }
}
