# SPDX-License-Identifier: PostgreSQL
"""Writers that emit events in real transactions of every kind, and note the truth beside them.

Several transactions travel in one query string, to spare round trips; each has
its own BEGIN and end. A writer that loses its server reconnects and goes on.
"""

import argparse
import concurrent.futures
import itertools
import multiprocessing
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import psycopg

SCHEMA = """
create schema if not exists checker;
create table if not exists checker.counter (
    topic text, key text, key_seq bigint not null, primary key (topic, key)
) with (fillfactor = 50);
create table if not exists checker.truth (
    id uuid primary key, topic text not null, key text not null, key_seq bigint not null
);
create or replace function checker.step(topic text, key text, filler int, type text default 'Checked') returns void
language plpgsql as $$
declare
    rank bigint;
    event uuid;
begin
    -- The counter's row lock makes rank order the commit order of the key.
    insert into checker.counter as c values (step.topic, step.key, 1)
        on conflict on constraint counter_pkey do update set key_seq = c.key_seq + 1
        returning c.key_seq into rank;
    event := outbox.emit(step.topic, step.key, step.type,
        jsonb_build_object('keySeq', rank, 'key', step.key, 'filler', repeat('x', filler)));
    insert into checker.truth values (event, step.topic, step.key, rank);
end $$;
"""

# Share of each kind of transaction, in percent.
KINDS = {
    "commit": 60,
    "rollback": 12,
    "savepoint": 12,
    "commit_prepared": 8,
    "rollback_prepared": 4,
    "several": 4,
}

_LOST_SERVER = (psycopg.OperationalError, psycopg.InterfaceError)


@dataclass
class LoadResult:
    """Transactions a load ran to their end, by kind, and how often a writer lost its server."""

    done: Counter = field(default_factory=Counter)
    reconnects: int = 0
    seconds: float = 0.0

    @property
    def transactions(self):
        return sum(self.done.values())


@dataclass(frozen=True)
class Load:
    """What to write. transactions is the total over all writers; async_share is the
    share (0 to 1) of writers that commit with synchronous_commit = off; patience is
    how many seconds a writer waits for a server that is away; crew is how many
    writers share a process, each with a thread and a connection of its own;
    key_name is what keys begin with, event_type one of observe.TYPES."""

    dsn: str
    topics: tuple
    transactions: int = 1000
    writers: int = 4
    keys: int = 100
    seed: int = 1
    async_share: float = 0.0
    filler: int = 100
    group: int = 20
    patience: float = 60.0
    rate: float = 0.0
    crew: int = 1
    key_name: str = "key"
    event_type: str = "Checked"

    def prepare(self):
        """Make the truth table and its function. Call once, before run or start."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(SCHEMA)
        return self

    def start(self):
        """Start the writers; returns a RunningLoad."""
        return RunningLoad(self)

    def run(self):
        """Prepare, write everything, and return the LoadResult."""
        self.prepare()
        return self.start().wait()


_halt = None  # of the load this process writes for


def take_halt(halt):
    """First of all in a writer process: the event that ends its work early."""
    global _halt
    _halt = halt


class RunningLoad:
    """Writers at work in processes of their own."""

    def __init__(self, load):
        context = multiprocessing.get_context("spawn")
        self.load = load
        self.began = time.monotonic()
        self.halt = context.Event()
        arguments = [(load, first) for first in range(0, load.writers, load.crew)]
        self.pool = context.Pool(len(arguments), take_halt, (self.halt,))
        self.outcome = self.pool.starmap_async(run_crew, arguments, 1)

    @property
    def running(self):
        return not self.outcome.ready()

    def stop(self):
        """Have every writer end after what it is at; wait() gives the result."""
        self.halt.set()

    def wait(self, timeout=600.0):
        """Wait for all writers, settle what a crash left prepared, return the LoadResult."""
        try:
            parts = self.outcome.get(timeout)
        finally:
            self.pool.terminate()
            self.pool.join()
        result = LoadResult(seconds=time.monotonic() - self.began)
        for done, reconnects in itertools.chain.from_iterable(parts):
            result.done.update(done)
            result.reconnects += reconnects
        return result


def settle_prepared(connection, prefix, choose):
    """Commit or roll back the transactions a lost server left prepared under prefix."""
    rows = connection.execute(
        "select gid from pg_prepared_xacts where database = current_database() and starts_with(gid, %s)", (prefix,)
    ).fetchall()
    for (gid,) in rows:
        verb = "commit" if choose.random() < 0.5 else "rollback"
        connection.execute(f"{verb} prepared '{gid}'")


class Writer:
    """One connection's worth of transactions."""

    def __init__(self, load, number):
        self.load = load
        self.number = number
        self.choose = random.Random(f"{load.seed}/{number}")
        self.prefix = f"checker-{load.seed}-{number}-"
        self.prepared = 0
        self.done = Counter()
        self.reconnects = 0
        self.connection = None
        share, extra = divmod(load.transactions, load.writers)
        self.left = share + (1 if number < extra else 0)

    def connect(self):
        """Connect, waiting up to the load's patience for a server that is away."""
        deadline = time.monotonic() + self.load.patience
        while True:
            try:
                self.connection = psycopg.connect(self.load.dsn, autocommit=True, connect_timeout=10)
                if self.number < self.load.async_share * self.load.writers:
                    self.connection.execute("set synchronous_commit = off")
                settle_prepared(self.connection, self.prefix, self.choose)
                return
            except (*_LOST_SERVER, psycopg.errors.ObjectNotInPrerequisiteState):
                # Away, or a dying backend of ours still holds its prepared transaction.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def step(self):
        topic = self.choose.choice(self.load.topics)
        key = f"{self.load.key_name}-{self.choose.randrange(self.load.keys)}"
        return f"select checker.step('{topic}', '{key}', {self.load.filler}, '{self.load.event_type}');"

    def transaction(self, kind):
        """The text of one transaction of a kind; what must follow a PREPARE comes separately."""
        if kind == "commit":
            return f"begin; {self.step()} commit;", None
        if kind == "rollback":
            return f"begin; {self.step()} rollback;", None
        if kind == "savepoint":
            # One key throughout: what is rolled back to gives its rank back.
            step = self.step()
            inner = "release a;" if self.choose.random() < 0.5 else "rollback to a;"
            return f"begin; {step} savepoint a; {step} savepoint b; {step} rollback to b; {inner} {step} commit;", None
        if kind == "several":
            step = self.step()
            return f"begin; {step * self.choose.randint(2, 10)} commit;", None
        self.prepared += 1
        gid = f"{self.prefix}{self.prepared}"
        return f"begin; {self.step()} prepare transaction '{gid}';", f"{kind.replace('_', ' ')} '{gid}'"

    def run_group(self):
        """Send one query string of transactions, and the end of a prepared one after it."""
        kinds, texts, after = [], [], None
        while len(kinds) < min(self.load.group, self.left) and after is None:
            kind = self.choose.choices(list(KINDS), KINDS.values())[0]
            text, after = self.transaction(kind)
            kinds.append(kind)
            texts.append(text)
        # Counted before they are sent: what a dying server swallowed was tried all the same.
        self.left -= len(kinds)
        self.connection.execute("".join(texts))
        if after:
            self.connection.execute(after)
        self.done.update(kinds)

    def run(self):
        self.connect()
        began, planned = time.monotonic(), self.left
        while self.left > 0 and not (_halt and _halt.is_set()):
            try:
                self.run_group()
            except _LOST_SERVER:
                if not self.connection.closed:
                    raise  # the server is there and refused the statement
                self.reconnects += 1
                self.connect()
            if self.load.rate:
                due = began + (planned - self.left) * self.load.writers / self.load.rate
                time.sleep(max(0.0, due - time.monotonic()))
        self.connection.close()
        return self.done, self.reconnects


def run_crew(load, first):
    """A process of writers. Returns (transactions done by kind, reconnects) of each."""
    numbers = range(first, min(first + load.crew, load.writers))
    with concurrent.futures.ThreadPoolExecutor(len(numbers)) as threads:
        return list(threads.map(lambda number: Writer(load, number).run(), numbers))


def main():
    parser = argparse.ArgumentParser(prog="checker.load", description=__doc__)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--topic", required=True, action="append")
    for name, default in (("transactions", 1000), ("writers", 4), ("keys", 100), ("seed", 1), ("filler", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--async-share", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=0.0, help="transactions a second over all writers")
    values = vars(parser.parse_args())
    values["topics"] = tuple(values.pop("topic"))
    result = Load(**values).run()
    kinds = " ".join(f"{kind}={count}" for kind, count in sorted(result.done.items()))
    print(f"transactions={result.transactions} seconds={result.seconds:.1f} reconnects={result.reconnects} {kinds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
