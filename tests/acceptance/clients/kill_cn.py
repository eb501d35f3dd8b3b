"""A CN that is killed under load: what each session sees, and when new logins go around it.

Called by `kill-cn`, which sets the stage. Prints one line per figure and ends with 1 where a line of the acceptance
does not hold.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import datetime, timezone

from session import QUIT, Closed, Err, Session

# How long sessions are watched before and after the kill, in seconds.
BEFORE_S, AFTER_S = 2.0, 3.0
# What a busy session may wait for an answer.
ANSWER_LIMIT_S = 10
# A statement of a busy session that is to be found within one, in seconds.
SLOW_S = 0.05
# How long a server that is killed may take to be gone.
DYING_S = 0.1
# Between two of the new logins.
LOGIN_PAUSE_S = 0.01


def main():
    arguments = read_arguments()
    # Every other pair is found within a statement, the rest mostly between two.
    watched = [Watched(arguments.port, True, SLOW_S if n % 4 < 2 else 0.0) for n in range(arguments.busy)]
    watched += [Watched(arguments.port, False) for _ in range(arguments.idle)]
    for session in watched:
        session.start()
    logins = Logins(arguments.port)
    logins.start()
    states = States(arguments)
    states.start()
    time.sleep(BEFORE_S)
    killed = kill(arguments.victim_pid)
    time.sleep(AFTER_S)
    for thread in [*watched, logins, states]:
        thread.stopping.set()
    for thread in [*watched, logins, states]:
        thread.join(ANSWER_LIMIT_S + 5)
    broken = judge_sessions(watched, arguments.victim) + judge_logins(arguments, logins, states, killed)
    for line in broken:
        print(f"DOES NOT HOLD: {line}")
    return 1 if broken else 0


def read_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--victim", required=True, help="the id of the CN to kill")
    parser.add_argument("--victim-pid", type=int, required=True)
    parser.add_argument("--corelane", required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--probe-ms", type=int, required=True)
    parser.add_argument("--busy", type=int, required=True)
    parser.add_argument("--idle", type=int, required=True)
    return parser.parse_args()


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    return time.time()


class Watcher(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.stopping = threading.Event()


class Watched(Watcher):
    """A session that asks one thing after the other, or only listens, to its end."""

    def __init__(self, port, busy, takes_s=0.0):
        super().__init__()
        self.busy = busy
        # How long each of its statements takes.
        self.takes_s = takes_s
        self.session = Session(port, limit=ANSWER_LIMIT_S)
        self.cn = self.session.values("SELECT @@report_host")[0]
        self.answers = 0
        self.errs = []
        # What else went wrong, in words; None for an end in order or none at all.
        self.fault = None
        self.ended = False

    def run(self):
        try:
            self.work() if self.busy else self.listen()
        except Err as err:
            self.errs.append(err)
            self.to_end()
        except Closed:
            self.ended = True
        except (TimeoutError, OSError, AssertionError, IndexError) as cause:
            self.fault = f"{type(cause).__name__}: {cause}"
        self.session.close()

    def work(self):
        while not self.stopping.is_set():
            found = self.session.values(f"SELECT SLEEP({self.takes_s}), MD5('corelane')")
            assert found == ["0", "d75697eb83c208aae68dec7553228bf4"], found
            self.answers += 1

    def listen(self):
        self.session.socket.settimeout(0.1)
        while not self.stopping.is_set():
            try:
                self.session.checked()
                self.fault = "a packet that nobody asked for"
                return
            except TimeoutError:
                pass
        self.session.socket.settimeout(ANSWER_LIMIT_S)

    def to_end(self):
        """After an ERR only the end may come."""
        self.session.socket.settimeout(ANSWER_LIMIT_S)
        try:
            while True:
                self.errs.append(Err(self.session.packet()))
        except Closed:
            self.ended = True
        except (TimeoutError, OSError) as cause:
            self.fault = f"after the ERR: {type(cause).__name__}: {cause}"

    def kind(self):
        return "busy" if self.busy else "idle"


class Logins(Watcher):
    """New logins without pause: when each began, how long it took, where it came to."""

    def __init__(self, port):
        super().__init__()
        self.port = port
        self.seen = []

    def run(self):
        while not self.stopping.is_set():
            began = time.time()
            try:
                session = Session(self.port, limit=ANSWER_LIMIT_S)
                came_to = "logged in"
            except (Err, Closed, OSError) as cause:
                session, came_to = None, str(cause)
            self.seen.append((began, time.time() - began, came_to))
            if session:
                session.command(QUIT)
                session.close()
            time.sleep(LOGIN_PAUSE_S)


class States(Watcher):
    """What SHOW CNS says of the victim: (when the answer was there, state)."""

    def __init__(self, arguments):
        super().__init__()
        self.arguments = arguments
        self.seen = []

    def run(self):
        command = [self.arguments.corelane, "ctl", "--config", self.arguments.config, "--json", "SHOW CNS"]
        while not self.stopping.is_set():
            ran = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_LIMIT_S)
            if ran.returncode != 0:
                sys.exit(f"SHOW CNS failed: {ran.stderr}")
            row = next(row for row in json.loads(ran.stdout) if row["id"] == self.arguments.victim)
            self.seen.append((time.time(), row["state"]))
            time.sleep(0.02)


def judge_sessions(watched, victim):
    broken = []
    for on_victim in (True, False):
        for kind in ("busy", "idle"):
            group = [one for one in watched if (one.cn == victim) == on_victim and one.kind() == kind]
            errs = Counter(len(one.errs) for one in group)
            answers = sum(one.answers for one in group)
            where = f"on {victim}" if on_victim else "elsewhere"
            spread = ", ".join(f"{count} sessions with {number} ERR" for number, count in sorted(errs.items()))
            print(f"{len(group)} {kind} sessions {where}: {spread}; {answers} answers")
            if not group:
                broken.append(f"no {kind} session was {where}")
            for one in group:
                broken += [f"{kind} session {where}: {line}" for line in judge_session(one, victim, on_victim)]
    texts = Counter(str(err) for one in watched for err in one.errs)
    for text, count in texts.most_common():
        print(f"  {count} x {text}")
    return broken


def judge_session(one, victim, on_victim):
    if one.fault or one.is_alive():
        yield one.fault or "it hangs"
    elif not on_victim and (one.errs or one.ended):
        yield f"it ended: {[str(err) for err in one.errs]}"
    elif on_victim and len(one.errs) != 1:
        yield f"{len(one.errs)} ERRs, not one: {[str(err) for err in one.errs]}"
    elif on_victim and not re.search(rf"CN {victim} at \S+ during .+: .+", one.errs[0].message):
        yield f"the ERR does not name the CN and the cause: {one.errs[0]}"
    elif on_victim and not one.ended:
        yield "it goes on after the ERR"


def judge_logins(arguments, logins, states, killed):
    broken = []
    interval = arguments.probe_ms / 1000
    after = [login for login in logins.seen if login[0] >= killed]
    # A login that the victim had begun to answer is a session of it: one ERR that names it.
    begun = re.compile(rf"CN {arguments.victim} at \S+ during login: .+")
    lost = [login for login in logins.seen if login[0] < killed + DYING_S and begun.search(login[2])]
    failed = [login for login in logins.seen if login[2] != "logged in" and login not in lost]
    slowest = max(after, key=lambda login: login[1])
    print(f"new logins: {len(logins.seen)}, {len(after)} of them after the kill, {len(failed)} failed, "
          f"{len(lost)} lost with {arguments.victim} half-way")
    print(f"slowest login after the kill: {slowest[1] * 1000:.1f} ms")
    broken += [f"a login failed: {login[2]}" for login in failed[:3]]
    down = next((when for when, state in states.seen if when >= killed and state == "down"), None)
    tried = [when for when in turned_away(arguments) if when >= killed]
    if down is None:
        return [*broken, f"{arguments.victim} is never down: {states.seen[-1]}"]
    print(f"SHOW CNS says down {(down - killed) * 1000:.0f} ms after the kill (probe interval {arguments.probe_ms} ms)")
    last = f", the last {(tried[-1] - killed) * 1000:.0f} ms after the kill" if tried else ""
    print(f"logins that tried the dead CN and went on to another: {len(tried)}{last}")
    if down - killed > interval:
        broken.append(f"down only {down - killed:.2f} s after the kill")
    if any(when - killed > interval for when in tried):
        broken.append("logins try the dead CN after a probe interval")
    if any(state != "down" for when, state in states.seen if when >= down):
        broken.append("it is not down for good")
    return broken


def turned_away(arguments):
    """When logins tried the victim in vain, by corelane's log (UTC, to the microsecond)."""
    line = re.compile(rf"^(\S+)Z .*a login is turned away.*\bcn=\"?{arguments.victim}\b")
    with open(arguments.log) as file:
        found = [match[1] for match in map(line.match, file) if match]
    return [timestamp(when) for when in found]


def timestamp(when):
    return datetime.fromisoformat(when).replace(tzinfo=timezone.utc).timestamp()


sys.exit(main())
