//! EAL arguments: the configured ones, the lcores, and the devices that are to be taken.

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::config::Config;

/// Options that say how the EAL keeps its memory.
const MEMORY: [&str; 8] = [
    "--no-huge",
    "--in-memory",
    "--huge-dir",
    "--huge-unlink",
    "--legacy-mem",
    "--file-prefix",
    "--proc-type",
    "--base-virtaddr",
];

/// Options that say which devices the EAL takes: short ones, whose value may follow at once, and
/// long ones, which may be abbreviated so far.
const DEVICES: [&str; 5] = ["-a", "-b", "--al", "--bl", "--no-p"];

/// Virtual devices that drive others, which they may name by other means than a PCI address.
const OVER_OTHERS: [&str; 3] = ["net_bonding", "net_failsafe", "net_vdev_netvsc"];

/// What the EAL is started with: `dataplane.eal`, lcores for the workers and the main thread, and
/// the devices.
///
/// Unless `dataplane.eal` says how memory is kept, hugepages are used without files
/// (`--in-memory`): no hugetlbfs has to be mounted, and nothing is left behind.
///
/// Each worker lcore is pinned to the processor of the same number. The main lcore, whose threads
/// are control and slow path, floats over the processors that are left, or over all when none is.
pub(super) fn eal_arguments(config: &Config) -> Result<Vec<String>> {
    let mut args = config.dataplane.eal.clone();
    if !args.iter().any(|a| MEMORY.iter().any(|option| a.starts_with(option))) {
        args.push("--in-memory".into());
    }
    let names_lcores =
        |a: &String| a.starts_with("--lcores") || a.starts_with("-l") || a.starts_with("-c");
    if !args.iter().any(names_lcores) {
        let (lcores, main) = lcores(&config.dataplane.workers, &processors()?)?;
        args.extend(["--lcores".into(), lcores, "--main-lcore".into(), main.to_string()]);
    }
    args.extend(devices(config));
    Ok(args)
}

/// The options that keep the EAL from devices that are not configured. Without any it takes every
/// one that is bound to a driver of its own, and no other program can have it.
///
/// None when `dataplane.eal` says itself which devices to take, or when a virtual device may need
/// any.
fn devices(config: &Config) -> Vec<String> {
    let eal = &config.dataplane.eal;
    if eal.iter().any(|a| DEVICES.iter().any(|option| a.starts_with(option))) {
        return Vec::new();
    }
    let mut taken: Vec<_> =
        config.ports.iter().filter_map(|port| port.device.as_deref().map(with_domain)).collect();
    let has_devices = !taken.is_empty();
    for text in config.ports.iter().filter_map(|port| port.vdev.as_ref()).chain(eal) {
        let below: Vec<_> = pci_addresses(text).collect();
        if below.is_empty() && OVER_OTHERS.iter().any(|driver| text.contains(driver)) {
            return Vec::new();
        }
        taken.extend(below);
    }
    let mut options = Vec::new();
    for device in taken {
        let named = |option: &String| address(option) == address(&device);
        if !options.iter().any(named) {
            options.extend(["-a".to_owned(), device]);
        }
    }
    if options.is_empty() && !has_devices {
        options.push("--no-pci".to_owned());
    }
    options
}

/// A device without its arguments.
fn address(device: &str) -> &str {
    device.split(',').next().unwrap_or(device)
}

/// The PCI addresses in a virtual device's arguments, with their domains.
fn pci_addresses(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_ascii_hexdigit() && c != ':' && c != '.')
        .filter(|word| is_pci_address(word))
        .map(with_domain)
}

/// `03:00.0` or `0000:03:00.0`.
fn is_pci_address(word: &str) -> bool {
    let Some((slot, function)) = word.split_once('.') else { return false };
    let parts: Vec<_> = slot.split(':').collect();
    let hex = |part: &&str, most: usize| {
        (1..=most).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_hexdigit())
    };
    let slot_is_right = match parts.as_slice() {
        [bus, device] => hex(bus, 2) && hex(device, 2),
        [domain, bus, device] => hex(domain, 8) && hex(bus, 2) && hex(device, 2),
        _ => false,
    };
    slot_is_right && matches!(function.as_bytes(), [b'0'..=b'7'])
}

/// A PCI address as DPDK names the port: with its domain, in small letters. Arguments stay.
pub(super) fn with_domain(device: &str) -> String {
    let device = device.strip_prefix("pci:").unwrap_or(device);
    let (address, arguments) = device.split_at(device.find(',').unwrap_or(device.len()));
    let address = address.to_ascii_lowercase();
    let domain = if address.matches(':').count() == 1 { "0000:" } else { "" };
    format!("{domain}{address}{arguments}")
}

/// The processors this process may run on, in ascending order.
fn processors() -> Result<Vec<u32>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("cannot tell the processors")?;
    let usable = (0..CpuSet::count()).filter(|n| set.is_set(*n).unwrap_or(false));
    Ok(usable.map(|n| n as u32).collect())
}

/// The `--lcores` map, and the main lcore's number.
fn lcores(workers: &[u32], processors: &[u32]) -> Result<(String, u32)> {
    let list = |all: &[u32]| all.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    if let Some(lcore) = workers.iter().find(|w| !processors.contains(w)) {
        bail!(
            "dataplane.workers: lcore {lcore} is to run on processor {lcore}, but shuntd may use \
             {} only",
            list(processors)
        );
    }
    let main = (0..).find(|n| !workers.contains(n)).unwrap_or(0);
    let free: Vec<_> = processors.iter().copied().filter(|n| !workers.contains(n)).collect();
    let home = list(if free.is_empty() { processors } else { &free });
    let mut map = vec![format!("{main}@({home})")];
    map.extend(workers.iter().map(|w| format!("{w}@{w}")));
    Ok((map.join(","), main))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Port;

    #[test]
    fn memory_needs_no_mount_unless_the_configuration_decides() {
        let with = |eal: &[&str]| {
            let mut config = Config::default();
            config.dataplane.workers = vec![];
            config.dataplane.eal = eal.iter().map(ToString::to_string).collect();
            eal_arguments(&config).unwrap().contains(&"--in-memory".to_owned())
        };
        assert!(with(&["--no-pci"]));
        assert!(!with(&["--no-pci", "--no-huge"]) && !with(&["--huge-dir=/mnt/huge"]));
    }

    fn config(eal: &[&str], devices: &[&str], vdevs: &[&str]) -> Config {
        let port = |device: Option<&str>, vdev: Option<&str>| Port {
            name: "p".to_owned(),
            device: device.map(str::to_owned),
            vdev: vdev.map(str::to_owned),
            address: Vec::new(),
            gateway: Vec::new(),
            mtu: 1500,
            queues: None,
        };
        let mut config = Config::default();
        config.dataplane.eal = eal.iter().map(ToString::to_string).collect();
        config.ports.extend(devices.iter().map(|device| port(Some(device), None)));
        config.ports.extend(vdevs.iter().map(|vdev| port(None, Some(vdev))));
        config
    }

    #[test]
    fn only_configured_devices_are_taken() {
        for (eal, pci, vdevs, options) in [
            (&[][..], &["0000:00:04.0"][..], &[][..], "-a 0000:00:04.0"),
            (
                &["--no-telemetry"],
                &["00:04.0", "0000:3B:00.1"],
                &[],
                "-a 0000:00:04.0 -a 0000:3b:00.1",
            ),
            (
                &[],
                &["3b:00.0,mprq_en=1,rxqs_min_mprq=8"],
                &[],
                "-a 0000:3b:00.0,mprq_en=1,rxqs_min_mprq=8",
            ),
            (&[], &["pci:0000:03:00.0"], &[], "-a 0000:03:00.0"),
            (&[], &["0000:03:00.0"], &["net_tap0,iface=x"], "-a 0000:03:00.0"),
            (&[], &[], &["net_null0", "net_af_packet0,iface=eth1"], "--no-pci"),
            (&["-m", "64"], &[], &["net_null0"], "--no-pci"),
            // A virtual device over others.
            (
                &[],
                &[],
                &["net_bonding0,mode=1,slave=0000:03:00.0,slave=03:00.1"],
                "-a 0000:03:00.0 -a 0000:03:00.1",
            ),
            (&["--vdev=net_failsafe0,dev(3b:00.0,a=b),dev(net_tap0)"], &[], &["net_failsafe0"], ""),
            (&[], &[], &["net_bonding0,slave=0,slave=1"], ""),
            (&[], &["0000:03:00.0"], &["net_bonding0,slave=03:00.0"], "-a 0000:03:00.0"),
            (&[], &[], &["net_null0,x=192.0.2.1,mac=02:00:00:00:00:01"], "--no-pci"),
        ] {
            assert_eq!(
                super::devices(&config(eal, pci, vdevs)).join(" "),
                options,
                "{pci:?} {vdevs:?}"
            );
        }
    }

    #[test]
    fn the_configuration_may_say_itself_which_devices_are_taken() {
        for eal in
            ["-a", "-a0000:00:04.0", "--allow=0000:00:04.0", "--allo", "-b", "--block", "--no-pci"]
        {
            let config = config(&[eal, "0000:00:05.0"], &["0000:00:04.0"], &[]);
            assert_eq!(super::devices(&config), Vec::<String>::new(), "{eal}");
        }
    }

    #[test]
    fn a_pci_address_may_lack_its_domain() {
        for (given, named) in [
            ("03:00.0", "0000:03:00.0"),
            ("0000:0A:00.1", "0000:0a:00.1"),
            ("3b:00.0,key=A:b", "0000:3b:00.0,key=A:b"),
            ("pci:03:00.0", "0000:03:00.0"),
        ] {
            assert_eq!(with_domain(given), named);
        }
    }

    #[test]
    fn the_main_lcore_keeps_off_the_workers() {
        for (workers, processors, map, main) in [
            (&[1][..], &[0, 1][..], "0@(0),1@1", 0),
            (&[0, 1], &[0, 1], "2@(0,1),0@0,1@1", 2),
            (&[2, 3], &[0, 1, 2, 3], "0@(0,1),2@2,3@3", 0),
            (&[5], &[4, 5], "0@(4),5@5", 0),
        ] {
            assert_eq!(lcores(workers, processors).unwrap(), (map.to_owned(), main));
        }
    }

    #[test]
    fn a_worker_without_a_processor_is_named() {
        let error = lcores(&[1, 7], &[0, 1]).unwrap_err().to_string();
        assert!(error.contains("dataplane.workers: lcore 7"), "{error}");
        assert!(error.ends_with("may use 0,1 only"), "{error}");
    }
}
