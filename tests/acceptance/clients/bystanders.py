"""Well-behaved sessions beside an attack: point selects at a steady pace, each answer compared byte by byte.

Each line on standard input ends a window: what was seen since the one before is printed as JSON. Ends with standard input.

The pace is set by the clock and not by the answers, and a query counts from when it was due: so a proxy that stalls is seen in every
query that would have been asked meanwhile. A window ends when all that was due in it has been answered.
"""

import argparse
import hashlib
import json
import random
import selectors
import sys
import time

from session import Closed, Err, Session

SESSIONS, PER_SECOND = 8, 100
ROWS = 1000
# Of an answer: the number of columns, the column, an EOF, the row, an EOF.
ANSWER_PACKETS = 5
# Seconds after its query was sent after which an answer counts as one that does not come.
GIVEN_UP_S = 10


def digest(number):
    return hashlib.md5(str(number).encode()).hexdigest().encode()


class Bystander:
    """One session; every answer has the same length."""

    def __init__(self, port, user, due):
        self.session = Session(port, user=user)
        self.due, self.asked, self.heard = due, False, bytearray()
        self.expected = self.number = None
        # What an answer is around its row.
        self.ask(1)
        while self.packets() < ANSWER_PACKETS:
            self.hear()
            if self.heard[4:5] == b"\xff":
                raise Err(bytes(self.heard[4:]))
        self.head, self.tail = self.heard.split(b"\x20" + digest(1))
        self.session.socket.setblocking(False)
        self.asked = False

    def packets(self):
        """How many whole ones were heard."""
        count, at = 0, 0
        while at + 4 <= len(self.heard):
            at += 4 + int.from_bytes(self.heard[at : at + 3], "little")
            count += at <= len(self.heard)
        return count

    def ask(self, number):
        sql = f"SELECT c FROM point WHERE id = {number}".encode()
        self.number, self.heard = number, bytearray()
        packet = (len(sql) + 1).to_bytes(3, "little") + b"\0\x03" + sql
        self.asked, self.sent = True, time.monotonic()
        self.session.socket.sendall(packet)

    def hear(self):
        data = self.session.socket.recv(65536)
        if not data:
            raise Closed("end of the connection")
        self.heard += data

    def answered(self):
        """How long the answer took, once it is whole; raises ValueError for a wrong one."""
        self.hear()
        expected = self.head + b"\x20" + digest(self.number) + self.tail
        if len(self.heard) < len(expected) and expected.startswith(bytes(self.heard)):
            return None
        if self.heard != expected:
            raise ValueError(f"the answer for {self.number} is {bytes(self.heard)!r}")
        took, self.asked = time.monotonic() - self.due, False
        self.due += 1 / PER_SECOND
        return took


class Window:
    def __init__(self):
        self.took, self.errors = [], []

    def report(self, bystanders):
        alive = sum(bystander.due < float("inf") for bystander in bystanders)
        took = sorted(self.took)
        at = lambda part: took[min(len(took) - 1, int(len(took) * part))] * 1000 if took else None
        return json.dumps(
            {"alive": alive, "count": len(took), "p50": at(0.5), "p99": at(0.99), "max": at(1), "errors": self.errors}
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--users", required=True, help="taken in turn, with a comma between")
    arguments = parser.parse_args()
    users, now = arguments.users.split(","), time.monotonic()
    bystanders = [
        Bystander(arguments.port, users[at % len(users)], now + at / PER_SECOND / SESSIONS) for at in range(SESSIONS)
    ]
    chosen = selectors.DefaultSelector()
    chosen.register(sys.stdin, selectors.EVENT_READ, None)
    for bystander in bystanders:
        chosen.register(bystander.session.socket, selectors.EVENT_READ, bystander)
    window = Window()
    begin_at(bystanders, time.monotonic())
    while True:
        now = time.monotonic()
        wait = min([b.due - now for b in bystanders if not b.asked] + [0.05])
        for key, _ in chosen.select(max(0, wait)):
            if key.data is not None:
                step(window, chosen, key.data)
            elif sys.stdin.readline():
                finish(window, chosen, bystanders)
                print(window.report(bystanders), flush=True)
                window = Window()
                begin_at(bystanders, time.monotonic())
            else:
                return
        ask_due(window, chosen, bystanders, time.monotonic())
        give_up(window, chosen, bystanders)


def ask_due(window, chosen, bystanders, now):
    for bystander in bystanders:
        if not bystander.asked and bystander.due <= now:
            attempt(window, chosen, bystander, lambda b: b.ask(random.randint(1, ROWS)))


def begin_at(bystanders, now):
    """What was not asked between two windows is not made up for."""
    for at, bystander in enumerate(bystanders):
        bystander.due = max(bystander.due, now + at / PER_SECOND / SESSIONS)


def finish(window, chosen, bystanders):
    """Asks and waits for all that is due by now, and nothing more."""
    end = time.monotonic()
    while any(bystander.asked or bystander.due <= end for bystander in bystanders):
        ask_due(window, chosen, bystanders, end)
        for key, _ in chosen.select(0.05):
            if key.data is not None:
                step(window, chosen, key.data)
        give_up(window, chosen, bystanders)


def give_up(window, chosen, bystanders):
    for bystander in bystanders:
        if bystander.asked and time.monotonic() - bystander.sent > GIVEN_UP_S:
            lose(window, chosen, bystander, f"no answer in {GIVEN_UP_S} s")


def step(window, chosen, bystander):
    took = attempt(window, chosen, bystander, Bystander.answered)
    if took is not None:
        window.took.append(took)


def attempt(window, chosen, bystander, action):
    try:
        return action(bystander)
    except BlockingIOError:
        # What was to be read has been read meanwhile.
        return None
    except (OSError, Closed, Err, ValueError) as error:
        lose(window, chosen, bystander, f"{type(error).__name__}: {error}")
        return None


def lose(window, chosen, bystander, error):
    """It asks no more; every window from now on tells of one fewer that is alive."""
    window.errors.append(error)
    chosen.unregister(bystander.session.socket)
    bystander.session.close()
    bystander.asked, bystander.due = False, float("inf")


if __name__ == "__main__":
    main()
