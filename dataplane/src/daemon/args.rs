//! EAL arguments: the configured ones, and the lcores.

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

/// What the EAL is started with: `dataplane.eal`, and lcores for the workers and the main thread.
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
    Ok(args)
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
