"""Sends TCP segments and datagrams to a virtual service as clients would, without waiting for
answers: KIND,CLIENT,PORT,VIP,PORT,COUNT,BYTES for each; KIND is udp, syn, ack, fin or rst."""

import socket
import struct
import sys

FLAGS = {"syn": 0x02, "ack": 0x10, "fin": 0x11, "rst": 0x04}


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(kind, client, port, vip, vip_port, size):
    source, target = socket.inet_aton(client), socket.inet_aton(vip)
    if kind == "udp":
        protocol = 17
        body = struct.pack("!HHHH", port, vip_port, 8 + size, 0) + b"x" * size
    else:
        protocol = 6
        body = struct.pack("!HHIIBBHHH", port, vip_port, 1, 1, 0x50, FLAGS[kind], 1024, 0, 0)
        body += b"x" * size
        pseudo = source + target + struct.pack("!BBH", 0, protocol, len(body))
        body = body[:16] + struct.pack("!H", checksum(pseudo + body)) + body[18:]
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0, source, target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for argument in sys.argv[1:]:
    kind, client, port, vip, vip_port, count, size = argument.split(",")
    sent = packet(kind, client, int(port), vip, int(vip_port), int(size))
    for _ in range(int(count)):
        raw.sendto(sent, (vip, 0))
