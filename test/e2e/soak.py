# SPDX-License-Identifier: PostgreSQL
"""soak: random faults under load for a time, with a ledger that counts what was lost, doubled and reordered.

The writers are checker's Load (commits, rollbacks, savepoints, prepared transactions, half of them with
synchronous_commit = off), the ledger is its truth table against every record of the topics. The seed
decides which fault comes when, and what the writers write. Every second fault or so is one of the 36 cases of
the protocol proxy, all of them in turn. For each kind of fault the longest interruption is told: from its begin
to the next delivered batch.
"""

import argparse
import contextlib
import itertools
import os
import random
import signal
import sys
import time
from collections import defaultdict

import psycopg
from fault_rounds import Blows, Rounds
from harness import Database, KafkaBroker, PostgresCluster, Session, exit_on_sigterm, wait_until
from harness.proxy import APIS
from harness.process import command_line, descendants

CASES = list(itertools.product(APIS, ("request", "answer"), ("hold", "drop", "cut")))
# A lost answer is noticed after two seconds instead of ten.
QUICK = "socket.timeout.ms=2000;message.timeout.ms=10000;transaction.timeout.ms=20000"
TOPICS = ("soak.orders", "soak.payments", "soak.stock")


class Missed(Exception):
    """A fault found nothing to strike."""


class Faults:
    """Everything that is done to the system; each method is a kind of fault and returns when it is done.

    Raises Missed when it found no victim."""

    def __init__(self, database, postgres, kafka, proxy, choose):
        self.database = database
        self.postgres = postgres
        self.kafka = kafka
        self.choose = choose
        self.blows = Blows(database, postgres)
        self.proxy = proxy
        self.cases = []  # of CASES, still to come in this turn
        self.turns = 0  # of all CASES that have come
        self.open = []  # sessions with a transaction that stays open over several faults

    # Processes ------------------------------------------------------------

    def sender_killed(self):
        self.blows.kill_sender()

    def relay_killed(self):
        self.blows.kill_relay()

    def server_killed(self):
        self.blows.kill_server()

    def backend_killed(self):
        """A writer's backend dies, which restarts the whole server."""
        backends = [pid for pid in descendants(self.postgres.pid)
                    if f"{self.database.name} 127.0.0.1" in command_line(pid)]
        if not backends:
            raise Missed("no writer is connected")
        self.signal(self.choose.choice(backends), signal.SIGKILL)
        self.postgres.wait_ready()

    def restarted_fast(self):
        self.blows.restart_fast()

    def restarted_immediately(self):
        self.blows.restart_immediately()

    def relay_terminated(self):
        self.blows.terminate("outbox relay")

    def launcher_terminated(self):
        self.blows.terminate("outbox launcher")

    def sender_frozen(self):
        self.freeze(self.blows.process("sender_pid"), 4000)

    # Kafka ----------------------------------------------------------------

    def broker_killed(self):
        self.kafka.kill9()
        self.kafka.start()

    def broker_restarted(self):
        self.kafka.restart()

    def broker_frozen(self):
        self.freeze(self.kafka.pid, 8000)

    def request_hurt(self):
        """The next case: a request or an answer of a Kafka transaction is held, dropped or cut."""
        if not self.cases:
            self.cases = self.choose.sample(CASES, len(CASES))
        api, side, action = self.cases.pop()
        owner = self.database.transactional_id().encode()
        before = self.blows.delivered()
        strike = self.proxy.strike(api, side, action, owner)
        if api == "InitProducerId":
            self.blows.kill_sender()
        if not strike.struck.wait(120):
            raise Missed(f"no {api} came")
        wait_until(lambda: self.blows.delivered() >= before + 2, 180, "further batches", interval=0.02)
        self.proxy.release(strike)
        self.turns += not self.cases

    # What a DBA does ------------------------------------------------------

    def settings_changed(self):
        """Small batches and segments as well as large ones; the sender stays or is started anew."""
        self.postgres.configure(
            outbox__batch_max_events=self.choose.choice((7, 200, 5000, 50000)),
            outbox__batch_max_bytes=self.choose.choice(("64kB", "1MB", "32MB")),
            outbox__segment_size=self.choose.choice(("1MB", "4MB", "1GB")),
            outbox__retention=self.choose.choice(("1min", "10min", "7d")),
            outbox__source=self.choose.choice(("", "/soak")),
        )
        self.postgres.reload()

    def reloads_stormed(self):
        for _ in range(50):
            self.postgres.reload()

    def leaf_rewritten(self):
        """VACUUM FULL and REINDEX of a leaf."""
        leaf = self.choose.randrange(8)
        try:
            with self.database.connect() as connection:
                connection.execute("set lock_timeout = '2s'")
                connection.execute(f"vacuum full outbox.event_{leaf}")
                connection.execute(f"reindex table outbox.event_{leaf}")
        except psycopg.errors.LockNotAvailable as error:
            raise Missed(str(error)) from None

    def database_made_and_dropped(self):
        name = self.postgres.create_database("soak_other")
        self.postgres.drop_database(name)

    def transaction_left_open(self):
        """A snapshot, an event and locks on the leaves, kept over the next faults."""
        if len(self.open) >= 2:
            with contextlib.suppress(psycopg.OperationalError):
                self.open.pop(0).close()
        connection = self.database.connect(autocommit=False)
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("lock table outbox.event in access share mode")
        connection.execute("select outbox.emit(%s, 'never', 'T', '{}')", (TOPICS[0],))
        self.open.append(connection)

    @staticmethod
    def kinds():
        """Names of the kinds but request_hurt, which comes as often as all of them."""
        own = ("kinds", "freeze", "signal", "close", "request_hurt")
        return [name for name in vars(Faults) if not name.startswith("_") and name not in own]

    @staticmethod
    def signal(pid, number):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            raise Missed(f"process {pid} has ended") from None

    def freeze(self, pid, most):
        """Stop a process until the writers have emitted up to `most` further events."""
        def emitted():
            return self.database.value("select last_value from outbox.event_seq")
        enough = emitted() + self.choose.randint(50, most)
        self.signal(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: emitted() >= enough, 180, f"event {enough}")
        finally:
            self.signal(pid, signal.SIGCONT)

    def close(self):
        for connection in self.open:
            with contextlib.suppress(psycopg.OperationalError):
                connection.close()


class Soak:
    """The system under load, and the ledger."""

    def __init__(self, session, options):
        self.options = options
        self.choose = random.Random(options.seed)
        self.kafka = KafkaBroker(session, proxied=True).start()
        self.proxy = self.kafka.proxy()
        session.on_close(self.proxy.close)
        self.postgres = PostgresCluster(session, conf={
            "outbox.kafka_properties": f"bootstrap.servers={self.proxy.bootstrap};{QUICK}",
            "outbox.segment_size": "1MB",
            "outbox.retention": "1min",
        }).start()
        self.database = Database(self.postgres, self.postgres.create_database("soak"))
        for topic in TOPICS:
            self.database.declare(topic, 6)
        self.database.start_relay()
        self.faults = Faults(self.database, self.postgres, self.kafka, self.proxy, self.choose)
        self.rounds = defaultdict(int)
        self.longest = defaultdict(float)

    def strike(self, running, kind):
        """One fault, and how long it interrupts; one that finds no victim does not count."""
        began = time.monotonic()
        try:
            getattr(self.faults, kind)()
        except (Missed, psycopg.OperationalError, psycopg.InterfaceError) as missed:
            print(f"{time.strftime('%H:%M:%S')} {kind} missed: {missed}", flush=True)
            self.postgres.wait_ready()
            return
        running.await_batches(1, timeout=180)
        self.rounds[kind] += 1
        self.longest[kind] = max(self.longest[kind], time.monotonic() - began)
        print(f"{time.strftime('%H:%M:%S')} {kind}: next batch after {time.monotonic() - began:.1f} s", flush=True)

    def run(self):
        until = time.monotonic() + self.options.minutes * 60
        with Rounds(self.database, self.kafka, TOPICS, self.options.seed, rate=self.options.rate,
                    patience=180.0) as running:
            while time.monotonic() < until:
                running.await_batches(self.choose.randint(1, 40), timeout=180)
                self.strike(running, self.choose.choice((self.choose.choice(Faults.kinds()), "request_hurt")))
            self.faults.close()
            running.await_batches(1, timeout=180)
        report = running.check(timeout=600)
        self.database.wait_state("idle", 60)
        return report

    def tell(self, report):
        """The table of faults, then the last line; the exit code."""
        for kind in sorted(self.rounds):
            print(f"{kind}: rounds={self.rounds[kind]} longest_interruption_s={self.longest[kind]:.1f}")
        status = self.database.status()
        print(f"rotations={status['rotations']} recoveries={status['recoveries']} since the last start of the server")
        print(f"all {len(CASES)} cases of request_hurt came {self.faults.turns} times, wanted {self.options.turns}")
        if not report.ok:
            print(report.text())
        complete = self.faults.turns >= self.options.turns
        print(f"soak lost={len(report.lost)} doubled={len(report.doubled)} phantom={len(report.phantom)} "
              f"reordered={len(report.reordered)} faults={sum(self.rounds.values())} events={report.committed}")
        return 0 if report.ok and complete else 1


def main():
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=300.0, help="transactions a second over all writers")
    parser.add_argument("--turns", type=int, default=0, help="how often all cases of the proxy must have come")
    options = parser.parse_args()
    exit_on_sigterm()
    session = Session("soak")
    try:
        soak = Soak(session, options)
        return soak.tell(soak.run())
    finally:
        session.close()


if __name__ == "__main__":
    sys.exit(main())
