# SPDX-License-Identifier: PostgreSQL
"""A light load: one thread that emits in small transactions until it is told to stop."""

import random
import threading

import psycopg
from checker import Load, check_database
from harness import WritersFailed, wait_until


class SteadyWriter:
    """While entered, commits events of a topic, some of them rolled back; a lost server is waited for.

    database  the Database    topic  declared in it    rate  transactions a second, at most
    The truth it leaves is the checker's, so that check() compares it with Kafka.
    """

    def __init__(self, database, topic, rate=100, keys=20, seed=1):
        self.database = database
        self.topic = topic
        self.pause = 1 / rate
        self.keys = keys
        self.choose = random.Random(seed)
        self.committed = 0
        self.failure = None
        self.halt = threading.Event()
        self.thread = threading.Thread(target=self._write, daemon=True)
        Load(database.dsn(), (topic,)).prepare()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """End the thread; raises what it could not go on from."""
        self.halt.set()
        self.thread.join(60)
        if self.failure:
            raise self.failure

    def _write(self):
        while not self.halt.is_set():
            try:
                with self.database.connect(autocommit=False, connect_timeout=5) as connection:
                    while not self.halt.wait(self.pause):
                        self._transact(connection)
            except psycopg.OperationalError:
                self.halt.wait(0.1)  # the server is away, or the database is taken
            except psycopg.Error as error:
                self.failure = error
                return

    def _transact(self, connection):
        for _ in range(self.choose.randint(1, 3)):
            connection.execute("select checker.step(%s, %s, 100)", (self.topic, f"k{self.choose.randrange(self.keys)}"))
        if self.choose.random() < 0.1:
            connection.rollback()
        else:
            connection.commit()
            self.committed += 1

    def require_alive(self):
        """Raise WritersFailed when the thread could not go on."""
        if self.failure:
            raise WritersFailed("the writer failed") from self.failure

    def await_commits(self, count=10, timeout=60.0):
        """Wait until that many further transactions are committed."""
        goal = self.committed + count

        def reached():
            self.require_alive()
            return self.committed >= goal
        wait_until(reached, timeout, f"{count} transactions more")

    def await_batches(self, count=1, timeout=60.0):
        """Wait until that many batches more than the newest are delivered; the writer is at work."""
        self.database.await_batches(count, timeout, self.require_alive)

    def report(self, kafka, timeout=90.0):
        """Stop; the checker's report on what was committed, which must be something."""
        self.stop()
        report = check_database(self.database.dsn(), kafka.bootstrap, [self.topic], timeout)
        print(report.summary())
        assert report.committed > 0
        return report

    def check(self, kafka, timeout=90.0):
        """Stop, and require that every committed event arrived once and in order; returns the report."""
        return self.report(kafka, timeout).require_ok()
