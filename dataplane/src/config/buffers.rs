//! How many packet buffers there must be.

/// Descriptors of each RX and each TX queue that a NIC is asked for.
pub const DESCRIPTORS: u16 = 1024;

/// Free buffers each lcore keeps for itself; DPDK lets them grow to half as many again.
pub const LCORE_CACHE: u32 = 256;

/// Buffers a worker has in hands at a time, which strangers can make it hold: later fragments that
/// wait, of each family, what another worker has handed over, and a burst or two. What waits for
/// the slow path is limited by the second, and little.
const IN_HANDS: u64 = 2 * (256 + 128) + 512 + 64;

/// Buffers without which a port would fall silent under load: every descriptor of an RX queue has
/// one that the NIC may fill, every descriptor of a TX queue may have one that is not sent yet, and
/// lcores have theirs.
///
/// `descriptors` is the number over all queues of all ports, RX and TX.
pub fn mbufs_needed(descriptors: u64, workers: usize) -> u64 {
    // The main lcore and the slow path have caches too.
    let caches = (workers as u64 + 2) * u64::from(LCORE_CACHE + LCORE_CACHE / 2);
    descriptors + caches + workers as u64 * IN_HANDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_queues_and_all_caches_count() {
        // One port, one worker: 1024 and 1024 descriptors, three caches, one pair of hands.
        assert_eq!(mbufs_needed(2048, 1), 2048 + 3 * 384 + 1344);
        assert_eq!(mbufs_needed(2 * 8 * 2048, 8), 32_768 + 10 * 384 + 8 * 1344);
        assert_eq!(mbufs_needed(0, 0), 2 * 384);
    }
}
