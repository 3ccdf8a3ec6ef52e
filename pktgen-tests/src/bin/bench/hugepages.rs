//! Hugepages of 2 MiB for the time of a measurement.

use std::fs;

const DIR: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// What programs get their packet buffers from.
#[derive(Debug)]
pub(crate) enum Memory {
    /// Hugepages; the number there was before, given back on drop.
    Huge { before: u64 },
    /// Pages of 4 KiB: slower, but there.
    Small,
}

fn read(name: &str) -> u64 {
    let text = fs::read_to_string(format!("{DIR}/{name}")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

impl Memory {
    /// Reserves `mib` beside what is in use, or says why not.
    pub(crate) fn reserve(mib: u64) -> Memory {
        let before = read("nr_hugepages");
        let in_use = before - read("free_hugepages").min(before);
        let wanted = (in_use + mib.div_ceil(2)).max(before);
        let memory = Memory::Huge { before };
        let written = fs::write(format!("{DIR}/nr_hugepages"), wanted.to_string());
        match written {
            Ok(()) if read("nr_hugepages") >= wanted => memory,
            Ok(()) => {
                eprintln!("bench: no {mib} MiB of hugepages to be had: measuring without");
                drop(memory);
                Memory::Small
            }
            Err(error) => {
                eprintln!("bench: cannot reserve hugepages ({error}): measuring without");
                std::mem::forget(memory);
                Memory::Small
            }
        }
    }

    /// EAL arguments of a program that needs so much.
    pub(crate) fn eal(&self, mib: u64) -> Vec<String> {
        let mut args = vec!["--no-pci".into(), "--no-telemetry".into()];
        match self {
            Memory::Huge { .. } => args.push("--in-memory".into()),
            Memory::Small => args.extend(
                ["--no-huge", "--no-shconf", "-m"]
                    .map(str::to_owned)
                    .into_iter()
                    .chain([mib.to_string()]),
            ),
        }
        args
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Memory::Huge { before } = self {
            drop(fs::write(format!("{DIR}/nr_hugepages"), before.to_string()));
        }
    }
}
