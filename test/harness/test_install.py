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
    return subprocess.run([Environment().pg_config, what], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def make(target, place, *options):
    subprocess.run(["make", "-s", target, f"DESTDIR={place}", f"PG_CONFIG={Environment().pg_config}", *options], cwd=Environment().root, check=True)


@pytest.mark.parametrize("target, programs", [("install", SHIPPED), ("install-shop", SHOP)])
def test_programs_are_installed(tmp_path, target, programs):
    """The examples are no part of the product: make install-shop installs them, make install never."""
    make(target, tmp_path)
    assert {path.name for path in (tmp_path / pg_config("--bindir").lstrip("/")).iterdir()} == programs


@pytest.mark.parametrize("options", [(), ("bindir=/usr/bin",)], ids=["beside the server", "bindir"])
def test_uninstall_takes_back_what_install_put(tmp_path, options):
    """make uninstall leaves no file of make install and install-shop, wherever bindir= put them."""
    for target in ("install", "install-shop"):
        make(target, tmp_path, *options)
    bindir = options[0].partition("=")[2] if options else pg_config("--bindir")
    assert SHIPPED | SHOP <= {path.name for path in (tmp_path / bindir.lstrip("/")).iterdir()}
    make("uninstall", tmp_path, *options)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


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


@pytest.mark.parametrize("config, told", [
    ("/nonexistent/pg_config", "PG_CONFIG=/nonexistent/pg_config is no pg_config of PostgreSQL 15 or later with headers"),
    ("/bin/true", "PG_CONFIG=/bin/true is no pg_config of PostgreSQL 15 or later with headers"),
], ids=["missing", "no server"])
def test_nothing_is_built_without_a_server(config, told):
    """make says what is needed and fails; it does not end well with nothing built."""
    done = subprocess.run(["make", "-n", "all", f"PG_CONFIG={config}"], cwd=Environment().root,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode != 0 and told in done.stdout


def test_the_server_is_named_first():
    """What is built for is in the first line of make."""
    done = subprocess.run(["make", "-n", "all"], cwd=Environment().root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS")})
    assert done.stdout.splitlines()[0] == f"outbox: for {pg_config('--version')}, {Environment().pg_config}"
