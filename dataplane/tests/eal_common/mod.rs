//! Starting the EAL in a test: without hugepages, without PCI, beside other DPDK programs.

use dataplane::dpdk::Eal;

/// Starts the EAL with lcores 0 (main) and 1, both on any processor of the machine.
///
/// Once per process, so each test binary has one test function that does all.
pub(crate) fn start() -> Eal {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let prefix = format!("shunt-test-{}", std::process::id());
    let lcores = format!("0@(0-{last}),1@(0-{last})", last = processors - 1);
    let args = [
        "--lcores",
        &lcores,
        "--no-huge",
        "-m",
        "256",
        "--no-pci",
        "--no-shconf",
        "--no-telemetry",
        &format!("--file-prefix={prefix}"),
    ];
    let eal = Eal::init(&args.map(String::from)).expect("the EAL starts");
    // The EAL makes a run-time directory and, with --no-shconf, puts nothing in it.
    let _ = std::fs::remove_dir(format!("/var/run/dpdk/{prefix}"));
    eal
}
