# SPDX-License-Identifier: PostgreSQL
"""Fault points and mutants of a cluster that runs the build variant "faults" (src/common/fault.h)."""

from .wait import wait_until


class FaultPoints:
    """The files below a cluster's data directory that arm fault points and switch defences off.

    A point's file is there while it is armed, NAME.fired once it has struck.
    """

    def __init__(self, cluster):
        self.folder = cluster.environment.make_directory(cluster.data / "outbox_fault")

    def arm(self, name, action="kill", passage=1):
        """Have the point strike the passage-th time one process passes it: kill, error or wait."""
        (self.folder / f"{name}.fired").unlink(missing_ok=True)
        draft = self.folder / f"{name}.draft"
        draft.write_text(f"{action} {passage}")
        draft.rename(self.folder / name)

    def has_fired(self, name):
        return (self.folder / f"{name}.fired").exists()

    def await_fired(self, name, timeout=60.0):
        wait_until(lambda: self.has_fired(name), timeout, f"fault point {name} to be passed", interval=0.005)

    def release(self, name):
        """Let the process go on that waits at the point."""
        (self.folder / f"{name}.fired").unlink()

    def mutate(self, name):
        """Switch a defence off."""
        (self.folder / f"mutant-{name}").touch()

    def clear(self):
        for path in self.folder.iterdir():
            path.unlink()
