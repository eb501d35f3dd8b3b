"""A plain MySQL session for the acceptance scripts: packets in and out, with nothing installed.

It speaks Protocol::41 without DEPRECATE_EOF and logs in with mysql_native_password. Reads and writes have a limit,
so that a proxy that hangs fails a script and does not hang it.
"""

import hashlib
import socket
import struct

QUIT, QUERY, STMT_PREPARE, STMT_EXECUTE, STMT_SEND_LONG_DATA = 0x01, 0x03, 0x16, 0x17, 0x18
FRAME_MAX = 0xFFFFFF
LIMIT_S = 120
# CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH
CAPABILITIES = 1 << 3 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 19


class Err(Exception):
    """An ERR packet."""

    def __init__(self, packet):
        self.code = struct.unpack_from("<H", packet, 1)[0]
        text = packet[3:].decode("utf-8", "replace")
        self.message = text[6:] if text.startswith("#") else text
        super().__init__(f"{self.code}: {self.message}")


class Closed(Exception):
    """The peer has closed, or reset, the connection."""


class Session:
    def __init__(
        self, port, user="sbtest", password="sbtest", database="sbtest", limit=LIMIT_S, receive_buffer=None, source=None
    ):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if source:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(("127.0.0.1", source))
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(limit)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(("127.0.0.1", port))
        self.sequence = 0
        self._log_in(user, password, database)

    def _log_in(self, user, password, database):
        greeting = self.checked()
        at = greeting.index(0, 1) + 5
        salt = greeting[at : at + 8] + greeting[at + 27 : at + 39]
        proof = scramble(password, salt)
        self.send(
            self.sequence + 1,
            struct.pack("<IIB23x", CAPABILITIES, 1 << 30, 45)
            + user.encode() + b"\0" + bytes([len(proof)]) + proof
            + database.encode() + b"\0mysql_native_password\0",
        )
        answer = self.checked()
        while answer[:1] == b"\xfe":
            salt = answer[answer.index(0) + 1 :][:20]
            self.send(self.sequence + 1, scramble(password, salt))
            answer = self.checked()

    def send(self, sequence, payload):
        """One packet, in as many frames as it takes."""
        view = memoryview(payload)
        while True:
            frame, view = view[:FRAME_MAX], view[FRAME_MAX:]
            self.socket.sendall(struct.pack("<I", len(frame))[:3] + bytes([sequence % 256]))
            self.socket.sendall(frame)
            sequence += 1
            if len(frame) < FRAME_MAX:
                return

    def command(self, com, argument=b""):
        self.send(0, bytes([com]) + argument)

    def packet(self):
        """The next packet, at most one frame of it; raises Closed at the end."""
        header = self._read(4)
        self.sequence = header[3]
        return self._read(int.from_bytes(header[:3], "little"))

    def checked(self):
        packet = self.packet()
        if packet[:1] == b"\xff":
            raise Err(packet)
        return packet

    def _read(self, length):
        data = bytearray(length)
        view = memoryview(data)
        while view:
            try:
                got = self.socket.recv_into(view)
            except (ConnectionResetError, BrokenPipeError) as cause:
                raise Closed(str(cause)) from cause
            if got == 0:
                raise Closed("end of the connection")
            view = view[got:]
        return data

    def ask(self, sql):
        """Sends a query and reads up to its first row."""
        self.command(QUERY, sql.encode() if isinstance(sql, str) else sql)
        self.skip_head()

    def skip_head(self):
        for _ in range(self.checked()[0] + 1):
            self.checked()

    def row(self):
        """The next row's payload, or None at the end of the result."""
        packet = self.checked()
        return None if packet[0] == 0xFE and len(packet) < 9 else packet

    def values(self, sql):
        """The short text values of the one row of a query."""
        self.ask(sql)
        values, at, row = [], 0, self.row()
        while at < len(row):
            length = row[at]
            values.append(row[at + 1 : at + 1 + length].decode())
            at += 1 + length
        assert self.row() is None, "one row"
        return values

    def close(self):
        self.socket.close()


def scramble(password, salt):
    if not password:
        return b""
    once = hashlib.sha1(password.encode()).digest()
    mask = hashlib.sha1(bytes(salt) + hashlib.sha1(once).digest()).digest()
    return bytes(a ^ b for a, b in zip(once, mask))
