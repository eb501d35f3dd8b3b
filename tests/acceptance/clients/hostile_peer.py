"""What a hostile client is made of: sockets from many addresses, packets with anything in them, and what came back in one word."""

import collections
import itertools
import selectors
import socket
import ssl
import struct
import time
import zlib

from session import CAPABILITIES, Session, scramble

SSL, COMPRESS, ZSTD, LOCAL_FILES, CHANGE_USER = 1 << 11, 1 << 5, 1 << 26, 1 << 7, 0x11
NATIVE = b"mysql_native_password"
# How long an answer is waited for that has to come: more than `login.client_timeout_ms`, and a second for the farewell.
PATIENCE_S = 6
# Addresses that attacks come from in turn, so that `limits.sessions_per_client` lets them through, and there are ports enough.
SOURCES = itertools.cycle([f"127.0.1.{n}" for n in range(1, 51)])
# That of the load balancer.
BALANCER, STRANGER = "127.0.0.2", "127.0.0.3"


def connect(port, source=None, receive_buffer=None):
    peer = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    peer.settimeout(PATIENCE_S)
    peer.bind((source or next(SOURCES), 0))
    peer.connect(("127.0.0.1", port))
    return peer


def reset(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def packet(sequence, payload, length=None):
    """One frame, with a length of its own choice."""
    length = len(payload) if length is None else length
    return length.to_bytes(3, "little") + bytes([sequence % 256]) + payload


def login(user=b"sbtest", salt=b"12345678901234567890", flags=0, password="sbtest", tail=b""):
    proof = scramble(password, salt)
    return (
        struct.pack("<IIB23x", CAPABILITIES | flags, 1 << 30, 45) + user + b"\0" + bytes([len(proof)]) + proof
        + b"sbtest\0" + NATIVE + b"\0" + tail
    )


def ssl_request():
    return struct.pack("<IIB23x", CAPABILITIES | SSL, 1 << 30, 45)


def context(version=None):
    chosen = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    chosen.check_hostname, chosen.verify_mode = False, ssl.CERT_NONE
    if version:
        chosen.minimum_version = chosen.maximum_version = version
    return chosen


def client_hello(version=None):
    outgoing = ssl.MemoryBIO()
    tls = context(version).wrap_bio(ssl.MemoryBIO(), outgoing)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


class Peer(Session):
    """A session that logs in properly, and then does as it likes."""

    def __init__(self, port, user="known", flags=0, tls=False, receive_buffer=None, source=None, header=b""):
        self.flags, self.tls = flags, tls
        self.socket, self.sequence = connect(port, source, receive_buffer), 0
        self.socket.sendall(header)
        self._log_in(user, "sbtest", "sbtest")

    def _log_in(self, user, password, database):
        greeting = self.checked()
        at = greeting.index(0, 1) + 5
        salt = bytes(greeting[at : at + 8] + greeting[at + 27 : at + 39])
        if self.tls:
            self.send(1, ssl_request())
            self.socket = context(self.tls if self.tls is not True else None).wrap_socket(self.socket)
            self.flags |= SSL
        tail = b"\x03" if self.flags & ZSTD else b""
        self.send(2 if self.tls else 1, login(user.encode(), salt, self.flags, password, tail))
        answer = self.checked()
        while answer[:1] == b"\xfe":
            salt = bytes(answer[answer.index(0) + 1 :][:20])
            self.send(self.sequence + 1, scramble(password, salt))
            answer = self.checked()


def compressed(content, number=0, declared=0, length=None):
    length = len(content) if length is None else length
    return length.to_bytes(3, "little") + bytes([number]) + declared.to_bytes(3, "little") + content


def zstd_of_one_byte(byte, blocks, declared=None):
    """A frame of zstd that is `blocks` times 128 KiB of one byte, of four bytes each; it says that it is `declared` bytes."""
    size = 128 << 10
    head = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", size * blocks if declared is None else declared)
    block = lambda last: (last | 1 << 1 | size << 3).to_bytes(3, "little") + bytes([byte])
    return head + block(0) * (blocks - 1) + block(1)


class Unpacked:
    """Stored and deflated frames as the packets in them."""

    def __init__(self, raw):
        self.plain = bytearray()
        while len(raw) >= 7:
            length, declared = int.from_bytes(raw[:3], "little"), int.from_bytes(raw[4:7], "little")
            content = raw[7 : 7 + length]
            self.plain += zlib.decompress(content) if declared else content
            raw = raw[7 + length :]


def packets(raw):
    """Whole packets of what came, and what is left over."""
    found, at = [], 0
    while at + 4 <= len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 3], "little")
        if end > len(raw):
            break
        found.append(bytes(raw[at + 4 : end]))
        at = end
    return found, raw[at:]


TLS_RECORDS = {0x15: "alert", 0x16: "handshake"}


def verdict(raw, end):
    """What a peer was answered, in a word or two: its last packet, and how the connection ended."""
    found, rest = packets(raw)
    found = [one for one in found if one[:1] != b"\x0a"]
    if rest[1:2] == b"\x03" and rest[0] in TLS_RECORDS:
        return f"TLS {TLS_RECORDS[rest[0]]}, {end}"
    if rest:
        return f"half a packet, {end}"
    if not found:
        return end if end != "open" else "silence"
    last = found[-1]
    if last[:1] == b"\xff" and len(last) > 2:
        said = f"ERR {struct.unpack_from('<H', last, 1)[0]}"
    elif last[:1] == b"\xfe" and len(last) < 9:
        said = "an answer"
    else:
        said = {b"\xfe": "asked for more", b"\x00": "OK"}.get(last[:1], "an answer")
    return f"{said}, {end}"


def hear(peers, limit=PATIENCE_S, unpack=None):
    """Reads all sockets to their ends, or for so long. Gives the verdicts, and closes them."""
    chosen, verdicts, came = selectors.DefaultSelector(), collections.Counter(), {}
    for peer in peers:
        peer.setblocking(False)
        came[peer] = bytearray()
        chosen.register(peer, selectors.EVENT_READ)
    until, left = time.monotonic() + limit, len(came)

    def done(peer, end):
        raw = Unpacked(bytes(came[peer])).plain if unpack else bytes(came[peer])
        verdicts[verdict(raw, end)] += 1
        peer.close()

    while left and (now := time.monotonic()) < until:
        for key, _ in chosen.select(until - now):
            peer, end = key.fileobj, None
            try:
                data = peer.recv(65536)
                came[peer] += data
                end = None if data else "closed"
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            except ssl.SSLError:
                end = "TLS broken"
            except OSError:
                end = "reset"
            if end:
                chosen.unregister(peer)
                done(peer, end)
                left -= 1
    for key in list(chosen.get_map().values()):
        done(key.fileobj, "open")
    chosen.close()
    return verdicts
