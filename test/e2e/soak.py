# SPDX-License-Identifier: PostgreSQL
"""soak: random faults under load for a time, with a ledger that counts what was lost, doubled and reordered.

The writers are checker's Load (commits, rollbacks, savepoints, prepared transactions, half of them with
synchronous_commit = off), the ledger is its truth table against every record of the topics, those of topics that
were deleted included: they are read from the broker's files (checker.remains). A consumer notes each event
it is given, and must have noted each record once that is still there. The seed
decides which fault comes when, and what the writers write. Every second fault or so is one of the 36 cases of
the protocol proxy, all of them in turn. For each kind of fault the longest interruption is told: from its begin
to the next delivered batch. The database is in UTF8 or LATIN1, keys and types are not ASCII.
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
from checker.remains import count_destroyed
from fault_rounds import Blows, Missed, Rounds
from harness import (
    Database, KafkaBroker, PostgresCluster, Session, ShiftedClock, exit_on_sigterm, set_producer_quota, wait_until,
)
from harness.proxy import APIS
from harness.process import command_line, descendants
from soak_consumer import EffectsConsumer
from soak_topics import KEEP_DELETED, DeletedTopics

CASES = list(itertools.product(APIS, ("request", "answer"), ("hold", "drop", "cut")))
# A lost answer is noticed after two seconds instead of ten.
QUICK = "socket.timeout.ms=2000\nmessage.timeout.ms=10000\ntransaction.timeout.ms=20000"
CLIENT = "soak-relay"  # whom quotas concern
WIDENED = ("outbox.event", "outbox.batch", "outbox.topic", "outbox.dead_letter", "outbox.idempotency", "checker.truth",
           "checker.counter", "effects.taken")
ADDED = "Größe"  # what the columns added to them hold
TOPICS = ("soak.orders", "soak.payments", "soak.stock")
PARTITIONS = 6


class Faults:
    """Everything that is done to the system; each method is a kind of fault and returns when it is done.

    Raises Missed when it found no victim."""

    def __init__(self, database, postgres, kafka, proxy, choose, clock, consumer=None):
        self.database = database
        self.postgres = postgres
        self.kafka = kafka
        self.choose = choose
        self.clock = clock  # of the server with its relay, and of the consumer; the sender takes the time from the relay
        self.consumer = consumer  # an EffectsConsumer, or None
        self.deleted = DeletedTopics(kafka, database)
        self.after = []  # to be done when the fault is over and its interruption measured
        self.blows = Blows(database, postgres)
        self.proxy = proxy
        self.cases = []  # of CASES, still to come in this turn
        self.turns = 0  # of all CASES that have come
        self.columns = defaultdict(list)  # names of the columns added to each table
        self.column_numbers = itertools.count()
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

    def quota_set(self):
        """The relay may produce less than the writers emit, for a while; a batch takes seconds, or its time runs out."""
        rate = self.choose.choice((5_000, 20_000, 50_000))
        print(f"{rate} bytes a second", flush=True)
        set_producer_quota(self.kafka.bootstrap, CLIENT, rate)
        try:
            self.let_emit(10_000)
        finally:
            set_producer_quota(self.kafka.bootstrap, CLIENT, None)

    # Clocks ---------------------------------------------------------------

    def clock_stepped(self):
        """By minutes or hours, back or not too far forwards for Kafka, and there it stays; Kafka's and the machine's go on."""
        self.shift_clock(self.choose.randint(*self.choose.choice(((-21600, -3600), (-600, 0), (0, 600), (1800, 3000)))))

    def clock_stepped_to_and_fro(self):
        """A step under load, and back again; beyond an hour forwards Kafka takes nothing until then."""
        before = self.clock.seconds
        self.shift_clock(before + self.choose.choice((-1, 1)) * self.choose.randint(60, 10800))
        self.let_emit(2000)
        self.shift_clock(before)

    def shift_clock(self, seconds):
        print(f"the clock is {seconds} s ahead instead of {self.clock.seconds}", flush=True)
        self.clock.shift(seconds)

    # Topics ---------------------------------------------------------------

    def topic_made_anew(self):
        """Deleted, and made anew at once by somebody else, with fewer, as many or more partitions."""
        topic = self.topic_to_delete()
        self.deleted.delete(topic)
        self.deleted.make(topic, self.choose.choice((3, PARTITIONS, 9)))

    def topic_deleted(self):
        """Deleted; whoever needs it makes it anew: the relay, or a broker that makes what is asked for."""
        self.deleted.delete(self.topic_to_delete())

    def topic_deleted_under_frozen_sender(self):
        sender = self.blows.process("sender_pid")
        self.signal(sender, signal.SIGSTOP)
        try:
            self.delete_unseen()
        finally:
            self.signal(sender, signal.SIGCONT)

    def topic_deleted_under_stopped_relay(self):
        self.database.stop_relay()
        self.database.wait_state("stopped", 60)
        try:
            self.delete_unseen()
        finally:
            self.database.start_relay()

    def topic_deleted_under_stopped_server(self):
        self.postgres.stop(self.choose.choice(("fast", "immediate")))
        try:
            self.delete_unseen()
        finally:
            self.postgres.start()

    def consumer_away(self):
        """Killed or stopped, and started again later."""
        if not self.consumer or self.consumer.away:
            raise Missed("there is no consumer, or it is away")
        self.consumer.stop(self.choose.random() < 0.5)
        batches = self.choose.randint(1, 200)
        self.after.append(lambda: self.database.await_batches(batches, 180))
        self.after.append(self.consumer.start)

    def topic_to_delete(self):
        """One of TOPICS; every other time the consumer is away from before the deletion until later."""
        if self.consumer and self.choose.random() < 0.5:
            self.consumer_away()
        return self.choose.choice(TOPICS)

    def delete_unseen(self):
        topic, made = self.topic_to_delete(), self.choose.choice((None, 3, PARTITIONS, 9))
        self.deleted.delete(topic)
        if made:
            self.deleted.make(topic, made)

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

    def column_added(self):
        """A column with a constant default, or the end of one, of our tables or the application's, in use meanwhile."""
        table = self.choose.choice(WIDENED if self.consumer else WIDENED[:-1])
        added = self.columns[table]
        with self.database.connect() as connection:
            connection.execute("set lock_timeout = '2s'")
            try:
                if len(added) > self.choose.randint(0, 3):
                    connection.execute(f"alter table {table} drop column {added[0]}")
                    del added[0]
                else:
                    name = f"added_{next(self.column_numbers)}"
                    connection.execute(f"alter table {table} add column {name} text not null default '{ADDED}'")
                    added.append(name)
            except psycopg.errors.LockNotAvailable as error:
                raise Missed(f"{table}: {error}") from None

    def require_added(self):
        """What the direct write of emit() put into added columns is their default."""
        for table, names in self.columns.items():
            for name in names:
                wrong = self.database.value(f"select count(*) from {table} where {name} is distinct from %s", (ADDED,))
                assert wrong == 0, f"{wrong} rows of {table} without the default of {name}"

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
        own = ("kinds", "freeze", "signal", "close", "request_hurt", "topic_to_delete", "delete_unseen", "finish",
               "shift_clock", "let_emit", "require_added")
        return [name for name in vars(Faults) if not name.startswith("_") and name not in own]

    @staticmethod
    def signal(pid, number):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            raise Missed(f"process {pid} has ended") from None

    def let_emit(self, most):
        """Wait until the writers have emitted up to `most` further events."""
        def emitted():
            return self.database.value("select last_value from outbox.event_seq")
        enough = emitted() + self.choose.randint(50, most)
        wait_until(lambda: emitted() >= enough, 180, f"event {enough}")

    def freeze(self, pid, most):
        """Stop a process until the writers have emitted up to `most` further events."""
        self.signal(pid, signal.SIGSTOP)
        try:
            self.let_emit(most)
        finally:
            self.signal(pid, signal.SIGCONT)

    def finish(self):
        """What follows a fault; meanwhile the system is at work again."""
        if self.deleted.unread:
            print(f"{self.deleted.read_unread()} records were in the deleted topic", flush=True)
        while self.after:
            self.after.pop(0)()

    def close(self):
        for connection in self.open:
            with contextlib.suppress(psycopg.OperationalError):
                connection.close()


class Soak:
    """The system under load, and the ledger."""

    def __init__(self, session, options):
        self.session = session
        self.options = options
        self.choose = random.Random(options.seed)
        # The broker makes topics that are asked for, or leaves that to the relay.
        self.kafka = KafkaBroker(session, proxied=True, conf={
            **KEEP_DELETED, "auto.create.topics.enable": "true" if options.seed % 2 else "false"}).start()
        self.proxy = self.kafka.proxy()
        session.on_close(self.proxy.close)
        self.postgres = PostgresCluster(session, conf={
            "outbox.kafka_properties": f"bootstrap.servers={self.proxy.bootstrap}\nclient.id={CLIENT}\n{QUICK}",
            "outbox.segment_size": "1MB",
            "outbox.retention": "1min",
        })
        self.clock = ShiftedClock(session, "soak")
        self.postgres.variables = self.clock.variables
        self.postgres.start()
        self.database = Database(self.postgres, self.postgres.create_database("soak", encoding=options.encoding))
        print(f"encoding={options.encoding}", flush=True)
        for topic in TOPICS:
            self.database.declare(topic, PARTITIONS)
        self.database.start_relay()
        self.consumer = EffectsConsumer(
            session, self.kafka, self.database, TOPICS, self.clock.variables) if options.consumer else None
        self.faults = Faults(self.database, self.postgres, self.kafka, self.proxy, self.choose, self.clock,
                             self.consumer)
        self.rounds = defaultdict(int)
        self.longest = defaultdict(float)

    def strike(self, running, kind):
        """One fault, and how long it interrupts; one that finds no victim does not count."""
        began = time.monotonic()
        print(f"{time.strftime('%H:%M:%S')} {kind}", flush=True)
        try:
            getattr(self.faults, kind)()
        except (Missed, psycopg.OperationalError, psycopg.InterfaceError) as missed:
            print(f"{time.strftime('%H:%M:%S')} {kind} missed: {missed}", flush=True)
            self.postgres.wait_ready()
            self.faults.finish()
            return
        running.await_batches(1, timeout=180)
        self.rounds[kind] += 1
        self.longest[kind] = max(self.longest[kind], time.monotonic() - began)
        print(f"{time.strftime('%H:%M:%S')} {kind}: next batch after {time.monotonic() - began:.1f} s", flush=True)
        self.faults.finish()

    def run(self):
        until = time.monotonic() + self.options.minutes * 60
        kinds = [kind for kind in Faults.kinds() if self.options.faults in kind]
        if self.consumer:
            self.consumer.start()
        with Rounds(self.database, self.kafka, TOPICS, self.options.seed, rate=self.options.rate,
                    patience=180.0, key_name="schlüssel", event_type="Geprüft") as running:
            while time.monotonic() < until:
                running.await_batches(self.choose.randint(1, 40), timeout=180)
                self.strike(running, self.choose.choice((self.choose.choice(kinds), "request_hurt")))
                if self.consumer:
                    self.consumer.look()
            self.faults.close()
            running.await_batches(1, timeout=180)
        self.postgres.configure(outbox__batch_max_events=5000)  # batches of 7 events would not make up in time
        self.postgres.reload()
        deleted = self.faults.deleted
        self.database.wait_delivered(600)
        deleted.require_known(TOPICS)
        self.destroyed = deleted.destroyed()
        report = running.check(600, self.destroyed, deleted.logs)
        self.done = self.consumer and self.consumer.check(running.seen, deleted.readable(), 120)
        self.database.wait_state("idle", 60)
        self.faults.require_added()
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
        self.tell_destroyed()
        print(f"soak lost={len(report.lost)} doubled={len(report.doubled)} phantom={len(report.phantom)} "
              f"reordered={len(report.reordered)} destroyed={len(report.destroyed)} "
              f"faults={sum(self.rounds.values())} events={report.committed}")
        return 0 if report.ok and complete and (not self.done or self.done.ok) else 1

    def tell_destroyed(self):
        """What deleted topics held, by name in a file; then what the consumer made of it all."""
        path = self.session.logs / "destroyed.txt"
        unread = {record.id for record in self.done.unread} if self.done else set()
        path.write_text("".join(
            f"{r.id} {r.topic} log={r.log} partition={r.partition} offset={r.offset} key={r.key} rank={r.key_seq}"
            f"{' unread' if r.id in unread else ''}\n" for r in self.destroyed))
        for (topic, log), count in count_destroyed(self.destroyed).items():
            print(f"deleted: {topic}, log {log}, with {count} events")
        print(f"destroyed events by name: {path}")
        if self.done:
            print(f"consumer ends={self.consumer.ends} {self.done.text()}")


def main():
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=300.0, help="transactions a second over all writers")
    parser.add_argument("--turns", type=int, default=0, help="how often all cases of the proxy must have come")
    parser.add_argument("--faults", default="", help="only kinds with this in their names, and those of the proxy")
    parser.add_argument("--no-consumer", dest="consumer", action="store_false", help="without outbox-consume")
    parser.add_argument("--encoding", choices=("UTF8", "LATIN1"), help="of the database; the seed decides if not given")
    options = parser.parse_args()
    options.encoding = options.encoding or ("UTF8", "LATIN1")[options.seed // 2 % 2]
    exit_on_sigterm()
    session = Session("soak")
    try:
        soak = Soak(session, options)
        return soak.tell(soak.run())
    finally:
        session.close()


if __name__ == "__main__":
    sys.exit(main())
