"""Sends TCP segments and datagrams to a virtual service as clients would, without waiting for
answers: KIND,CLIENT,PORT,VIP,PORT,COUNT,BYTES for each; KIND is udp, syn, synack, ack, fin or rst.
Fails when one cannot be sent."""

import socket
import struct
import sys

FLAGS = {"syn": 0x02, "synack": 0x12, "ack": 0x10, "fin": 0x11, "rst": 0x04}


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(kind, client, port, vip, vip_port, size):
    family = socket.AF_INET6 if ":" in vip else socket.AF_INET
    source, target = socket.inet_pton(family, client), socket.inet_pton(family, vip)
    if kind == "udp":
        protocol, at = 17, 6
        body = struct.pack("!HHHH", port, vip_port, 8 + size, 0) + b"x" * size
    else:
        protocol, at = 6, 16
        body = struct.pack("!HHIIBBHHH", port, vip_port, 1, 1, 0x50, FLAGS[kind], 1024, 0, 0)
        body += b"x" * size
    pseudo = source + target + struct.pack("!II", len(body), protocol)
    # IPv4 does not want one of UDP.
    if protocol == 6 or family == socket.AF_INET6:
        body = body[:at] + struct.pack("!H", checksum(pseudo + body)) + body[at + 2 :]
    if family == socket.AF_INET6:
        return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + source + target + body
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0, source, target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


# The kernel takes both with their headers.
raw = {
    family: socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for family in {socket.AF_INET6 if ":" in argument else socket.AF_INET for argument in sys.argv[1:]}
}
for argument in sys.argv[1:]:
    kind, client, port, vip, vip_port, count, size = argument.split(",")
    sent = packet(kind, client, int(port), vip, int(vip_port), int(size))
    for _ in range(int(count)):
        try:
            raw[socket.AF_INET6 if ":" in vip else socket.AF_INET].sendto(sent, (vip, 0))
        except PermissionError:
            # So LVS, being on the sender's own machine, tells that it dropped the packet: it came.
            pass
