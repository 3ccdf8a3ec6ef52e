//! ldirectord, which steers LVS by `ipvsadm`, steers Shunt: it takes out a real server whose web
//! server fails, and puts it back.

use std::process::{Child, Stdio};

use pktgen_tests::{Config, Director, Lab, RS1, RS2, Reals, binary, can_run};

/// Ended when dropped.
struct Ldirectord(Child);

impl Drop for Ldirectord {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts it on the client, with Shunt where it looks for `ipvsadm`.
fn start(lab: &Lab, director: &Director<'_>) -> Ldirectord {
    let dir = lab.dir();
    let config = format!(
        "checktimeout=3\nnegotiatetimeout=3\ncheckinterval=1\nquiescent=no\nautoreload=no\n\
         logfile=\"{}/ldirectord-own.log\"\n\
         virtual=192.0.2.100:80\n\treal={RS1}:80 gate 2\n\treal={RS2}:80 gate\n\
         \tservice=http\n\trequest=\"/\"\n\treceive=\"rs\"\n\tscheduler=wrr\n\tprotocol=tcp\n\
         \tchecktype=negotiate\n",
        dir.display()
    );
    let file = dir.join("ldirectord.cf");
    std::fs::write(&file, config).expect("a file");
    let log = std::fs::File::create(dir.join("ldirectord.log")).expect("a file");
    let run = format!(
        "mount --bind {} /usr/sbin/ipvsadm && exec ldirectord -d {} start",
        binary("shunt").display(),
        file.display()
    );
    let mut command = lab.command("client", "unshare");
    command.env("SHUNT_SOCKET", director.socket()).args(["--mount", "sh", "-c", &run]);
    command.stdin(Stdio::null()).stderr(log.try_clone().expect("a file")).stdout(log);
    Ldirectord(command.spawn().expect("ldirectord starts"))
}

#[test]
fn a_real_server_that_fails_is_taken_out_and_put_back() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(Reals::Dr, 1);
    let director = Director::start(&lab, &Config::new());
    let _ldirectord = start(&lab, &director);
    let reals = || {
        let rows = director.json(&["server", "list"]);
        let rows = rows.as_array().cloned().unwrap_or_default();
        let mut reals: Vec<_> = rows
            .iter()
            .filter(|row| row["state"] == "reachable")
            .map(|row| format!("{}*{}", row["real"].as_str().unwrap_or_default(), row["weight"]))
            .collect();
        reals.sort();
        reals
    };
    let both = [format!("{RS1}*2"), format!("{RS2}*1")];
    director.wait_for("both real servers", || reals() == both);
    assert!(lab.fetch("http://192.0.2.100/", 12).contains(&"rs2".to_owned()));

    lab.script("web", &["rs2", "off"]).ok();
    director.wait_for("one real server", || reals() == both[..1]);
    let served = lab.fetch("http://192.0.2.100/", 12);
    assert!(served.iter().all(|server| server == "rs1"), "{served:?}");

    lab.script("web", &["rs2", "on"]).ok();
    director.wait_for("both real servers again", || reals() == both);
    let served = lab.fetch("http://192.0.2.100/", 12);
    assert!(served.contains(&"rs2".to_owned()), "{served:?}");
}
