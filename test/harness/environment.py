# SPDX-License-Identifier: PostgreSQL
"""The places and the user scripts/env.sh decides on, for Python."""

import fcntl
import functools
import grp
import os
import pathlib
import pwd
import random
import shutil
import socket
import subprocess
import tempfile

_NAMES = ("HARNESS_ROOT", "HARNESS_CACHE", "HARNESS_JARS", "HARNESS_USER", "HARNESS_RUN", "PG_CONFIG")


class Environment:
    """Where things are and who runs them; one implementation with the scripts.

    root   the checkout            cache   downloads kept between runs
    run    what runs write         user    the unprivileged user of servers
    """

    def __init__(self):
        values = {name: os.environ.get(name) for name in _NAMES}
        if not all(values.values()):
            script = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "env.sh"
            text = subprocess.run(
                ["bash", "-c", '. "$0"; env -0', str(script)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
            found = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
            values = {name: found[name] for name in _NAMES}
        self.root = pathlib.Path(values["HARNESS_ROOT"])
        self.cache = pathlib.Path(values["HARNESS_CACHE"])
        self._jars = pathlib.Path(values["HARNESS_JARS"])
        self.run = pathlib.Path(values["HARNESS_RUN"])
        self.user = values["HARNESS_USER"]
        self.pg_config = values["PG_CONFIG"]
        self._system_bin = pathlib.Path(self.pg_config).resolve().parent.relative_to("/")
        self.pg_prefix = self.run / "pg"
        # Server programs, and the services and the sender, come from the private copy.
        self.bindir = self.pg_prefix / self._system_bin

    def variant(self, name):
        """bindir of a build variant, which scripts/build-variant has made."""
        found = self.run / "variants" / name / "pg" / self._system_bin
        if not found.is_dir():
            raise RuntimeError(f"the build variant is missing: run scripts/build-variant {name}")
        return found

    @property
    def pkglibdir(self):
        """Where the private copy keeps outbox.so and outbox-sender."""
        return pathlib.Path(
            subprocess.check_output([self.bindir / "pg_config", "--pkglibdir"], text=True).strip()
        )

    def popen_identity(self):
        """Arguments of subprocess that make a child run as the unprivileged user."""
        if os.geteuid() != 0:
            return {}
        entry = pwd.getpwnam(self.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def give(self, path):
        """Make path (a file or directory this process made) the unprivileged user's."""
        if os.geteuid() == 0:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)
        return path

    def give_file(self, path):
        """Make an empty file, owned by the unprivileged user."""
        path.touch()
        return self.give(path)

    def write_private(self, path, content, mode=0o600):
        """Write a file (text or bytes) that is the unprivileged user's, by default for its eyes alone; returns path."""
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return self.give(path)

    def make_directory(self, path, mode=0o755):
        """Make path, owned by the unprivileged user."""
        path = pathlib.Path(path)
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        return self.give(path)

    def jars(self, profile="broker"):
        """Class path of one profile of test/java/pom.xml ("broker" or "clients")."""
        return f"{self._jars / profile}/*"

    def java(self):
        """The java program."""
        home = os.environ.get("JAVA_HOME")
        candidate = pathlib.Path(home) / "bin" / "java" if home else None
        return str(candidate) if candidate and candidate.exists() else shutil.which("java")

    def group_name(self):
        """The group of the unprivileged user."""
        return grp.getgrgid(pwd.getpwnam(self.user).pw_gid).gr_name


_ports_given = set()


@functools.cache
def _port_locks():
    """A file whose byte n is locked by the process that was given port n, until it ends."""
    return os.open(os.path.join(tempfile.gettempdir(), f"outbox-ports-{os.getuid()}"), os.O_RDWR | os.O_CREAT, 0o600)


def claim_port(port):
    """Is the port given to no other process of this user? If so it is ours."""
    locks = _port_locks()
    try:
        fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def free_port():
    """A TCP port nobody on this machine uses, below the range of outgoing connections.

    Neither another worker nor another run, as of a second checkout, gets the same one.
    """
    while True:
        port = random.randrange(20000, 32000)
        if port in _ports_given or not claim_port(port):
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports_given.add(port)
        return port
