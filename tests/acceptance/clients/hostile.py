"""Attacks corelane while others go on beside it, and prints a row for each attack.

Called by `hostile`, which sets the stage. Ends with 1 where a line of the acceptance does not hold.

Each attack has a window of quiet before it that lasts as long as the attack should. The others' 99th percentiles of both are compared;
where the attack's is more than FACTOR times the quiet's, both are done once more, and the better ratio counts. How often that
was so is printed.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time

from admin import Admin
import hostile_layers  # noqa: F401, more attacks
from hostile_attacks import ATTACKS, Stage
from session import Closed, Err, Session

COLUMNS = [
    "attack", "tries", "what came of it", "RSS before / peak / after, MiB", "others' p99 before / during, ms", "x", "repeats",
    "others' errors", "left over",
]
# The others' 99th percentile during an attack, as a multiple of the one before.
FACTOR = 2.0
# How often an attack is tried for the sake of the others' times.
TRIES = 2
# Seconds after which nothing may be left of an attack: the login's limit, the farewell, and the HTTP door's heads.
SETTLED_S = 12
BYSTANDERS = 8
# By how much corelane's log may grow with an attack: what anybody can have it write, anybody can fill a disk with.
LOG_KIB = 64


def main():
    arguments = read_arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {arguments.attack_cpu})
    chosen = [attack for attack in ATTACKS if re.search(arguments.only, attack.name)]
    siege = Siege(arguments)
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    for attack in chosen:
        siege.row(attack)
    siege.end()
    print(f"{len(chosen)} attacks, {siege.repeats} repeated for the others' sake, {len(siege.broken)} lines do not hold")
    for line in siege.broken:
        print(f"DOES NOT HOLD: {line}")
    return 1 if siege.broken else 0


def read_arguments():
    parser = argparse.ArgumentParser()
    for name in ["port", "admin-port", "http-port", "cn-port", "pid", "house-cpu", "attack-cpu"]:
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--span", type=float, default=5, help="seconds of an attack, and of the quiet before it")
    parser.add_argument("--only", default="", help="a regular expression: attacks in whose names it is found")
    parser.add_argument("--rehearse", action="store_true", help="do not fail by the 99th percentile")
    return parser.parse_args()


class Others:
    """The well-behaved sessions, on a CN of their own: a process on corelane's CPU, which it takes when it has something to do."""

    def __init__(self, arguments):
        home = os.path.dirname(os.path.abspath(__file__))
        command = [sys.executable, "-B", f"{home}/bystanders.py", f"--port={arguments.port}", "--users=others:sbtest,others:known"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(self.process.pid, {arguments.house_cpu})
        os.sched_setscheduler(self.process.pid, os.SCHED_RR, os.sched_param(1))
        # Until all have logged in.
        self.window()

    def window(self):
        """What was seen since the last call."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)


class Siege:
    def __init__(self, arguments):
        self.arguments, self.broken, self.repeats = arguments, [], 0
        self.admin = Admin(arguments.admin_port)
        self.stage = Stage(arguments, self.admin)
        self.others = Others(arguments)

    def holds(self, truth, line):
        if not truth:
            self.broken.append(line)

    def row(self, attack):
        tries, best = 0, None
        while tries < TRIES:
            tries += 1
            seen = self.once(attack)
            best = min(best or seen, seen, key=lambda seen: seen["ratio"])
            if best["ratio"] <= FACTOR:
                break
        self.repeats += tries - 1
        calm = self.arguments.rehearse or best["ratio"] <= FACTOR
        self.holds(calm, f"{attack.name}: the others' p99 is {best['ratio']:.1f} times the one before")
        before, peak, after = (f"{kib / 1024:.0f}" for kib in best["rss"])
        quiet, during = best["p99"]
        outcomes = ", ".join(f"{count} x {what}" for what, count in best["tally"].most_common())
        print(
            f"| {attack.name} | {sum(best['tally'].values())} | {outcomes} | {before} / {peak} / {after} | {quiet:.2f} / {during:.2f} "
            f"| {best['ratio']:.2f} | {tries - 1} | {best['errors']} | {best['left']} |",
            flush=True,
        )

    def once(self, attack):
        """The quiet, and the attack. All but the ratio has to hold each time."""
        span = self.arguments.span
        self.others.window()
        time.sleep(span)
        quiet, marks = self.others.window(), self.marks()
        memory, log = Memory(self.arguments.pid), os.path.getsize(self.arguments.log)
        tally = attack.run(self.stage, time.monotonic() + span)
        during = self.others.window()
        peak = memory.peak()
        left = self.settle(marks)
        rss = (memory.before, peak, memory.now())
        wrong = {what: count for what, count in tally.items() if not attack.allowed.fullmatch(what)}
        errors = quiet["errors"] + during["errors"]
        grown = (peak - memory.before) / 1024
        self.holds(tally and not wrong, f"{attack.name}: {wrong or 'nothing was tried'}")
        self.holds(not errors, f"{attack.name}: others met {errors[:3]}")
        alive = during["alive"]
        self.holds(alive == BYSTANDERS and during["count"], f"{attack.name}: {alive} of {BYSTANDERS} others are alive")
        self.holds(grown <= attack.growth_mib, f"{attack.name}: grown by {grown:.0f} MiB, more than {attack.growth_mib}")
        log = (os.path.getsize(self.arguments.log) - log) / 1024
        self.holds(log <= LOG_KIB, f"{attack.name}: the log has grown by {log:.0f} KiB, more than {LOG_KIB}")
        self.holds(not left, f"{attack.name}: left over: {left}")
        self.well(attack.name)
        times = (quiet["p99"] or 0, during["p99"] or 0)
        ratio = times[1] / times[0] if all(times) else float("inf")
        return {"tally": tally, "rss": rss, "p99": times, "ratio": ratio, "errors": len(errors), "left": left or "nothing"}

    def marks(self):
        """What an attack must leave as it was: the sessions, the descriptors and the sockets of corelane."""
        pid, port = self.arguments.pid, self.arguments.port
        return {
            "sessions": len(self.admin.ask("SHOW SESSIONS")),
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "client sockets": sockets(port),
            "CN sockets": sockets(self.arguments.cn_port),
        }

    def settle(self, marks):
        """What there is more of than before, after a while; a probe may just hold a socket, so it may also become less."""
        until = time.monotonic() + SETTLED_S
        while True:
            found = self.marks()
            left = [f"{found[what] - count} {what}" for what, count in marks.items() if found[what] > count]
            if not left or time.monotonic() > until:
                return ", ".join(left)
            time.sleep(0.2)

    def well(self, name):
        """Corelane lives, no session has panicked, and somebody new is let in and answered."""
        with open(self.arguments.log, errors="replace") as file:
            self.holds("panicked" not in file.read(), f"{name}: corelane's log tells of a panic")
        panics = sum(int(row["panics"]) for row in self.admin.ask("SHOW WORKERS"))
        self.holds(panics == 0, f"{name}: {panics} panics in SHOW WORKERS")
        try:
            session = Session(self.arguments.port, limit=10)
            self.holds(session.values("SELECT 6 * 7") == ["42"], f"{name}: a wrong answer afterwards")
            session.close()
        except (OSError, Closed, Err) as error:
            self.holds(False, f"{name}: nobody is let in afterwards: {error}")
        self.holds(os.path.exists(f"/proc/{self.arguments.pid}/fd"), f"{name}: corelane is gone")

    def end(self):
        last = self.others.window()
        self.others.end()
        self.holds(last["count"] > 0, "the others have ended")
        self.admin.session.close()


class Memory:
    """The resident memory of a process from now on, in KiB; the kernel keeps the peak."""

    def __init__(self, pid):
        self.pid = pid
        # 5 resets the peak (proc(5), clear_refs).
        with open(f"/proc/{pid}/clear_refs", "w") as file:
            file.write("5")
        self.before = self.now()

    def now(self):
        return self._status("VmRSS")

    def peak(self):
        return self._status("VmHWM")

    def _status(self, key):
        with open(f"/proc/{self.pid}/status") as file:
            return int(re.search(rf"{key}:\s+(\d+) kB", file.read())[1])


def sockets(port):
    """Connections to that port of 127.0.0.1 which some process holds, counted at the server's end. Those that only the kernel
    still knows have no inode."""
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file][1:]
    own = f"0100007F:{port:04X}"
    return sum(row[1] == own and row[3] != "0A" and row[9] != "0" for row in rows)


sys.exit(main())
