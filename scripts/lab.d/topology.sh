# shellcheck shell=bash disable=SC2154  # settings come from scripts/lab
# The nodes of the lab, their links and addresses. docs/lab.md draws it.

NODES="client router switch director rs1 rs2"
reals_up=()

in_ns() { ip netns exec "$NAME-$1" "${@:2}"; }

# A MAC address one can read the IPv4 address from: 192.0.2.10 is 02:00:c0:00:02:0a.
mac_of() {
    local octets
    IFS=. read -ra octets <<<"$1"
    printf '02:00:%02x:%02x:%02x:%02x' "${octets[@]}"
}

guest_address() { case $1 in rs3) echo 203.0.113.31 ;; rs4) echo 203.0.113.32 ;; *) return 1 ;; esac; }

# The IPv6 address of the node that has this IPv4 address: the same network, the same last number.
ipv6_of() {
    case $1 in
        198.51.100.*) echo "2001:db8:1::${1##*.}" ;;
        192.0.2.*) echo "2001:db8:2::${1##*.}" ;;
        203.0.113.*) echo "2001:db8:3::${1##*.}" ;;
        198.18.0.*) echo "2001:db8:4::${1##*.}" ;;
    esac
}

add_node() {
    ip netns add "$NAME-$1"
    ip -n "$NAME-$1" link set lo up
    # Nobody talks unless a test makes them: no router solicitations, no multicast reports.
    in_ns "$1" sysctl -qw net.ipv6.conf.{all,default}.disable_ipv6="$([[ -n $ipv6 && ! $1 =~ ^(director|switch)$ ]] && echo 0 || echo 1)" \
        net.ipv6.conf.{all,default}.{accept_ra,router_solicitations,accept_dad}=0 \
        net.ipv4.conf.{all,default}.{rp_filter,send_redirects,accept_redirects}=0
}

# link NODE IF MAC NODE IF [MAC [QUEUES]]: a cable.
link() {
    local queues="numtxqueues ${7:-1} numrxqueues ${7:-1}"
    # shellcheck disable=SC2086
    ip link add "$2" netns "$NAME-$1" address "$3" $queues type veth \
        peer name "$5" netns "$NAME-$4" ${6:+address "$6"} $queues
    tame "$1" "$2"
    tame "$4" "$5"
}

# Over a veth the kernel hands on TCP with unfinished checksums and frames far above the MTU.
# Others never look; a packet socket, by which the director reads its port, sees just that.
tame() {
    in_ns "$1" ethtool -K "$2" tx off rx off tso off gso off gro off >/dev/null
    ip -n "$NAME-$1" link set "$2" up
}

# address NODE IF IPV4 [GATEWAY]: with --ipv6, also the IPv6 addresses of the same numbers.
address() {
    ip -n "$NAME-$1" address add "$3/24" dev "$2"
    [[ -z ${4:-} ]] || ip -n "$NAME-$1" route add default via "$4"
    [[ -n $ipv6 ]] || return 0
    ip -n "$NAME-$1" address add "$(ipv6_of "$3")/64" dev "$2" nodad
    # Of several addresses IPv4 takes the first as the source, and IPv6 any, unless it is told.
    [[ -z ${4:-} ]] || ip -n "$NAME-$1" route add default via "$(ipv6_of "$4")" src "$(ipv6_of "$3")"
}

build_network() {
    local node segment rs
    for node in $NODES; do add_node "$node"; done
    # Where the kernel filters bridged packets, it drops malformed ones; a switch does not look.
    if [[ -e /proc/sys/net/bridge ]]; then
        in_ns switch sysctl -qw net.bridge.bridge-nf-call-{ip,ip6,arp}tables=0
    fi
    for segment in lan remote; do
        ip -n "$NAME-switch" link add "br-$segment" type bridge stp_state 0 forward_delay 0 mcast_snooping 0
        ip -n "$NAME-switch" link set "br-$segment" up
    done

    link router clients "$(mac_of 198.51.100.1)" client eth0 "$(mac_of 198.51.100.10)"
    link router lan "$(mac_of 192.0.2.1)" switch lan-router
    link router remote "$(mac_of 203.0.113.1)" switch remote-router
    link director lan0 "$(mac_of 192.0.2.10)" switch lan-director '' "$queues"
    for rs in 1 2; do link "rs$rs" eth0 "$(mac_of 192.0.2.2$rs)" switch "lan-rs$rs"; done
    for node in lan-router lan-director lan-rs1 lan-rs2; do
        ip -n "$NAME-switch" link set "$node" master br-lan
    done
    ip -n "$NAME-switch" link set remote-router master br-remote

    address router clients 198.51.100.1
    address router lan 192.0.2.1
    address router remote 203.0.113.1
    in_ns router sysctl -qw net.ipv4.ip_forward=1 ${ipv6:+net.ipv6.conf.all.forwarding=1}
    address client eth0 198.51.100.10 198.51.100.1
    for node in {11..19}; do address client eth0 "198.51.100.$node"; done
    for rs in 1 2; do address "rs$rs" eth0 "192.0.2.2$rs" 192.0.2.1; done
    [[ $ports == 1 ]] || second_port
}

# The director between two networks: clients come in by wan0, real servers are on lan0.
second_port() {
    link router wan "$(mac_of 198.18.0.1)" director wan0 "$(mac_of 198.18.0.10)" "$queues"
    address router wan 198.18.0.1
    ip -n "$NAME-router" route add 198.18.1.0/24 via 198.18.0.10
    [[ -z $ipv6 ]] || ip -n "$NAME-router" route add 2001:db8:5::/64 via 2001:db8:4::10
}

has() { [[ ,$reals, == *,$1,* ]]; }

start_reals() {
    local rs
    # Guests first: they boot while the others start.
    if has ipip; then start_guest rs3 ipip; fi
    if has gre; then start_guest rs4 gre; fi
    has dr || return 0
    for rs in rs1 rs2; do
        mkdir -p "$STATE/$rs"
        # shellcheck disable=SC2046
        in_ns "$rs" "$here/real-server" --method dr $(vip_arguments) --apply
        start_web "$rs"
        reals_up+=("$rs=192.0.2.2${rs#rs}")
    done
}

start_web() { spawn_tree "web-$1" "$STATE/$1/console.log" "$1" "$here/lab.d/web-server" "$1" "$STATE/$1"; }

vip_arguments() { printf -- '--vip %s ' "${vips[@]}"; }

# uml DIR: the command of user-mode Linux, for this machine's processor.
uml() {
    if grep -qw amx_tile /proc/cpuinfo; then
        cc -O1 -shared -fPIC -o "$1/uml-xstate.so" "$here/lab.d/uml-xstate.c" || die "cannot compile uml-xstate.c"
        echo "env LD_PRELOAD=$1/uml-xstate.so"
    fi
    echo linux.uml
}

# A real kernel, for the tunnels that the machine's own may lack. Its root is this machine's file system.
start_guest() {
    local rs=$1 method=$2 rip gateway=203.0.113.1 addresses gateways dir=$STATE/$1 modules
    rip=$(guest_address "$rs")
    addresses=$rip/24 gateways=$gateway
    [[ -z $ipv6 ]] || addresses+=,$(ipv6_of "$rip")/64 gateways+=,$(ipv6_of "$gateway")
    mkdir -p "$dir/modules/lib/modules" "$dir/uml" "$dir/jobs"
    for modules in /usr/lib/uml/modules/*; do ln -s "$modules" "$dir/modules/lib/modules/"; done
    {
        echo '#!/bin/bash'
        echo "exec $(printf '%q' "$here/lab.d/guest-init") $rs $addresses $gateways $dir" \
            "--method $method --over ipv4${ipv6:+,ipv6} $(vip_arguments)"
    } >"$dir/init"
    chmod +x "$dir/init"
    in_ns switch ip tuntap add dev "tap-$rs" mode tap
    in_ns switch ip link set "tap-$rs" master br-remote
    tame switch "tap-$rs"
    # shellcheck disable=SC2046
    spawn_tree "guest-$rs" "$dir/console.log" switch $(uml "$dir") mem=160M root=/dev/root rootfstype=hostfs rootflags=/ rw \
        "init=$dir/init" quiet "ipv6.disable_ipv6=$([[ -n $ipv6 ]] && echo 0 || echo 1)" "uml_dir=$dir/uml/" "umid=$rs" con0=fd:0,fd:1 con=null \
        "vec0:transport=tap,ifname=tap-$rs,depth=128,mac=$(mac_of "$rip")"
    reals_up+=("$rs=$rip")
}

await_reals() {
    local real rs rip url end=$((SECONDS + timeout))
    for real in "${reals_up[@]}"; do
        rs=${real%=*} rip=${real#*=}
        for url in "http://$rip/" ${ipv6:+"http://[$(ipv6_of "$rip")]/"}; do
            until [[ $(in_ns router curl -s --max-time 1 "$url" 2>/dev/null) == "$rs" ]]; do
                if ((SECONDS >= end)); then
                    echo "lab: $rs ($url) does not answer after $timeout s; its console said:" >&2
                    tail -n 40 "$STATE/$rs/console.log" >&2
                    exit 1
                fi
                sleep 0.1
            done
        done
    done
}
