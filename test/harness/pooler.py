# SPDX-License-Identifier: PostgreSQL
"""PgBouncer before a cluster."""

import psycopg

from .environment import free_port
from .process import ChildProcess
from .wait import wait_until

PROGRAM = "/usr/sbin/pgbouncer"


class Pooler:
    """Debian's PgBouncer on 127.0.0.1:port, started; any user of the list may come without a password.

    mode  pool_mode: session, transaction or statement      size  sessions of a database and user
    """

    def __init__(self, session, cluster, mode, size=1, users=("postgres",), name="pgbouncer"):
        self.session = session
        self.cluster = cluster
        self.mode = mode
        self.size = size
        self.port = free_port()
        self.child = ChildProcess(session, name)
        self.directory = session.environment.make_directory(session.data / name)
        self.users = session.environment.write_private(
            self.directory / "users", "".join(f'"{user}" ""\n' for user in users))
        session.on_close(self.child.stop)

    def start(self):
        text = f"""[databases]
* = host={self.cluster.host} port={self.cluster.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {self.users}
pool_mode = {self.mode}
default_pool_size = {self.size}
query_wait_timeout = 30
"""
        path = self.session.environment.write_private(self.directory / "pgbouncer.ini", text)
        self.child.spawn([PROGRAM, path])

        def answers():
            self.child.require_running()
            with self.connect("postgres", connect_timeout=5) as connection:
                return connection.execute("select 1").fetchone()
        wait_until(answers, 30, "PgBouncer to answer")
        return self

    def restart(self, mode):
        """Come back with another pool_mode."""
        self.child.stop()
        self.mode = mode
        return self.start()

    def dsn(self, dbname, **options):
        return self.cluster.dsn(dbname, port=self.port, **options)

    def connect(self, dbname, autocommit=True, **options):
        """As who uses PgBouncer in transaction mode must: psycopg prepares nothing."""
        return psycopg.connect(self.dsn(dbname, **options), autocommit=autocommit, prepare_threshold=None)

    def stop(self):
        self.child.stop()
