//! Whether the queues of started ports can do what is asked of them.

use anyhow::{Result, bail};

use crate::config::mbufs_needed;
use crate::dpdk::{PortFeatures, Spread};

/// What an operator should know of a port with `pairs` queue pairs that does no RSS.
pub(super) fn unspread(driver: &str, pairs: u16, features: &PortFeatures) -> Option<String> {
    if pairs < 2 || features.rss {
        return None;
    }
    Some(match features.spread_without_rss {
        Spread::OtherSide => format!(
            "{driver} does no RSS here: which of its {pairs} queues, and so which worker, a packet \
             comes to is chosen by the device's other side"
        ),
        Spread::FirstQueue => format!(
            "{driver} does no RSS: most likely worker 0 receives all packets, and the other {} \
             only send; use one worker, or another NIC",
            pairs - 1
        ),
    })
}

/// Whether there are packet buffers for all descriptors: with fewer a port falls silent under load.
pub(super) fn check_mbufs<'f>(
    mbufs: u32,
    pairs: u16,
    ports: impl Iterator<Item = &'f PortFeatures>,
) -> Result<()> {
    let mut descriptors = 0;
    for port in ports.filter(|port| port.holds_mbufs) {
        let pair = u64::from(port.rx_descriptors) + u64::from(port.tx_descriptors);
        descriptors += u64::from(pairs) * pair;
    }
    let needed = mbufs_needed(descriptors, usize::from(pairs));
    if descriptors > 0 && u64::from(mbufs) < needed {
        bail!(
            "dataplane.mbufs: found {mbufs}, but the queues of the ports on one NUMA node have {descriptors} \
             descriptors, and with what the lcores keep {needed} are needed at least"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(rss: bool, spread_without_rss: Spread, holds_mbufs: bool) -> PortFeatures {
        PortFeatures {
            max_rx_queues: 8,
            max_tx_queues: 8,
            rx_descriptors: 1024,
            tx_descriptors: 512,
            min_mtu: 68,
            max_mtu: 9000,
            rss,
            spread_without_rss,
            holds_mbufs,
            rx_ip_checksum: false,
            tx_ip_checksum: false,
            rx_scatter: false,
        }
    }

    #[test]
    fn several_queues_without_rss_are_worth_a_warning() {
        let warning = |pairs, rss, spread| unspread("net_x", pairs, &features(rss, spread, true));
        for spread in [Spread::FirstQueue, Spread::OtherSide] {
            assert_eq!(warning(1, false, spread), None);
            assert_eq!(warning(4, true, spread), None);
        }
        let first = warning(3, false, Spread::FirstQueue).unwrap();
        assert!(first.contains("worker 0 receives all") && first.contains("other 2"), "{first}");
        let other = warning(3, false, Spread::OtherSide).unwrap();
        assert!(other.contains("other side"), "{other}");
    }

    #[test]
    fn buffers_are_counted_over_ports_and_queue_pairs() {
        let nic = features(true, Spread::FirstQueue, true);
        let copies = features(true, Spread::OtherSide, false);
        // Two ports of 1536 descriptors a pair, four pairs, six caches, four pairs of hands.
        let needed = 2 * 4 * 1536 + 6 * 384 + 4 * 1344;
        let check = |mbufs| check_mbufs(mbufs, 4, [&nic, &copies, &nic].into_iter());
        check(needed).unwrap();
        let error = check(needed - 1).unwrap_err().to_string();
        assert!(error.contains(&format!("{needed} are needed")), "{error}");
        check_mbufs(1024, 64, [&copies].into_iter()).unwrap();
    }
}
