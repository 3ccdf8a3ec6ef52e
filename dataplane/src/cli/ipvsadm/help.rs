//! What `ipvsadm -h` and `ipvsadm -v` print.

/// The first word is the version whose command lines are understood.
pub(super) fn version() -> String {
    format!("ipvsadm v1.31 (shunt {}, IPVS v1.2.1)\n", env!("CARGO_PKG_VERSION"))
}

/// The command lines that are understood.
pub(super) const TEXT: &str = "\
Usage: ipvsadm COMMAND [OPTION]...
The virtual services of Shunt by the command lines of ipvsadm 1.31.

Commands on virtual services:
  -A, --add-service SERVICE       add it; [-s SCHEDULER] [-p [SECONDS]] [-M NETMASK] [-b FLAGS] [-o]
  -E, --edit-service SERVICE      replace its settings; options as for -A
  -D, --delete-service SERVICE    delete it with its real servers
  -C, --clear                     delete all
  -L, -l, --list [SERVICE]        list one or all; without a command, -L is meant
  -Z, --zero [SERVICE]            zero the counters of one or all
  -S, --save [-n]                 print all as command lines
  -R, --restore                   carry out the command lines of standard input

Commands on real servers:
  -a, --add-server SERVICE -r HOST[:PORT]     add one; [-g|-i] [-w WEIGHT] [-x UPPER] [-y LOWER]
  -e, --edit-server SERVICE -r HOST[:PORT]    replace its settings; options as for -a
  -d, --delete-server SERVICE -r HOST[:PORT]  delete it

Other commands:
  --set TCP TCPFIN UDP            set timeouts in seconds; 0 keeps one
  -h, --help                      print this
  -v, --version                   print the version

SERVICE is one of
  -t, --tcp-service HOST:PORT     [ADDRESS]:PORT for IPv6
  -u, --udp-service HOST:PORT

Options of virtual services:
  -s, --scheduler SCHEDULER       how new connections are spread (default: wlc)
  -b, --sched-flags FLAGS         sh-fallback, sh-port, mh-fallback, mh-port; with commas between
  -p, --persistent [SECONDS]      a client stays with its real server (default: 360)
  -M, --netmask NETMASK           clients that are one for -p; for IPv6, a prefix length
  -o, --ops                       every datagram is scheduled alone (only with -u)

Options of real servers:
  -g, --gatewaying                direct routing (default)
  -i, --ipip                      tunnel
      --tun-type ipip|gre         of which kind (default: ipip)
      --tun-csum, --tun-nocsum    with GRE checksums, or without (default)
  -w, --weight WEIGHT             share of new connections (default: 1)
  -x, --u-threshold UPPER         no new connections at so many
  -y, --l-threshold LOWER         new ones again below so many

Options of -L:
  -n, --numeric                   numbers, not names
  -c, --connection                connections
      --timeout                   timeouts
      --stats, --rate             counters, or how fast they grow
      --exact                     counters in full
      --thresholds, --persistent-conn, --tun-info
                                  other columns
      --nosort, --sort            newest first, or sorted (default)

Shunt has no -m, -f, --sctp-service, --pe, GUE tunnels or synchronization daemon.
docs/migrating-from-lvs.md tells more; `shunt help` is about Shunt's own command line.
";
