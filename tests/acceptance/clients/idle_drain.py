"""Many idle sessions on one CN, which is then drained: how long until it has none, and whether each is still the same.

Called by `idle-drain`, which sets the stage. Each session has variables and a prepared statement of its own. Prints one
line per figure and ends with 1 where a line of the acceptance does not hold.
"""

import argparse
import struct
import sys
import time

from admin import Admin
from session import STMT_EXECUTE, STMT_PREPARE, Closed, Err, Session

# What draining may take, and what it should take, in seconds; for 10,000 sessions, and for fewer as well.
LIMIT_S, AIM_S = 10.0, 3.0
# When to give up waiting, in seconds.
PATIENCE_S = 60.0
LOOK_S = 0.02


def main():
    arguments = read_arguments()
    admin = Admin(arguments.admin_port)
    admin.ask("DRAIN CN 'cn2'")
    began = time.monotonic()
    sessions = [Idle(arguments.port, number) for number in range(arguments.sessions)]
    on_cn1 = admin.sessions_on("cn1")
    print(f"{len(sessions)} sessions opened in {time.monotonic() - began:.1f} s, {on_cn1} of them on cn1")
    admin.ask("RESUME CN 'cn2'")
    took, left = drain(admin)
    moves = admin.moves()
    print(f"cn1 drained: {took:.2f} s until {left} sessions were left (limit {LIMIT_S:.0f} s, aim {AIM_S:.0f} s)")
    print(f"moves: {moves}")
    wrong = [line for line in (session.check("cn2") for session in sessions) if line]
    print(f"{len(sessions) - len(wrong)} sessions answer as they were, {len(wrong)} do not")
    broken = wrong[:5]
    if on_cn1 != len(sessions):
        broken.append(f"only {on_cn1} sessions were on cn1")
    if left or took > LIMIT_S:
        broken.append(f"{left} sessions left after {took:.1f} s")
    if moves["failed"]:
        broken.append(f"{moves['failed']} moves failed")
    for line in broken:
        print(f"DOES NOT HOLD: {line}")
    return 1 if broken else 0


def read_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--admin-port", type=int, required=True)
    parser.add_argument("--sessions", type=int, required=True)
    return parser.parse_args()


def drain(admin):
    began = time.monotonic()
    admin.ask("DRAIN CN 'cn1'")
    while True:
        left, took = admin.sessions_on("cn1"), time.monotonic() - began
        if left == 0 or took > PATIENCE_S:
            return took, left
        time.sleep(LOOK_S)


class Idle:
    """A session that has set something, prepared something, and then says nothing."""

    def __init__(self, port, number):
        self.number = number
        self.session = Session(port)
        self.session.command(0x03, f"SET group_concat_max_len = {1000 + number}, time_zone = '+02:00'".encode())
        self.session.checked()
        self.session.command(STMT_PREPARE, b"SELECT @@group_concat_max_len, @@time_zone, @@report_host")
        ok = self.session.checked()
        self.statement, columns = struct.unpack_from("<IH", ok, 1)
        for _ in range(columns + 1):
            self.session.checked()

    def check(self, cn):
        """What is wrong with it; None where nothing is."""
        try:
            found = self.session.values("SELECT @@group_concat_max_len, @@time_zone, @@report_host")
            wanted = [str(1000 + self.number), "+02:00", cn]
            if found != wanted:
                return f"session {self.number} has {found}, not {wanted}"
            self.session.command(STMT_EXECUTE, struct.pack("<IBI", self.statement, 0, 1))
            self.session.skip_head()
            row = self.session.row()
            assert self.session.row() is None, "one row"
            if not bytes(row).endswith(b"\6+02:00" + bytes([len(cn)]) + cn.encode()):
                return f"session {self.number}: its statement answers {bytes(row)}"
        except (Err, Closed, TimeoutError, AssertionError) as cause:
            return f"session {self.number}: {type(cause).__name__}: {cause}"
        return None


sys.exit(main())
