"""The attacks on what lies around the protocol: TLS, compression, PROXY headers, and the other doors."""

import collections
import contextlib
import itertools
import random
import re
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib

from hostile_attacks import (
    LINE, SMALL, SPOOFED, USERS, V2, WAYS, again, attack, cuts, load, now, odd_logins, pour, repeat, slices, volley,
)
from hostile_peer import (
    BALANCER, COMPRESS, LOCAL_FILES, PATIENCE_S, STRANGER, ZSTD, Peer, client_hello, compressed, connect, context, hear, login,
    packet, packets, reset, ssl_request, zstd_of_one_byte,
)
from session import Session

# TLS.


def hellos():
    return [client_hello(), client_hello(ssl.TLSVersion.TLSv1_2)]


def tls_volley(stage, payloads, ways):
    return volley(stage.port, payloads, ways, header=packet(1, ssl_request()))


@attack("garbage in the place of a ClientHello, and floods of alerts", "TLS (alert|handshake), (closed|reset)|closed|hung up")
def tls_garbage(stage, until):
    noise = random.Random(5)
    hello = client_hello()
    junk = [noise.randbytes(n) for n in (5, 64, 517, 20000)] + [b"GET / HTTP/1.1\r\n\r\n" * 40, b"\x16\x03\x01\xff\xff" + b"x" * 70000]
    junk += [b"\x16\x03\x01\x00\x00" * 3000, b"\x15\x03\x01\x00\x02\x01\x5a" * 5000, b"\x15\x03\x01\x00\x02\x02\x28"]
    junk += [b"\x14\x03\x03\x00\x01\x01" * 5000]
    junk += [hello + b"\x15\x03\x03\x00\x02\x01\x5a" * 5000, hello + hello, hello + noise.randbytes(5000)]
    # The length of the message inside says more than may be.
    junk += [hello[:6] + b"\xff\xff\xff" + hello[9:] + bytes(70000)]
    return repeat(until, lambda: tls_volley(stage, junk, ["wait", "close"]))


@attack("ClientHello cut at every byte; then close, half-close, wait", "closed|hung up")
def tls_cuts(stage, until):
    payloads = [hello[:at] for hello in hellos() for at in range(len(hello))]

    def once():
        tally = collections.Counter()
        for some in slices(payloads, 300):
            tally += tls_volley(stage, some, WAYS)
        return tally

    return once()


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


ASK = packet(0, b"\x03SELECT 1")
# As many bytes as a frame may hold, and a query that is as long.
ZEROS = bytes(0xFFFFFF)
LONG_QUERY = packet(0, b"\x03SELECT LENGTH('" + b"x" * (len(ZEROS) - 4 - 18) + b"')")


BOMBS = [(COMPRESS, compressed(zlib.compress(plain, 9), 0, len(plain))) for plain in (ZEROS, LONG_QUERY)]
BOMBS += [(ZSTD, compressed(zstd_of_one_byte(byte, 127), 0, 127 << 17)) for byte in (0, 3)]


def odd_frames(algorithm):
    """Each with what it comes to: it is broken, not whole, to be answered, or long and broken behind commands that are answered."""
    packed = zlib.compress(ASK * 20)
    broken = [
        compressed(b"x" * 60, 0, 0xFFFFFF), compressed(b"", 0, 0xFFFFFF), compressed(b"\x78\x9c" + b"\xff" * 300, 0, 400),
        compressed(b"\x28\xb5\x2f\xfd" + b"\xff" * 300, 0, 400), compressed(ASK, 3), compressed(ASK, 255),
        compressed(ASK[:3], 0) + compressed(ASK[3:], 7),
    ]
    if algorithm == COMPRESS:
        broken += [compressed(packed, 0, declared) for declared in (len(ASK) * 20 - 1, len(ASK) * 20 + 1, 1)]
        late = [compressed(packed, 0, 0xFFFFFF)]
        broken += [compressed(packed[:-3], 0, len(ASK) * 20), compressed(packed + b"behind", 0, len(ASK) * 20)]
    else:
        broken += [compressed(zstd_of_one_byte(0, 127), 0, 1000), ]
        broken += [compressed(zstd_of_one_byte(0, 8, 5), 0, 1 << 20)]
        late = [compressed(zstd_of_one_byte(0, 30000), 0, 0xFFFFFF), compressed(zstd_of_one_byte(0, 127)[:-2], 0, 127 << 17)]
    partial = [compressed(b"", 0), compressed(b"x" * 10, 0, 60, 0xFFFFFF), compressed(ASK[:7], 0)]
    whole = [compressed(ASK, 0), compressed(ASK, 0) * 200, compressed(ASK[:3], 0) + compressed(ASK[3:], 1)]
    kinds = [(broken, r"closed"), (partial, "silence"), (whole, "an answer, open"), (late, "late")]
    return [(message, expected) for messages, expected in kinds for message in messages]


@attack("compressed frames that lie, are garbage or cut off", "(broken|not whole|right|broken at its end), as it should be", 64)
def broken_frames(stage, until):
    called = {"closed": "broken", "silence": "not whole", "an answer, open": "right", "late": "broken at its end"}

    def once():
        tally = collections.Counter()
        for flag, user in itertools.product([COMPRESS, ZSTD], USERS):
            for message, expected in odd_frames(flag):
                peer = Peer(stage.port, user, flag).socket
                try:
                    peer.sendall(message)
                except OSError:
                    pass
                (came,) = hear([peer], 2 if expected == "closed" else 0.5, unpack=flag)
                answered = came.startswith(("an answer", "half a packet"))
                # A long frame is opened as it comes: four million empty commands take longer than anybody waits here.
                late = expected == "late" and (answered or came.startswith(("ERR 1047", "closed", "reset")))
                right = came == expected or expected == "an answer, open" and answered or late
                tally[f"{called[expected]}, as it should be" if right else f"{message[:40]!r}: {came}, not {expected}"] += 1
        return tally

    return once()


@attack("bombs: frames of 16 KiB (zlib) and 0.5 KiB (zstd) that hold 16 MiB, one after another", "blown up", 128)
def bombs(stage, until):
    tally, peers = collections.Counter(), []
    while now() < until:
        for flag, bomb in BOMBS:
            peer = Peer(stage.port, USERS[len(peers) % 2], flag).socket
            peer.sendall(bomb)
            peers.append(peer)
            tally["blown up"] += 1
        time.sleep(0.2)
        while len(peers) > 4:
            reset(peers.pop(0))
    for peer in peers:
        reset(peer)
    return tally


def held(stage, until, flag, messages):
    """20 sessions, each of which sends one of them, as far as it is let, and then nothing more. None reads."""
    peers = [Peer(stage.port, USERS[at % 2], flag).socket for at in range(20)]
    rests = [memoryview(messages[at // 2 % len(messages)]) for at in range(20)]
    for peer in peers:
        peer.setblocking(False)
    while now() < until:
        for at, peer in enumerate(peers):
            with contextlib.suppress(BlockingIOError, ConnectionError):
                rests[at] = rests[at][peer.send(rests[at]):]
        time.sleep(0.01)
    for peer in peers:
        reset(peer)
    return collections.Counter({"reset by us": len(peers)})


@attack("20 compressed frames of 16 MiB of which the last byte never comes", "reset by us", 64)
def endless_frames(stage, until):
    return held(stage, until, COMPRESS, [compressed(plain[:-1], 0, 0, len(plain)) for plain in (ZEROS, LONG_QUERY)])


@attack("20 frames of 0.5 KiB (zstd) that hold four million empty commands each", "reset by us", 64)
def many_commands(stage, until):
    flag, bomb = BOMBS[2]
    return held(stage, until, flag, [bomb])


@attack("compressed frames before the login has ended", r"ERR 1043, closed")
def early_frames(stage, until):
    inside = zlib.compress(packet(1, login(flags=COMPRESS)))
    early = [compressed(packet(1, login(flags=COMPRESS)), 1), compressed(inside, 1, len(packet(1, login())))]
    early += [packet(1, login(flags=COMPRESS)) + compressed(packet(3, b"x" * 20), 3)]
    return repeat(until, lambda: volley(stage.port, early, ["wait"]))


# PROXY headers.



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


@attack(
    "the admin door: the same logins, cuts, numbers, pipelines, and silence",
    r"ERR \d+, (closed|reset|open)|closed|reset|held back|asked for more, closed|silence|OK, open", 64,
)
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
    odd = [packet(0, b"\x03" + b"x" * 70000), packet(7, b"\x0e"), packet(0, b"\x0e", 0xFFFFFF)]
    for message in odd + [packet(0, body) for body in (b"\xee", b"", b"\x03SHOW\xff\xfe")]:
        peer = admin_session(port)
        peer.socket.sendall(message)
        tally += hear([peer.socket], 1)
    return tally


def admin_session(port):
    return Session(port, user="admin", password="admin", database="")


@attack("the HTTP door: slow and oversized heads, pipelines, garbage", r"\d\d\d, closed|closed|reset|held back|answered")
def http_door(stage, until):
    port, tally = stage.http_port, collections.Counter()
    ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    odd = [b"GET / HTTP/1.1\r\nx: " + b"y" * 100000, b"GET /" + b"a" * 100000, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n"]
    odd += [b"\x16\x03\x01\x02\x00" + b"\xff" * 600, b"\0" * 4000, b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 5000]
    odd += [b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\nx", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    odd += [ask.replace(b"x", b"x\r\ntransfer-encoding: chunked") + b"ffffffffffffffff\r\n"]
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
    tally += http_answers(port, [ask * 199 + ask.replace(b"host", b"connection: close\r\nhost")], 6, 200)
    part, _ = pour([connect(port, receive_buffer=SMALL) for _ in range(4)], b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n", now() + 3)
    return tally + part


def http_answers(port, messages, limit, expected=None):
    tally = collections.Counter()
    for message in messages:
        peer = connect(port)
        try:
            peer.sendall(message)
            if not expected:
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
