# SPDX-License-Identifier: PostgreSQL
"""A small network of namespaces on this machine, whose cables can be pulled. Needs root."""

import contextlib
import ctypes
import itertools
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

_CLONE_NEWNET = 0x40000000
_SUBNETS = 50 * 250  # 10.200.1 to 10.249.250


def run_ip(*arguments):
    done = subprocess.run(["ip", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stdout}")


def make_bridge():
    """A new bridge, and a subnet nobody here uses; its name holds the subnet, so that two runs cannot take the same.

    Returns (bridge, first three bytes of the subnet)."""
    taken = subprocess.run(["ip", "-4", "addr"], stdout=subprocess.PIPE, text=True, check=True).stdout
    first = os.getpid() % _SUBNETS
    for number in itertools.chain(range(first, _SUBNETS), range(first)):
        second, third = 200 + number // 250, 1 + number % 250
        if f" 10.{second}.{third}." in taken:
            continue
        try:
            run_ip("link", "add", f"ob{second}x{third}", "type", "bridge")
        except RuntimeError as error:
            if "File exists" not in str(error):
                raise
        else:
            return f"ob{second}x{third}", f"10.{second}.{third}"
    raise RuntimeError("no subnet of 10.200.0.0 to 10.249.255.255 is free")


class Network:
    """A bridge, and behind it one namespace with an address for each member (1, 2, ...).

    This machine has an address on the bridge too. Removed when the session closes.
    """

    def __init__(self, session, members):
        self.stem, subnet = make_bridge()
        self.addresses = {member: f"{subnet}.{member}" for member in members}
        session.on_close(self.remove)
        run_ip("addr", "add", f"{subnet}.254/24", "dev", self.stem)
        run_ip("link", "set", self.stem, "up")
        for member in members:
            self._add(member)

    def _name(self, member):
        return f"{self.stem}n{member}"

    def _add(self, member):
        name, cable = self._name(member), f"{self.stem}c{member}"
        run_ip("netns", "add", name)
        run_ip("link", "add", name, "type", "veth", "peer", "name", cable)
        run_ip("link", "set", cable, "netns", name)
        run_ip("link", "set", name, "master", self.stem, "up")
        run_ip("-n", name, "addr", "add", f"{self.addresses[member]}/24", "dev", cable)
        run_ip("-n", name, "link", "set", cable, "up")
        run_ip("-n", name, "link", "set", "lo", "up")

    def call(self, member, function, *arguments):
        """Call function in the member's namespace, for what it starts to run there. Returns its result."""
        def enter():
            library = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{self._name(member)}") as namespace:
                if library.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "cannot enter the namespace")
            return function(*arguments)
        # The thread ends with the pool, and its namespace with it.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(enter).result()

    def cut(self, member):
        """Pull the member's cable: it reaches nobody, nobody reaches it, connections hang."""
        run_ip("link", "set", self._name(member), "down")

    def heal(self):
        for member in self.addresses:
            run_ip("link", "set", self._name(member), "up")

    def remove(self):
        for member in self.addresses:
            with contextlib.suppress(RuntimeError):
                run_ip("netns", "del", self._name(member))
        with contextlib.suppress(RuntimeError):
            run_ip("link", "del", self.stem)
