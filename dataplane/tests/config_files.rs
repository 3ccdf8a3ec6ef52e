//! Configurations that are right: read, written, compared; and the documents about them.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dataplane::config::{
    Action, Config, DEFAULT_HASH_KEY, Gre, Neighbor, Port, Real, Service, default_forward,
    default_scheduler, default_weight,
};
use dataplane::types::{Mac, Netmask, Protocol};
use dataplane::vocabulary::{ForwardMethod, IdleMode, NoServer, SchedulerFlags, SchedulerKind};
use proptest::prelude::*;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

fn document(name: &str) -> String {
    std::fs::read_to_string(format!("{DOCS}/{name}")).unwrap()
}

/// A configuration in which every key has a value.
fn full() -> Config {
    let mut config = Config::default();
    config.control.group = Some("shunt".to_owned());
    config.scheduling.hash_key = Some([7; 16]);
    let gre = Some(Gre { checksum: true, key: Some(42) });
    let port = Port {
        name: "lan".to_owned(),
        device: Some("0000:03:00.0".to_owned()),
        vdev: None,
        address: ["192.0.2.10/24", "2001:db8:2::10/64"].map(|a| a.parse().unwrap()).to_vec(),
        gateway: vec![[192, 0, 2, 1].into(), "2001:db8:2::1".parse().unwrap()],
        mtu: 1500,
        queues: Some(1),
    };
    config.ports = vec![
        port.clone(),
        Port {
            name: "wan".to_owned(),
            device: None,
            vdev: Some("net_tap0".to_owned()),
            address: vec!["198.51.100.10/24".parse().unwrap()],
            gateway: Vec::new(),
            ..port
        },
    ];
    config.neighbors = vec![Neighbor {
        port: "lan".to_owned(),
        address: [192, 0, 2, 23].into(),
        mac: Mac([2, 0, 0, 0, 0, 0x23]),
    }];
    let service = Service {
        protocol: Protocol::Tcp,
        address: "192.0.2.100:80".parse().unwrap(),
        scheduler: SchedulerKind::Mh,
        scheduler_flags: SchedulerFlags::MH_PORT,
        one_packet: false,
        persistence: Some(Duration::from_secs(300)),
        persistence_netmask: Some(Netmask::V4([255, 255, 255, 0].into())),
        reals: vec![
            Real {
                address: [10, 0, 0, 1].into(),
                weight: 3,
                forward: ForwardMethod::Gre,
                gre,
                upper_threshold: 1000,
                lower_threshold: 800,
            },
            Real {
                address: [192, 0, 2, 22].into(),
                weight: 0,
                forward: ForwardMethod::Dr,
                gre: None,
                upper_threshold: 0,
                lower_threshold: 0,
            },
        ],
    };
    config.services = vec![Arc::new(service)];
    let udp = "192.0.2.100:53".parse().unwrap();
    let udp = Service::new(Protocol::Udp, udp, SchedulerKind::Wrr);
    config.services.push(Arc::new(Service { one_packet: true, ..udp }));
    config
}

/// Every table's keys, from a value in which all are set; with the values.
fn keys(config: &Config) -> BTreeMap<(String, String), toml::Value> {
    let mut keys = BTreeMap::new();
    collect(&toml::Value::try_from(config).unwrap(), "", &mut keys);
    keys
}

fn collect(value: &toml::Value, table: &str, keys: &mut BTreeMap<(String, String), toml::Value>) {
    match value {
        toml::Value::Table(entries) => {
            for (key, value) in entries {
                let path = if table.is_empty() { key.clone() } else { format!("{table}.{key}") };
                let is_tables =
                    value.as_array().is_some_and(|a| a.iter().any(toml::Value::is_table));
                if !table.is_empty() && !is_tables {
                    keys.entry((table.to_owned(), key.clone())).or_insert_with(|| value.clone());
                }
                collect(value, &path, keys);
            }
        }
        toml::Value::Array(elements) => elements.iter().for_each(|e| collect(e, table, keys)),
        _ => {}
    }
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let mut documented = BTreeMap::new();
    let mut table = String::new();
    for line in document("configuration.md").lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            table = heading.trim_matches(['`', '[', ']']).to_owned();
        } else if let Some(row) = line.strip_prefix("| `").filter(|_| !table.contains(' ')) {
            let cells: Vec<_> = row.split(" | ").collect();
            let key = cells[0].trim_end_matches('`').to_owned();
            documented.insert((table.clone(), key), cells[2].to_owned());
        }
    }
    let known = keys(&full());
    let names = |all: &mut dyn Iterator<Item = &(String, String)>| -> Vec<_> {
        all.map(|(table, key)| format!("{table}.{key}")).collect()
    };
    assert_eq!(names(&mut documented.keys()), names(&mut known.keys()));

    // Defaults of single tables are those of the code.
    let defaults = keys(&Config::default());
    for (key, text) in &documented {
        let single = ["dataplane", "control", "timeouts", "scheduling"].contains(&key.0.as_str());
        let expected = match defaults.get(key) {
            Some(value) => format!("`{value}`"),
            None if single => "none".to_owned(),
            None => continue,
        };
        assert_eq!(*text, expected, "{key:?}");
    }
    let of = |table: &str, key: &str| documented[&(table.to_owned(), key.to_owned())].clone();
    assert_eq!(of("service", "scheduler"), format!("`\"{}\"`", default_scheduler()));
    assert_eq!(of("service.real", "weight"), format!("`{}`", default_weight()));
    assert_eq!(of("service.real", "forward"), format!("`\"{}\"`", default_forward()));
    assert_eq!(of("port", "mtu"), "`1500`");
}

#[test]
fn every_scheduler_method_and_idle_mode_is_documented() {
    let text = document("configuration.md");
    let names = SchedulerKind::ALL
        .iter()
        .map(|s| s.name())
        .chain(ForwardMethod::ALL.iter().map(|m| m.name()));
    for name in names {
        assert!(text.contains(&format!("`\"{name}\"`")), "{name}");
    }
    assert!(text.contains(std::str::from_utf8(&DEFAULT_HASH_KEY).unwrap()));
}

#[test]
fn the_example_is_right_and_has_every_key() {
    let text = document("shunt.example.toml");
    let config = Config::parse(&text, "shunt.example.toml").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.services.len(), 3);
    assert_eq!(config.dataplane, Config::default().dataplane, "it shows the defaults");
    assert_eq!(config.timeouts, Config::default().timeouts);
    for (table, key) in keys(&full()).into_keys() {
        let shown = text.lines().any(|line| {
            line.trim_start_matches("# ").starts_with(&format!("{key} = "))
                || line.contains(&format!(" {key} = "))
        });
        assert!(shown, "{table}.{key}");
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = "[[port]]\nname = \"lan\"\nvdev = \"net_tap0\"\naddress = [\"192.0.2.10/24\"]\n\
                [[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.100:80\"\n\
                [[service.real]]\naddress = \"192.0.2.21\"\n";
    let config = Config::parse(text, "").unwrap();
    assert_eq!(config.dataplane.workers, [1]);
    assert_eq!(config.dataplane.idle, IdleMode::Poll);
    assert_eq!(config.ports[0].mtu, 1500);
    assert_eq!(config.services[0].scheduler, SchedulerKind::Wlc);
    let Real { weight, forward, .. } = config.services[0].reals[0];
    assert_eq!((weight, forward), (1, ForwardMethod::Dr));
    assert_eq!(config.timeouts.tcp_fin, Duration::from_secs(120));
}

#[test]
fn the_specification_has_what_the_file_says_and_what_the_ports_are() {
    let config = full();
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let spec = config.spec(&[(mac, 1400)]);
    assert_eq!((spec.ports[0].mac, spec.ports[0].mtu), (mac, 1400));
    assert_eq!((spec.ports[1].mac, spec.ports[1].mtu), (Mac::ZERO, 1500), "not started");
    assert_eq!(spec.hash_key, [7; 16]);
    assert_eq!(spec.services[0].reals[0].gre.key, Some(42));
    assert_eq!(spec.neighbors[0].port, "lan");
    assert_eq!(Config::default().spec(&[]).hash_key, DEFAULT_HASH_KEY);
}

#[test]
fn writing_and_reading_gives_the_same_with_every_key_set() {
    let config = full();
    let text = config.to_toml();
    assert_eq!(Config::parse(&text, "").unwrap_or_else(|e| panic!("{e}\n{text}")), config);
    assert_eq!(Config::parse(&text, "").unwrap().to_toml(), text, "the order is stable");
}

#[test]
fn differences_are_named_and_those_that_need_a_restart_marked() {
    let old = full();
    let mut new = old.clone();
    new.dataplane.workers = vec![1, 2];
    new.control.group = None;
    new.timeouts.udp = Duration::from_secs(60);
    new.scheduling.hash_key = None;
    new.scheduling.expire_nodest_conn = false;
    new.scheduling.conn_reuse_mode = 0;
    new.scheduling.no_server = NoServer::Drop;
    new.ports.remove(1);
    new.neighbors[0].mac = Mac([2, 0, 0, 0, 0, 0x24]);
    let first = Arc::make_mut(&mut new.services[0]);
    first.scheduler = SchedulerKind::Rr;
    first.reals[0].gre = None;
    first.reals.remove(1);
    let more = Service { address: "192.0.2.101:80".parse().unwrap(), ..(*old.services[0]).clone() };
    new.services.push(Arc::new(more));
    let changes: Vec<_> = old.diff(&new).iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "~ dataplane.workers: [1] -> [1, 2] (needs a restart)",
            "~ control.group: \"shunt\" -> unset (needs a restart)",
            "~ timeouts.udp: \"300s\" -> \"60s\"",
            "~ scheduling.conn_reuse_mode: 2 -> 0",
            "~ scheduling.expire_nodest_conn: true -> false",
            "~ scheduling.hash_key: (secret) -> unset",
            "~ scheduling.no_server: \"reject\" -> \"drop\"",
            "- port wan (needs a restart)",
            "~ neighbor 192.0.2.23 on port lan: mac 02:00:00:00:00:23 -> 02:00:00:00:00:24",
            "~ service tcp 192.0.2.100:80: scheduler \"mh\" -> \"rr\"",
            "~ real server 10.0.0.1 of tcp 192.0.2.100:80: gre { checksum = true, key = 42 } -> unset",
            "- real server 192.0.2.22 of tcp 192.0.2.100:80",
            "+ service tcp 192.0.2.101:80: scheduler mh, scheduler_flags mh-port, persistence 300s, \
             persistence_netmask 255.255.255.0",
            "+ real server 10.0.0.1 of tcp 192.0.2.101:80: weight 3, forward gre, \
             upper_threshold 1000, lower_threshold 800",
            "+ real server 192.0.2.22 of tcp 192.0.2.101:80: weight 0, forward dr",
        ]
    );
    assert_eq!(old.diff(&old), []);
    let back = new.diff(&old);
    assert_eq!(back.iter().filter(|c| c.action == Action::Add).count(), 2, "{back:?}");
}

#[test]
fn the_order_of_ports_matters_and_that_of_services_and_servers_does_not() {
    let old = full();
    let mut new = old.clone();
    Arc::make_mut(&mut new.services[0]).reals.reverse();
    assert_eq!(old.diff(&new), []);
    new.ports.reverse();
    let changes = old.diff(&new);
    assert_eq!(changes[0].to_string(), "~ order of ports: lan, wan -> wan, lan (needs a restart)");
}

#[test]
fn a_daemon_without_the_right_to_give_files_away_saves_all_the_same() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shunt.toml");
    full().save(&file).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    let stranger = if nix::unistd::geteuid().is_root() { Some(4242) } else { None };
    chown(&file, stranger, stranger).unwrap();
    let saver = file.clone();
    // Capabilities are a thread's own.
    let saved = std::thread::spawn(move || {
        caps::clear(None, caps::CapSet::Effective).unwrap();
        Config::default().save(&saver).map(|saved| saved.file)
    });
    assert_eq!(saved.join().unwrap().unwrap(), file);
    let metadata = std::fs::metadata(&file).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o640);
    assert_eq!(metadata.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), Config::default().to_toml());
}

#[test]
fn saving_follows_links_and_keeps_mode_and_hand_written_text() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("real.toml"), directory.path().join("link.toml"));
    std::fs::write(&file, "# by hand\n").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    symlink(&file, &link).unwrap();
    let saved = full().save(&link).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().file_type().is_symlink());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), full().to_toml());
    let backup = saved.backup.unwrap();
    assert_eq!(std::fs::read_to_string(&backup).unwrap(), "# by hand\n");
    for path in [&file, &backup] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let missing = directory.path().join("no/such/directory.toml");
    assert!(full().save(&missing).is_err());
}

fn any_real(host: u8) -> impl Strategy<Value = Real> {
    let gre = prop::option::of((any::<bool>(), prop::option::of(any::<u32>())));
    let thresholds =
        prop_oneof![Just((0, 0)), (1..99u32, 0..=1u32), any::<u32>().prop_map(|n| (n, n))];
    (0..=65_535u32, prop::sample::select(ForwardMethod::ALL), gre, thresholds).prop_map(
        move |(weight, forward, gre, (upper_threshold, lower_threshold))| Real {
            address: [192, 0, 2, host].into(),
            weight,
            forward,
            gre: gre
                .filter(|_| forward == ForwardMethod::Gre)
                .map(|(checksum, key)| Gre { checksum, key }),
            upper_threshold,
            lower_threshold,
        },
    )
}

fn any_service(port: u16) -> impl Strategy<Value = Service> {
    let hosts = prop::sample::subsequence((20..60).collect::<Vec<u8>>(), 0..6);
    let reals = hosts.prop_flat_map(|hosts| hosts.into_iter().map(any_real).collect::<Vec<_>>());
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]);
    let flags = (0..=SchedulerFlags::ALL.len()).prop_map(|n| {
        let taken = SchedulerFlags::ALL.iter().take(n);
        taken.fold(SchedulerFlags::NONE, |set, (flag, ..)| set.with(*flag))
    });
    let persistence = prop::option::of((1..999_999u64, prop::option::of(1..=32u32)));
    let options = (flags, any::<bool>(), persistence);
    (protocol, prop::sample::select(SchedulerKind::ALL), reals, options).prop_map(
        move |(protocol, scheduler, reals, (flags, one_packet, persistence))| Service {
            scheduler_flags: flags.of(scheduler),
            one_packet: one_packet && protocol == Protocol::Udp,
            persistence: persistence.map(|(seconds, _)| Duration::from_secs(seconds)),
            persistence_netmask: persistence
                .and_then(|(_, bits)| bits)
                .map(|bits| Netmask::V4(Ipv4Addr::from_bits(u32::MAX << (32 - bits)))),
            reals,
            ..Service::new(protocol, SocketAddr::from(([192, 0, 2, 100], port)).into(), scheduler)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_right_configuration_survives_writing_and_reading(
        services in (1..6u16).prop_flat_map(|n| (1..=n).map(any_service).collect::<Vec<_>>()),
        tcp_ms in 1000..2_000_000_000u64,
        key in prop::option::of(any::<[u8; 16]>()),
    ) {
        let services = services.into_iter().map(Arc::new).collect();
        let mut config = Config { services, ..full() };
        config.timeouts.tcp = Duration::from_millis(tcp_ms);
        config.scheduling.hash_key = key;
        prop_assert!(config.validate().is_ok());
        let again = Config::parse(&config.to_toml(), "").unwrap();
        prop_assert_eq!(&again, &config);
        prop_assert_eq!(again.diff(&config), vec![]);
    }

    /// A text is taken or refused; what is taken can be written and read again.
    #[test]
    fn any_text_is_taken_or_refused(text in "(\\[\\[?|\\]\\]?|port|service|real|=|\"|[0-9]|\n|\\PC|[.]){0,60}") {
        if let Ok(config) = Config::parse(&text, "") {
            prop_assert_eq!(Config::parse(&config.to_toml(), "").unwrap(), config);
        }
    }

    /// Cutting or garbling a right text anywhere never panics.
    #[test]
    fn garbled_files_are_refused_with_a_line(at in 0..1600usize, byte in any::<u8>()) {
        let mut bytes = full().to_toml().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(text) = String::from_utf8(bytes) {
            if let Err(error) = Config::parse(&text, "f") {
                prop_assert!(error.issues().iter().all(|issue| issue.line.is_some()));
            }
        }
    }
}
