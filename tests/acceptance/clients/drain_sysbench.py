"""sysbench while every second a CN is drained and the one before resumed: what it costs, and what nobody may notice.

Called by `drain-sysbench`, which sets the stage. First the same load goes over the nodes directly, which tells how often
Galera's own certification ends a transaction (error 1213). Prints one line per figure and ends with 1 where a line of
the acceptance does not hold.
"""

import argparse
import re
import subprocess
import sys
import time

from admin import Admin

# Between two looks at a CN that drains, in seconds.
LOOK_S = 0.02
# From one drain to the next.
EVERY_S = 1.0
# Certification aborts may be as many as directly, and so much more, as chance is in it.
ABORTS_FACTOR, ABORTS_MORE = 1.5, 20


def main():
    arguments = read_arguments()
    broken = []
    for mode in ("auto", "disable"):
        print(f"-- db-ps-mode={mode}, {arguments.threads} threads, {arguments.seconds} s")
        direct = Sysbench(arguments, mode, arguments.node_ports).finish()
        show("directly over the nodes", direct)
        through, drains, moves = under_drains(arguments, mode)
        show("through corelane, draining", through)
        broken += [f"{mode}: {line}" for line in judge(direct, through, drains, moves, arguments)]
    for line in broken:
        print(f"DOES NOT HOLD: {line}")
    return 1 if broken else 0


def read_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", required=True)
    parser.add_argument("--admin-port", type=int, required=True)
    parser.add_argument("--node-ports", required=True, help="of the nodes themselves, separated by commas")
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--tables", type=int, required=True)
    parser.add_argument("--table-size", type=int, required=True)
    return parser.parse_args()


class Sysbench:
    """One run of oltp_read_write over one or several ports."""

    def __init__(self, arguments, mode, ports):
        self.process = subprocess.Popen(
            [
                "sysbench", "oltp_read_write", "--mysql-host=127.0.0.1", f"--mysql-port={ports}",
                "--mysql-user=sbtest", "--mysql-password=sbtest", "--mysql-db=sbtest", f"--db-ps-mode={mode}",
                f"--threads={arguments.threads}", f"--tables={arguments.tables}",
                f"--table-size={arguments.table_size}", "--rand-type=uniform", f"--time={arguments.seconds}", "run",
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def running(self):
        return self.process.poll() is None

    def finish(self):
        said, _ = self.process.communicate()
        return Figures(said, self.process.returncode)


class Figures:
    """What sysbench printed at its end."""

    def __init__(self, said, code):
        self.fatal = [line for line in said.splitlines() if "FATAL" in line][:5]
        self.code = code
        self.transactions = number(said, r"transactions: +(\d+)")
        self.rate = number(said, r"transactions: .*\(([\d.]+) per sec")
        self.queries = number(said, r"queries: .*\(([\d.]+) per sec")
        # By default sysbench goes on after 1213, 1020 and 1205, and counts them here.
        self.aborts = number(said, r"ignored errors: +(\d+)")
        self.reconnects = number(said, r"reconnects: +(\d+)")
        self.slowest_ms = number(said, r"max: +([\d.]+)")

    def aborts_per_10000(self):
        return 10000 * self.aborts / max(1, self.transactions)


def number(said, pattern):
    found = re.search(pattern, said)
    return float(found[1]) if found else 0.0


def show(what, figures):
    print(
        f"{what}: {figures.rate:.0f} transactions/s, {figures.queries:.0f} queries/s; "
        f"certification aborts {figures.aborts:.0f} ({figures.aborts_per_10000():.1f} in 10,000), "
        f"reconnects {figures.reconnects:.0f}, slowest transaction {figures.slowest_ms:.0f} ms"
    )
    for line in figures.fatal:
        print(f"  {line[:200]}")


class Drains:
    """One CN after the other, and how long each took to be empty."""

    def __init__(self, admin):
        self.admin = admin
        self.ids = sorted(admin.cns())
        self.took_ms = []
        self.never = []
        self.drained = None

    def turn(self, running):
        """Resumes the last one, drains the next one and watches it for a second."""
        began = time.monotonic()
        at = 0 if self.drained is None else self.ids.index(self.drained) + 1
        last, self.drained = self.drained, self.ids[at % len(self.ids)]
        if last:
            self.admin.ask(f"RESUME CN '{last}'")
        self.admin.ask(f"DRAIN CN '{self.drained}'")
        empty = None
        while time.monotonic() - began < EVERY_S and running():
            if empty is None and self.admin.sessions_on(self.drained) == 0:
                empty = time.monotonic() - began
                self.took_ms.append(empty * 1000)
            time.sleep(LOOK_S if empty is None else 0.1)
        if empty is None and running():
            self.never.append((self.drained, self.admin.sessions_on(self.drained)))

    def end(self):
        self.admin.ask(f"RESUME CN '{self.drained}'")


def under_drains(arguments, mode):
    admin = Admin(arguments.admin_port)
    before = admin.moves()
    load = Sysbench(arguments, mode, arguments.port)
    time.sleep(EVERY_S)
    drains, began = Drains(admin), time.monotonic()
    while load.running():
        drains.turn(load.running)
    took = time.monotonic() - began
    drains.end()
    after = admin.moves()
    moves = {name: after[name] - before[name] for name in ("ordered", "done", "failed", "held_back")}
    moves |= {name: after[name] for name in after if name.startswith("pause")}
    done = sorted(drains.took_ms)
    print(
        f"drains: {len(done)} to 0 sessions, {len(drains.never)} not within {EVERY_S:.0f} s"
        + (f"; median {done[len(done) // 2]:.0f} ms, slowest {done[-1]:.0f} ms" if done else "")
    )
    print(
        f"moves: {moves['done']} done ({moves['done'] / took:.0f} per second), {moves['failed']} failed, "
        f"{moves['held_back']} held back; pause p50 {moves['pause_p50_us'] / 1000:.2f} ms, "
        f"p99 {moves['pause_p99_us'] / 1000:.2f} ms, max {moves['pause_max_us'] / 1000:.2f} ms (aim: p99 5 ms)"
    )
    return load.finish(), drains, moves


def judge(direct, through, drains, moves, arguments):
    if through.code != 0 or through.fatal:
        yield f"sysbench failed: {through.fatal[:1]}"
    if through.reconnects:
        yield f"{through.reconnects:.0f} reconnects"
    allowed = direct.aborts_per_10000() * ABORTS_FACTOR + ABORTS_MORE * 10000 / max(1, through.transactions)
    if through.aborts_per_10000() > allowed:
        yield f"{through.aborts_per_10000():.1f} aborts in 10,000, directly {direct.aborts_per_10000():.1f}"
    for cn, left in drains.never:
        yield f"{cn} still had {left} sessions a second after it was drained"
    if len(drains.took_ms) < arguments.seconds // 2:
        yield f"only {len(drains.took_ms)} drains in {arguments.seconds} s"
    if moves["done"] < arguments.seconds:
        yield f"only {moves['done']} sessions moved"


sys.exit(main())
