//! Ports: configured and started in one step, stopped and closed when the last owner goes.

use std::sync::Arc;

use dpdk_sys as sys;

use super::device::DeviceError;
use super::eal::{EalNotRunning, PortClaim};
use super::errno::Errno;
use super::mempool::Mempool;
use super::queue::{RxQueue, TxQueue};
use super::quirk::Spread;
use crate::types::Mac;

/// What a port is to be.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// The port's name: a PCI address, or a vdev's name without its arguments
    /// (see [`super::attach`]).
    pub device: String,
    /// RX queues, one per worker.
    pub rx_queues: u16,
    /// TX queues, one per worker.
    pub tx_queues: u16,
    /// Descriptors per RX queue; brought within the driver's limits.
    pub rx_descriptors: u16,
    /// Descriptors per TX queue; brought within the driver's limits.
    pub tx_descriptors: u16,
    /// Longest IP packet in bytes; `None` = 1500, or less where the driver cannot.
    pub mtu: Option<u16>,
    /// Where received packets go: RX queue `i` fills mbufs of `pools[i % pools.len()]`.
    pub pools: Vec<Mempool>,
    /// Receive frames for other stations too.
    pub promiscuous: bool,
    /// Have the port compute IPv4 header checksums of packets that ask for it, if it can. Some
    /// drivers send faster without.
    pub tx_ip_checksum: bool,
}

impl PortConfig {
    /// One queue pair, 1024 descriptors, everything else left off.
    pub fn new(device: &str, pool: Mempool) -> PortConfig {
        PortConfig {
            device: device.to_owned(),
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: None,
            pools: vec![pool],
            promiscuous: false,
            tx_ip_checksum: false,
        }
    }
}

/// Why a port does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Ports are the EAL's.
    #[error(transparent)]
    EalNotRunning(#[from] EalNotRunning),
    /// A name no device can have.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// No port of that name.
    #[error(
        "no port named {device:?}; there are: {known}. Bind the NIC to vfio-pci, or attach the vdev"
    )]
    NotFound {
        /// The name asked for.
        device: String,
        /// The names there are.
        known: String,
    },
    /// One owner per port.
    #[error("port {0:?} is configured already")]
    Busy(String),
    /// A port needs a queue of each kind and memory.
    #[error("port {0:?}: at least one RX queue, one TX queue and one mempool are needed")]
    Nothing(String),
    /// One queue per worker, and the driver has not so many.
    #[error(
        "port {device:?} (driver {driver}) has {have} {kind} queues, but {want} are asked for, one \
         per worker: use {have} workers, or give the device more queues"
    )]
    TooFewQueues {
        /// The port.
        device: String,
        /// Its driver.
        driver: String,
        /// "RX" or "TX".
        kind: &'static str,
        /// What it has.
        have: u16,
        /// What was asked for.
        want: u16,
    },
    /// The driver cannot do this MTU.
    #[error("port {device:?} (driver {driver}): MTU {mtu} is not within {min} to {max}")]
    Mtu {
        /// The port.
        device: String,
        /// Its driver.
        driver: String,
        /// What was asked for.
        mtu: u16,
        /// Least possible.
        min: u16,
        /// Most possible.
        max: u16,
    },
    /// Anything else.
    #[error("port {device:?}: cannot {action}: {errno}{log}")]
    Dpdk {
        /// The port.
        device: String,
        /// What failed.
        action: &'static str,
        /// DPDK's reason.
        errno: Errno,
        /// DPDK's log.
        log: String,
    },
}

/// What a started port can do and has switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortFeatures {
    /// Most RX queues the driver offers.
    pub max_rx_queues: u16,
    /// Most TX queues the driver offers.
    pub max_tx_queues: u16,
    /// Descriptors per RX queue, in force.
    pub rx_descriptors: u16,
    /// Descriptors per TX queue, in force.
    pub tx_descriptors: u16,
    /// Least MTU.
    pub min_mtu: u16,
    /// Most MTU.
    pub max_mtu: u16,
    /// Packets are spread over RX queues by a hash of addresses and L4 ports (several queues
    /// without this: the device spreads them its own way, as net_af_packet does).
    pub rss: bool,
    /// How packets come to the queues when `rss` is off.
    pub spread_without_rss: Spread,
    /// Queues keep mbufs: in the end as many as they have descriptors.
    pub holds_mbufs: bool,
    /// Received packets carry the NIC's verdict on the IPv4 header checksum.
    pub rx_ip_checksum: bool,
    /// The port computes IPv4 header checksums on request.
    pub tx_ip_checksum: bool,
    /// Packets that do not fit one mbuf are received in several.
    pub rx_scatter: bool,
}

/// Counters since the port was started or reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets the NIC dropped because a queue was full (`imissed`).
    pub rx_missed: u64,
    /// Packets received broken.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets dropped for want of mbufs (`rx_nombuf`).
    pub rx_no_mbuf: u64,
}

/// The link, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether it is up.
    pub up: bool,
    /// Megabits per second, when known.
    pub speed_mbps: Option<u32>,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// A started port. It is stopped and closed when this and all its queues have been dropped.
#[derive(Debug, Clone)]
pub struct Port {
    inner: Arc<PortInner>,
}

#[derive(Debug)]
pub(super) struct PortInner {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) mac: Mac,
    pub(super) features: PortFeatures,
    /// The NIC fills mbufs of these.
    pub(super) _pools: Vec<Mempool>,
    pub(super) claim: PortClaim,
}

impl PortInner {
    pub(super) fn ethdev(&self) -> u16 {
        self.claim.ethdev
    }

    fn failed(&self, action: &'static str) -> impl FnOnce((Errno, String)) -> PortError {
        let device = self.name.clone();
        move |(errno, log)| PortError::Dpdk { device, action, errno, log }
    }

    /// Calls a control function, one at a time: they are not thread-safe.
    fn control(&self, call: impl FnOnce(u16) -> i32) -> Result<(), (Errno, String)> {
        let (rc, log) = self.claim.eal.exclusively_heard(|| call(self.ethdev()));
        Errno::check(rc).map(drop).map_err(|errno| (errno, log))
    }
}

impl Drop for PortInner {
    fn drop(&mut self) {
        let closed = self.control(|port| {
            // SAFETY: the EAL is running (the claim says so), and no queue of the port exists any
            // more, for each of them holds the `PortInner` that goes here.
            unsafe {
                sys::rte_eth_dev_stop(port);
                sys::rte_eth_dev_close(port)
            }
        });
        if let Err((errno, log)) = closed {
            log::warn!("port {} did not close: {errno}{log}", self.name);
        }
    }
}

impl Port {
    /// Configures and starts a port, and returns its queues in order.
    ///
    /// Switches on, where the driver has it: spreading over RX queues by RSS on addresses and L4
    /// ports, IPv4 checksum verification, scattered receive when the MTU needs it, and reception
    /// of all multicast (neighbor discovery needs it).
    pub fn configure(config: &PortConfig) -> Result<(Port, Vec<RxQueue>, Vec<TxQueue>), PortError> {
        let inner = Arc::new(super::setup::start(config)?);
        let rx = (0..config.rx_queues).map(|queue| RxQueue::new(&inner, queue)).collect();
        let tx = (0..config.tx_queues).map(|queue| TxQueue::new(&inner, queue)).collect();
        Ok((Port { inner }, rx, tx))
    }

    /// How many queue pairs the port of that name can have, as its driver says, or fewer where that
    /// is known to be wrong. To be asked before
    /// any port is configured: closing a port for another try takes a virtual device away.
    pub fn queue_pairs(device: &str) -> Result<u16, PortError> {
        super::setup::queue_pairs(device)
    }

    /// The NUMA socket of the port of that name; `None` when it is on none, as virtual devices may
    /// be. It need not be configured.
    pub fn socket(device: &str) -> Result<Option<u32>, PortError> {
        super::setup::socket(device)
    }

    /// The name the port was configured by.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// DPDK's number of the port.
    pub fn ethdev_id(&self) -> u16 {
        self.inner.ethdev()
    }

    /// The driver's name, such as "net_af_packet".
    pub fn driver(&self) -> &str {
        &self.inner.driver
    }

    /// The port's own Ethernet address.
    pub fn mac(&self) -> Mac {
        self.inner.mac
    }

    /// What the port can do and has switched on.
    pub fn features(&self) -> &PortFeatures {
        &self.inner.features
    }

    /// Longest IP packet in bytes.
    pub fn mtu(&self) -> u16 {
        let mut mtu = 0;
        // SAFETY: the port exists while `inner` does; `mtu` is ours to write. Fails only for
        // ports that do not exist.
        unsafe { sys::rte_eth_dev_get_mtu(self.ethdev_id(), &mut mtu) };
        mtu
    }

    /// Changes the MTU. Some drivers refuse while the port is started.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), PortError> {
        self.inner
            // SAFETY: the port exists while `inner` does; calls do not overlap.
            .control(|port| unsafe { sys::rte_eth_dev_set_mtu(port, mtu) })
            .map_err(self.inner.failed("set the MTU"))
    }

    /// The link's state, without waiting for it to settle.
    pub fn link(&self) -> Result<LinkStatus, PortError> {
        let (mut speed, mut up, mut full) = (0, 0, 0);
        self.inner
            // SAFETY: as in `set_mtu`; the three integers are ours to write.
            .control(|port| unsafe { sys::shim_eth_link(port, &mut speed, &mut up, &mut full) })
            .map_err(self.inner.failed("read the link status"))?;
        let speed_mbps = (speed != 0 && speed != u32::MAX).then_some(speed);
        Ok(LinkStatus { up: up != 0, speed_mbps, full_duplex: full != 0 })
    }

    /// The port's counters.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        let mut raw = sys::rte_eth_stats::default();
        self.inner
            // SAFETY: as in `set_mtu`; `raw` is ours to write.
            .control(|port| unsafe { sys::rte_eth_stats_get(port, &mut raw) })
            .map_err(self.inner.failed("read the counters"))?;
        Ok(PortStats {
            rx_packets: raw.ipackets,
            tx_packets: raw.opackets,
            rx_bytes: raw.ibytes,
            tx_bytes: raw.obytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            tx_errors: raw.oerrors,
            rx_no_mbuf: raw.rx_nombuf,
        })
    }

    /// Sets the port's counters to zero.
    pub fn reset_stats(&self) -> Result<(), PortError> {
        self.inner
            // SAFETY: as in `set_mtu`.
            .control(|port| unsafe { sys::rte_eth_stats_reset(port) })
            .map_err(self.inner.failed("reset the counters"))
    }
}
