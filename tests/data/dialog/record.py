#!/usr/bin/env python3
"""Records the captures in this directory from a server that it may fill with a schema `dialog`.

    record.py HOST PORT USER      (an account without a password, without an anonymous user beside it)

MariaDB and MySQL have captures of their own; those of MySQL are called `mysql-..`, and need the Python package
`cryptography` and a server with `local_infile` on.

A client that waits until the server has been silent for a while knows where a reply ends without reading it, so the
captures are an oracle that shares nothing with the dialog. Lines of a capture: `capabilities`, `status`, then `C` and
`S` with bytes in hexadecimal, and after each complete exchange `=` with the commands and replies so far, and
`idle` or `busy` (long data waits, or a pipelined command is in flight).
"""
import hashlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
SILENCE = 0.08
DEPRECATE_EOF, PROGRESS, BULK, CACHE = 1 << 24, 1 << 32, 1 << 34, 1 << 36
OPTIONAL_METADATA, ATTRIBUTES = 1 << 25, 1 << 27
BASE = 0x00FFA68E  # MySQL 4.1 with multi statements, multi results, local files, plugins, tracking; not COMPRESS, SSL
SILENT = (0x01, 0x18, 0x19)


class Capture:
    def __init__(self, name, capabilities, status):
        self.name, self.commands, self.replies = name, 0, 0
        self.lines = [f"capabilities {capabilities:#x}", f"status {status:#x}"]

    def add(self, side, data):
        for at in range(0, len(data), 64):
            self.lines.append(f"{side} {data[at:at + 64].hex()}")

    def mark(self, state="idle"):
        self.lines.append(f"= {self.commands} {self.replies} {state}")

    def save(self):
        with open(os.path.join(HERE, self.name + ".txt"), "w") as out:
            out.write("\n".join(self.lines) + "\n")


def frame(seq, payload):
    return struct.pack("<I", len(payload) | seq << 24) + payload


class Raw:
    """A client that sends bytes and waits for silence."""

    def __init__(self, name, extra):
        self.socket = socket.create_connection((HOST, PORT))
        self.socket.settimeout(5)
        greeting = self.packet()
        at = greeting.index(0, 1) + 5
        low = struct.unpack_from("<H", greeting, at + 9)[0]
        high = struct.unpack_from("<H", greeting, at + 14)[0]
        more = struct.unpack_from("<I", greeting, at + 23)[0]
        self.salt = greeting[at:at + 8] + greeting[at + 27:at + 39]
        capabilities = (low | high << 16 | more << 32) & (BASE | extra) & ~1
        login = struct.pack("<IIB19xI", capabilities & 0xFFFFFFFF, 1 << 24, 45, capabilities >> 32)
        login += USER.encode() + b"\0\0" + b"dialog\0" * bool(capabilities & 8) + PLUGIN + b"\0"
        if capabilities & 1 << 20:
            login += b"\0"
        self.socket.sendall(frame(1, login))
        ok = self.packet()
        assert ok[0] == 0, ok
        self.capture = Capture(name, capabilities, struct.unpack_from("<H", ok, 3)[0])

    def exactly(self, count):
        data = b""
        while len(data) < count:
            data += self.socket.recv(count - len(data)) or sys.exit("closed")
        return data

    def packet(self):
        return self.exactly(struct.unpack("<I", self.exactly(4))[0] & 0xFFFFFF)

    def silence(self, seconds=SILENCE):
        data = b""
        self.socket.settimeout(seconds)
        try:
            while more := self.socket.recv(1 << 16):
                data += more
        except TimeoutError:
            pass
        self.capture.add("S", data)
        return data

    def send(self, data):
        self.socket.sendall(data)
        self.capture.add("C", data)

    def ask(self, byte, rest=b"", state="idle", seconds=SILENCE):
        rest = rest.encode() if isinstance(rest, str) else rest
        self.send(frame(0, bytes([byte]) + rest))
        self.capture.commands += 1
        data = b""
        if byte not in SILENT:
            data = self.silence(seconds)
            assert data, (byte, rest)
            self.capture.replies += 1
        self.capture.mark(state)
        return data

    def query(self, sql, **more):
        return self.ask(3, sql, **more)

    def prepare(self, sql):
        return self.ask(0x16, sql)[5:9]

    def execute(self, statement, tail=b"", cursor=0, **more):
        return self.ask(0x17, statement + bytes([cursor]) + struct.pack("<I", 1) + tail, **more)

    def asked(self, byte, rest, *answers, seq=2, seconds=SILENCE):
        """A command whose reply asks the client for more."""
        self.send(frame(0, bytes([byte]) + rest))
        self.capture.commands += 1
        question = self.silence()
        for answer in answers:
            self.send(frame(seq, answer(question) if callable(answer) else answer))
            seq += 1
        assert self.silence(seconds), (byte, rest)
        self.capture.replies += 1
        self.capture.mark()

    def debate(self, byte, rest, *answers):
        """A command whose reply asks more than once; each answer has its sequence number and sees what was said."""
        self.send(frame(0, bytes([byte]) + rest))
        self.capture.commands += 1
        question = self.silence()
        for seq, answer in answers:
            self.send(frame(seq, answer(question)))
            question = self.silence(0.5)
        assert question, (byte, rest)
        self.capture.replies += 1
        self.capture.mark()

    def done(self):
        self.capture.save()
        self.socket.close()


def text(name, extra):
    raw = Raw(name, extra)
    for sql in ("SELECT 1", "SELECT NULL, 'a', 2 UNION SELECT 'x', REPEAT('y', 300), 3", "SELECT * FROM t WHERE FALSE",
                "SELECT nothing", "DO 1", "BEGIN", "INSERT INTO t VALUES (7, 'seven')", "SELECT b FROM t", "COMMIT",
                "SET autocommit = 0", "SET autocommit = 1", "SELECT 1; DO 1; SELECT a FROM t; SELECT nothing; SELECT 2",
                "UPDATE t SET b = 'n' WHERE a = 7; SELECT 2", "CALL two()", "CALL broken()", "SHOW WARNINGS",
                "SELECT (SELECT a FROM t WHERE a < 3) FROM t", "USE dialog", "DELETE FROM t WHERE a = 7"):
        raw.query(sql)
    for byte, rest in ((9, b""), (4, b"t\0%"), (4, b"none\0"), (0x0E, b""), (2, b"mysql"), (2, b"none"), (2, b"dialog"),
                       (0x1B, b"\1\0"), (0x1B, b"\0\0"), (0x1B, b"\0\7"), (0x1B, b"\0\0"), (0x0D, b""),
                       (0x0A, b""), (0x0C, b"\xff\xff\xff\0"), (7, b"\1"), (0x77, b""), (0, b""), (0x0F, b""),
                       (0x1F, b""), (3, b"SELECT 1"), (1, b"")):
        raw.ask(byte, rest, state="busy" if byte == 1 else "idle")
    raw.done()


def prepared(name, extra):
    raw = Raw(name, extra)
    plain = raw.prepare("SELECT a, b FROM t")
    raw.execute(plain)
    raw.execute(plain)
    raw.query("ALTER TABLE t MODIFY b LONGTEXT")
    raw.execute(plain)
    two = raw.prepare("SELECT ?, b FROM t WHERE a = ?")
    raw.execute(two, b"\0\1" + b"\3\0\3\0" + struct.pack("<II", 5, 1))
    raw.prepare("SELECT nothing")
    nothing = raw.prepare("DO 1")
    raw.execute(nothing)
    one = raw.prepare("INSERT INTO t VALUES (?, ?)")
    raw.ask(0x18, one + b"\1\0" + b"long " * 9, state="busy")
    raw.ask(0x18, one + b"\1\0" + b"data", state="busy")
    raw.query("SELECT 1", state="busy")
    raw.execute(one, b"\0\1" + b"\3\0\xfd\0" + struct.pack("<I", 20))
    raw.ask(0x18, one + b"\1\0" + b"dropped", state="busy")
    raw.ask(0x1A, one)
    raw.execute(one, b"\0\1" + b"\3\0\xfd\0" + struct.pack("<I", 20) + b"\1x")
    raw.ask(0x18, one + b"\1\0" + b"dropped", state="busy")
    raw.ask(0x19, one)
    raw.execute(plain, cursor=1)
    for count in (1, 1, 100, 1):
        raw.ask(0x1C, plain + struct.pack("<I", count))
    raw.execute(plain, cursor=1)
    raw.query("SELECT 1")
    raw.ask(0x1A, plain)
    raw.ask(0x1C, plain + struct.pack("<I", 1))
    call = raw.prepare("CALL outs(?, ?)")
    raw.execute(call, b"\0\1" + b"\3\0\3\0" + struct.pack("<II", 5, 6))
    call = raw.prepare("CALL two()")
    raw.execute(call)
    raw.execute(call, cursor=1)
    raw.execute(struct.pack("<I", 999))
    bulk = raw.prepare("INSERT INTO t VALUES (?, ?)")
    rows = b"".join(b"\0" + struct.pack("<I", n) + b"\0\1z" for n in range(30, 33))
    raw.ask(0xFA, bulk + struct.pack("<H", 128) + b"\3\0\xfd\0" + rows)
    raw.ask(0xFA, bulk + struct.pack("<H", 128) + b"\3\0\xfd\0" + rows)
    raw.query("DELETE FROM t WHERE a >= 20")
    raw.ask(0x19, two)
    raw.done()


def infile(name, extra):
    raw = Raw(name, extra)
    load = b"LOAD DATA LOCAL INFILE 'local.csv' INTO TABLE %s"
    raw.asked(3, load % b"t", b"41\tx\n42\ty\n", b"43\tz\n", b"")
    raw.asked(3, load % b"t", b"")
    raw.query(load % b"none")
    raw.asked(3, b"SET sql_mode = 'STRICT_ALL_TABLES'; " + load % b"t" + b"; SELECT 1", b"x\ty\n", b"44\tz\n", b"", seq=3)
    raw.asked(3, load % b"t" + b"; SELECT 1; " , b"51\tx\n", b"")
    raw.query("DELETE FROM t WHERE a > 40")
    raw.done()


def change_user(name, extra):
    raw = Raw(name, extra)
    user = lambda name, answer: name + b"\0" + bytes([len(answer)]) + answer + b"dialog\0" + b"\x2d\0"

    def scramble(password, salt):
        one = hashlib.sha1(password).digest()
        mix = hashlib.sha1(salt + hashlib.sha1(one).digest()).digest()
        return bytes(a ^ b for a, b in zip(one, mix))

    def answer(question):
        return scramble(b"secret", question[5:].split(b"\0", 1)[1][:20])

    raw.query("BEGIN")
    raw.query("INSERT INTO t VALUES (60, 'sixty')")
    raw.asked(0x11, user(USER.encode(), b"") + b"mysql_native_password\0\0", b"")
    raw.query("SELECT 1")
    raw.asked(0x11, user(b"keyed", scramble(b"secret", raw.salt)) + b"unheard_of\0\0", answer)
    raw.query("SELECT USER()")
    raw.asked(0x11, user(USER.encode(), b"") + b"unheard_of\0\0", b"")
    raw.query("SELECT USER()")
    raw.asked(0x11, user(b"keyed", b"") + b"unheard_of\0\0", b"wrongwrongwrongwrong", seconds=5)
    raw.done()


def sha2_change_user(name, extra):
    """The first change needs the full round with the server's key, the second finds the password cached."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding
    raw = Raw(name, extra)
    user = lambda name, answer: name + b"\0" + bytes([len(answer)]) + answer + b"dialog\0" + b"\x2d\0"
    salt = b""

    def scramble(question):
        nonlocal salt
        salt = question[5:].split(b"\0", 1)[1][:20]
        one = hashlib.sha256(b"secret").digest()
        mix = hashlib.sha256(hashlib.sha256(one).digest() + salt).digest()
        return bytes(a ^ b for a, b in zip(one, mix))

    def sealed(reply):
        key = serialization.load_pem_public_key(reply[5:])
        masked = bytes(a ^ b for a, b in zip(b"secret\0", salt))
        return key.encrypt(masked, padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))

    keyed = user(b"keyed", b"") + b"unheard_of\0\0"
    raw.query("BEGIN")
    raw.query("INSERT INTO t VALUES (60, 'sixty')")
    raw.debate(0x11, user(USER.encode(), b"") + PLUGIN + b"\0\0", (2, lambda _: b""))
    raw.query("SELECT 1")
    raw.debate(0x11, keyed, (2, scramble), (4, lambda _: b"\2"), (6, sealed))
    raw.query("SELECT USER()")
    raw.debate(0x11, keyed, (2, scramble))
    raw.query("SELECT USER()")
    raw.debate(0x11, user(USER.encode(), b"") + b"unheard_of\0\0", (2, lambda _: b""))
    raw.query("SELECT USER()")
    raw.debate(0x11, keyed, (2, lambda _: b"wrong" * 6 + b"32"), (4, lambda _: b"\2"), (6, lambda _: b"wrong" * 51 + b"6"))
    raw.done()


def attributes(name, extra):
    """With query attributes a statement begins with the number of its attributes and the number of their sets."""
    raw = Raw(name, extra | ATTRIBUTES)
    tail = lambda names: b"".join(b"\xfd\0" + bytes([len(name)]) + name for name in names)
    with_two = b"\2\1\0\1" + tail((b"n1", b"n2")) + b"\2v1\2v2"
    raw.query(b"\0\1SELECT 1; SELECT a FROM t; DO 1")
    raw.query(with_two + b"SELECT a, b FROM t")
    raw.query(with_two + b"CALL two()")
    raw.query(with_two + b"SELECT nothing")
    one = raw.prepare("SELECT ?, b FROM t")
    # PARAMETER_COUNT_AVAILABLE: the parameter and an attribute.
    raw.execute(one, b"\2\0\1" + b"\3\0\0" + b"\xfd\0\2n1" + struct.pack("<I", 5) + b"\2v1", cursor=8)
    raw.execute(one, b"\1\0\1" + b"\3\0\0" + struct.pack("<I", 5), cursor=1 | 8)
    raw.ask(0x1C, one + struct.pack("<I", 2))
    raw.ask(0x1C, one + struct.pack("<I", 2))
    raw.done()


def tracked(name, extra):
    """What a session changes follows the status of an OK."""
    raw = Raw(name, extra)
    raw.query("SET session_track_schema = 1, session_track_state_change = 1, session_track_system_variables = '*', "
              "session_track_transaction_info = 'CHARACTERISTICS'")
    for sql in ("USE dialog", "SET sql_mode = ''", "BEGIN", "SELECT a FROM t", "INSERT INTO t VALUES (7, 'seven')",
                "SET autocommit = 0; SELECT a FROM t; SET autocommit = 1", "COMMIT", "DELETE FROM t WHERE a = 7",
                "SET @a = 1", "CALL two()", "SELECT nothing"):
        raw.query(sql)
    plain = raw.prepare("SELECT a, b FROM t")
    raw.execute(plain)
    raw.execute(plain, cursor=1)
    raw.ask(0x1C, plain + struct.pack("<I", 100))
    raw.ask(0x1F)
    raw.done()


def left_out(name, extra):
    """A session may ask for results without definitions."""
    raw = Raw(name, extra | OPTIONAL_METADATA)
    plain = raw.prepare("SELECT a, b FROM t")
    raw.query("SELECT a, b FROM t")
    raw.query("SET resultset_metadata = NONE")
    raw.query("SELECT a, b FROM t")
    raw.query("SELECT a FROM t; SELECT 1; DO 1")
    raw.query("CALL two()")
    raw.execute(plain)
    two = raw.prepare("SELECT ?, b FROM t WHERE a = ?")
    raw.execute(two, b"\0\1" + b"\3\0\3\0" + struct.pack("<II", 5, 1))
    raw.prepare("DO 1")
    call = raw.prepare("CALL outs(?, ?)")
    raw.execute(call, b"\0\1" + b"\3\0\3\0" + struct.pack("<II", 5, 6))
    raw.execute(plain, cursor=1)
    raw.ask(0x1C, plain + struct.pack("<I", 100))
    raw.query("SET resultset_metadata = FULL")
    raw.execute(plain)
    raw.ask(4, b"t\0%")
    raw.done()


def pipelined(name, extra):
    raw = Raw(name, extra)
    plain = raw.prepare("SELECT a, b FROM t")
    sql = lambda text: frame(0, b"\3" + text)
    run = frame(0, b"\x17" + plain + b"\0" + struct.pack("<I", 1))
    burst = [sql(b"SELECT 1"), frame(0, b"\x0e"), run, sql(b"SELECT nothing"), sql(b"SELECT 1; SELECT a FROM t"), sql(b"DO 1"),
             frame(0, b"\x19" + plain), frame(0, b"\x09"), frame(0, b"\x16SELECT ?"), run, sql(b"CALL two()")]
    raw.send(b"".join(burst))
    raw.capture.commands += len(burst)
    raw.silence(0.5)
    raw.capture.replies += len(burst) - 1
    raw.capture.mark()
    raw.done()


def progress(name, extra):
    raw = Raw(name, extra)
    raw.query("SET progress_report_time = 1")
    raw.query("CREATE OR REPLACE TABLE big ENGINE = MyISAM SELECT seq AS a, REPEAT('x', 30) AS b FROM seq_1_to_3000000", seconds=30)
    raw.query("ALTER TABLE big ADD KEY (b), ADD KEY (a), ALGORITHM = COPY", seconds=30)
    raw.query("DROP TABLE big", seconds=2)
    raw.done()


class Relay:
    """Records what a real client says; its next command proves that the reply before was complete."""

    def __init__(self, name):
        self.name = name
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        import select
        client = self.listener.accept()[0]
        server = socket.create_connection((HOST, PORT))
        greeting = server.recv(1 << 16)
        client.sendall(greeting)
        login = client.recv(1 << 16)
        server.sendall(login)
        low = struct.unpack_from("<I", login, 4)[0]
        high = struct.unpack_from("<I", login, 32)[0] if not low & 1 else 0
        at = greeting.index(0, 5) + 5
        offered = (struct.unpack_from("<H", greeting, at + 9)[0] | struct.unpack_from("<H", greeting, at + 14)[0] << 16
                   | struct.unpack_from("<I", greeting, at + 23)[0] << 32)
        ok = server.recv(1 << 16)
        assert ok[4] == 0, ok
        client.sendall(ok)
        capture = Capture(self.name, (low | high << 32) & offered, struct.unpack_from("<H", ok, 7)[0])
        owed, quit, spoken = 0, False, False
        while True:
            ready = select.select([client, server], [], [])[0]
            source = server if server in ready else client
            data = source.recv(1 << 16)
            if not data:
                break
            if source is client:
                if data[3] == 0:
                    if spoken:
                        capture.replies += owed
                        capture.mark()
                    capture.commands += 1
                    owed, spoken, quit = int(data[4] not in SILENT), True, data[4] == 1
                capture.add("C", data)
                server.sendall(data)
            else:
                capture.add("S", data)
                client.sendall(data)
        capture.replies += owed
        capture.mark("busy" if quit else "idle")
        capture.save()


def pymysql_session():
    import pymysql
    relay = Relay("pymysql")
    db = pymysql.connect(host="127.0.0.1", port=relay.port, user=USER, database="dialog", local_infile=True)
    cursor = db.cursor()
    cursor.execute("SELECT * FROM t")
    cursor.execute("INSERT INTO t VALUES (%s, %s)", (70, "seventy"))
    cursor.execute("LOAD DATA LOCAL INFILE %s INTO TABLE t", ("local.csv",))
    db.rollback()
    cursor.callproc("two")
    while cursor.nextset():
        pass
    db.ping()
    db.close()
    relay.thread.join()


def command_line():
    relay = Relay("mariadb-client")
    script = "SELECT * FROM t; BEGIN; INSERT INTO t VALUES (80, 'eighty'); CALL two(); ROLLBACK; USE dialog; SHOW TABLES; CALL broken(); SELECT nothing;"
    subprocess.run(["mariadb", "--no-defaults", "--force", "-h127.0.0.1", f"-P{relay.port}", "-u" + USER, "dialog"],
                   input=script.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    relay.thread.join()


SCHEMA = (
    "DROP DATABASE IF EXISTS dialog",
    "CREATE DATABASE dialog",
    "CREATE TABLE dialog.t (a INT PRIMARY KEY, b TEXT DEFAULT ('none'))",
    "INSERT INTO dialog.t VALUES (1, 'one'), (2, NULL), (3, REPEAT('three', 60))",
    "CREATE PROCEDURE dialog.two() BEGIN SELECT 1; SELECT a FROM dialog.t; END",
    "CREATE PROCEDURE dialog.broken() BEGIN SELECT 1; SELECT nothing; END",
    "CREATE PROCEDURE dialog.outs(IN x INT, OUT y INT) BEGIN SELECT 1; SET y = x + 1; END",
    "DROP USER IF EXISTS keyed@localhost",
    "CREATE USER keyed@localhost IDENTIFIED BY 'secret'",
    "GRANT ALL ON *.* TO keyed@localhost",
)


def main():
    os.chdir(tempfile.mkdtemp())
    with open("local.csv", "w") as local:
        local.write("71\tx\n72\ty\n")
    for sql in SCHEMA:
        subprocess.run(["mariadb", "--no-defaults", f"-h{HOST}", f"-P{PORT}", "-u" + USER, "--delimiter=//", "-e", sql], check=True)
    mariadb() if PLUGIN == b"mysql_native_password" else mysql()


def mariadb():
    for suffix, extra in (("eof", BULK), ("deprecate-eof", BULK | DEPRECATE_EOF),
                          ("cache-metadata", BULK | DEPRECATE_EOF | CACHE), ("eof-cache-metadata", BULK | CACHE)):
        prepared("prepared-" + suffix, extra)
        if not extra & CACHE:
            text("text-" + suffix, extra)
            infile("infile-" + suffix, extra)
            pipelined("pipelined-" + suffix, extra)
    change_user("change-user", DEPRECATE_EOF)
    progress("progress", DEPRECATE_EOF | PROGRESS)
    pymysql_session()
    command_line()


def mysql():
    for suffix, extra in (("eof", 0), ("deprecate-eof", DEPRECATE_EOF)):
        for record in (text, prepared, infile, pipelined, attributes, tracked, left_out):
            record(f"mysql-{record.__name__.replace('_', '-')}-{suffix}", extra)
    sha2_change_user("mysql-change-user", DEPRECATE_EOF)


def default_plugin():
    """The last string of the greeting."""
    with socket.create_connection((HOST, PORT)) as server:
        return server.recv(1 << 16).rstrip(b"\0").rsplit(b"\0", 1)[1]


HOST, PORT, USER = sys.argv[1], int(sys.argv[2]), sys.argv[3]
PLUGIN = default_plugin()
main()
