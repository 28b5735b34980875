# SPDX-License-Identifier: PostgreSQL
"""One run: its directory, and the list of what it started so that all of it is stopped."""

import json
import os
import pathlib
import shutil
import signal
import sys

from .environment import Environment
from .process import kill_tree, start_time
from .wait import WaitTimeout, wait_until


class Session:
    """A directory below .run with data/ and logs/, and a record of every process.

    The record outlives this process, so `scripts/stop-leftovers` can end what a
    killed run left. close() stops everything started, newest first. Unless
    lasting, the directory is this process's own (name-pid), and what ended runs
    of the same name left is removed first.
    """

    def __init__(self, name, lasting=False, environment=None):
        self.environment = environment or Environment()
        if not lasting:
            remove_ended(self.environment.run, name)
            name = f"{name}-{os.getpid()}"
        self.directory = self.environment.make_directory(self.environment.run / name)
        (self.directory / "owner").write_text(f"{os.getpid()} {start_time(os.getpid())}")
        self.data = self.environment.make_directory(self.directory / "data")
        self.logs = self.environment.make_directory(self.directory / "logs")
        self.records = self.directory / "processes"
        self.records.mkdir(exist_ok=True)
        self._closers = []

    def record(self, name, pid, stop_signal):
        text = json.dumps({"pid": pid, "start": start_time(pid), "signal": int(stop_signal)})
        (self.records / f"{name}.json").write_text(text)

    def forget(self, name):
        (self.records / f"{name}.json").unlink(missing_ok=True)

    def on_close(self, closer):
        """Call closer() in close(), in reverse order."""
        self._closers.append(closer)

    def close(self, keep_data=False):
        """Stop everything; remove the data (logs stay) unless it is to be kept."""
        errors = []
        while self._closers:
            try:
                self._closers.pop()()
            except Exception as error:  # the others must be stopped all the same
                errors.append(error)
        stop_recorded(self.records)
        if not keep_data and not os.environ.get("HARNESS_KEEP"):
            shutil.rmtree(self.data, ignore_errors=True)
        if errors:
            raise errors[0]


def remove_ended(run, name):
    """Stop and remove what sessions called name left whose process is gone."""
    for directory in pathlib.Path(run).glob(f"{name}-[0-9]*"):
        try:
            pid, born = (directory / "owner").read_text().split()
        except (OSError, ValueError):
            continue  # being made or removed by another process at this moment
        if str(start_time(int(pid))) != born:
            try:
                stop_recorded(directory / "processes")
            except FileNotFoundError:
                continue  # another process removes it
            shutil.rmtree(directory, ignore_errors=True)


def stop_recorded(records, timeout=20.0):
    """Stop the processes a records directory names, if they are still the same ones."""
    for path in sorted(pathlib.Path(records).glob("*.json"), key=lambda p: -p.stat().st_mtime):
        entry = json.loads(path.read_text())
        pid, born = entry["pid"], entry["start"]
        if born is not None and start_time(pid) == born:
            os.kill(pid, entry.get("signal", signal.SIGTERM))
            try:
                wait_until(lambda: start_time(pid) != born, timeout, f"the end of {path.stem}")
            except WaitTimeout:
                kill_tree(pid)
        path.unlink(missing_ok=True)


def exit_on_sigterm():
    """Have SIGTERM end this process by SystemExit, so that what it started is stopped."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
