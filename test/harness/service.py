# SPDX-License-Identifier: PostgreSQL
"""One of the project's services, run from the private installation."""

import json
import os
import urllib.error
import urllib.request

from .environment import free_port
from .process import ChildProcess
from .wait import wait_until


class Service:
    """A service program with its configuration file (name = value lines).

    program  name in the private installation, e.g. "outbox-payment"
    config   settings written to the file, a list with one item a line; http_port is added unless given
    """

    def __init__(self, session, program, config, name=None, env=None):
        self.session = session
        self.environment = session.environment
        self.program = self.environment.bindir / program
        self.name = name or program
        self.env = env or {}
        self.child = ChildProcess(session, self.name)
        self.config = {"http_port": free_port(), **config}
        self.config_path = session.data / f"{self.name}.conf"
        self.write_config()
        session.on_close(self.stop)

    def write_config(self):
        text = "".join("%s = %s\n" % (key, str(value).replace("\n", "\n    ")) for key, value in self.config.items())
        self.config_path.write_text(text)
        self.config_path.chmod(0o600)
        self.environment.give(self.config_path)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.config['http_port']}"

    @property
    def pid(self):
        return self.child.pid

    @property
    def running(self):
        return self.child.running

    def start(self, wait=True, timeout=30.0):
        self.child.spawn([self.program, "--config", self.config_path], env=self.env)
        if wait:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=30.0):
        """Wait until /readyz answers 200."""
        def ready():
            self.child.require_running()
            return self.request("GET", "/readyz")[0] == 200
        wait_until(ready, timeout, f"{self.name} to be ready")

    def stop(self, timeout=30.0):
        """SIGTERM and wait; returns the exit code."""
        return self.child.stop(timeout=timeout)

    def kill9(self):
        return self.child.kill9()

    def restart(self):
        self.stop()
        return self.start()

    def request(self, method, path, body=None, headers=None, timeout=10.0):
        """One HTTP request; returns (status, body as text) for every status."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        if data is not None and not request.has_header("Content-type"):
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metrics(self):
        """{series as printed, labels included: value} of /metrics."""
        status, text = self.request("GET", "/metrics")
        if status != 200:
            raise RuntimeError(f"{self.name} /metrics answered {status}: {text}")
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {series: float(value) for series, value in rows}

    def log_lines(self):
        """The JSON lines of the log, as dicts."""
        lines = []
        for line in self.child.log().splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue
        return lines


def service_exists(environment, program):
    """True when the program is in the private installation."""
    return os.access(environment.bindir / program, os.X_OK)
