"""Frames as scapy builds them, one a line: what the parser must find, then the bytes in hex."""

import random

from scapy.all import (
    AH, ARP, GRE, ICMP, IP, LLC, TCP, UDP, DNS, DNSQR, Dot1Q, Ether, ICMPv6DestUnreach,
    ICMPv6EchoRequest, ICMPv6MLDMultAddrRec, ICMPv6MLQuery2, ICMPv6MLReport2, ICMPv6ND_NA,
    ICMPv6ND_NS, ICMPv6ND_RS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptMTU, ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPOption_NOP, IPOption_RR, IPOption_Router_Alert,
    IPerror, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting,
    PadN, Padding, Raw, RouterAlert, STP, UDPerror, fragment, fragment6,
)

random.seed(826)
ETH = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
A, B = "198.51.100.1", "192.0.2.80"


def emit(what, frame):
    print(what, bytes(frame).hex())


def ipv4(frame):
    """The fields of an IPv4 frame, read back by scapy from its own bytes."""
    ip = Ether(bytes(frame))[IP]
    bits = (int(ip.flags) << 13) | ip.frag
    common = f"{ip.src},{ip.dst},{ip.proto},{ip.ihl * 4},{ip.len},{ip.ttl},{ip.tos},{ip.id},{bits}"
    if ip.frag:
        l4 = "later"
    elif ip.proto == 6:
        l4 = f"tcp,{ip[TCP].sport},{ip[TCP].dport},{int(ip[TCP].flags) & 0xff}"
    elif ip.proto == 17:
        l4 = f"udp,{ip[UDP].sport},{ip[UDP].dport}"
    elif ip.proto == 1:
        l4 = f"icmp,{ip[ICMP].type},{ip[ICMP].code}"
    else:
        l4 = "other"
    emit(f"ipv4 {common},{l4}", frame)


def options():
    return random.choice([
        [], [], [IPOption_NOP()] * 4, [IPOption_Router_Alert()], [IPOption_RR(routers=["0.0.0.0"] * 3)],
    ])


def ip():
    return IP(
        src=f"{random.randint(128, 223)}.{random.randint(0, 255)}.0.1", dst=B, ttl=random.randint(0, 255),
        tos=random.randint(0, 255), id=random.randint(0, 65535), flags=random.choice(["", "DF"]),
        options=options(),
    )


def port():
    return random.randint(0, 65535)


def data():
    return Raw(random.randbytes(random.choice([0, 1, 2, 17, 18, 100, 1400])))


for _ in range(100):
    tcp = TCP(
        sport=port(), dport=port(), flags=random.randint(0, 255), seq=random.getrandbits(32),
        options=random.choice([[], [("MSS", 1460)], [("Timestamp", (1, 2)), ("WScale", 7)]]),
    )
    icmp = ICMP(type=random.choice([0, 8, 13]), code=0)
    for l4 in (tcp, UDP(sport=port(), dport=port()), icmp, GRE()):
        frame = ETH / ip() / l4 / data()
        ipv4(frame)
        ipv4(frame / Padding(b"\xee" * random.randint(0, 46)))

for size in (0, 7, 2000, 4000):
    for part in fragment(IP(src=A, dst=B, id=7) / UDP(sport=1, dport=2) / Raw(bytes(size)), 800):
        ipv4(ETH / part)
for part in fragment(IP(src=A, dst=B) / TCP(sport=1, dport=2) / Raw(bytes(100)), 24):
    ipv4(ETH / part)
ipv4(ETH / IP(src=A, dst=B) / UDP(sport=1, dport=53) / DNS(qd=DNSQR(qname="example.com")))
ipv4(Ether(dst="ff:ff:ff:ff:ff:ff") / IP(src=A, dst="255.255.255.255") / UDP(sport=68, dport=67))

# A router's error about a reply of the VIP's, 28 bytes of it quoted.
quote = IPerror(src=B, dst=A, proto=17, len=1500) / UDPerror(sport=53, dport=4000, len=1480, chksum=1)
for kind, code in ((3, 4), (3, 1), (11, 0), (12, 0)):
    emit(f"quoted {B},{A},17,53,4000", ETH / IP(src="203.0.113.1", dst=B) / ICMP(type=kind, code=code) / quote)

for op in (1, 2):
    arp = ARP(op=op, hwsrc="02:00:00:00:00:01", psrc=A, hwdst="02:00:00:00:00:02", pdst=B)
    emit(f"arp {op},02:00:00:00:00:01,{A},02:00:00:00:00:02,{B}", ETH / arp)
    emit(f"arp {op},02:00:00:00:00:01,{A},02:00:00:00:00:02,{B}", ETH / arp / Padding(bytes(18)))

inner = IP(src=A, dst=B) / UDP(sport=1, dport=2)
emit("error Vlan", ETH / Dot1Q(vlan=7) / inner)
emit("error Vlan", Ether(type=0x88A8) / Dot1Q(vlan=7) / inner)
emit("error Ipv6", ETH / IPv6() / UDP())
emit("error Ipv6", ETH / IPv6() / IPv6ExtHdrHopByHop() / UDP())
emit("error EtherTypeUnknown", Ether(type=0x88CC) / Raw(bytes(40)))
emit("error EtherTypeUnknown", Ether(type=38) / LLC() / STP())
emit("error BadIpv4Checksum", ETH / IP(src=A, dst=B, chksum=1) / UDP())
emit("error BadIpv4Header", ETH / IP(src=A, dst=B, version=5) / UDP())
emit("error BadIpv4Header", ETH / IP(src=A, dst=B, ihl=4) / UDP())
emit("error BadIpv4Header", ETH / IP(src=A, dst=B, len=19) / UDP())
emit("error TooShort", ETH / IP(src=A, dst=B, len=29) / UDP())
emit("error BadL4Header", ETH / IP(src=A, dst=B) / UDP(len=7))
emit("error BadL4Header", ETH / IP(src=A, dst=B) / TCP(dataofs=15))
emit("error BadSource", ETH / IP(src=B, dst=B) / TCP())
emit("error BadSource", ETH / IP(src="127.0.0.1", dst=B) / TCP())


# IPv6. What a frame tells is what it was made from; scapy computes lengths and checksums.
A6, B6 = "2001:db8::1", "2001:db8:80::80"


NUMBERS = {IPv6ExtHdrRouting: 43, IPv6ExtHdrFragment: 44, AH: 51, IPv6ExtHdrDestOpt: 60}


def ipv6(ip, exts, l4, tail=b"", told=None):
    """An IPv6 frame: header, extension headers, L4 header, data, and padding behind the packet."""
    protocol, told = told or told_of(l4)
    frame = ip
    for ext, after in zip(exts, exts[1:] + [None]):
        if isinstance(ext, AH):  # The one whose next header scapy leaves to us.
            ext.nh = NUMBERS[type(after)] if after else protocol
        frame = frame / ext
    frame = ETH / frame / l4
    ext_len = sum(len(bytes(ext)) for ext in exts)
    payload = len(bytes(frame)) - 54
    emit(
        f"ipv6 {ip.src},{ip.dst},{protocol},{payload},{ext_len},{ip.hlim},{ip.tc},{ip.fl},{told}",
        bytes(frame) + tail,
    )


def told_of(l4):
    if isinstance(l4, TCP):
        return 6, f"tcp,{l4.sport},{l4.dport},{int(l4.flags) & 0xff}"
    if isinstance(l4, UDP):
        return 17, f"udp,{l4.sport},{l4.dport}"
    if isinstance(l4, ICMPv6EchoRequest):
        return 58, f"icmp,{l4.type},{l4.code}"
    return 47, "other"


def extensions():
    choice = [
        IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(random.choice([0, 2, 10])))]),
        IPv6ExtHdrRouting(type=2, segleft=0, addresses=[A6]),
        IPv6ExtHdrFragment(id=7),
        AH(payloadlen=4, spi=1, seq=2, icv=bytes(12)),
    ]
    first = [IPv6ExtHdrHopByHop(options=[RouterAlert(), PadN()])] if random.random() < 0.3 else []
    return first + random.sample(choice, random.choice([0, 0, 1, 2, 3]))


for _ in range(100):
    tcp = TCP(
        sport=port(), dport=port(), flags=random.randint(0, 255), seq=random.getrandbits(32),
        options=random.choice([[], [("MSS", 1460)], [("Timestamp", (1, 2)), ("WScale", 7)]]),
    )
    for l4 in (tcp, UDP(sport=port(), dport=port()), ICMPv6EchoRequest(data=b"hi"), GRE()):
        ip6 = IPv6(
            src=f"2001:db8::{random.randint(1, 0xffff):x}", dst=B6, hlim=random.randint(0, 255),
            tc=random.randint(0, 255), fl=random.getrandbits(20),
        )
        ipv6(ip6, extensions(), l4 / data(), told=told_of(l4))
        ipv6(ip6, extensions(), l4 / data(), b"\xee" * random.randint(0, 46), told_of(l4))

# A packet that scapy cuts: the first part tells its L4 ports, the others their place.
whole = IPv6(src=A6, dst=B6) / IPv6ExtHdrFragment(id=9) / UDP(sport=1, dport=2) / Raw(bytes(4000))
for part in fragment6(whole, 1280):
    head = IPv6(bytes(part))[IPv6ExtHdrFragment]
    told = f"later,9,{head.offset * 8},{head.m}" if head.offset else "udp,1,2"
    emit(f"ipv6 {A6},{B6},17,{part.plen or len(bytes(part)) - 40},8,64,0,0,{told}", ETH / part)

# Errors about a reply of the VIP's.
quote6 = IPv6(src=B6, dst=A6) / IPv6ExtHdrDestOpt() / TCP(sport=443, dport=4000)
for error in (ICMPv6DestUnreach(code=4), ICMPv6PacketTooBig(mtu=1400), ICMPv6TimeExceeded()):
    emit(f"quoted6 {B6},{A6},6,443,4000", ETH / IPv6(src="2001:db8::99", dst=B6) / error / quote6)

# Neighbor discovery.
M1, M2 = "02:00:00:00:00:01", "02:00:00:00:00:02"
NS = IPv6(src=A6, dst="ff02::1:ff00:80", hlim=255) / ICMPv6ND_NS(tgt=B6)
emit(f"ndp ns,{A6},{B6},{M1}", ETH / NS / ICMPv6NDOptSrcLLAddr(lladdr=M1))
emit(f"ndp ns,{A6},{B6},{M1}", ETH / NS / ICMPv6NDOptMTU() / ICMPv6NDOptSrcLLAddr(lladdr=M1))
emit(f"ndp ns,{A6},{B6},none", ETH / NS)
emit(f"ndp ns,::,{B6},none", ETH / IPv6(src="::", dst="ff02::1:ff00:80", hlim=255) / ICMPv6ND_NS(tgt=B6))
for R, S, O in ((0, 0, 1), (0, 1, 1), (1, 1, 0)):
    NA = IPv6(src=B6, dst=A6, hlim=255) / ICMPv6ND_NA(R=R, S=S, O=O, tgt=B6)
    emit(f"ndp na{R}{S}{O},{B6},{B6},{M2}", ETH / NA / ICMPv6NDOptDstLLAddr(lladdr=M2))
emit("ndp malformed", ETH / IPv6(src=A6, dst=B6, hlim=64) / ICMPv6ND_NS(tgt=B6))
emit("ndp malformed", ETH / IPv6(src=A6, dst=B6, hlim=255) / ICMPv6ND_NS(tgt="ff02::1"))
emit("ndp checksum", ETH / IPv6(src=A6, dst=B6, hlim=255) / ICMPv6ND_NS(tgt=B6, cksum=1))
emit("ndp unsupported", ETH / IPv6(src="fe80::1", dst="ff02::2", hlim=255) / ICMPv6ND_RS())

# Listener discovery: what a router asks, and the report to compare with ours.
query = IPv6(src="fe80::1", dst="ff02::1", hlim=1) / ICMPv6MLQuery2(mrd=10000)
emit("mld-query ::,10000", ETH / query[IPv6] / b"")
report = IPv6(src="fe80::ff:fe00:1", dst="ff02::16", hlim=1) / IPv6ExtHdrHopByHop(
    options=[RouterAlert(), PadN(optdata=b"")]
) / ICMPv6MLReport2(records=[
    ICMPv6MLDMultAddrRec(rtype=4, dst="ff02::1:ff00:80"), ICMPv6MLDMultAddrRec(rtype=4, dst="ff02::1:ff00:81"),
])
emit("mld-report same", Ether(src=M1, dst="33:33:00:00:00:16") / report)

plain = IPv6(src=A6, dst=B6)
emit("error6 NotIpv6", ETH / IP(src=A, dst=B) / UDP())
emit("error6 BadIpv6Header", ETH / IPv6(src=A6, dst=B6, version=4) / UDP())
emit("error6 TooShort", ETH / IPv6(src=A6, dst=B6, plen=9) / UDP())
emit("error6 BadL4Header", ETH / plain / UDP(len=7))
emit("error6 BadL4Header", ETH / plain / TCP(dataofs=15))
emit("error6 BadSource", ETH / IPv6(src=B6, dst=B6) / UDP())
emit("error6 BadSource", ETH / IPv6(src="::1", dst=B6) / UDP())
emit("error6 Routing", ETH / plain / IPv6ExtHdrRouting(type=0, segleft=1, addresses=[A6]) / UDP())
emit("error6 BadExtension", ETH / plain / IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / UDP())
emit("error6 BadExtension", ETH / plain / IPv6ExtHdrFragment(m=1) / UDP() / b"odd")
emit("error6 BadExtension", ETH / plain / IPv6ExtHdrFragment(nh=6, offset=1) / b"flags")
