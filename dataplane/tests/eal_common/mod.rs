//! Starting the EAL in a test: without hugepages, without PCI, beside other DPDK programs.

use dataplane::dpdk::Eal;

/// Starts the EAL with lcores 0 (main) and 1, both on any processor of the machine.
///
/// Once per process, so each test binary has one test function that does all.
pub fn start() -> Eal {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let prefix = format!("--file-prefix=shunt-test-{}", std::process::id());
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
        &prefix,
    ];
    Eal::init(&args.map(String::from)).expect("the EAL starts")
}
