# SPDX-License-Identifier: PostgreSQL
"""outbox-topics, run from the private installation."""

import subprocess

from .environment import Environment


def run_topics(kafka, command, profile, *options, timeout=180):
    """The finished outbox-topics plan or apply of a profile's file on a broker (anything with .bootstrap)."""
    program = Environment().bindir / "outbox-topics"
    return subprocess.run(
        [program, command, "--profile", profile, "--bootstrap-servers", kafka.bootstrap, *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
    )
