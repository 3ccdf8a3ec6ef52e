"""Frames as scapy builds them, one a line: what the parser must find, then the bytes in hex."""

import random

from scapy.all import (
    ARP, GRE, ICMP, IP, LLC, TCP, UDP, DNS, DNSQR, Dot1Q, Ether, IPOption_NOP, IPOption_RR,
    IPOption_Router_Alert, IPerror, IPv6, IPv6ExtHdrHopByHop, Padding, Raw, STP, UDPerror, fragment,
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
