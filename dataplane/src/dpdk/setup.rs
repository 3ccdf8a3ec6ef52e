//! From a [`PortConfig`] to a started port: the order of calls that ethdev wants.

use std::ffi::CStr;

use dpdk_sys as sys;

use super::device::{all_names, port_by_name};
use super::eal::{EalUser, PortClaim};
use super::errno::Errno;
use super::frame;
use super::port::{PortConfig, PortError, PortFeatures, PortInner};
use super::quirk::{self, PciId};
use crate::types::Mac;

fn find(eal: &EalUser, device: &str) -> Result<u16, PortError> {
    port_by_name(eal, device)?.ok_or_else(|| {
        let known = all_names(eal);
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        PortError::NotFound { device: device.to_owned(), known }
    })
}

/// How many queue pairs a port can have. It need not be configured, and is left as it is.
pub(super) fn queue_pairs(device: &str) -> Result<u16, PortError> {
    let eal = EalUser::new()?;
    let info = port_info(find(&eal, device)?, device)?;
    Ok(info.max_rx_queues.min(info.max_tx_queues))
}

/// The NUMA socket of a port, if it is on one.
pub(super) fn socket(device: &str) -> Result<Option<u32>, PortError> {
    let eal = EalUser::new()?;
    let ethdev = find(&eal, device)?;
    // SAFETY: the EAL is running; the function checks the port number.
    let socket = unsafe { sys::rte_eth_dev_socket_id(ethdev) };
    // -1 is any.
    Ok(u32::try_from(socket).ok())
}

/// Configures and starts a port. After an error it is stopped, and may be tried again.
pub(super) fn start(config: &PortConfig) -> Result<PortInner, PortError> {
    let eal = EalUser::new()?;
    let device = &config.device;
    let ethdev = find(&eal, device)?;
    let claim = PortClaim::new(eal, ethdev).ok_or_else(|| PortError::Busy(device.clone()))?;
    if config.rx_queues == 0 || config.tx_queues == 0 || config.pools.is_empty() {
        return Err(PortError::Nothing(device.clone()));
    }
    let setup = Setup { config, ethdev };
    let info = port_info(ethdev, device)?;
    let driver = driver_name(&info);
    check_limits(config, &info, &driver)?;

    let wish = Wish::new(config, &info);
    let (outcome, log) = claim.eal.exclusively_heard(|| setup.run(&wish));
    let (rx_descriptors, tx_descriptors, mac) = outcome.map_err(|(action, errno)| {
        PortError::Dpdk { device: device.clone(), action, errno, log }
    })?;
    let features = PortFeatures {
        max_rx_queues: info.max_rx_queues,
        max_tx_queues: info.max_tx_queues,
        rx_descriptors,
        tx_descriptors,
        min_mtu: info.min_mtu,
        max_mtu: info.max_mtu,
        rss: wish.rss_hf != 0,
        spread_without_rss: quirk::spread_without_rss(&driver),
        holds_mbufs: quirk::holds_mbufs(&driver),
        rx_ip_checksum: wish.rx_offloads & sys::SHIM_RX_OFFLOAD_IPV4_CKSUM != 0,
        tx_ip_checksum: wish.tx_offloads & sys::SHIM_TX_OFFLOAD_IPV4_CKSUM != 0,
        rx_scatter: wish.rx_offloads & sys::SHIM_RX_OFFLOAD_SCATTER != 0,
    };
    let pools = config.pools.clone();
    Ok(PortInner { name: device.clone(), driver, mac, features, _pools: pools, claim })
}

fn port_info(ethdev: u16, device: &str) -> Result<sys::rte_eth_dev_info, PortError> {
    let mut info = sys::rte_eth_dev_info::default();
    // SAFETY: the EAL is running (the caller holds a user); the function checks the port number,
    // and `info` is ours to write.
    let rc = unsafe { sys::rte_eth_dev_info_get(ethdev, &mut info) };
    Errno::check(rc).map_err(|errno| PortError::Dpdk {
        device: device.to_owned(),
        action: "read its capabilities",
        errno,
        log: String::new(),
    })?;
    // From here on it is what the NIC has, not what the driver says.
    let (driver, id) = (driver_name(&info), PciId::of(device));
    info.max_rx_queues = quirk::working_pairs(&driver, id, info.max_rx_queues);
    info.max_tx_queues = quirk::working_pairs(&driver, id, info.max_tx_queues);
    Ok(info)
}

fn driver_name(info: &sys::rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return "unknown".into();
    }
    // SAFETY: a driver's name is a static NUL-terminated string, and drivers are never unloaded.
    unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
}

fn check_limits(
    config: &PortConfig,
    info: &sys::rte_eth_dev_info,
    driver: &str,
) -> Result<(), PortError> {
    let (device, driver) = (config.device.clone(), driver.to_owned());
    for (kind, have, want) in
        [("RX", info.max_rx_queues, config.rx_queues), ("TX", info.max_tx_queues, config.tx_queues)]
    {
        if want > have {
            return Err(PortError::TooFewQueues { device, driver, kind, have, want });
        }
    }
    match config.mtu {
        Some(mtu) if !(info.min_mtu..=info.max_mtu).contains(&mtu) => {
            Err(PortError::Mtu { device, driver, mtu, min: info.min_mtu, max: info.max_mtu })
        }
        _ => Ok(()),
    }
}

/// What is asked of the driver, within what it offers.
struct Wish {
    rss_hf: u64,
    rx_offloads: u64,
    tx_offloads: u64,
}

impl Wish {
    fn new(config: &PortConfig, info: &sys::rte_eth_dev_info) -> Wish {
        let hash_on = sys::SHIM_RSS_IP | sys::SHIM_RSS_TCP | sys::SHIM_RSS_UDP;
        let rss_hf = if config.rx_queues > 1 { hash_on & info.flow_type_rss_offloads } else { 0 };
        let mtu = config.mtu.unwrap_or(1500);
        let overhead = frame::overhead(info.max_rx_pktlen, info.max_mtu);
        let scatter =
            config.pools.iter().any(|pool| frame::may_scatter(mtu, overhead, pool.data_room()));

        let mut rx = sys::SHIM_RX_OFFLOAD_IPV4_CKSUM;
        let mut tx = 0;
        if rss_hf != 0 {
            rx |= sys::SHIM_RX_OFFLOAD_RSS_HASH;
        }
        if scatter {
            rx |= sys::SHIM_RX_OFFLOAD_SCATTER;
            // What came in several segments goes out in several. Not asked for otherwise: several
            // drivers have a faster path without.
            tx |= sys::SHIM_TX_OFFLOAD_MULTI_SEGS;
        }
        if config.tx_ip_checksum {
            tx |= sys::SHIM_TX_OFFLOAD_IPV4_CKSUM;
        }
        Wish {
            rss_hf,
            rx_offloads: rx & info.rx_offload_capa,
            tx_offloads: tx & info.tx_offload_capa,
        }
    }
}

/// What failed, and DPDK's reason.
type Failure = (&'static str, Errno);

struct Setup<'a> {
    config: &'a PortConfig,
    /// A port that exists, and that the caller has claimed.
    ethdev: u16,
}

impl Setup<'_> {
    /// Returns the descriptors per RX and TX queue, and the port's address.
    fn run(&self, wish: &Wish) -> Result<(u16, u16, Mac), Failure> {
        self.configure(wish)?;
        let (rx_descriptors, tx_descriptors) = self.queues()?;
        self.mtu()?;
        let mac = self.mac()?;
        // SAFETY: the port exists and is claimed; it is configured, with all its queues.
        step("start", unsafe { sys::rte_eth_dev_start(self.ethdev) })?;
        self.filters().inspect_err(|_| {
            // SAFETY: the port was started here, and nobody has its queues yet.
            unsafe { sys::rte_eth_dev_stop(self.ethdev) };
        })?;
        Ok((rx_descriptors, tx_descriptors, mac))
    }

    fn configure(&self, wish: &Wish) -> Result<(), Failure> {
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.mtu = self.config.mtu.map_or(0, u32::from);
        conf.rxmode.offloads = wish.rx_offloads;
        conf.txmode.offloads = wish.tx_offloads;
        if wish.rss_hf != 0 {
            conf.rxmode.mq_mode = sys::SHIM_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = wish.rss_hf;
        }
        let (rx, tx) = (self.config.rx_queues, self.config.tx_queues);
        // SAFETY: the port exists and is claimed, so nobody polls it; `conf` is complete.
        step("configure", unsafe { sys::rte_eth_dev_configure(self.ethdev, rx, tx, &conf) })
    }

    fn queues(&self) -> Result<(u16, u16), Failure> {
        let (mut rx, mut tx) = (self.config.rx_descriptors, self.config.tx_descriptors);
        // SAFETY: the port exists and is claimed; both numbers are ours to write.
        let socket = unsafe {
            let rc = sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.ethdev, &mut rx, &mut tx);
            step("adjust the number of descriptors", rc)?;
            sys::rte_eth_dev_socket_id(self.ethdev) as u32
        };
        for queue in 0..self.config.rx_queues {
            let pools = &self.config.pools;
            let pool = pools[usize::from(queue) % pools.len()].as_ptr();
            let defaults = std::ptr::null();
            // SAFETY: as above; the pool lives as long as the EAL.
            step("set up an RX queue", unsafe {
                sys::rte_eth_rx_queue_setup(self.ethdev, queue, rx, socket, defaults, pool)
            })?;
        }
        for queue in 0..self.config.tx_queues {
            let defaults = std::ptr::null();
            // SAFETY: as above.
            step("set up a TX queue", unsafe {
                sys::rte_eth_tx_queue_setup(self.ethdev, queue, tx, socket, defaults)
            })?;
        }
        Ok((rx, tx))
    }

    fn mtu(&self) -> Result<(), Failure> {
        let Some(mtu) = self.config.mtu else { return Ok(()) };
        // SAFETY: the port exists and is claimed.
        match step("set the MTU", unsafe { sys::rte_eth_dev_set_mtu(self.ethdev, mtu) }) {
            // Configuring has set it, and the driver wants no separate word.
            Err((_, Errno::ENOTSUP)) => Ok(()),
            result => result,
        }
    }

    fn filters(&self) -> Result<(), Failure> {
        // SAFETY: the port exists and is claimed.
        let (promiscuous, multicast) = unsafe {
            (
                match self.config.promiscuous {
                    true => sys::rte_eth_promiscuous_enable(self.ethdev),
                    false => sys::rte_eth_promiscuous_disable(self.ethdev),
                },
                sys::rte_eth_allmulticast_enable(self.ethdev),
            )
        };
        for (action, rc) in [
            ("change promiscuous mode", promiscuous),
            ("enable reception of all multicast", multicast),
        ] {
            match step(action, rc) {
                // Virtual devices have no address filter to change.
                Err((_, Errno::ENOTSUP)) => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn mac(&self) -> Result<Mac, Failure> {
        let mut address = sys::rte_ether_addr::default();
        // SAFETY: the port exists, and `address` is ours to write.
        let rc = unsafe { sys::rte_eth_macaddr_get(self.ethdev, &mut address) };
        step("read its Ethernet address", rc).map(|()| Mac(address.addr_bytes))
    }
}

fn step(action: &'static str, code: i32) -> Result<(), Failure> {
    Errno::check(code).map(drop).map_err(|errno| (action, errno))
}
