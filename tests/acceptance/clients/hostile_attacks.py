"""The attacks, each a function that goes on for its time and gives how often what came of it.

ATTACKS has for each its name, what it may come to, and by how much corelane may grow meanwhile.
"""

import collections
import itertools
import os
import random
import re
import selectors
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib

from hostile_peer import (
    BALANCER, CHANGE_USER, COMPRESS, LOCAL_FILES, NATIVE, PATIENCE_S, SOURCES, STRANGER, ZSTD, Peer, client_hello, compressed,
    connect, context, hear, login, packet, packets, reset, ssl_request, zstd_of_one_byte,
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


def cuts(payload):
    return [payload[:at] for at in range(len(payload))]


WAYS = ["close", "half-close", "wait"]


# Logins.


def drip(stage, until, lines, every=1.0, count=300):
    """`count` connections at a time, each sending its line a byte each second."""
    tally = collections.Counter()
    for _ in again(until):
        peers = [connect(stage.port, source) for source, _ in itertools.islice(itertools.cycle(lines), count)]
        texts = [text for _, text in itertools.islice(itertools.cycle(lines), count)]
        begun = now()
        for at in range(PATIENCE_S):
            time.sleep(max(0, begun + every * at - now()))
            for peer, text in zip(peers, texts):
                try:
                    peer.send(text[at : at + 1])
                except OSError:
                    pass
        tally += hear(peers, 1)
    return tally


@attack("login, a byte a second, 300 at a time", "ERR 1159, closed")
def drip_login(stage, until):
    return drip(stage, until, [(None, packet(1, login()))])


@attack("PROXY header, a byte a second, 300 at a time", "ERR 1105, closed")
def drip_header(stage, until):
    return drip(stage, until, [(BALANCER, b"PROXY TCP4 203.0.113.66 127.0.0.1 1 2\r\n")])


@attack("ClientHello, a byte a second, 300 at a time", "TLS alert, closed|closed")
def drip_hello(stage, until):
    # The SSLRequest comes at once, as the first byte of the line.
    hello, tally = client_hello(), collections.Counter()
    for _ in again(until):
        peers = [connect(stage.port) for _ in range(300)]
        for peer in peers:
            peer.sendall(packet(1, ssl_request()))
        begun = now()
        for at in range(PATIENCE_S):
            time.sleep(max(0, begun + at - now()))
            for peer in peers:
                try:
                    peer.send(hello[at : at + 1])
                except OSError:
                    pass
        tally += hear(peers, 1)
    return tally


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


@attack("command bytes that nobody knows, and commands without their argument", r"ERR \d+, open|OK, open|an answer, open|silence|closed|asked for more, .*|ERR \d+, closed")
def unknown_commands(stage, until):
    known = {0x01, 0x12, 0x13, 0x1E}
    alone = [packet(0, bytes([byte])) for byte in range(256) if byte not in known]
    return repeat(until, lambda: said(stage, alone, 0.5))


@attack("COM_CHANGE_USER cut at every byte, as a whole packet and not", r"ERR \d+, (closed|open)|closed|OK, open|asked for more, .*|silence")
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
    for peer in peers:
        reset(peer)
    return collections.Counter({"held back": len(peers)})


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


# TLS.


def hellos():
    return [client_hello(), client_hello(ssl.TLSVersion.TLSv1_2)]


def tls_volley(stage, payloads, ways):
    return volley(stage.port, payloads, ways, header=packet(1, ssl_request()))


@attack("garbage in the place of a ClientHello, and floods of alerts", "TLS (alert|handshake), closed|closed|hung up")
def tls_garbage(stage, until):
    noise = random.Random(5)
    hello = client_hello()
    junk = [noise.randbytes(n) for n in (5, 64, 517, 20000)] + [b"GET / HTTP/1.1\r\n\r\n" * 40, b"\x16\x03\x01\xff\xff" + b"x" * 70000]
    junk += [b"\x16\x03\x01\x00\x00" * 3000, b"\x15\x03\x01\x00\x02\x01\x5a" * 5000, b"\x15\x03\x01\x00\x02\x02\x28", b"\x14\x03\x03\x00\x01\x01" * 5000]
    junk += [hello + b"\x15\x03\x03\x00\x02\x01\x5a" * 5000, hello + hello, hello + noise.randbytes(5000)]
    # The length of the message inside says more than may be.
    junk += [hello[:6] + b"\xff\xff\xff" + hello[9:] + bytes(70000)]
    return repeat(until, lambda: tls_volley(stage, junk, ["wait", "close"]))


@attack("ClientHello cut at every byte; then close, half-close, wait", "closed|hung up")
def tls_cuts(stage, until):
    payloads = [hello[:at] for hello in hellos() for at in range(len(hello))]

    def once():
        tally = collections.Counter()
        for some in itertools.batched(payloads, 300) if hasattr(itertools, "batched") else slices(payloads, 300):
            tally += tls_volley(stage, some, WAYS)
        return tally

    return once()


def slices(items, size):
    return [items[at : at + size] for at in range(0, len(items), size)]


@attack("a plain login, or a command, behind SSLRequest", "TLS alert, closed")
def tls_plain(stage, until):
    junk = [packet(2, login()), packet(2, ssl_request()), packet(0, b"\x03SELECT 1"), packet(2, login()) * 50]
    return repeat(until, lambda: tls_volley(stage, junk, ["wait"]))


@attack("a second SSLRequest within TLS", "ERR 1043, (closed|TLS broken|reset)")
def tls_twice(stage, until):
    tally = collections.Counter()
    for _ in again(until):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            peer = connect(stage.port)
            greeting(peer)
            peer.sendall(packet(1, ssl_request()))
            peer = context(version).wrap_socket(peer)
            peer.sendall(packet(2, ssl_request()))
            tally += hear([peer])
    return tally


def greeting(peer):
    data = b""
    while not packets(data)[0]:
        data += peer.recv(4096)


@attack("handshakes of TLS as fast as one CPU can, 8 at a time", "done", 32)
def tls_flood(stage, until):
    tally = collections.Counter()

    def one():
        chosen = context()
        while now() < until:
            peer = connect(stage.port)
            greeting(peer)
            peer.sendall(packet(1, ssl_request()))
            try:
                reset(chosen.wrap_socket(peer))
                tally["done"] += 1
            except (OSError, ssl.SSLError) as error:
                tally[str(error)] += 1

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


@attack("ClientHello, and its answer is never read; 300 at a time", "TLS handshake, closed")
def tls_deaf(stage, until):
    def once():
        peers = [connect(stage.port, receive_buffer=1024) for _ in range(300)]
        for peer in peers:
            peer.sendall(packet(1, ssl_request()) + client_hello())
        time.sleep(4)
        return hear(peers, 3)

    return repeat(until, once)


@attack("renegotiations (TLS 1.2) and new keys (TLS 1.3), hundreds, by openssl s_client", "ended|closed|let go on|refused")
def tls_again(stage, until):
    tally = collections.Counter()
    for _ in again(until):
        for version, letter in (("-tls1_2", "R"), ("-tls1_3", "K"), ("-tls1_3", "k")):
            for count in (1, 300):
                tally[renegotiate(stage, version, letter, count)] += 1
    return tally


def renegotiate(stage, version, letter, count):
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{stage.port}", "-starttls", "mysql", version]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for _ in range(count):
            client.stdin.write(f"{letter}\n")
            client.stdin.flush()
            time.sleep(0.002)
        out, _ = client.communicate(timeout=PATIENCE_S)
    except BrokenPipeError:
        out, _ = client.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        client.kill()
        client.communicate()
        return "left open"
    return "refused" if "no renegotiation" in out or "alert" in out else "ended"


# Compression.


def odd_frames():
    """By algorithm: bombs and frames that are not what they say."""
    ask = packet(0, b"\x03SELECT 1")
    packed = zlib.compress(ask * 20)
    query = b"\x03SELECT '" + b"x" * (16 * MIB - 5 - 10) + b"'"
    whole = packet(0, query)[: 16 * MIB - 1]
    zero = bytes(0xFFFFFF)
    common = [
        compressed(b"", 0), compressed(b"x" * 60, 0, 0xFFFFFF), compressed(b"", 0, 0xFFFFFF), compressed(b"x" * 10, 0, 60, 0xFFFFFF),
        compressed(ask, 3), compressed(ask, 255), compressed(ask, 0) * 2000, compressed(ask[:3], 0) + compressed(ask[3:], 7),
    ]
    by_zlib = [
        compressed(zlib.compress(zero, 9), 0, len(zero)), compressed(zlib.compress(whole, 9), 0, len(whole)),
        compressed(packed, 0, len(ask) * 20 - 1), compressed(packed, 0, len(ask) * 20 + 1), compressed(packed, 0, 0xFFFFFF),
        compressed(packed[:-3], 0, len(ask) * 20), compressed(packed + b"behind", 0, len(ask) * 20),
        compressed(b"\x78\x9c" + b"\xff" * 300, 0, 400),
    ]
    by_zstd = [
        compressed(zstd_of_one_byte(0, 127), 0, 127 << 17), compressed(zstd_of_one_byte(0, 127), 0, 1000),
        compressed(zstd_of_one_byte(0, 30000), 0, 0xFFFFFF), compressed(zstd_of_one_byte(0, 8, 5), 0, 1 << 20),
        compressed(zstd_of_one_byte(0, 127)[:-2], 0, 127 << 17), compressed(b"\x28\xb5\x2f\xfd" + b"\xff" * 300, 0, 400),
    ]
    return [(COMPRESS, common + by_zlib), (ZSTD, common + by_zstd)]


@attack("compressed frames that are bombs of 16 MiB, lie, or are garbage", r".*", 96)
def bombs(stage, until):
    frames = odd_frames()
    tally = collections.Counter()
    for _ in again(until):
        for flag, messages in frames:
            for user, message in itertools.product(USERS, messages):
                peer = Peer(stage.port, user, flag).socket
                try:
                    peer.sendall(message)
                except OSError:
                    pass
                tally += hear([peer], 0.3, unpack=True)
    return tally


@attack("compressed frames before the login has ended", r"ERR 1043, closed")
def early_frames(stage, until):
    inside = zlib.compress(packet(1, login(flags=COMPRESS)))
    early = [compressed(packet(1, login(flags=COMPRESS)), 1), compressed(inside, 1, len(packet(1, login())))]
    early += [packet(1, login(flags=COMPRESS)) + compressed(packet(3, b"x" * 20), 3)]
    return repeat(until, lambda: volley(stage.port, early, ["wait"]))


# PROXY headers.

SPOOFED = "203.0.113.66"
LINE = f"PROXY TCP4 {SPOOFED} 127.0.0.1 1000 3306\r\n".encode()
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def binary(command=0x21, family=0x11, body=None, length=None):
    body = socket.inet_aton(SPOOFED) + socket.inet_aton("127.0.0.1") + struct.pack(">HH", 1000, 3306) if body is None else body
    return V2 + bytes([command, family]) + struct.pack(">H", len(body) if length is None else length) + body


def spoof(stage, source, headers, expect_spoofed=False):
    """Says each header, then a login; counts in SHOW SESSIONS who seems to come from the address in it."""
    peers = []
    for header in headers:
        peer = connect(stage.port, source)
        try:
            peer.sendall(header)
        except OSError:
            pass
        peers.append(peer)
    time.sleep(0.05)
    seen = sum(row["client"].startswith("203.0.113.") for row in stage.admin.ask("SHOW SESSIONS"))
    tally = hear(peers)
    if seen and not expect_spoofed:
        tally["SPOOFED"] += seen
    if not seen and expect_spoofed:
        tally["not believed"] += 1
    return tally


@attack("PROXY headers from an address that is not listed", "ERR 1130, closed")
def header_unlisted(stage, until):
    headers = [LINE, binary(), LINE + packet(1, login()), b"PROXY UNKNOWN\r\n", binary(0x20, 0, b"")]
    return repeat(until, lambda: spoof(stage, STRANGER, headers) + spoof(stage, None, headers))


@attack("wrong PROXY headers from the load balancer's address", "ERR 1105, closed")
def header_wrong(stage, until):
    tlv = binary(body=socket.inet_aton(SPOOFED) * 2 + b"\0\1\0\2" + b"\x03\0\x04\xde\xad\xbe\xef")
    headers = [
        b"PROXY " + b"x" * 300, b"PROXY TCP4 " + b"1" * 200, LINE[:-2] + b"\n\n", b"PROXY TCP4 203.0.113.66 127.0.0.1 99999 1\r\n",
        binary(0x31), binary(0x2F), binary(family=0x77), binary(length=3), binary(length=60000), tlv,
        binary(body=socket.inet_aton(SPOOFED) * 2 + b"\0\1\0\2" + b"\x05\xff\xff"), packet(1, login()), b"", LINE[:20], binary()[:20],
        LINE + LINE, LINE + binary(), binary() + binary(), binary() + LINE, binary(0x20, 0, b"z" * 50) + LINE,
    ]
    # The last ones are heard in the place of a login: the first of two is right, and its session is one of the address that it tells.
    wrong, twice = headers[:-5], headers[-5:]
    return repeat(until, lambda: spoof(stage, BALANCER, wrong) + volley(stage.port, twice, ["wait"], source=BALANCER))


@attack("LOCAL with rubbish, UNKNOWN with an address: the connection's own holds", "ERR 1159, closed")
def header_local(stage, until):
    rubbish = random.Random(3).randbytes(200)
    headers = [binary(0x20, 0x11), binary(0x20, 0, rubbish), binary(0x21, 0, rubbish), b"PROXY UNKNOWN 203.0.113.66 1.2.3.4 1 2\r\n"]
    return repeat(until, lambda: spoof(stage, BALANCER, headers))


@attack("right headers are believed, and one of a denied address is refused", "ERR (1159|1130), closed")
def header_right(stage, until):
    denied = LINE.replace(b".66 ", b".99 ")
    return repeat(until, lambda: spoof(stage, BALANCER, [LINE, binary(), denied], True))


@attack("a header behind the login, from either address", r"ERR \d+, (open|closed)|closed|silence")
def header_late(stage, until):
    def once():
        peers = []
        for source, header, user in itertools.product([BALANCER, STRANGER], [LINE, binary()], USERS):
            peer = Peer(stage.port, user, source=source, header=b"PROXY UNKNOWN\r\n" if source == BALANCER else b"").socket
            peer.sendall(header)
            peers.append(peer)
        time.sleep(0.05)
        seen = sum(row["client"].startswith("203.0.113.") for row in stage.admin.ask("SHOW SESSIONS"))
        return hear(peers, 0.5) + collections.Counter({"SPOOFED": seen} if seen else {})

    return repeat(until, once)


# Resets, and the other doors.


@attack("connections reset in the middle of everything", "reset by us")
def resets(stage, until):
    tally, chance = collections.Counter(), random.Random(11)
    ask = packet(0, b"\x03SELECT REPEAT('x', 100000) FROM seq_1_to_200")
    while now() < until:
        at = chance.randrange(9)
        if at < 4:
            peer = connect(stage.port, BALANCER if at == 3 else None)
            junk = [b"", packet(1, login()), packet(1, ssl_request()) + client_hello(), LINE + packet(1, login())][at]
            peer.sendall(junk[: chance.randrange(len(junk) + 1)])
        else:
            user = USERS[chance.randrange(2)]
            flags = [0, 0, COMPRESS, LOCAL_FILES, 0][at - 4]
            peer = Peer(stage.port, user, flags, tls=at == 5).socket
            file = load(user) + packet(2, b"a\n" * 900)
            said = [ask, ask, compressed(ask), file, ask[: chance.randrange(len(ask))]][at - 4]
            peer.sendall(said)
        time.sleep(chance.choice([0, 0, 0.001, 0.01]))
        reset(peer)
        tally["reset by us"] += 1
    return tally


@attack("the admin door: the same logins, cuts, numbers, pipelines, and silence", r"ERR \d+, (closed|reset|open)|closed|reset|hung up|held back|silence|OK, open", 64)
def admin_door(stage, until):
    port, tally = stage.admin_port, collections.Counter()
    whole = packet(1, login(b"admin"))
    for some in slices(odd_logins() + cuts(whole)[::5] + [packet(1, cut) for cut in cuts(login(b"admin"))[::7]], 20):
        tally += volley(port, some, ["half-close"], limit=12)
    tally += volley(port, [packet(n, login(b"admin")) for n in (0, 2, 255)] + [packet(1, ssl_request()), LINE, binary()], ["half-close"])
    # More than there is room for; they are silent until the login's limit.
    tally += volley(port, [b""] * 40, ["wait"], limit=12)
    peers = [admin_session(port) for _ in range(4)]
    part, _ = pour([peer.socket for peer in peers], packet(0, b"\x03SHOW SESSIONS"), now() + 3)
    tally += part
    for message in (packet(0, b"\x03" + b"x" * 70000), packet(7, b"\x0e"), packet(0, b"\xee"), packet(0, b""), packet(0, b"\x03SHOW\xff\xfe"), packet(0, b"\x0e", 0xFFFFFF)):
        peer = admin_session(port)
        peer.socket.sendall(message)
        tally += hear([peer.socket], 1)
    return tally


def admin_session(port):
    from session import Session

    return Session(port, user="admin", password="admin", database="")


@attack("the HTTP door: slow and oversized heads, pipelines, garbage", r"\d\d\d, closed|closed|reset|held back|answered")
def http_door(stage, until):
    port, tally = stage.http_port, collections.Counter()
    ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    odd = [b"GET / HTTP/1.1\r\nx: " + b"y" * 100000, b"GET /" + b"a" * 100000, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n"]
    odd += [b"\x16\x03\x01\x02\x00" + b"\xff" * 600, b"\0" * 4000, b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\nx"]
    odd += [b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 5000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ask.replace(b"x", b"x\r\ntransfer-encoding: chunked") + b"ffffffffffffffff\r\n"]
    for message in odd:
        tally += http_answers(port, [message], 6)
    slow = [connect(port) for _ in range(30)]
    begun = now()
    for at in range(7):
        time.sleep(max(0, begun + at - now()))
        for peer in slow:
            try:
                peer.send(ask[at : at + 1])
            except OSError:
                pass
    for peer in slow:
        tally += http_heard(peer, 1)
    tally += http_answers(port, [ask * 200], 6, 200)
    part, _ = pour([connect(port, receive_buffer=SMALL) for _ in range(4)], b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n", now() + 3)
    return tally + part


def http_answers(port, messages, limit, expected=None):
    tally = collections.Counter()
    for message in messages:
        peer = connect(port)
        try:
            peer.sendall(message)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        tally += http_heard(peer, limit, expected)
    return tally


def http_heard(peer, limit, expected=None):
    peer.settimeout(limit)
    data, end = b"", "closed"
    try:
        while part := peer.recv(65536):
            data += part
    except TimeoutError:
        end = "open"
    except OSError:
        end = "reset"
    peer.close()
    answers = re.findall(rb"HTTP/1\.1 (\d\d\d)", data)
    if expected and answers == [b"200"] * expected:
        return collections.Counter({"answered": expected})
    if expected:
        return collections.Counter({f"{len(answers)} answers of {expected}, {end}": 1})
    return collections.Counter({f"{answers[-1].decode()}, {end}" if answers else end: 1})
