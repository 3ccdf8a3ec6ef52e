//! From a bare system to served virtual services, on NICs of a PCI bus bound to DPDK through an IOMMU:
//! as an operator would, by the project's own scripts and unit, in a machine under QEMU.
//!
//! The NICs are emulated, their drivers are not: what e1000, e1000e, vmxnet3 and virtio do that no
//! virtual device does is met here.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pktgen_tests::{Lab, Output, Reals, binary, can_run};
use serde_json::Value;

/// Number on the machine, model, and the driver that the kernel has for it.
const NICS: [(u8, &str, &str); 4] = [
    (0, "e1000", "e1000"),
    (1, "e1000e", "e1000e"),
    (2, "vmxnet3", "vmxnet3"),
    (3, "virtio", "virtio-pci"),
];

/// Virtual service, real server, method, who answers.
const WAYS: [(&str, &str, &str, &str); 6] = [
    ("192.0.2.100", "192.0.2.21", "dr", "rs1"),
    ("192.0.2.101", "203.0.113.31", "ipip", "rs3"),
    ("192.0.2.102", "203.0.113.32", "gre", "rs4"),
    ("[2001:db8:2::100]", "2001:db8:2::22", "dr", "rs2"),
    ("[2001:db8:2::101]", "2001:db8:3::31", "ipip", "rs3"),
    ("[2001:db8:2::102]", "2001:db8:3::32", "gre", "rs4"),
];

/// The lab of this file's tests, one test at a time, with the binaries and the unit installed.
fn machine() -> Option<MutexGuard<'static, Lab>> {
    static LAB: OnceLock<Mutex<Lab>> = OnceLock::new();
    can_run().then(|| {
        let lab = LAB.get_or_init(|| {
            let lab = Lab::up_machine(
                Reals::All,
                &["--ipv6", "--machine", "e1000 e1000e vmxnet3 virtio:2"],
            );
            install(&lab);
            Mutex::new(lab)
        });
        lab.lock().unwrap_or_else(PoisonError::into_inner)
    })
}

fn on(lab: &Lab, command: &str) -> Output {
    let path = format!("PATH={}:$PATH; ", scripts().display());
    lab.exec("machine", &["bash", "-c", &(path + command)])
}

fn scripts() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").canonicalize().unwrap()
}

/// What docs/quickstart.md says, but for the building.
fn install(lab: &Lab) {
    let (shuntd, shunt) = (binary("shuntd"), binary("shunt"));
    let command = format!(
        "install -m 755 {} {} /usr/local/sbin/ &&
         install -D -m 644 {}/shuntd.service /etc/systemd/system/shuntd.service &&
         mkdir -p /etc/shunt && hugepages 256 --boot && systemctl daemon-reload",
        shuntd.display(),
        shunt.display(),
        scripts().display()
    );
    on(lab, &command).ok();
}

/// The PCI addresses of the machine's NICs, by their numbers. e1000e is PCI Express: it is behind a port.
const ADDRESSES: [&str; 4] = ["0000:00:10.0", "0000:01:00.0", "0000:00:12.0", "0000:00:13.0"];

fn address(number: u8) -> &'static str {
    ADDRESSES[usize::from(number)]
}

fn configuration(nic: &str, workers: &str) -> String {
    let mut text = format!(
        r#"
[dataplane]
workers = {workers}
idle = "sleep"
flows_per_worker = 65536
flows6_per_worker = 8192
mbufs = 16383
[[port]]
name = "lan"
device = "{nic}"
address = ["192.0.2.10/24", "2001:db8:2::10/64"]
gateway = ["192.0.2.1", "2001:db8:2::1"]
"#
    );
    for (vip, real, method, _) in WAYS {
        text += &format!(
            "[[service]]\nprotocol = \"tcp\"\naddress = \"{vip}:80\"\n\
             [[service.real]]\naddress = \"{real}\"\nforward = \"{method}\"\n"
        );
    }
    text
}

fn configure(lab: &Lab, nic: &str, workers: &str) {
    let file = lab.dir().join("machine/shunt.toml");
    fs::write(&file, configuration(nic, workers)).unwrap();
    on(lab, &format!("install -m 644 {} /etc/shunt/shunt.toml", file.display())).ok();
}

fn log(lab: &Lab) -> String {
    on(lab, "journalctl -u shuntd -n 60 --no-pager -o cat").out
}

/// Starts the unit, and waits until the director says it is ready and its neighbors are known.
fn start(lab: &Lab) {
    on(lab, "systemctl reset-failed shuntd; systemctl start shuntd").ok();
    await_director(lab);
}

fn await_director(lab: &Lab) {
    let known = "shunt neighbor list | grep -c ' reachable '";
    await_that(lab, "its neighbors are known", || {
        on(lab, known).out.trim().parse::<u32>().is_ok_and(|known| known >= 4)
    });
}

fn await_that(lab: &Lab, what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "not after 90 s: {what}\n{}\n{}",
            log(lab),
            on(lab, "shunt neighbor list; shunt port list").out
        );
        sleep(Duration::from_millis(300));
    }
}

/// Requests by each way; none may fail.
fn serves(lab: &Lab, what: &str) {
    for (vip, _, method, server) in WAYS {
        let served = lab.fetch(&format!("http://{vip}/"), 10);
        let right = served.iter().filter(|s| *s == server).count();
        assert_eq!(right, 10, "{what}, {vip} by {method}: {served:?}\n{}", log(lab));
    }
}

fn stop(lab: &Lab, nic: &str) {
    on(lab, "systemctl stop shuntd").ok();
    on(lab, &format!("bind-nic --undo {nic}")).ok();
}

#[test]
fn each_nic_is_bound_serves_and_is_given_back() {
    let Some(lab) = machine() else { return };
    for (number, model, driver) in NICS {
        let nic = address(number);
        let told = on(&lab, &format!("bind-nic {nic}")).ok();
        assert!(told.contains("to vfio-pci"), "{told}");
        configure(&lab, nic, "[1]");
        start(&lab);
        serves(&lab, model);
        stop(&lab, nic);
        // The kernel's driver works again: its interface reaches the router.
        let kernel = format!(
            "set -e; udevadm settle
             name=$(ls -d /sys/bus/pci/devices/{nic}/net/* /sys/bus/pci/devices/{nic}/virtio*/net/* 2>/dev/null | xargs -n 1 basename)
             readlink /sys/bus/pci/devices/{nic}/driver
             ip link set $name up; ip address add 192.0.2.10/24 dev $name
             for i in 1 2 3 4 5 6 7 8; do if ping -q -c 1 -W 2 192.0.2.1; then break; fi; done
             ip address flush dev $name; ip link set $name down"
        );
        let told = on(&lab, &kernel).ok();
        assert!(told.contains(&format!("/{driver}\n")), "{model}: {told}");
        assert!(told.contains(" 1 received"), "{model}: {told}");
    }
}

#[test]
fn goes_on_after_reload_kill_and_a_cable_out() {
    let Some(lab) = machine() else { return };
    let nic = address(0);
    on(&lab, &format!("bind-nic {nic}")).ok();
    configure(&lab, nic, "[1]");
    start(&lab);
    on(&lab, "systemctl reload shuntd").ok();
    serves(&lab, "after a reload");

    let pid = || on(&lab, "systemctl show -p MainPID --value shuntd").ok();
    let before = pid();
    on(&lab, "systemctl kill -s KILL shuntd").ok();
    await_that(&lab, "systemd has started another", || {
        let now = pid();
        now != before && now.trim() != "0"
    });
    await_director(&lab);
    serves(&lab, "after a kill");

    let state =
        |wanted: &str| on(&lab, &format!("shunt port list | grep -q '^lan  *{wanted} '")).code == 0;
    lab.script("cable", &["0", "off"]).ok();
    await_that(&lab, "the link is down", || state("down"));
    assert!(lab.fetch("http://192.0.2.100/", 1)[0].starts_with('-'));
    sleep(Duration::from_secs(5));
    lab.script("cable", &["0", "on"]).ok();
    await_that(&lab, "the link is up", || state("up"));
    await_director(&lab);
    serves(&lab, "after the cable was out");
    stop(&lab, nic);
}

#[test]
fn two_workers_on_two_queue_pairs_of_virtio() {
    let Some(lab) = machine() else { return };
    let nic = address(3);
    on(&lab, &format!("bind-nic {nic}")).ok();
    configure(&lab, nic, "[1, 2]");
    start(&lab);
    for _ in 0..3 {
        serves(&lab, "two workers");
    }
    let stats = on(&lab, "shunt --json stats").ok();
    stop(&lab, nic);
    let told: Value = serde_json::from_str(&stats).unwrap();
    let workers = told["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2, "{stats}");
    for worker in workers {
        assert!(worker["events"]["forwarded"].as_u64() > Some(0), "{stats}\n{}", log(&lab));
    }
}

#[test]
fn says_what_is_missing() {
    let Some(lab) = machine() else { return };
    let nic = address(0);
    configure(&lab, nic, "[1]");
    let start = "shuntd --config /etc/shunt/shunt.toml 2>&1 >/dev/null";
    // The kernel drives it yet.
    let refused = on(&lab, start);
    assert!(refused.code != 0 && refused.out.contains("bind-nic"), "{refused:?}");
    on(&lab, &format!("bind-nic {nic}")).ok();
    on(&lab, "hugepages 0").ok();
    let refused = on(&lab, start);
    assert!(refused.code != 0 && refused.out.contains("scripts/hugepages"), "{refused:?}");
    on(&lab, "hugepages 4").ok();
    let refused = on(&lab, start);
    assert!(refused.code != 0 && refused.out.contains("hugepages"), "{refused:?}");
    on(&lab, "hugepages 256").ok();
    on(&lab, &format!("bind-nic --undo {nic}")).ok();
    // What may be typed amiss.
    for (command, says) in [
        ("bind-nic 0000:00:00.0", "is no NIC"),
        ("bind-nic eth77", "neither a PCI device nor an interface"),
        ("bind-nic --noiommu --undo lo", "the kernel's own"),
        ("hugepages 5000", "should be left"),
    ] {
        let refused = on(&lab, command);
        assert!(refused.code != 0 && refused.err.contains(says), "{command}: {refused:?}");
    }
}

#[test]
fn a_unit_binds_a_nic_at_boot() {
    let Some(lab) = machine() else { return };
    let nic = address(2);
    let drives =
        || on(&lab, &format!("basename $(readlink /sys/bus/pci/devices/{nic}/driver)")).ok();
    on(&lab, &format!("bind-nic --boot {nic}")).ok();
    let unit = format!("shunt-nic-{nic}.service");
    assert_eq!(on(&lab, &format!("systemctl is-enabled {unit}")).ok().trim(), "enabled");
    // As after a boot: the kernel has it.
    let free = format!(
        "echo >/sys/bus/pci/devices/{nic}/driver_override
         echo {nic} >/sys/bus/pci/devices/{nic}/driver/unbind; echo {nic} >/sys/bus/pci/drivers_probe
         systemctl daemon-reload"
    );
    on(&lab, &free).ok();
    assert_eq!(drives().trim(), "vmxnet3");
    on(&lab, &format!("systemctl start {unit}")).ok();
    assert_eq!(drives().trim(), "vfio-pci");
    on(&lab, &format!("bind-nic --undo {nic}")).ok();
    assert_eq!(drives().trim(), "vmxnet3");
    assert_ne!(on(&lab, &format!("systemctl is-enabled {unit}")).code, 0);
}

#[test]
fn without_an_iommu_uio_serves() {
    let Some(_other) = machine() else { return };
    let lab = Lab::up_machine(Reals::Dr, &["--ipv6", "--no-iommu", "--machine", "e1000"]);
    install(&lab);
    let nic = address(0);
    let refused = on(&lab, &format!("bind-nic {nic}"));
    assert!(refused.code != 0 && refused.err.contains("--driver uio_pci_generic"), "{refused:?}");
    let told = on(&lab, &format!("bind-nic --driver uio_pci_generic {nic}")).ok();
    assert!(told.contains("to uio_pci_generic"), "{told}");
    configure(&lab, nic, "[1]");
    start(&lab);
    for (vip, server) in [("192.0.2.100", "rs1"), ("[2001:db8:2::100]", "rs2")] {
        assert_eq!(lab.fetch(&format!("http://{vip}/"), 10), [server; 10], "{}", log(&lab));
    }
    stop(&lab, nic);
}
