//! EAL arguments: the configured ones, and the lcores.

use std::num::NonZero;

use crate::config::Config;

/// What the EAL is started with: `dataplane.eal`, and lcores for the workers and the main thread.
///
/// Each worker lcore is pinned to the processor of the same number. The main lcore, whose threads
/// are control and slow path, floats over the processors that are left, or over all when none is.
pub(super) fn eal_arguments(config: &Config) -> Vec<String> {
    let mut args = config.dataplane.eal.clone();
    let names_lcores =
        |a: &String| a.starts_with("--lcores") || a.starts_with("-l") || a.starts_with("-c");
    if !args.iter().any(names_lcores) {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get) as u32;
        let (lcores, main) = lcores(&config.dataplane.workers, processors);
        args.extend(["--lcores".into(), lcores, "--main-lcore".into(), main.to_string()]);
    }
    args
}

/// The `--lcores` map, and the main lcore's number.
fn lcores(workers: &[u32], processors: u32) -> (String, u32) {
    let main = (0..).find(|n| !workers.contains(n)).unwrap_or(0);
    let free: Vec<_> =
        (0..processors).filter(|n| !workers.contains(n)).map(|n| n.to_string()).collect();
    let home = match free.is_empty() {
        true => format!("0-{}", processors.saturating_sub(1)),
        false => free.join(","),
    };
    let mut map = vec![format!("{main}@({home})")];
    map.extend(workers.iter().map(|w| format!("{w}@{w}")));
    (map.join(","), main)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_lcore_keeps_off_the_workers() {
        assert_eq!(lcores(&[1], 2), ("0@(0),1@1".into(), 0));
        assert_eq!(lcores(&[0, 1], 2), ("2@(0-1),0@0,1@1".into(), 2));
        assert_eq!(lcores(&[2, 3], 4), ("0@(0,1),2@2,3@3".into(), 0));
    }
}
