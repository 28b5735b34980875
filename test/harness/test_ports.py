# SPDX-License-Identifier: PostgreSQL
"""Two runs on one machine are never given the same port."""

import pathlib
import subprocess
import sys

from harness.environment import free_port

CLAIM = "import sys; from harness.environment import claim_port; print(claim_port(int(sys.argv[1])))"


def test_a_port_is_given_once():
    """Also while nothing listens there yet; what another run was given is free again when it ends."""
    port = free_port()

    def claim(wanted):
        return subprocess.run([sys.executable, "-c", CLAIM, str(wanted)], check=True, text=True, stdout=subprocess.PIPE,
                              cwd=pathlib.Path(__file__).parents[1]).stdout.strip()
    assert claim(port) == "False"
    other = next(number for number in range(20000, 32000) if claim(number) == "True")
    assert claim(other) == "True"
