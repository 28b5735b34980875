# SPDX-License-Identifier: PostgreSQL
"""A server whose wall clock a test sets (test/clock/shifted_clock.c)."""

import subprocess
import sys


class ShiftedClock:
    """The wall clock of a cluster that is not started yet; shift(seconds) sets it, its monotonic clock goes on."""

    def __init__(self, cluster):
        library = cluster.data.parent / "shifted_clock.so"
        source = cluster.environment.root / "test" / "clock" / "shifted_clock.c"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        self.file = cluster.data.parent / f"{cluster.name}.clock"
        self.file.write_bytes(bytes(8))
        cluster.variables = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK_FILE": str(self.file)}

    def shift(self, seconds):
        """Set the clock so many seconds ahead of the true time, or behind it (negative)."""
        with open(self.file, "r+b") as clock:
            clock.write(seconds.to_bytes(8, sys.byteorder, signed=True))
