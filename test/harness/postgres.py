# SPDX-License-Identifier: PostgreSQL
"""A temporary PostgreSQL cluster made from the private copy of the installation."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import psycopg
from psycopg import sql

from .environment import free_port
from .process import ChildProcess, command_line, descendants
from .wait import wait_until

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_preload_libraries": "outbox",
    "track_commit_timestamp": "on",
    "max_worker_processes": "16",
    "max_prepared_transactions": "20",
    "max_connections": "200",
    "fsync": "on",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}

_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class PostgresCluster:
    """initdb'ed once (trust, superuser postgres), then started and stopped at will.

    Listens on 127.0.0.1 and a Unix socket. conf overrides settings; a value of
    None removes one. variant names another build (scripts/build-variant). The
    cluster is stopped when its session closes.
    """

    def __init__(self, session, name="postgres", conf=None, initdb_options=(), variant=None):
        self.session = session
        self.environment = session.environment
        self.bindir = self.environment.variant(variant) if variant else self.environment.bindir
        self.name = name
        self.host = "127.0.0.1"
        self.port = free_port()
        self.data = session.data / name
        self.child = ChildProcess(session, name)
        self.socket_directory = self._make_socket_directory()
        self.settings = dict(_SETTINGS)
        self.settings["unix_socket_directories"] = self.socket_directory
        self.variables = {}  # of the server's environment, besides ours
        self.leftovers = []  # databases to drop when it runs again
        session.on_close(self.remove)
        self._initialize(initdb_options)
        self.configure(**(conf or {}))

    def _make_socket_directory(self):
        """Beside the data, unless that path is too long for a socket (107 bytes with its name)."""
        beside = f"{self.data}.socket"
        if len(os.fsencode(beside)) <= 90:
            return str(self.environment.make_directory(beside))
        return self.environment.give(tempfile.mkdtemp(prefix="outbox-", dir="/tmp"))

    def _initialize(self, options):
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                 "--locale=C.UTF-8", "--no-instructions", *options)
        self.environment.give_file(self.data / "harness.conf")
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write("include 'harness.conf'\n")

    def run(self, program, *arguments, check=True, **options):
        """Run a program of the private installation as the unprivileged user; returns its output."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        done = subprocess.run(
            [str(self.bindir / program), *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, cwd="/", env=env, **self.environment.popen_identity(), **options,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{program} failed ({done.returncode}):\n{done.stdout}")
        return done.stdout

    # Settings -----------------------------------------------------------

    def configure(self, **settings):
        """Set postgresql.conf settings (names with a dot: "outbox__x" or a dict by **).

        Takes effect at start, restart() or reload().
        """
        for name, value in settings.items():
            name = name.replace("__", ".")
            if value is None:
                self.settings.pop(name, None)
            else:
                self.settings[name] = str(value)
        lines = ["port = %d" % self.port]
        for name, value in self.settings.items():
            lines.append("%s = '%s'" % (name, value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")))
        (self.data / "harness.conf").write_text("\n".join(lines) + "\n")

    def reload(self):
        """Have the server and its processes read the configuration again."""
        self.child.send_signal(signal.SIGHUP)

    # Life ---------------------------------------------------------------

    @property
    def pid(self):
        return self.child.pid

    @property
    def running(self):
        return self.child.running

    def start(self, wait=True, timeout=60.0):
        self.child.spawn([self.bindir / "postgres", "-D", self.data], self.variables, stop_signal=signal.SIGINT)
        if wait:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=60.0):
        """Wait until the server answers a query (after a start or a crash restart)."""
        def answers():
            self.child.require_running()
            with self.connect(connect_timeout=5) as connection:
                return connection.execute("select 1").fetchone() == (1,)
        wait_until(answers, timeout, f"{self.name} to answer")

    def stop(self, mode="fast", timeout=60.0):
        return self.child.stop(_STOP_SIGNALS[mode], timeout)

    def restart(self, mode="fast"):
        self.stop(mode)
        return self.start()

    def kill9(self):
        """SIGKILL every process of the server, children of its workers included."""
        self.child.kill9()

    def remove(self):
        self.stop("immediate")
        shutil.rmtree(self.socket_directory, ignore_errors=True)

    # Use ----------------------------------------------------------------

    def dsn(self, dbname="postgres", **options):
        """A libpq connection string."""
        values = {"host": self.host, "port": self.port, "user": "postgres", "dbname": dbname, **options}
        return psycopg.conninfo.make_conninfo(**values)

    def connect(self, dbname="postgres", autocommit=True, **options):
        return psycopg.connect(self.dsn(dbname, **options), autocommit=autocommit)

    def execute(self, statement, parameters=None, dbname="postgres"):
        """Run one statement in its own connection and transaction; returns the rows, if any."""
        with self.connect(dbname) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else None

    def value(self, statement, parameters=None, dbname="postgres"):
        """The first column of the first row."""
        rows = self.execute(statement, parameters, dbname)
        return rows[0][0] if rows else None

    def psql(self, text, dbname="postgres", *options):
        """Run a script with psql, stopping at the first error; returns its output."""
        done = subprocess.run(
            [str(self.bindir / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *options, "-d", self.dsn(dbname)],
            input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"psql failed ({done.returncode}):\n{done.stdout}")
        return done.stdout

    def psql_file(self, path, dbname="postgres", *options):
        """Run a script file; \\i and \\ir in it are relative to the file's directory."""
        done = subprocess.run(
            [str(self.bindir / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *options,
             "-d", self.dsn(dbname), "-f", str(path)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=pathlib.Path(path).parent,
        )
        if done.returncode != 0:
            raise RuntimeError(f"psql -f {path} failed ({done.returncode}):\n{done.stdout}")
        return done.stdout

    def create_database(self, name, extension=True, template=None, encoding=None):
        """A new database, with the extension unless told otherwise; one of another encoding has the locale C."""
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        if template:
            statement += sql.SQL(" template {}").format(sql.Identifier(template))
        if encoding:
            statement += sql.SQL(" template template0 encoding {} locale 'C'").format(sql.Literal(encoding))
        self.execute(statement)
        if extension:
            self.execute("create extension outbox", dbname=name)
        return name

    def drop_database(self, name):
        self.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def drop_leftovers(self):
        """Drop the databases of tests that ended with the server stopped: their relays would go on."""
        while self.leftovers:
            self.drop_database(self.leftovers.pop())

    def processes(self, text):
        """Ids of the server's processes (children of its workers included) whose title contains text."""
        return [pid for pid in descendants(self.pid) if text in command_line(pid)]

    def log_contains(self, text, since=0):
        return self.child.log_contains(text, since)

    def log_size(self):
        return self.child.log_size()

    def wait_for(self, query, timeout=30.0, dbname="postgres", parameters=None, what=None):
        """Wait until the query's first value is true, and return it."""
        return wait_until(lambda: self.value(query, parameters, dbname), timeout, what or query)
