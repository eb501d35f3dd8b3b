"""A thousand sessions that one of four workers has accepted: whether handing them over makes the workers even.

Called by `handover`, which sets the stage. The kernel spreads connections over the workers by a hash of both ends'
addresses, so the source port decides; first it is learnt which ports come to which worker. Prints one line per figure
and ends with 1 where a line of the acceptance does not hold.
"""

import argparse
import socket
import struct
import sys
import threading
import time

from admin import Admin
from session import Closed, Err, Session

# Source ports that are tried; below those that the kernel gives by itself.
FIRST_PORT, LAST_PORT, BATCH = 10000, 32000, 500
# Even is: each worker within this of the mean.
TOLERANCE = 0.10
# How long evening out may take, in seconds.
LIMIT_S = 60.0
# How long the load goes on after that, in seconds.
AFTER_S = 3.0


def main():
    arguments = read_arguments()
    admin = Admin(arguments.admin_port)
    worker, ports = crowd(arguments, admin)
    before = accepted(admin)
    sessions = [Session(arguments.port, source=port) for port in ports]
    took_in = {name: count - before[name] for name, count in accepted(admin).items()}
    print(f"accepted by each worker: {took_in} (all by {worker})")
    loads = [Load(session) for session in sessions[:: len(sessions) // arguments.busy]]
    for load in loads:
        load.start()
    took, counts = wait_even(admin)
    time.sleep(AFTER_S)
    counts = counted(admin)
    for load in loads:
        load.stopping.set()
    for load in loads:
        load.join()
    return judge(worker, took_in, took, counts, sessions, loads)


def read_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--admin-port", type=int, required=True)
    parser.add_argument("--sessions", type=int, required=True)
    parser.add_argument("--busy", type=int, required=True)
    return parser.parse_args()


def crowd(arguments, admin):
    """The first worker that so many source ports come to, and these ports."""
    by_worker = {}
    for first in range(FIRST_PORT, LAST_PORT, BATCH):
        knocks = [knock for knock in (knocking(arguments.port, port) for port in range(first, first + BATCH)) if knock]
        time.sleep(0.1)
        for row in admin.ask("SHOW SESSIONS"):
            port = int(row["client"].rpartition(":")[2])
            by_worker.setdefault(row["worker"], []).append(port)
        for knock in knocks:
            # A reset: the pair of addresses is free again at once.
            knock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            knock.close()
        wait_empty(admin)
        for worker, ports in by_worker.items():
            if len(ports) >= arguments.sessions:
                return worker, ports[: arguments.sessions]
    raise SystemExit(f"no worker gets {arguments.sessions} of the source ports: {[len(p) for p in by_worker.values()]}")


def knocking(port, source):
    """A connection from this port that does not log in; None where the port is taken."""
    knock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    knock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        knock.bind(("127.0.0.1", source))
        knock.connect(("127.0.0.1", port))
    except OSError:
        knock.close()
        return None
    return knock


def wait_empty(admin):
    while admin.ask("SHOW SESSIONS"):
        time.sleep(0.02)


def accepted(admin):
    return {row["worker"]: int(row["accepted"]) for row in admin.ask("SHOW WORKERS")}


def counted(admin):
    return {row["worker"]: int(row["sessions"]) for row in admin.ask("SHOW WORKERS")}


def wait_even(admin):
    began = time.monotonic()
    while True:
        counts, took = counted(admin), time.monotonic() - began
        if uneven(counts) <= TOLERANCE or took > LIMIT_S:
            print(f"sessions of each worker after {took:.2f} s: {counts}, {100 * uneven(counts):.1f} % off at most")
            return took, counts
        time.sleep(0.05)


def uneven(counts):
    mean = sum(counts.values()) / len(counts)
    return max(abs(count - mean) for count in counts.values()) / mean if mean else 1.0


class Load(threading.Thread):
    """Asks one thing after the other and checks each answer."""

    def __init__(self, session):
        super().__init__(daemon=True)
        self.session = session
        self.stopping = threading.Event()
        self.answers = 0
        self.fault = None

    def run(self):
        try:
            while not self.stopping.is_set():
                asked = str(self.answers)
                found = self.session.values(f"SELECT {asked}, REPEAT('x', 200)")
                assert found == [asked, "x" * 200], found
                self.answers += 1
        except (Err, Closed, TimeoutError, AssertionError, IndexError) as cause:
            self.fault = f"{type(cause).__name__}: {cause}"


def judge(worker, took_in, took, counts, sessions, loads):
    broken = [f"a busy session: {load.fault}" for load in loads if load.fault][:3]
    if took_in[worker] != len(sessions):
        broken.append(f"worker {worker} accepted {took_in[worker]} of {len(sessions)}")
    if took > LIMIT_S or uneven(counts) > TOLERANCE:
        broken.append(f"not even: {counts}")
    if sum(counts.values()) != len(sessions):
        broken.append(f"{sum(counts.values())} sessions, not {len(sessions)}")
    idle = 0
    for session in sessions:
        try:
            idle += session.values("SELECT 1") == ["1"]
        except (Err, Closed, TimeoutError) as cause:
            broken.append(f"a session afterwards: {type(cause).__name__}: {cause}")
    print(f"under load: {len(loads)} sessions, {sum(load.answers for load in loads)} answers; sessions at the end: {counts}")
    print(f"{idle} of {len(sessions)} sessions answer afterwards")
    for line in broken[:10]:
        print(f"DOES NOT HOLD: {line}")
    return 1 if broken else 0


sys.exit(main())
