"""Logs in and asks, in every combination of authentication, TLS, compression, statements, CN and kind of login, and prints a table.

A cell is run, and then it must give the right rows, or it is refused, and then for the reason that is known of it here.
"""

import argparse
import hashlib
import socket
import ssl
import struct
import sys
import time
import zlib

import nacl.bindings as nacl
import zstandard
from admin import Admin
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from session import CAPABILITIES, FRAME_MAX, STMT_EXECUTE, STMT_PREPARE, Closed, Err, Session, scramble

NATIVE, SHA2, ED25519, CLEAR = (
    "mysql_native_password", "caching_sha2_password", "client_ed25519", "mysql_clear_password"
)
SSL, COMPRESS, ZSTD = 1 << 11, 1 << 5, 1 << 26
PASSWORD = "sbtest"
PACKED_MIN = 50

AUTHENTICATIONS = [("native", NATIVE), ("sha2 fast", SHA2), ("sha2 full", SHA2), ("ed25519", ED25519), ("clear", CLEAR)]
# By CN and authentication: the account of a relayed login, or why there is none.
RELAYED = {
    ("MariaDB", "native"): "m_native",
    ("MariaDB", "sha2 fast"): "MariaDB 10.11 has no such accounts",
    ("MariaDB", "sha2 full"): "MariaDB 10.11 has no such accounts",
    ("MariaDB", "ed25519"): "m_ed",
    ("MySQL 9", "native"): "MySQL 9 has no such accounts",
    ("MySQL 5.6", "native"): "m_native",
    ("MySQL 5.6", "sha2 fast"): "MySQL 5.6 has no such accounts",
    ("MySQL 5.6", "sha2 full"): "MySQL 5.6 has no such accounts",
    ("MySQL 5.6", "ed25519"): "MySQL has no such accounts",
    ("MySQL 9", "sha2 fast"): "m_sha2",
    ("MySQL 9", "sha2 full"): "m_sha2",
    ("MySQL 9", "ed25519"): "MySQL has no such accounts",
}
# By CN: the tenant that is routed to it, and the plugin of its root.
CNS = {"MariaDB": ("maria", NATIVE), "MySQL 9": ("mysql", SHA2), "MySQL 5.6": ("mysql56", NATIVE)}
# Relayed logins that leave nothing by which their user is known, by CN, authentication and TLS: nobody has a use for the hash, or the
# password has not been seen yet, and is not asked for without TLS. MySQL 5.6, whose own table has hashes elsewhere, has MariaDB's.
UNKNOWN = {("MariaDB", "ed25519", False), ("MariaDB", "ed25519", True), ("MySQL 9", "sha2 fast", False)}
NO_CLEAR = "no server here has such accounts (PAM, LDAP)"


class Refused(Exception):
    """The server wants another plugin, or does not offer what is asked for."""


class Client(Session):
    """A session with a plugin of its own choice, TLS and compression."""

    def __init__(self, port, user, plugin, tls=False, packing=None, password=PASSWORD, database="sbtest"):
        self.plugin, self.tls, self.packing = plugin, tls, packing
        self.packed, self.number, self.unpacked = False, 0, bytearray()
        super().__init__(port, user, password, database)

    def _log_in(self, user, password, database):
        greeting = self.checked()
        at = greeting.index(0, 1) + 5
        self.id = str(int.from_bytes(greeting[at - 4 : at], "little"))
        salt = greeting[at : at + 8] + greeting[at + 27 : at + 39]
        low, high = struct.unpack_from("<H3xH", greeting, at + 9)
        flags = SSL * self.tls | {None: 0, "zlib": COMPRESS, "zstd": ZSTD}[self.packing]
        if flags & ~(low | high << 16):
            raise Refused("not offered")
        named = greeting[at + 40 :].split(b"\0")[0].decode()
        head = struct.pack("<IIB23x", CAPABILITIES | flags, 1 << 30, 45)
        if self.tls:
            self.send(self.sequence + 1, head)
            self.socket = context().wrap_socket(self.socket)
            self.sequence += 1
        proof = self.answer(password, salt) if named == self.plugin else b""
        self.send(
            self.sequence + 1,
            head + user.encode() + b"\0" + bytes([len(proof)]) + proof + database.encode() + b"\0"
            + self.plugin.encode() + b"\0" + b"\x03" * (self.packing == "zstd"),
        )
        self._authenticate(password, salt)
        self.packed = self.packing is not None

    def _authenticate(self, password, salt):
        while True:
            packet = self.checked()
            if packet[0] == 0:
                return
            if packet[0] == 0xFE:
                name, salt = bytes(packet[1:]).split(b"\0", 1)
                if name.decode() != self.plugin:
                    raise Refused(f"asked for {name.decode()}")
                self.send(self.sequence + 1, self.answer(password, salt))
            elif packet[1:] == b"\x04" and self.tls:
                self.send(self.sequence + 1, password.encode() + b"\0")
            elif packet[1:] == b"\x04":
                self.send(self.sequence + 1, b"\x02")
            elif packet[1:] != b"\x03":
                self.send(self.sequence + 1, encrypted(password, salt, bytes(packet[1:])))

    def answer(self, password, salt):
        if self.plugin == NATIVE:
            return scramble(password, salt[:20])
        if self.plugin == ED25519:
            return signed(password, bytes(salt[:32]))
        if self.plugin == CLEAR or not password:
            return password.encode() + b"\0"
        once = hashlib.sha256(password.encode()).digest()
        mask = hashlib.sha256(hashlib.sha256(once).digest() + bytes(salt[:20])).digest()
        return bytes(a ^ b for a, b in zip(once, mask))

    def send(self, sequence, payload):
        data, at = bytearray(), 0
        while at <= len(payload):
            frame = payload[at : at + FRAME_MAX]
            data += struct.pack("<I", len(frame))[:3] + bytes([(sequence + at // FRAME_MAX) % 256]) + frame
            at += FRAME_MAX
        if not self.packed:
            return self.socket.sendall(data)
        self.number = 0 if sequence == 0 else self.number
        for at in range(0, len(data), FRAME_MAX):
            self._send_packed(bytes(data[at : at + FRAME_MAX]))

    def _send_packed(self, plain):
        packed, length = plain, 0
        if len(plain) >= PACKED_MIN:
            compress = zlib.compress if self.packing == "zlib" else zstandard.ZstdCompressor().compress
            packed, length = compress(plain), len(plain)
        header = struct.pack("<I", len(packed))[:3] + bytes([self.number]) + struct.pack("<I", length)[:3]
        self.socket.sendall(header + packed)
        self.number = (self.number + 1) % 256

    def _read(self, length):
        if not self.packed:
            return super()._read(length)
        while len(self.unpacked) < length:
            header = super()._read(7)
            packed = bytes(super()._read(int.from_bytes(header[:3], "little")))
            if header[3] != self.number:
                raise Refused(f"compressed frame {header[3]} in the place of {self.number}")
            self.number = (self.number + 1) % 256
            plain = int.from_bytes(header[4:], "little")
            if plain and self.packing == "zlib":
                packed = zlib.decompress(packed)
            elif plain:
                packed = zstandard.ZstdDecompressor().decompress(packed, max_output_size=plain)
            self.unpacked += packed
        data, self.unpacked = self.unpacked[:length], self.unpacked[length:]
        return data

    def text(self):
        """A long row and a long statement."""
        self.ask("SELECT REPEAT('x', 300000)")
        row = self.row()
        assert row[4:] == b"x" * 300000 and self.row() is None, "a long row"
        assert self.values(f"SELECT LENGTH('{'y' * 200000}'), 6 * 7") == ["200000", "42"], "a long statement"

    def prepared(self):
        """The same by a prepared statement, with a number and a string, the answer in binary."""
        self.command(STMT_PREPARE, b"SELECT ?, REPEAT(?, 100000)")
        answer = self.checked()
        statement = answer[1:5]
        for _ in range(2 + 1 + 2 + 1):
            self.checked()
        self.command(
            STMT_EXECUTE,
            bytes(statement) + b"\0\x01\0\0\0" + b"\0" + b"\x01" + b"\x08\0\xfe\0" + struct.pack("<q", 1 << 40) + b"\x01z",
        )
        self.skip_head()
        row = self.row()
        assert struct.unpack_from("<q", row, 2)[0] == 1 << 40, "a number"
        assert row[14:] == b"z" * 100000 and self.row() is None, "a long value"


def context():
    chosen = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    chosen.check_hostname, chosen.verify_mode = False, ssl.CERT_NONE
    return chosen


def encrypted(password, salt, pem):
    plain = password.encode() + b"\0"
    mixed = bytes(byte ^ salt[at % 20] for at, byte in enumerate(plain))
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    return serialization.load_pem_public_key(pem).encrypt(mixed, oaep)


def signed(password, nonce):
    """By the key that the password's SHA-512 is, in its expanded form."""
    expanded = bytearray(hashlib.sha512(password.encode()).digest())
    expanded[0] &= 248
    expanded[31] = expanded[31] & 127 | 64
    secret, prefix = bytes(expanded[:32]), bytes(expanded[32:])
    reduce = nacl.crypto_core_ed25519_scalar_reduce
    secret = reduce(secret + bytes(32))
    public = nacl.crypto_scalarmult_ed25519_base_noclamp(secret)
    once = reduce(hashlib.sha512(prefix + nonce).digest())
    point = nacl.crypto_scalarmult_ed25519_base_noclamp(once)
    hashed = reduce(hashlib.sha512(point + public + nonce).digest())
    product = nacl.crypto_core_ed25519_scalar_mul(hashed, secret)
    return point + nacl.crypto_core_ed25519_scalar_add(product, once)


def make_accounts(cn, port):
    root = Client(port, "root", CNS[cn][1], password="", database="mysql")
    by = {
        "MariaDB": {
            "m_native": f"IDENTIFIED VIA mysql_native_password USING PASSWORD('{PASSWORD}')",
            "m_ed": f"IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}')",
        },
        "MySQL 9": {"m_sha2": f"IDENTIFIED WITH caching_sha2_password BY '{PASSWORD}'"},
        "MySQL 5.6": {"m_native": f"IDENTIFIED BY '{PASSWORD}'"},
    }[cn]
    usual = next(iter(by.values()))
    statements = ["CREATE DATABASE IF NOT EXISTS sbtest"]
    for user in [*by, "k_password", "k_hash", "m_monitor"]:
        # One that is left from a run before; MySQL 5.6, whose data are always new, has no IF EXISTS here.
        statements += [f"DROP USER IF EXISTS {user}@'%'"] if cn != "MySQL 5.6" else []
        statements += [
            f"CREATE USER {user}@'%' {by.get(user, usual)}",
            f"GRANT ALL ON *.* TO {user}@'%'",
        ]
    for statement in statements:
        root.command(0x03, statement.encode())
        root.checked()
    return root


def warm(root, port, authentication):
    """Empties the CN's cache of passwords, or fills it."""
    root.command(0x03, b"FLUSH PRIVILEGES")
    root.checked()
    if authentication == "sha2 fast":
        for user in ["m_sha2", "k_password"]:
            Client(port, user, SHA2).close()


def run(port, user, plugin, tls, packing, kind, admin):
    try:
        client = Client(port, user, plugin, tls, packing)
        getattr(client, kind)()
        login = "ok"
        if admin:
            [login] = [row["login"] for row in admin.ask("SHOW SESSIONS") if row["id"] == client.id]
        client.close()
        return login
    except (Refused, Err, Closed) as refused:
        return f"refused: {refused}"
    except (AssertionError, ssl.SSLError, socket.timeout, zlib.error, zstandard.ZstdError) as wrong:
        return f"WRONG: {type(wrong).__name__} {wrong}"


def row(arguments, roots, admin, cn, login, authentication, plugin, tls):
    """The cells of one line: of each compression, text and prepared."""
    if cn not in roots:
        return [f"not run: no {cn} at hand"] * 6
    user = "k_hash" if authentication == "sha2 full" else "k_password"
    if login == "relay":
        user = RELAYED.get((cn, authentication), NO_CLEAR)
    if " " in user:
        return [f"not run: {user}"] * 6
    cells = []
    for packing in [None, "zlib", "zstd"]:
        for kind in ["text", "prepared"]:
            if cn == "MySQL 9":
                warm(roots[cn], arguments.mysql, authentication)
            cells.append(run(arguments.port, f"{CNS[cn][0]}:{user}", plugin, tls, packing, kind, admin))
    return cells


def main():
    parser = argparse.ArgumentParser()
    for name in ["port", "maria", "mysql", "mysql56", "admin"]:
        parser.add_argument(f"--{name}", type=int)
    arguments = parser.parse_args()
    ports = {"MariaDB": arguments.maria, "MySQL 9": arguments.mysql, "MySQL 5.6": arguments.mysql56}
    roots = {cn: make_accounts(cn, port) for cn, port in ports.items() if port}
    admin = Admin(arguments.admin) if arguments.admin else None
    # Until the tables have been read.
    time.sleep(3 if admin else 0)
    counts, wrong = {}, 0
    print("| CN | login | authentication | leg | none, text | prepared | zlib, text | prepared | zstd, text | prepared |")
    print("|---" * 10 + "|")
    for cn in CNS:
        for login in ["relay", "known"]:
            for authentication, plugin in AUTHENTICATIONS:
                for tls in [False, True]:
                    cells = row(arguments, roots, admin, cn, login, authentication, plugin, tls)
                    # Nobody is asked for a password as it is where somebody may read along.
                    refusal = "refused: asked for mysql_native_password"
                    stays = login == "relay" and (cn, authentication, tls) in UNKNOWN
                    right = ("relay" if stays else "known") if admin else "ok"
                    allowed = [refusal] if authentication == "clear" and not tls else [right]
                    wrong += sum(cell not in allowed and not cell.startswith("not run") for cell in cells)
                    for cell in cells:
                        counts[cell.split(":")[0]] = counts.get(cell.split(":")[0], 0) + 1
                    same = cells[:1] if len(set(cells)) == 1 and cells[0] != "ok" else cells
                    print(f"| {cn} | {login} | {authentication} | {'TLS' if tls else 'plain'} | " + " | ".join(same) + " |")
    print(", ".join(f"{count} {what}" for what, count in counts.items()) + f"; {wrong} not as they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
