"""A CN that is killed under idle sessions and busy ones, all of a known user on a CN that shares its data.

Called by `kill-idle`, which sets the stage. Idle sessions must go on as if nothing had been; a session with a statement
or a transaction under way must get one ERR. Prints one line per figure and ends with 1 where a line of the acceptance
does not hold.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter

from session import Closed, Err, Session

# How long a statement of a busy session takes: longer than all of this, in seconds.
LONG_S = 30
# What a busy session may wait for its ERR, and any session for an answer, in seconds.
ERR_LIMIT_S, ANSWER_LIMIT_S = 5.0, 15.0
# What a killed server may take to be gone, in seconds.
GONE_LIMIT_S = 5.0


def main():
    arguments = read_arguments()
    idle = on_victim([], arguments, arguments.idle, Idle)
    running = on_victim([], arguments, arguments.busy // 2, Running)
    open_ = on_victim([], arguments, arguments.busy - len(running), InTransaction)
    elsewhere = [session for session in Idle.elsewhere]
    print(f"on {arguments.victim}: {len(idle)} idle, {len(running)} in a statement, {len(open_)} in a transaction")
    print(f"elsewhere: {len(elsewhere)} idle")
    os.kill(arguments.victim_pid, signal.SIGKILL)
    killed = time.monotonic()
    wait_gone(arguments.victim_pid)
    broken = judge_busy("in a statement", running) + judge_busy("in a transaction", open_)
    broken += judge_idle("idle on the dead CN", idle, killed)
    broken += judge_idle("idle elsewhere", elsewhere, killed)
    for line in broken:
        print(f"DOES NOT HOLD: {line}")
    return 1 if broken else 0


def wait_gone(pid):
    """Until the kernel has closed all of its connections. A statement that is sent before is one in flight."""
    until = time.monotonic() + GONE_LIMIT_S
    while os.path.exists(f"/proc/{pid}/task") and any(os.listdir(f"/proc/{pid}/fd")) and time.monotonic() < until:
        time.sleep(0.002)


def read_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--victim", required=True, help="the id of the CN to kill")
    parser.add_argument("--victim-pid", type=int, required=True)
    parser.add_argument("--idle", type=int, required=True)
    parser.add_argument("--busy", type=int, required=True)
    return parser.parse_args()


def on_victim(found, arguments, count, kind):
    """Opens sessions until so many are on the victim."""
    number = 0
    while len(found) < count:
        session = kind(arguments.port, number)
        number += 1
        if session.cn == arguments.victim:
            session.begin()
            found.append(session)
        else:
            kind.elsewhere.append(session)
    return found


class Idle:
    elsewhere = []

    def __init__(self, port, number):
        self.number = number
        self.session = Session(port, limit=ANSWER_LIMIT_S)
        self.cn = self.session.values("SELECT @@report_host")[0]
        self.session.command(0x03, f"SET group_concat_max_len = {1000 + number}".encode())
        self.session.checked()

    def begin(self):
        pass

    def check(self):
        """What is wrong with it, and how long its answer took in seconds."""
        began = time.monotonic()
        try:
            found = self.session.values("SELECT @@group_concat_max_len")[0]
            wrong = None if found == str(1000 + self.number) else f"it has {found}"
        except (Err, Closed, TimeoutError) as cause:
            wrong = f"{type(cause).__name__}: {cause}"
        return wrong, time.monotonic() - began


class Busy:
    """What comes after the kill: ERRs, then the end or further answers."""

    def __init__(self, port, number):
        self.number = number
        self.session = Session(port, limit=ANSWER_LIMIT_S)
        self.cn = self.session.values("SELECT @@report_host")[0]
        self.errs = []
        self.after = ""

    def watch(self):
        self.session.socket.settimeout(ERR_LIMIT_S)
        try:
            self.take_err()
            self.session.command(0x03, b"DO 1")
            self.take_err()
            self.after = "it goes on"
        except Closed:
            self.after = "it ends"
        except TimeoutError:
            self.after = "silence"

    def take_err(self):
        try:
            self.session.checked()
        except Err as err:
            self.errs.append(str(err))


class Running(Busy):
    elsewhere = []

    def begin(self):
        self.session.command(0x03, f"SELECT SLEEP({LONG_S})".encode())


class InTransaction(Busy):
    elsewhere = []

    def begin(self):
        for text in (b"BEGIN", f"INSERT INTO t VALUES ({self.number}, 0)".encode()):
            self.session.command(0x03, text)
            self.session.checked()

    def take_err(self):
        """Told at once, or as the answer to the next statement."""
        if self.errs:
            return super().take_err()
        self.session.socket.settimeout(1.0)
        try:
            super().take_err()
        except TimeoutError:
            self.session.socket.settimeout(ERR_LIMIT_S)
            self.session.command(0x03, b"DO 1")
            super().take_err()


def judge_busy(what, sessions):
    threads = [threading.Thread(target=session.watch) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errs = Counter(len(session.errs) for session in sessions)
    ends = Counter(session.after for session in sessions)
    print(f"{what}: ERRs per session {dict(errs)}, then {dict(ends)}")
    for text, count in Counter(err for session in sessions for err in session.errs).most_common(5):
        print(f"  {count} x {text}")
    return [f"{what}: {len(session.errs)} ERRs, then {session.after}" for session in sessions
            if len(session.errs) != 1 or session.after == "silence"][:3]  # fmt: skip


def judge_idle(what, sessions, killed):
    since = time.monotonic() - killed
    checked = [session.check() for session in sessions]
    wrong = [line for line, _ in checked if line]
    slowest = max((took for _, took in checked), default=0.0)
    print(f"{what}: {len(sessions) - len(wrong)} of {len(sessions)} answer as they were, asked {since:.1f} s after the kill;"
          f" slowest answer {slowest * 1000:.0f} ms")  # fmt: skip
    for text, count in Counter(wrong).most_common(3):
        print(f"  {count} x {text}")
    return [f"{what}: {line}" for line in wrong[:2]]


sys.exit(main())
