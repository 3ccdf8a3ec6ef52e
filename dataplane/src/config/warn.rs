//! What a configuration may have, and better had not.

use std::net::IpAddr;

use super::model::{Config, DEFAULT_HASH_KEY};
use crate::vocabulary::SchedulerKind;

impl Config {
    /// What is allowed and better not so, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        self.public_key().into_iter().collect()
    }

    /// The key that everybody knows, where strangers may be clients.
    ///
    /// `dh` goes by the VIP, which is not the client's to choose freely.
    fn public_key(&self) -> Option<String> {
        let key = self.scheduling.hash_key.unwrap_or(DEFAULT_HASH_KEY);
        if key != DEFAULT_HASH_KEY {
            return None;
        }
        let by_client = |kind| matches!(kind, SchedulerKind::Sh | SchedulerKind::Mh);
        let mut open = self.services.iter().filter(|s| by_client(s.scheduler));
        let service = open.find(|s| !is_private(s.address.vip))?;
        Some(format!(
            "virtual service {} is scheduled by the public default hash_key, by which anybody can \
             aim at one of its real servers; put the line that `shunt config key` prints under \
             [scheduling], the same on all directors (once, clients of sh and mh services move)",
            service.key()
        ))
    }
}

/// Whether no stranger on the internet is a client of this address: private use (RFC 1918, RFC
/// 4193), of the link or the machine only, documentation and benchmarks (RFC 5737, RFC 3849, RFC
/// 9637, RFC 2544). The space carriers share with their subscribers (RFC 6598) is not: they are
/// strangers.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_private()
                || address.is_link_local()
                || address.is_loopback()
                || address.is_documentation()
                || (a == 198 && b & 0xfe == 18)
        }
        IpAddr::V6(address) => {
            let [a, b, ..] = address.segments();
            address.is_unique_local()
                || address.is_unicast_link_local()
                || address.is_loopback()
                || (a == 0x2001 && b == 0xdb8)
                || (a == 0x3fff && b < 0x1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_is_what_strangers_do_not_reach() {
        let private = [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.9.9",
            "192.168.1.1",
            "169.254.1.1",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "198.18.0.1",
            "198.19.255.1",
            "fd00::1",
            "fc00::1",
            "fe80::1",
            "2001:db8::1",
            "3fff:fff::1",
        ];
        let public = [
            "8.8.8.8",
            "172.32.0.1",
            "192.0.3.1",
            "198.20.0.1",
            "100.64.0.1",
            "2001:db9::1",
            "2a00::1",
            "3fff:1000::1",
            "64:ff9b::1",
        ];
        assert!(private.iter().all(|a| is_private(a.parse().unwrap())));
        assert!(public.iter().all(|a| !is_private(a.parse().unwrap())));
    }
}
