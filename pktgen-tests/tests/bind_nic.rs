//! `scripts/bind-nic` against a made-up system: what it refuses, what it undoes, what it prints.
//!
//! A folder plays `/sys` and `/etc`, a thread plays the kernel's answer to `drivers_probe`, and small
//! programs play `ip`, `modprobe`, `systemctl` and `lspci`. What a real kernel does is not shown here.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;

const NIC: &str = "0000:03:00.0";

/// A machine with one NIC `enp3s0`, an e1000e in IOMMU group 7, that nobody uses.
struct System {
    root: TempDir,
    stop: Arc<AtomicBool>,
    kernel: Option<JoinHandle<()>>,
}

impl System {
    /// With a kernel in which `takes` says which drivers take the NIC.
    fn new(takes: &'static [&'static str]) -> System {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().to_owned();
        device(&at, NIC, "0x020000", "e1000e");
        fs::write(nic(&at).join("driver_override"), "").unwrap();
        group(&at, &[NIC]);
        fs::create_dir_all(nic(&at).join("net/enp3s0")).unwrap();
        let interface = at.join("sys/class/net/enp3s0");
        fs::create_dir_all(&interface).unwrap();
        symlink(nic(&at), interface.join("device")).unwrap();
        fs::write(interface.join("flags"), "0x1003\n").unwrap();
        let bin = at.join("bin");
        fs::create_dir_all(&bin).unwrap();
        let mut system = System { root, stop: Arc::default(), kernel: None };
        for name in ["modprobe", "systemctl"] {
            system.program(name, &format!("echo {name} \"$@\" >>{}/log", at.display()));
        }
        system.program("ip", &format!("echo ip \"$@\" >>{}/log; echo '[]'", at.display()));
        system.program("lspci", "echo '03:00.0 Ethernet controller: Intel Corporation 82574L'");
        let stop = Arc::clone(&system.stop);
        system.kernel = Some(thread::spawn(move || kernel(&at, takes, &stop)));
        system
    }

    fn program(&self, name: &str, does: &str) {
        let path = self.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn run(&self, words: &[&str]) -> Output {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/bind-nic");
        let path = format!("{}:/usr/bin:/bin", self.path().join("bin").display());
        Command::new(script)
            .args(words)
            .env("SHUNT_SYSTEM_ROOT", self.path())
            .env("PATH", path)
            .output()
            .unwrap()
    }

    /// What it prints when all goes well.
    fn does(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says when it refuses.
    fn refuses(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!told.contains("Traceback"), "{told}");
        told
    }

    fn driver(&self) -> Option<String> {
        driver(self.path(), NIC)
    }

    /// What the other programs were asked to do.
    fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.kernel.take().map(JoinHandle::join));
    }
}

fn nic(root: &Path) -> PathBuf {
    root.join("sys/bus/pci/devices").join(NIC)
}

fn device(root: &Path, address: &str, class: &str, driver: &str) {
    let path = root.join("sys/bus/pci/devices").join(address);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("class"), class).unwrap();
    drive(root, address, driver);
}

fn drive(root: &Path, address: &str, driver: &str) {
    let of = root.join("sys/bus/pci/drivers").join(driver);
    fs::create_dir_all(&of).unwrap();
    let link = root.join("sys/bus/pci/devices").join(address).join("driver");
    drop(fs::remove_file(&link));
    symlink(of, link).unwrap();
}

fn driver(root: &Path, address: &str) -> Option<String> {
    let link = root.join("sys/bus/pci/devices").join(address).join("driver");
    Some(fs::read_link(link).ok()?.file_name()?.to_str()?.to_owned())
}

/// Puts devices into IOMMU group 7.
fn group(root: &Path, addresses: &[&str]) {
    let of = root.join("sys/kernel/iommu_groups/7/devices");
    fs::create_dir_all(&of).unwrap();
    for address in addresses {
        let path = root.join("sys/bus/pci/devices").join(address);
        symlink(&path, of.join(address)).unwrap();
        symlink(root.join("sys/kernel/iommu_groups/7"), path.join("iommu_group")).unwrap();
    }
}

/// Answers what is written to `unbind` and to `drivers_probe`, until told to stop.
fn kernel(root: &Path, takes: &[&str], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(2));
        let probe = root.join("sys/bus/pci/drivers_probe");
        let Ok(address) = fs::read_to_string(&probe) else { continue };
        if address.is_empty() {
            continue;
        }
        fs::remove_file(&probe).unwrap();
        let path = nic(root);
        // The script unbinds before it has the NIC probed.
        drop(fs::remove_file(path.join("driver")));
        let wanted = fs::read_to_string(path.join("driver_override")).unwrap();
        let wanted = if wanted.trim().is_empty() { "e1000e" } else { wanted.trim() };
        if takes.contains(&wanted) {
            drive(root, address.trim(), wanted);
        }
    }
}

const ALL: &[&str] = &["e1000e", "vfio-pci", "uio_pci_generic"];

#[test]
fn binds_by_address_and_by_interface_and_gives_back() {
    let system = System::new(ALL);
    for name in [NIC, "03:00.0", "enp3s0"] {
        let told = system.does(&[name]);
        assert!(told.contains("from e1000e (enp3s0) to vfio-pci"), "{told}");
        assert_eq!(system.driver().as_deref(), Some("vfio-pci"));
        assert!(system.does(&[name]).contains("vfio-pci drives it already"));
        assert!(system.does(&["--undo", name]).contains("e1000e's again"));
        assert_eq!(system.driver().as_deref(), Some("e1000e"));
    }
}

#[test]
fn undo_leaves_alone_what_the_kernel_drives() {
    let system = System::new(ALL);
    let told = system.does(&["--undo", NIC]);
    assert!(told.contains("the kernel drives it already (e1000e)"), "{told}");
    assert!(!nic(system.path()).join("driver/unbind").exists());
    assert_eq!(system.log(), "");
}

#[test]
fn lists_what_there_is() {
    let system = System::new(ALL);
    device(system.path(), "0000:04:00.0", "0x010601", "ahci");
    let told = system.does(&[]);
    assert!(told.contains("free to bind"), "{told}");
    assert!(told.contains("82574L") && !told.contains("04:00.0"), "{told}");
    system.does(&[NIC]);
    assert!(system.does(&[]).contains("ready for shuntd"));
}

#[test]
fn refuses_what_is_no_nic() {
    let system = System::new(ALL);
    device(system.path(), "0000:04:00.0", "0x010601", "ahci");
    fs::create_dir_all(system.path().join("sys/class/net/lo")).unwrap();
    assert!(system.refuses(&["04:00.0"]).contains("is no NIC"));
    assert!(system.refuses(&["05:00.0"]).contains("no PCI device"));
    assert!(system.refuses(&["eth7"]).contains("neither a PCI device nor an interface"));
    assert!(system.refuses(&["../../etc"]).contains("neither a PCI device nor an interface"));
    assert!(system.refuses(&["lo"]).contains("the kernel's own"));
    // The others are bound although one is refused.
    assert!(system.refuses(&["eth7", NIC]).contains("eth7"));
    assert_eq!(system.driver().as_deref(), Some("vfio-pci"));
}

#[test]
fn refuses_a_nic_in_use() {
    let cases = [
        (
            "*addr*",
            r#"[{"addr_info":[{},{"local":"192.0.2.1","prefixlen":24}]}]"#,
            "enp3s0 has an address (192.0.2.1/24); take it off first: ip addr flush dev enp3s0",
        ),
        ("*-4*route*", r#"[{"dst":"default"}]"#, "ip -4 route flush dev enp3s0"),
        (
            "*-6*route*",
            r#"[{"dst":"fe80::/64"},{"dst":"2001:db8::/64"}]"#,
            "has routes (2001:db8::/64); take them off first: ip -6 route flush dev enp3s0",
        ),
    ];
    for (asked, answer, says) in cases {
        let system = System::new(ALL);
        let other = "echo '[]'";
        system
            .program("ip", &format!("case \"$*\" in {asked}) echo '{answer}';; *) {other};; esac"));
        let told = system.refuses(&[NIC]);
        assert!(told.contains(says), "{told}");
        assert_eq!(system.driver().as_deref(), Some("e1000e"));
    }
    // The route that every interface has is no use.
    let system = System::new(ALL);
    system
        .program("ip", r#"case "$*" in *-6*) echo '[{"dst":"fe80::/64"}]';; *) echo '[]';; esac"#);
    system.does(&[NIC]);
    let system = System::new(ALL);
    fs::create_dir_all(nic(system.path()).join("net/enp3s0/upper_br0")).unwrap();
    assert!(system.refuses(&[NIC]).contains("is part of br0"));
}

#[test]
fn what_fails_is_undone() {
    let system = System::new(&["e1000e"]);
    let told = system.refuses(&[NIC]);
    assert!(
        told.contains("vfio-pci did not take it") && told.contains("It is e1000e's again"),
        "{told}"
    );
    assert_eq!(system.driver().as_deref(), Some("e1000e"));
    assert!(system.log().contains("ip link set enp3s0 up"), "{}", system.log());
    assert_eq!(fs::read_to_string(nic(system.path()).join("driver_override")).unwrap().trim(), "");
    let system = System::new(&[]);
    assert!(system.refuses(&[NIC]).contains("No driver has it now: scripts/bind-nic --undo"));
    assert!(system.refuses(&["--undo", NIC]).contains("load that with modprobe"));
}

#[test]
fn a_missing_module_changes_nothing() {
    let system = System::new(ALL);
    system.program("modprobe", "echo 'FATAL: Module vfio-pci not found.' >&2; exit 1");
    assert!(system.refuses(&[NIC]).contains("Module vfio-pci not found"));
    assert_eq!(system.driver().as_deref(), Some("e1000e"));
}

#[test]
fn a_group_is_given_as_a_whole() {
    let system = System::new(ALL);
    device(system.path(), "0000:00:1c.0", "0x060400", "pcieport");
    device(system.path(), "0000:03:00.1", "0x010601", "ahci");
    group(system.path(), &["0000:00:1c.0", "0000:03:00.1"]);
    let told = system.refuses(&[NIC]);
    assert!(told.contains("IOMMU group 7 with 0000:03:00.1 (ahci), and"), "{told}");
    drive(system.path(), "0000:03:00.1", "vfio-pci");
    system.does(&[NIC]);
}

#[test]
fn without_an_iommu_it_offers_what_works_there() {
    let system = System::new(ALL);
    fs::remove_file(nic(system.path()).join("iommu_group")).unwrap();
    let told = system.refuses(&[NIC]);
    assert!(told.contains("intel_iommu=on") && told.contains("--driver uio_pci_generic"), "{told}");
    assert_eq!(system.driver().as_deref(), Some("e1000e"));
    assert!(system.refuses(&["--noiommu", NIC]).contains("CONFIG_VFIO_NOIOMMU"));
    assert_eq!(system.driver().as_deref(), Some("e1000e"));
    assert!(system.does(&["--driver", "uio_pci_generic", NIC]).contains("to uio_pci_generic"));
    system.does(&["--undo", NIC]);
    let noiommu = system.path().join("sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
    fs::create_dir_all(noiommu.parent().unwrap()).unwrap();
    fs::write(&noiommu, "N").unwrap();
    system.does(&["--noiommu", NIC]);
    assert_eq!(fs::read_to_string(&noiommu).unwrap(), "Y");
    system.does(&["--undo", NIC]);
    let lockdown = system.path().join("sys/kernel/security/lockdown");
    fs::create_dir_all(lockdown.parent().unwrap()).unwrap();
    fs::write(lockdown, "none [integrity] confidentiality").unwrap();
    assert!(system.refuses(&["--driver", "uio_pci_generic", NIC]).contains("Secure Boot"));
}

#[test]
fn a_bifurcated_nic_needs_no_binding() {
    let system = System::new(ALL);
    drive(system.path(), NIC, "mlx5_core");
    let told = system.does(&["--boot", NIC]);
    assert!(told.contains("it needs no binding"), "{told}");
    assert_eq!(system.driver().as_deref(), Some("mlx5_core"));
    assert_eq!(system.log(), "");
}

#[test]
fn boot_writes_a_unit_and_undo_takes_it_away() {
    let system = System::new(ALL);
    let unit = system.path().join(format!("etc/systemd/system/shunt-nic-{NIC}.service"));
    let told = system.does(&["--boot", "enp3s0"]);
    assert!(told.contains("also at each boot"), "{told}");
    let text = fs::read_to_string(&unit).unwrap();
    assert!(text.contains("Before=network-pre.target shuntd.service"), "{text}");
    assert!(text.contains(&format!("scripts/bind-nic --driver vfio-pci {NIC}\n")), "{text}");
    assert!(system.log().contains(&format!("systemctl enable --quiet shunt-nic-{NIC}.service")));
    system.does(&["--undo", NIC]);
    assert!(!unit.exists());
    assert!(system.log().contains("systemctl disable"));
}

#[test]
fn says_when_a_virtio_nic_goes_past_the_iommu() {
    for (bit, warns) in [('0', true), ('1', false)] {
        let system = System::new(ALL);
        let virtio = nic(system.path()).join("virtio0");
        fs::create_dir_all(&virtio).unwrap();
        let features: String = (0..64).map(|n| if n == 33 { bit } else { '1' }).collect();
        fs::write(virtio.join("features"), features + "\n").unwrap();
        assert_eq!(system.does(&[NIC]).contains("--iova-mode=pa"), warns);
    }
}

#[test]
fn the_command_line_is_checked() {
    let system = System::new(ALL);
    assert!(system.refuses(&["--undo"]).contains("which NIC?"));
    assert!(system.refuses(&["--driver", "igb", NIC]).contains("--help"));
    assert!(system.refuses(&["--nonsense"]).contains("--help"));
    assert!(system.does(&["--help"]).contains("Usage: scripts/bind-nic"));
}
