"""Large results and parameters, and clients that stop reading: how much corelane grows, and whether others wait.

Called by `big-and-stalled`, which sets the stage. Prints one line per figure and ends with 1 where a line of the
acceptance does not hold.
"""

import argparse
import hashlib
import random
import re
import struct
import subprocess
import sys
import time
import zlib

from session import STMT_EXECUTE, STMT_PREPARE, STMT_SEND_LONG_DATA, Session

MIB = 1 << 20
# A stalled result must not make corelane larger than this, in KiB.
GROWTH_LIMIT_KIB = 16 * 1024
# "Not slowed": the 99th percentile stays within this factor of the one before, plus a millisecond of noise. Where
# sessions that do not pass corelane were slowed as well, the machine is at fault, and the factor grows by as much.
SLOWER_FACTOR, NOISE_MS = 2.0, 1.0
# The receive buffer of a client that stalls, in bytes. All ends are on this machine, and its kernel begins to drop
# segments of everybody's when the buffers of all of them reach the limit `net.ipv4.tcp_mem`.
RECEIVE_BUFFER = 64 * 1024
# Runs of sysbench in turn, through corelane and direct; the best counts, since noise only ever adds.
RUNS = 3


def main():
    arguments = read_arguments()
    acceptance = Acceptance(arguments)
    acceptance.large_result()
    acceptance.large_parameters()
    acceptance.sysbench("warm-up", arguments.port)
    before = acceptance.others("before")
    acceptance.stalled(1, before)
    acceptance.stalled(arguments.clients, before)
    for line in acceptance.broken:
        print(f"DOES NOT HOLD: {line}")
    return 1 if acceptance.broken else 0


def read_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cn-port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--rows", type=int, required=True, help="of 1 MiB, in a large result")
    parser.add_argument("--parameter-mib", type=int, required=True)
    parser.add_argument("--stall-s", type=float, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--sysbench-s", type=int, required=True)
    return parser.parse_args()


class Acceptance:
    def __init__(self, arguments):
        self.arguments = arguments
        self.broken = []
        self.query = f"SELECT REPEAT(CHAR(65 + seq % 26), {MIB}) FROM seq_1_to_{arguments.rows}"

    def holds(self, truth, line):
        if not truth:
            self.broken.append(line)

    def large_result(self):
        memory = Memory(self.arguments.pid)
        session = Session(self.arguments.port)
        start = time.monotonic()
        session.ask(self.query)
        read = Rows()
        read.to_end(session)
        took = time.monotonic() - start
        session.close()
        self.intact("the large result", read, self.arguments.rows)
        print(f"result of {read.bytes / MIB:.0f} MiB: crc {read.crc:08x}, {read.bytes / MIB / took:.0f} MiB/s")
        self.growth("a large result", memory)

    def large_parameters(self):
        size = self.arguments.parameter_mib * MIB
        value = random.Random(7).randbytes(size // 2).hex().encode()
        expected = [str(size), hashlib.md5(value).hexdigest()]
        for way, ask in [("one packet", self.as_packet), ("long data", self.as_long_data)]:
            memory = Memory(self.arguments.pid)
            session = Session(self.arguments.port)
            start = time.monotonic()
            seen = ask(session, value)
            took = time.monotonic() - start
            session.close()
            self.holds(seen == expected, f"a parameter as {way}: the CN saw {seen}, not {expected}")
            print(f"parameter of {size // MIB} MiB as {way}: md5 {seen[1]}, {size / MIB / took:.0f} MiB/s")
            self.growth(f"a parameter as {way}", memory)

    def as_packet(self, session, value):
        return session.values(b"SELECT LENGTH(p), MD5(p) FROM (SELECT '" + value + b"' AS p) AS t")

    def as_long_data(self, session, value):
        session.command(STMT_PREPARE, b"SELECT LENGTH(p), MD5(p) FROM (SELECT ? AS p) AS t")
        prepared = session.checked()
        number, columns, parameters = struct.unpack_from("<IHH", prepared, 1)
        for count in (columns, parameters):
            for _ in range(count + 1):
                session.checked()
        for at in range(0, len(value), MIB):
            session.command(STMT_SEND_LONG_DATA, struct.pack("<IH", number, 0) + value[at : at + MIB])
        # No NULL, new types: one BLOB, whose value has been sent.
        session.command(STMT_EXECUTE, struct.pack("<IBIBBBB", number, 0, 1, 0, 1, 0xFC, 0))
        session.skip_head()
        row = session.row()
        assert session.row() is None, "one row"
        # A binary row: 0x00, the NULL bitmap, LENGTH as INT or BIGINT, the MD5 with its length before it.
        assert row[-33] == 32, "the MD5's length"
        return [str(int.from_bytes(row[2:-33], "little")), row[-32:].decode()]

    def stalled(self, clients, before):
        """`clients` clients stop in the middle of a large result while sysbench runs."""
        arguments = self.arguments
        who = "1 stalled client" if clients == 1 else f"{clients} stalled clients"
        memory = Memory(arguments.pid)
        sessions = [Session(arguments.port, receive_buffer=RECEIVE_BUFFER) for _ in range(clients)]
        reads = [Rows() for _ in sessions]
        for session, read in zip(sessions, reads):
            session.ask(self.query)
            read.some(session, 1)
        start = time.monotonic()
        time.sleep(min(2, arguments.stall_s))
        during = self.others(f"beside {who}")
        time.sleep(max(0.0, arguments.stall_s - (time.monotonic() - start)))
        print(f"{who} for {time.monotonic() - start:.0f} s; the kernel holds {tcp_memory_mib()} MiB for all TCP sockets")
        self.growth(who, memory)
        if tcp_memory_mib() > tcp_memory_limit_mib() * 9 // 10:
            print(f"  NOTE: its limit (net.ipv4.tcp_mem) is {tcp_memory_limit_mib()} MiB: near it, every socket suffers")
        machine = max(1.0, during["direct"] / before["direct"])
        self.holds(
            during["corelane"] <= before["corelane"] * SLOWER_FACTOR * machine + NOISE_MS,
            f"{who}: p99 of others {during['corelane']} ms, {before['corelane']} ms before",
        )
        self.finish(who, sessions, reads)
        self.growth(f"{who}, after going on", memory)

    def finish(self, who, sessions, reads):
        """One client reads to the end; of many, each some more, and all that it read must be right."""
        for session, read in zip(sessions, reads):
            if len(sessions) == 1:
                read.to_end(session)
                self.intact(who, read, self.arguments.rows)
            else:
                read.some(session, 8)
                self.intact(who, read, 9)
            session.close()
        print(f"{who} went on: {sum(read.count for read in reads)} rows of 1 MiB, all intact")

    def intact(self, who, read, rows):
        expected = expected_crc(rows)
        self.holds(
            (read.count, read.crc) == (rows, expected),
            f"{who}: {read.count} rows, crc {read.crc:08x}; expected {rows} and {expected:08x}",
        )

    def growth(self, what, memory):
        before, peak = memory.before, memory.peak()
        print(f"  RSS before {before} KiB, peak {peak} KiB: grew by {peak - before} KiB")
        self.holds(peak - before < GROWTH_LIMIT_KIB, f"{what}: corelane grew by {peak - before} KiB")

    def others(self, when):
        """The best 99th percentile in ms of sysbench, through corelane and direct."""
        ways = {"corelane": self.arguments.port, "direct": self.arguments.cn_port}
        best = {}
        for _ in range(RUNS):
            for way, port in ways.items():
                p99 = self.sysbench(f"{when}, {way}", port)
                best[way] = min(p99, best.get(way, p99))
        return best

    def sysbench(self, when, port):
        seconds = self.arguments.sysbench_s
        command = [
            "sysbench", "oltp_point_select", "--mysql-host=127.0.0.1", f"--mysql-port={port}",
            "--mysql-user=sbtest", "--mysql-password=sbtest", "--mysql-db=sbtest", "--tables=1", "--table-size=20000",
            "--threads=8", f"--time={seconds}", "--percentile=99", "run",
        ]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
        if ran.returncode != 0:
            sys.exit(f"sysbench failed {when}:\n{ran.stdout}{ran.stderr}")
        qps = float(re.search(r"queries: .*\(([\d.]+) per", ran.stdout)[1])
        p99 = float(re.search(r"99th percentile: +([\d.]+)", ran.stdout)[1])
        print(f"sysbench {when}: {qps:.0f} queries/s, p99 {p99:.2f} ms", flush=True)
        return p99


def tcp_memory_mib():
    """Of the whole machine: what a stalled session holds beside corelane's own memory is in the kernel's buffers."""
    with open("/proc/net/sockstat") as file:
        return int(re.search(r"TCP:.* mem (\d+)", file.read())[1]) * 4 // 1024


def tcp_memory_limit_mib():
    with open("/proc/sys/net/ipv4/tcp_mem") as file:
        return int(file.read().split()[2]) * 4 // 1024


class Rows:
    """What was read of the large result: how many rows and bytes, and a CRC over the values."""

    def __init__(self):
        self.count = self.bytes = self.crc = 0

    def some(self, session, rows):
        for _ in range(rows):
            self.take(session.row())

    def to_end(self, session):
        while (row := session.row()) is not None:
            self.take(row)

    def take(self, row):
        # 0xFD, a length of three bytes, the value.
        value = memoryview(row)[4:]
        self.count += 1
        self.bytes += len(value)
        self.crc = zlib.crc32(value, self.crc)


def expected_crc(rows):
    crc = 0
    for n in range(1, rows + 1):
        crc = zlib.crc32(bytes([65 + n % 26]) * MIB, crc)
    return crc


class Memory:
    """The resident memory of a process from now on; the kernel keeps the peak."""

    def __init__(self, pid):
        self.pid = pid
        # 5 resets the peak (proc(5), clear_refs).
        with open(f"/proc/{pid}/clear_refs", "w") as file:
            file.write("5")
        self.before = self._status("VmRSS")

    def peak(self):
        return self._status("VmHWM")

    def _status(self, key):
        with open(f"/proc/{self.pid}/status") as file:
            return int(re.search(rf"{key}:\s+(\d+) kB", file.read())[1])


sys.exit(main())
