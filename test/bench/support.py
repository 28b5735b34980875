# SPDX-License-Identifier: PostgreSQL
"""What the benchmarks share: their programs, the kernel's CPU accounts, medians and the last line."""

import os
import pathlib
import statistics
import subprocess
import time
import uuid

from harness import Environment

_TICKS = os.sysconf("SC_CLK_TCK")


def program(name):
    """Path of a program (or library) test/bench/Makefile builds."""
    return str(Environment().root / "build" / "bench" / name)


def run_program(name, *arguments):
    """Run a program of ours; its last output line "key=value ..." as a dict of texts."""
    done = subprocess.run(
        [program(name), *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed ({done.returncode})")
    return dict(item.split("=", 1) for item in done.stdout.splitlines()[-1].split())


def uuid_v7():
    """A new UUID version 7 as text."""
    number = uuid.uuid4().int & ~(0xFFFF_FFFF_FFFF_F << 76)
    return str(uuid.UUID(int=number | time.time_ns() // 1_000_000 << 80 | 7 << 76))


def cpu_seconds(pid):
    """User and system time pid and its threads have used so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Steal:
    """Share of the processors' time that the host gave to others, since the last question."""

    def __init__(self):
        self.before = self._read()

    @staticmethod
    def _read():
        fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return fields[7], sum(fields) - fields[3] - fields[4]

    def percent(self):
        """Of the time something wanted to run, in percent."""
        now = self._read()
        stolen, wanted = now[0] - self.before[0], now[1] - self.before[1]
        self.before = now
        return 100 * stolen / max(wanted, 1)


def quartiles(values):
    """(first quartile, median, third quartile)."""
    if len(values) < 2:
        return (values[0],) * 3
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def spread(values, digits=2):
    """Median and quartiles as text."""
    low, middle, high = quartiles(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} .. {high:.{digits}f})"


def say(text):
    print(text, flush=True)


def last_line(name, digits=2, **figures):
    """The line a reader of the log looks for."""
    say(" ".join([name, *(f"{key}={value:.{digits}f}" for key, value in figures.items())]))


def kafka_properties(status_text):
    """The librdkafka properties the relay says it uses, as ["name=value", ...]."""
    pairs = [item for item in status_text.split("; ") if "=" in item]
    if not any(item.startswith("enable.random.seed=") for item in pairs):
        raise RuntimeError(f"the relay's properties are cut off: {status_text}")
    return pairs
