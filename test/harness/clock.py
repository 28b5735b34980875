# SPDX-License-Identifier: PostgreSQL
"""A wall clock that a test steps, for single processes; the machine's is left alone."""

import subprocess
import sys


class ShiftedClock:
    """test/clock/shifted_clock.c, built once a session, and the file it reads the shift from.

    variables  the environment of who is to see this clock, children included
    """

    def __init__(self, session, name):
        library = session.data / "shifted_clock.so"
        if not library.exists():
            source = session.environment.root / "test" / "clock" / "shifted_clock.c"
            subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
            session.environment.give(library)
        self.seconds = 0
        self.file = session.data / f"{name}.clock"
        self.file.write_bytes(bytes(8))
        session.environment.give(self.file)
        self.variables = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK_FILE": str(self.file)}

    def shift(self, seconds):
        """Be so many seconds ahead of the machine's clock, at once."""
        self.seconds = seconds
        with open(self.file, "r+b") as clock:
            clock.write(seconds.to_bytes(8, sys.byteorder, signed=True))
