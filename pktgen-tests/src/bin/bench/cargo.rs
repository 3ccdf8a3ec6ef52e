//! Builds the product's own benchmarks.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::machine::top;

/// `cargo bench` of one benchmark in `dataplane/benches`, without libdpdk unless it needs it.
pub(crate) fn bench(name: &str, dpdk: bool) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(top()).args(["bench", "--locked", "-p", "shunt-dataplane"]);
    command.args(["--bench", name]).args((!dpdk).then_some("--no-default-features"));
    command
}

/// Builds one: its executable.
pub(crate) fn build(name: &str, dpdk: bool) -> Result<PathBuf> {
    let mut command = bench(name, dpdk);
    command.args(["--no-run", "--message-format=json-render-diagnostics"]);
    let out = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(out.status.success(), "cargo bench failed: {}", out.status);
    let messages = String::from_utf8_lossy(&out.stdout).into_owned();
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ours = artifacts.filter(|m| m["target"]["name"] == name);
    let file = ours.find_map(|m| m["executable"].as_str().map(PathBuf::from));
    file.context("cargo names no executable")
}
