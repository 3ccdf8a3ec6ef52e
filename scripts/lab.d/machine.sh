# shellcheck shell=bash disable=SC2154  # settings come from scripts/lab
# A whole machine on the lab's segment: QEMU, a distribution's kernel, systemd, an IOMMU, and NICs on
# a PCI bus that can be bound to DPDK. Its root is this machine's file system, under an overlay, so
# that what it writes is gone when it ends.

# What is made once for all labs: kernel, its modules, and an initial RAM disk.
MACHINE_CACHE=${SHUNT_CACHE:-${XDG_CACHE_HOME:-/var/cache}/shunt}/machine

machine_tools() {
    local tool
    for tool in qemu-system-x86_64 busybox depmod cpio python3; do
        command -v "$tool" >/dev/null || die "--machine needs '$tool'; scripts/setup --for test installs it"
    done
    [[ -x $(virtiofsd) ]] || die "--machine needs virtiofsd; scripts/setup --for test installs it"
    [[ -x /lib/systemd/systemd ]] || die "--machine needs systemd; scripts/setup --for test installs it"
}

virtiofsd() {
    local file
    for file in /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd; do
        [[ ! -x $file ]] || { echo "$file"; return; }
    done
}

# The kernel's package is not installed here: its hooks would make a boot loader's files.
machine_image() {
    local package release
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    [[ -n $package ]] || die "apt-get knows no linux-image-amd64; run: apt-get update"
    release=${package#linux-image-}
    image=$MACHINE_CACHE/$release
    [[ ! -e $image/initrd ]] || return 0
    mkdir -p "$MACHINE_CACHE"
    echo "lab: fetching $package, once" >&2
    # In a shell of its own, which leaves nothing half done behind.
    (
        work=$(mktemp -d "$MACHINE_CACHE/new.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        cd "$work"
        apt-get -qq -o APT::Sandbox::User=root download "$package" >&2
        dpkg-deb --fsys-tarfile ./*.deb | tar -x ./boot ./lib/modules
        rm ./*.deb
        mv boot/vmlinuz-* vmlinuz
        depmod -b "$work" "$release"
        machine_initrd "$work" "$release"
        # Two labs may make it at once: the first stays.
        mv -T "$work" "$image" 2>/dev/null || [[ -e $image/initrd ]]
    )
}

# machine_initrd WORK RELEASE: no more than reaches the root.
machine_initrd() {
    local root=$1/ram module file
    mkdir -p "$root"/{bin,proc,sys,dev,host,rw,root,modules}
    cp "$(command -v busybox)" "$root/bin/busybox"
    cp "$here/lab.d/machine-init" "$root/init"
    for module in virtio_pci virtiofs overlay; do
        modprobe -d "$1" -S "$2" --show-depends "$module" | while read -r _ file _; do
            grep -qxF "${file##*/}" "$root/modules/order" 2>/dev/null || echo "${file##*/}" >>"$root/modules/order"
            cp "$file" "$root/modules/"
        done
    done
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$1/initrd"
    rm -r "$root"
}

# start_machine: with the NICs of $machine, such as "e1000 virtio:2"; the number is of queue pairs,
# which only virtio can have several of.
start_machine() {
    local dir=$STATE/machine image nics=() n=0 nic model queues multi slot
    machine_tools
    machine_image
    mkdir -p "$dir/jobs"
    for nic in $machine; do
        model=${nic%%:*} queues=${nic#*:} multi=''
        [[ $nic == *:* && $queues != 1 ]] && multi=yes
        in_ns switch ip tuntap add dev "tap-nic$n" mode tap ${multi:+multi_queue}
        in_ns switch ip link set "tap-nic$n" master br-lan
        tame switch "tap-nic$n"
        slot=$(printf 'addr=0x%x' $((16 + n)))
        nics+=(-netdev "tap,id=nic$n,ifname=tap-nic$n,script=no,downscript=no${multi:+,queues=$queues}")
        case $model in
            e1000e | igb)
                nics+=(-device "pcie-root-port,id=root$n,chassis=$n,$slot")
                slot=bus=root$n ;;
        esac
        [[ $model != virtio ]] || model=virtio-net-pci,disable-legacy=on,iommu_platform=on,ats=on${multi:+,mq=on,vectors=$((2 * queues + 2))}
        nics+=(-device "$model,netdev=nic$n,id=nic$n,mac=$(machine_mac "$n"),$slot")
        n=$((n + 1))
    done
    serve_files root / -o cache=auto
    serve_files jobs "$dir" -o cache=none
    spawn_tree machine "$dir/console.log" switch qemu-system-x86_64 -name machine -nodefaults -nographic -no-reboot \
        -machine q35,accel=tcg,kernel-irqchip=split -cpu max -smp 3 -m "$machine_memory" \
        -object "memory-backend-memfd,id=memory,size=${machine_memory}M,share=on" -numa node,memdev=memory \
        ${machine_iommu:+-device intel-iommu,intremap=on,caching-mode=on,device-iotlb=on} \
        -chardev "socket,id=root,path=$dir/root.sock" -device vhost-user-fs-pci,chardev=root,tag=root \
        -chardev "socket,id=jobs,path=$dir/jobs.sock" -device vhost-user-fs-pci,chardev=jobs,tag=jobs \
        -monitor "unix:$dir/monitor.sock,server=on,wait=off" -serial stdio "${nics[@]}" \
        -kernel "$image/vmlinuz" -initrd "$image/initrd" \
        -append "console=ttyS0 panic=-1 quiet no_timer_check intel_iommu=on iommu=pt systemd.unit=machine.target systemd.show_status=no
            shunt.here=$here shunt.dir=$dir shunt.modules=$image/lib/modules"
}

# A MAC address of a NIC of the machine, by its number.
machine_mac() { printf '52:54:00:00:00:%02x' $(($1 + 1)); }

# serve_files TAG PATH OPTION...: what the machine mounts by this tag.
serve_files() {
    local tag=$1 path=$2 i
    shift 2
    spawn "files-$tag" "$STATE/machine/files-$tag.log" switch "$(virtiofsd)" \
        "--socket-path=$STATE/machine/$tag.sock" -o "source=$path" -o sandbox=chroot "$@"
    for ((i = 0; i < 250; i++)); do
        [[ ! -S $STATE/machine/$tag.sock ]] || return 0
        sleep 0.02
    done
    die "cannot serve $path; see $STATE/machine/files-$tag.log"
}

await_machine() {
    local end=$((SECONDS + machine_timeout))
    until [[ -e $STATE/machine/up ]]; do
        running machine || die "the machine ended; its console: $(tail -n 20 "$STATE/machine/console.log")"
        ((SECONDS < end)) || die "the machine is not up after $machine_timeout s; its console: $(tail -n 20 "$STATE/machine/console.log")"
        sleep 0.2
    done
}

# cable N on|off: plugs a NIC of the machine in, or out.
cable() {
    need_up
    [[ ${1:-} =~ ^[0-9]$ && ${2:-} =~ ^(on|off)$ ]] || die "usage: scripts/lab cable N on|off"
    python3 - "$STATE/machine/monitor.sock" "set_link nic$1 $2" <<'PYTHON'
import socket, sys
monitor = socket.socket(socket.AF_UNIX)
monitor.settimeout(10)
monitor.connect(sys.argv[1])
def answer():
    told = b""
    while not told.endswith(b"(qemu) "):
        told += monitor.recv(4096)
    return told
answer()
monitor.sendall(sys.argv[2].encode() + b"\n")
told = answer().decode().replace(sys.argv[2], "")
if "Error" in told or "not found" in told:
    sys.exit(told)
PYTHON
}
