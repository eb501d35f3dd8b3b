"""The attacks on logins and commands, each a function that goes on for its time and gives how often what came of it.

ATTACKS has for each, and for those of `hostile_layers.py`, its name, what it may come to, and by how much corelane may grow meanwhile.
"""

import collections
import itertools
import re
import selectors
import socket
import struct
import threading
import time

from hostile_peer import (
    BALANCER, CHANGE_USER, LOCAL_FILES, NATIVE, PATIENCE_S, SOURCES, Peer, client_hello, connect, hear, login, packet, reset,
    ssl_request,
)
from session import QUERY, STMT_EXECUTE, STMT_PREPARE, STMT_SEND_LONG_DATA, Closed, Err

MIB = 1 << 20
# The receive buffer of a client that does not read, in bytes, so that the kernel keeps little for it.
SMALL = 8192
ATTACKS = []
Attack = collections.namedtuple("Attack", "name run allowed growth_mib")


def attack(name, allowed, growth_mib=32):
    """`allowed`: what each try may come to. `growth_mib`: by how much corelane's resident memory may grow at its peak."""

    def enlist(run):
        ATTACKS.append(Attack(name, run, re.compile(f"(?:{allowed})"), growth_mib))
        return run

    return enlist


class Stage:
    """Where everything is."""

    def __init__(self, arguments, admin):
        self.port, self.admin_port, self.http_port = arguments.port, arguments.admin_port, arguments.http_port
        self.admin = admin


def now():
    return time.monotonic()


def again(until):
    """Once, and again until then."""
    yield
    while now() < until:
        yield


def volley(port, payloads, ways, header=b"", source=None, limit=PATIENCE_S):
    """Sends each to a connection of its own in each way: `close`, `half-close`, `wait`. Those that are closed are not heard."""
    tally, waiting = collections.Counter(), []
    for payload, way in itertools.product(payloads, ways):
        peer = connect(port, source)
        try:
            peer.sendall(header + payload)
            if way == "half-close":
                peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        if way == "close":
            peer.close()
            tally["hung up"] += 1
        else:
            waiting.append(peer)
    return tally + hear(waiting, limit)


def slices(items, size):
    return [items[at : at + size] for at in range(0, len(items), size)]


def cuts(payload):
    return [payload[:at] for at in range(len(payload))]


WAYS = ["close", "half-close", "wait"]
# A PROXY header of version 1, and what one of version 2 begins with; the address that both tell.
SPOOFED = "203.0.113.66"
LINE = f"PROXY TCP4 {SPOOFED} 127.0.0.1 1000 3306\r\n".encode()
V2 = b"\r\n\r\n\0\r\nQUIT\n"


# Logins.


def drip(stage, until, text, source=None, at_once=b""):
    """300 connections at a time, each sending `text` a byte each second, behind what it sends at once."""

    def once():
        peers, begun = [connect(stage.port, source) for _ in range(300)], now()
        for peer in peers:
            peer.sendall(at_once)
        for at in range(PATIENCE_S):
            time.sleep(max(0, begun + at - now()))
            for peer in peers:
                try:
                    peer.send(text[at : at + 1])
                except OSError:
                    pass
        return hear(peers, 1)

    return repeat(until, once)


@attack("login, a byte a second, 300 at a time", "ERR 1159, closed")
def drip_login(stage, until):
    return drip(stage, until, packet(1, login()))


@attack("PROXY header, a byte a second, 300 at a time", "ERR 1105, closed")
def drip_header(stage, until):
    return drip(stage, until, LINE, BALANCER)


@attack("ClientHello, a byte a second, 300 at a time", "TLS alert, closed|closed")
def drip_hello(stage, until):
    return drip(stage, until, client_hello(), at_once=packet(1, ssl_request()))


def flood(stage, count, per_second, sources):
    """Opens connections that say nothing, and tells what they hear until they are closed."""
    peers, begun = [], now()
    for at in range(count):
        if at % 50 == 0:
            time.sleep(max(0, begun + at / per_second - now()))
        peers.append(connect(stage.port, next(sources)))
    return hear(peers, PATIENCE_S)


@attack("10,000 silent connections, of which 5,000 have room", r"ERR (1159|1040), closed", 128)
def half_open(stage, until):
    sources = itertools.cycle([f"127.0.2.{n}" for n in range(1, 101)])
    return flood(stage, 10000, 4000, sources)


@attack("1,000 silent connections of one address, which may have 400", r"ERR (1159|1040), closed")
def half_open_one(stage, until):
    return flood(stage, 1000, 2000, itertools.repeat("127.0.2.200"))


def odd_logins():
    """Logins whose lengths lie, as whole packets."""
    plain = login()
    user_end = 32 + len(b"sbtest") + 1
    lenenc = struct.pack("<I", struct.unpack("<I", plain[:4])[0] | 1 << 21) + plain[4:user_end]
    attributes = struct.pack("<I", struct.unpack("<I", plain[:4])[0] | 1 << 20) + plain[4:]
    lengths = [
        b"\xfe" + b"\xff" * 8, b"\xfe" + b"\xff" * 7 + b"\x7f", b"\xfe" + bytes(7) + b"\x80", b"\xfd\xff\xff\xff",
        b"\xfc\xff\xff", b"\xfa", b"\xff", b"\xfb", b"\xfe", b"\xfd\xff",
    ]
    odd = [packet(1, lenenc + length + b"x" * 20) for length in lengths]
    odd += [packet(1, attributes + length + b"x" * 5) for length in lengths]
    odd += [packet(1, plain, length) for length in (0xFFFFFF, 131073)]
    # Nothing that ends, a name of 100 KiB and none at all, a proof that goes beyond the packet.
    odd += [packet(1, plain[:32] + b"u" * 100000), packet(1, plain[:user_end] + b"\xff" + b"x" * 20), packet(1, b"")]
    # The form of before MySQL 4.1, and a packet of noise.
    return odd + [packet(1, b"\x85\x24\0\0\0old\0\x47\x44\x53\x43"), packet(1, b"\0" * 200), packet(1, b"\xff" * 200)]


@attack("login packets whose lengths lie, up to 2^64", "ERR 1043, closed")
def lying_logins(stage, until):
    tally = collections.Counter()
    for _ in again(until):
        tally += volley(stage.port, odd_logins(), ["wait"])
    return tally


@attack("login cut at every byte; then close, half-close, wait", "hung up|closed|ERR 1159, closed")
def cut_login(stage, until):
    return repeat(until, lambda: volley(stage.port, cuts(packet(1, login())), WAYS))


@attack("login of every shorter length, as a whole packet", r"ERR (1043|1045|1251|1159), closed")
def short_login(stage, until):
    return repeat(until, lambda: volley(stage.port, [packet(1, cut) for cut in cuts(login(b"known"))], ["wait"]))


@attack("SSLRequest cut at every byte; then close, half-close, wait", "hung up|closed|ERR (1159|1043), closed")
def cut_ssl_request(stage, until):
    whole = packet(1, ssl_request())
    return repeat(until, lambda: volley(stage.port, cuts(whole) + [packet(1, cut) for cut in cuts(ssl_request())], WAYS))


@attack("answer to an auth switch cut at every byte; then close, half-close, wait", "hung up|asked for more, closed|ERR 1159, closed")
def cut_answer(stage, until):
    whole = [packet(1, login()) + cut for cut in cuts(packet(3, b"x" * 20))]
    return repeat(until, lambda: volley(stage.port, whole, WAYS))


@attack("answer to an auth switch of a wrong length, or endless", "ERR (1045|1043|1105), closed")
def odd_answer(stage, until):
    answers = [packet(3, b"x" * length) for length in (0, 1, 19, 20, 21, 255, 4096, 131072)]
    answers += [packet(3, b"", 0xFFFFFF), packet(3, b"x" * 100, 131073)]
    whole = [packet(1, login()) + answer for answer in answers]
    return repeat(until, lambda: volley(stage.port, whole, ["wait"]))


@attack("wrong sequence numbers in login and answer", "ERR 1043, closed")
def wrong_numbers(stage, until):
    wrong = [packet(number, login()) for number in (0, 2, 3, 127, 255)]
    wrong += [packet(1, login()) + packet(number, b"x" * 20) for number in (0, 1, 2, 4, 255)]
    wrong += [packet(number, ssl_request()) for number in (0, 2, 255)]
    return repeat(until, lambda: volley(stage.port, wrong, ["wait"]))


def repeat(until, once):
    tally = collections.Counter()
    for _ in again(until):
        tally += once()
    return tally


# Commands of sessions that are logged in.

USERS = ["sbtest", "known"]


def said(stage, messages, limit=1.0, end=None, flags=0):
    """Each is said by a relayed session and one of a known user of its own; what they hear."""
    peers = []
    for message, user in itertools.product(messages, USERS):
        peer = Peer(stage.port, user, flags, source=next(SOURCES)).socket
        try:
            peer.sendall(message)
            if end == "half-close":
                peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        peers.append(peer)
    return hear(peers, limit)


@attack("commands with wrong sequence numbers", r"ERR \d+, (closed|open)|closed")
def wrong_command_numbers(stage, until):
    query = b"\x03SELECT 1"
    wrong = [packet(number, query) for number in (1, 2, 5, 128, 255)]
    wrong += [packet(0, query) + packet(1, query), packet(7, b"\x0e") * 3, packet(9, b"")]
    return repeat(until, lambda: said(stage, wrong))


@attack(
    "command bytes that nobody knows, and commands without their argument",
    r"ERR \d+, (open|closed)|(OK|an answer|asked for more), open|silence|closed",
)
def unknown_commands(stage, until):
    known = {0x01, 0x12, 0x13, 0x1E}
    alone = [packet(0, bytes([byte])) for byte in range(256) if byte not in known]
    return repeat(until, lambda: said(stage, alone, 0.5))


@attack(
    "COM_CHANGE_USER cut at every byte, as a whole packet and not",
    r"ERR \d+, (closed|open)|closed|asked for more, (closed|open)|silence",
)
def cut_change_user(stage, until):
    body = bytes([CHANGE_USER]) + b"known\0\x14" + b"x" * 20 + b"sbtest\0\x2d\0" + NATIVE + b"\0"

    def once():
        # MariaDB waits for a second before it refuses one.
        tally = said(stage, [packet(0, cut) for cut in cuts(body)[1:]], 3)
        tally += said(stage, cuts(packet(0, body))[1::4], 0.3)
        return tally + said(stage, cuts(packet(0, body))[1::4], PATIENCE_S, "half-close")

    return repeat(until, once)


@attack("statements that do not exist, and lengths beyond the packet", r"ERR \d+, (open|closed)|silence|closed")
def odd_statements(stage, until):
    numbers = [0, 1, 7, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF]
    wrong = []
    for number in numbers:
        wrong += [packet(0, struct.pack("<BIBI", STMT_EXECUTE, number, 0, 1) + b"\xff" * length) for length in (0, 1, 9, 300)]
        wrong += [packet(0, struct.pack("<BI", 0x1A, number)), packet(0, struct.pack("<BII", 0x1C, number, number))]
        # COM_STMT_CLOSE and long data have no answer; what follows them has.
        wrong += [packet(0, struct.pack("<BI", 0x19, number)) + packet(0, b"\x03SELECT")]
        wrong += [packet(0, struct.pack("<BIH", STMT_SEND_LONG_DATA, number, 9) + b"y" * 99) + packet(0, b"\x03SELECT")]
    wrong += [packet(0, bytes([STMT_EXECUTE])), packet(0, bytes([STMT_EXECUTE, 1, 2])), packet(0, bytes([0xFA]) + b"\xff" * 40)]
    return repeat(until, lambda: said(stage, wrong, 0.5))


@attack("binary log, shutdown and others without the right", r"ERR \d+, (open|closed)|closed")
def no_right(stage, until):
    wanted = [b"\x12" + struct.pack("<IHI", 4, 0, 99) + b"x", b"\x1e" + bytes(30), b"\x08", b"\x13x\0y\0"]
    wanted += [b"\x15" + struct.pack("<I", 99) + b"\0" * 20]
    return repeat(until, lambda: said(stage, [packet(0, one) for one in wanted], 1.0))


@attack("COM_STMT_SEND_LONG_DATA of 256 MiB for one parameter", r"ERR \d+|cut off")
def long_data(stage, until):
    tally = collections.Counter()
    for user in USERS:
        try:
            peer = Peer(stage.port, user)
            peer.command(STMT_PREPARE, b"SELECT LENGTH(?)")
            number = peer.checked()[1:5]
            for _ in range(4):
                peer.checked()
            part = struct.pack("<BIH", STMT_SEND_LONG_DATA, struct.unpack("<I", number)[0], 0) + b"x" * (8 * MIB)
            for _ in range(32):
                peer.socket.sendall(packet(0, part))
            peer.command(STMT_EXECUTE, bytes(number) + b"\0\x01\0\0\0\0\x01\xfc\0")
            peer.checked()
            tally["an answer"] += 1
        except Err as error:
            tally[f"ERR {error.code}"] += 1
        except (Closed, OSError):
            tally["cut off"] += 1
        peer.close()
    while now() < until:
        time.sleep(0.1)
    return tally


def load(user):
    return packet(0, f"\x03LOAD DATA LOCAL INFILE 'x' INTO TABLE loaded_{user} (@ignored)".encode())


@attack("LOAD DATA LOCAL that never ends, stops, or is another's packet", "sent to the end|silence|ERR \\d+, (open|closed)|closed")
def endless_file(stage, until):
    tally = collections.Counter()
    for user in USERS:
        for rest in (packet(2, b"a\n"), packet(2, b"a\n", 5000), packet(9, b"a\n"), packet(2, b"", 0xFFFFFF), packet(0, b"\x03SELECT 1")):
            peer = Peer(stage.port, user, LOCAL_FILES)
            peer.socket.sendall(load(user))
            assert peer.packet()[:1] == b"\xfb", "the file is asked for"
            peer.socket.sendall(rest)
            tally += hear([peer.socket], 0.3)
    endless = [Peer(stage.port, user, LOCAL_FILES) for user in USERS]
    for peer, user in zip(endless, USERS):
        peer.socket.sendall(load(user))
        peer.packet()
    number, lines = 2, b"a" * 1000 + b"\n"
    while now() < until:
        for peer in endless:
            peer.socket.sendall(packet(number, lines * 32))
        number += 1
    for peer in endless:
        reset(peer.socket)
        tally["sent to the end"] += 1
    return tally


def pour(peers, message, until):
    """Sends without reading until then. Gives how many were blocked at the end, and how many bytes went out."""
    sent, chosen, offsets = collections.Counter(), selectors.DefaultSelector(), collections.Counter()
    block, last = message * max(1, 65536 // len(message)), {}
    for peer in peers:
        peer.setblocking(False)
        chosen.register(peer, selectors.EVENT_WRITE)
    while now() < until:
        for key, _ in chosen.select(0.1):
            try:
                went = key.fileobj.send(block[offsets[key.fileobj] :])
            except BlockingIOError:
                continue
            except OSError:
                chosen.unregister(key.fileobj)
                last[key.fileobj] = -1
                continue
            sent[key.fileobj] += went
            offsets[key.fileobj] = (offsets[key.fileobj] + went) % len(block)
            last[key.fileobj] = now()
    tally = collections.Counter()
    for peer in peers:
        at = last.get(peer, 0)
        tally["broken off" if at < 0 else "held back" if at < until - 0.5 else "taking still"] += 1
        reset(peer)
    return tally, sum(sent.values())


@attack("commands without an end whose answers nobody reads", "held back")
def never_reads(stage, until):
    tally = collections.Counter()
    kinds = [packet(0, b"\x03SELECT REPEAT('x', 1000)"), packet(0, b"\x0e"), packet(0, b"\x16SELECT 1, 'a', ?")]
    streams = []
    for kind in kinds:
        peers = [Peer(stage.port, user, receive_buffer=SMALL).socket for user in USERS for _ in range(2)]
        streams.append(threading.Thread(target=lambda p=peers, k=kind: results.append(pour(p, k, until))))
    results = []
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join()
    for part, _ in results:
        tally += part
    return tally


@attack("results of 1 GiB that nobody reads, 50 at a time, a third by TLS", "held back", 64)
def large_unread(stage, until):
    peers = []
    for at in range(50):
        peer = Peer(stage.port, USERS[at % 2], tls=at % 3 == 0, receive_buffer=SMALL)
        peer.command(QUERY, b"SELECT REPEAT('x', 1048576) FROM seq_1_to_1024")
        peers.append(peer.socket)
    while now() < until:
        time.sleep(0.05)
    # Who has been sent all of it is busy no more.
    rows = [row for row in stage.admin.ask("SHOW SESSIONS") if row["client"].startswith("127.0.1.")]
    busy = sum(row["state"] == "busy" for row in rows)
    for peer in peers:
        reset(peer)
    return collections.Counter({"held back": busy}) + collections.Counter({"not held back": len(peers) - busy})


@attack("6,000 commands sent ahead and read late: each answer right, in order", "right")
def reads_late(stage, until):
    tally, count = collections.Counter(), 6000
    for _ in again(until):
        for user in USERS:
            peer = Peer(stage.port, user, receive_buffer=SMALL)
            asked = [n % 3 for n in range(count)]
            message = b"".join(
                packet(0, [b"\x03SELECT %d" % n, b"\x0e", b"\x16SELECT %d" % n][kind]) for n, kind in enumerate(asked)
            )
            writer = threading.Thread(target=peer.socket.sendall, args=(message,))
            writer.start()
            time.sleep(0.5)
            for n, kind in enumerate(asked):
                tally["right" if right(peer, n, kind) else "wrong"] += 1
                if kind == 2:
                    # The column's definition and its end.
                    peer.checked(), peer.checked()
            writer.join()
            peer.close()
    return tally


def right(peer, n, kind):
    if kind == 0:
        peer.skip_head()
        row = peer.row()
        return row == bytes([len(str(n))]) + str(n).encode() and peer.row() is None
    answer = peer.checked()
    return answer[0] == 0 and len(answer) == (12 if kind == 2 else 7)
