# SPDX-License-Identifier: PostgreSQL
"""make soak itself."""

import re

import pytest
import soak


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_short_soak(monkeypatch, capfd):
    """Issues 4 and 11: random faults under load by a seed; the last line counts what was lost, doubled, reordered,
    and what deleted topics held."""
    monkeypatch.setattr("sys.argv", ["soak", "--minutes", "2", "--seed", "11"])
    monkeypatch.setattr(soak, "exit_on_sigterm", lambda: None)
    assert soak.main() == 0
    last = capfd.readouterr().out.strip().splitlines()[-1]
    found = re.fullmatch(r"soak lost=0 doubled=0 phantom=0 reordered=0 destroyed=\d+ faults=(\d+) events=(\d+)", last)
    assert found and int(found[1]) >= 3 and int(found[2]) > 1000, last
