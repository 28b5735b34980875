# SPDX-License-Identifier: PostgreSQL
"""One child process with its log, and what the kernel says about processes."""

import os
import pathlib
import signal
import subprocess

from .wait import WaitTimeout, wait_until


def start_time(pid):
    """Kernel start time of pid in clock ticks, or None when it is gone (a zombie counts as gone)."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def descendants(pid):
    """Process ids of all living descendants of pid, in no order."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found.append(child)
            todo.append(child)
    return found


def command_line(pid):
    """The command line (or process title) of pid, "" when it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def private_mib(pid):
    """MiB of anonymous and file pages a process has in memory now; shared buffers are not its own. 0 when it is gone."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in lines)
    return sum(int(fields.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssFile")) / 1024


def kill_tree(pid):
    """SIGKILL pid and all its descendants, and wait until none lives."""
    try:
        os.kill(pid, signal.SIGSTOP)  # so that it starts no further child
    except ProcessLookupError:
        pass
    victims = {victim: start_time(victim) for victim in [pid, *descendants(pid)]}
    for victim in victims:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_until(
        lambda: all(was is None or start_time(victim) != was for victim, was in victims.items()),
        30,
        f"the death of process {pid} and its children",
    )


class ChildProcess:
    """A server started as the unprivileged user in its own session, logging to a file."""

    def __init__(self, session, name):
        self.session = session
        self.name = name
        self.log_path = session.logs / f"{name}.log"
        self.process = None

    @property
    def pid(self):
        return self.process.pid if self.process else None

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def spawn(self, arguments, env=None, stop_signal=signal.SIGTERM):
        """Start arguments; output is appended to the log file."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        merged = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "OUTBOX_", "HARNESS_"))}
        merged.update(env or {})
        with open(self.log_path, "ab") as log:
            self.session.environment.give(self.log_path)
            self.process = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=merged,
                start_new_session=True,
                **self.session.environment.popen_identity(),
            )
        self.session.record(self.name, self.process.pid, stop_signal)

    def require_running(self):
        """Raise with the end of the log when the process has ended."""
        if not self.running:
            code = self.process.returncode if self.process else "never started"
            raise WaitTimeout(f"{self.name} has ended ({code}); its log ends:\n{self.log_tail()}")
        return True

    def send_signal(self, number):
        self.process.send_signal(number)

    def freeze(self):
        """SIGSTOP, and wait until every thread stands: on a busy machine they run on for a while."""
        self.send_signal(signal.SIGSTOP)

        def stands():
            states = [path.read_text().rpartition(")")[2].split()[0] for path in pathlib.Path(f"/proc/{self.pid}/task").glob("*/stat")]
            return states and set(states) == {"T"}
        wait_until(stands, 30, f"{self.name} to stand", interval=0.001)

    def stop(self, number=signal.SIGTERM, timeout=30.0):
        """Ask the process to stop; kill the tree when it does not. Returns the exit code."""
        if not self.process:
            return None
        if self.running:
            self.process.send_signal(number)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                kill_tree(self.pid)
        return self._forget()

    def kill9(self):
        """SIGKILL the process and everything below it."""
        if self.process:
            kill_tree(self.pid)
        return self._forget()

    def _forget(self):
        code = self.process.wait() if self.process else None
        self.session.forget(self.name)
        return code

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines=40):
        return "\n".join(self.log().splitlines()[-lines:])

    def log_size(self):
        """Position to give to log_contains(since=...)."""
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def log_contains(self, text, since=0):
        """True when text stands in the log after byte position since."""
        if not self.log_path.exists():
            return False
        with open(self.log_path, "rb") as log:
            log.seek(since)
            return text.encode() in log.read()

    def wait_for_log(self, text, since=0, timeout=30.0):
        """Wait until text stands in the log."""
        wait_until(lambda: self.log_contains(text, since), timeout, f"{text!r} in the log of {self.name}")
