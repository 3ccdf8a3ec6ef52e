//! Finds libdpdk with pkg-config, compiles the shim and generates the bindings.

use std::path::PathBuf;
use std::process::Command;
use std::{env, process};

const FUNCTIONS: &[&str] = &[
    "shim_.*",
    "rte_version",
    "rte_strerror",
    "rte_log_set_global_level",
    "rte_log_get_global_level",
    "rte_eal_(init|cleanup|remote_launch|wait_lcore|mp_wait_lcore|get_lcore_state)",
    "rte_eal_(hotplug_remove|lcore_role|process_type|has_hugepages)",
    "rte_get_(tsc_hz|main_lcore|next_lcore)",
    "rte_lcore_(count|to_socket_id|is_enabled)",
    "rte_socket_(count|id)",
    "rte_thread_(register|unregister)",
    "rte_dev_probe",
    "rte_pktmbuf_(pool_create|free_bulk)",
    "rte_mempool_(avail_count|in_use_count|free|lookup)",
    "rte_eth_dev_(get_port_by_name|get_name_by_port|info_get|count_avail|socket_id)",
    "rte_eth_dev_(configure|start|stop|close|adjust_nb_rx_tx_desc|set_mtu|get_mtu)",
    "rte_eth_(find_next|rx_queue_setup|tx_queue_setup|macaddr_get|stats_get|stats_reset)",
    "rte_eth_(promiscuous|allmulticast)_(enable|disable|get)",
    "rte_hash_(create|free|add_key_data|lookup_bulk_data)",
    "rte_malloc_get_socket_stats",
];
const TYPES: &[&str] = &[
    "shim_mbuf_layout",
    "rte_eth_(conf|dev_info|rxconf|txconf|stats)",
    "rte_ether_addr",
    "rte_hash_parameters",
    "rte_malloc_socket_stats",
];
const VARS: &[&str] = &[
    "SHIM_.*",
    "RTE_LOG_[A-Z]+",
    "RTE_PKTMBUF_HEADROOM",
    "RTE_MAX_LCORE",
    "RTE_MAX_ETHPORTS",
    "RTE_ETH_NAME_MAX_LEN",
    "RTE_MAX_NUMA_NODES",
];
/// Reached by pointer or by the shim's offsets only, so no Rust code can depend on their layout.
const OPAQUE: &[&str] =
    &["rte_mbuf", "rte_mempool", "rte_device", "rte_arp_.*", "rte_eth_rxseg", "rte_hash"];

fn main() {
    for path in ["build.rs", "shim/shim.c", "shim/shim.h"] {
        println!("cargo::rerun-if-changed={path}");
    }
    pkg_config::Config::new()
        .atleast_version("22.11")
        .probe("libdpdk")
        .unwrap_or_else(|error| missing(&error.to_string()));
    let cflags = cflags();

    let mut shim = cc::Build::new();
    shim.file("shim/shim.c").warnings(true);
    for flag in &cflags {
        shim.flag(flag);
    }
    shim.compile("dpdk_shim");

    let mut bindings = bindgen::Builder::default()
        .header("shim/shim.h")
        .clang_args(&cflags)
        .rust_target(bindgen::RustTarget::stable(85, 0).expect("bindgen knows Rust 1.85"))
        .rust_edition(bindgen::RustEdition::Edition2024)
        .use_core()
        .generate_comments(false)
        .layout_tests(true)
        .prepend_enum_name(false)
        .derive_default(true)
        .derive_debug(false);
    for name in FUNCTIONS {
        bindings = bindings.allowlist_function(name);
    }
    for name in TYPES {
        bindings = bindings.allowlist_type(name);
    }
    for name in VARS {
        bindings = bindings.allowlist_var(name);
    }
    for name in OPAQUE {
        bindings = bindings.opaque_type(name);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindings
        .generate()
        .unwrap_or_else(|error| missing(&error.to_string()))
        .write_to_file(out.join("bindings.rs"))
        .expect("OUT_DIR is writable");
}

/// Every flag that DPDK's own users compile with: `-include rte_config.h` and `-march` decide
/// struct layouts, and the `pkg-config` crate hands over only include paths and definitions.
fn cflags() -> Vec<String> {
    println!("cargo::rerun-if-env-changed=PKG_CONFIG");
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    match Command::new(&program).args(["--cflags", "libdpdk"]).output() {
        Ok(out) if out.status.success() => {
            String::from_utf8_lossy(&out.stdout).split_whitespace().map(String::from).collect()
        }
        Ok(out) => missing(&String::from_utf8_lossy(&out.stderr)),
        Err(error) => missing(&format!("{program}: {error}")),
    }
}

fn missing(why: &str) -> ! {
    eprintln!(
        "dpdk-sys needs DPDK 22.11 LTS, 23.11 LTS or 24.11 LTS with its headers, and libclang.\n\
         On Debian and Ubuntu: apt-get install libdpdk-dev libclang-dev pkg-config\n\
         A DPDK of your own: PKG_CONFIG_PATH=<prefix>/lib/<triplet>/pkgconfig\n\
         Without DPDK: build shunt-dataplane with --no-default-features.\n\n{why}"
    );
    process::exit(1);
}
