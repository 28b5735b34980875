# SPDX-License-Identifier: PostgreSQL
"""What make install puts where, and what it does not."""

import os
import subprocess

import pytest
from harness import Environment

SHIPPED = {"outbox-consume", "outbox-monitor", "outbox-topics"}
SHOP = {"outbox-inventory", "outbox-order", "outbox-payment"}


@pytest.mark.parametrize("target, programs", [("install", SHIPPED), ("install-shop", SHOP)])
def test_programs_are_installed(tmp_path, target, programs):
    """The examples are no part of the product: make install-shop installs them, make install never."""
    pg_config = os.environ.get("PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config")
    bindir = subprocess.run([pg_config, "--bindir"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    subprocess.run(["make", "-s", target, f"DESTDIR={tmp_path}", f"PG_CONFIG={pg_config}"],
                   cwd=Environment().root, check=True)
    assert {path.name for path in (tmp_path / bindir.lstrip("/")).iterdir()} == programs
