# SPDX-License-Identifier: PostgreSQL
"""What make install puts where, and what it does not."""

import os
import re
import subprocess

import pytest
from harness import Environment

SHIPPED = {"outbox-consume", "outbox-monitor", "outbox-topics"}
SHOP = {"outbox-inventory", "outbox-order", "outbox-payment"}


def pg_config(what):
    program = os.environ.get("PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config")
    return subprocess.run([program, what], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def make(target, place):
    arguments = [f"DESTDIR={place}"] + [f"PG_CONFIG={os.environ[name]}" for name in ("PG_CONFIG",) if name in os.environ]
    subprocess.run(["make", "-s", target, *arguments], cwd=Environment().root, check=True)


@pytest.mark.parametrize("target, programs", [("install", SHIPPED), ("install-shop", SHOP)])
def test_programs_are_installed(tmp_path, target, programs):
    """The examples are no part of the product: make install-shop installs them, make install never."""
    make(target, tmp_path)
    assert {path.name for path in (tmp_path / pg_config("--bindir").lstrip("/")).iterdir()} == programs


def test_every_program_tells_its_version(tmp_path):
    """All are of the version of the control file, and say so in one form."""
    make("install", tmp_path)
    make("install-shop", tmp_path)
    control = (Environment().root / "outbox.control").read_text()
    version = re.search(r"^default_version = '(.*)'$", control, re.M).group(1)
    folders = [tmp_path / pg_config(what).lstrip("/") for what in ("--bindir", "--pkglibdir")]
    programs = [path for folder in folders for path in folder.iterdir() if path.suffix != ".so"]
    assert {path.name for path in programs} == SHIPPED | SHOP | {"outbox-sender"}
    for program in programs:
        done = subprocess.run([program, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert (done.returncode, done.stdout) == (0, f"{program.name} {version}\n")
