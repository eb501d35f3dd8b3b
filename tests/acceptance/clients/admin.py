"""The admin door for the acceptance scripts: one connection, statements in, rows out."""

from session import Session


class Admin:
    def __init__(self, port):
        self.session = Session(port, user="admin", password="admin", database="")

    def ask(self, statement):
        """The rows as dictionaries of text; a statement without rows gives none. Raises Err."""
        self.session.command(0x03, statement.encode())
        head = self.session.checked()
        if head[0] == 0:
            return []
        columns = [name_of(self.session.checked()) for _ in range(head[0])]
        self.session.checked()
        rows = []
        while (row := self.session.row()) is not None:
            rows.append(dict(zip(columns, texts(row))))
        return rows

    def cns(self):
        """`SHOW CNS` by id."""
        return {row["id"]: row for row in self.ask("SHOW CNS")}

    def sessions_on(self, cn):
        return int(self.cns()[cn]["sessions"])

    def moves(self):
        """`SHOW MOVES` of all workers: counts, and pauses in microseconds; those are NULL before the first move."""
        total = next(row for row in self.ask("SHOW MOVES") if row["worker"] == "all")
        return {name: int(value or 0) for name, value in total.items() if name != "worker"}


def name_of(definition):
    """The fifth of the strings that a column's definition begins with."""
    return texts(definition, 5)[4]


def texts(packet, count=None):
    """Length-encoded strings, each shorter than 64 KiB; None for NULL."""
    found, at = [], 0
    while at < len(packet) and (count is None or len(found) < count):
        length, at = packet[at], at + 1
        if length == 0xFB:
            found.append(None)
            continue
        if length == 0xFC:
            length, at = int.from_bytes(packet[at : at + 2], "little"), at + 2
        found.append(bytes(packet[at : at + length]).decode())
        at += length
    return found
