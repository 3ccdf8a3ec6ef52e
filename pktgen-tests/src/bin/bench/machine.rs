//! What the numbers were measured on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// What a number means nothing without.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) machine: String,
    pub(crate) dpdk: String,
    pub(crate) commit: String,
    pub(crate) command: String,
}

/// The repository's top.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).map_or("/".into(), Path::to_path_buf)
}

/// Where results are kept.
pub(crate) fn documents() -> PathBuf {
    top().join("docs/performance")
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top().join("target"), PathBuf::from)
}

/// A program of the release build; `SHUNT_BIN` names another directory.
pub(crate) fn binary(name: &str) -> PathBuf {
    let dir = std::env::var_os("SHUNT_BIN").map_or_else(|| target().join("release"), PathBuf::from);
    dir.join(name)
}

/// What a program prints.
pub(crate) fn output(program: &str, args: &[&str]) -> Result<String> {
    let out = Command::new(program).args(args).current_dir(top()).output();
    let out = out.with_context(|| format!("cannot run {program}"))?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// The value behind `name` in a file of `name : value` lines.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

pub(crate) fn describe() -> Result<Machine> {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let mhz = field("/proc/cpuinfo", "cpu MHz").and_then(|mhz| mhz.parse::<f64>().ok());
    let cores = std::thread::available_parallelism()?;
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|kib| kib.split_whitespace().next()?.parse::<f64>().ok())
        .unwrap_or_default();
    let kernel = output("uname", &["-sr"])?;
    let virtualised = match field("/proc/cpuinfo", "flags") {
        Some(flags) if flags.split_whitespace().any(|flag| flag == "hypervisor") => ", virtual",
        _ => "",
    };
    let mhz = mhz.map_or(String::new(), |mhz| format!(" at {:.1} GHz", mhz / 1000.0));
    let gib = memory / f64::from(1 << 20);
    let changed = !output("git", &["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    let args: Vec<_> = std::env::args().skip(1).collect();
    Ok(Machine {
        machine: format!("{cpu}{mhz}, {cores} processors{virtualised}, {gib:.0} GiB, {kernel}"),
        dpdk: output("pkg-config", &["--modversion", "libdpdk"])?,
        commit: output("git", &["rev-parse", "--short=12", "HEAD"])?
            + if changed { " with changes" } else { "" },
        command: ["scripts/bench".to_owned()].into_iter().chain(args).collect::<Vec<_>>().join(" "),
    })
}
