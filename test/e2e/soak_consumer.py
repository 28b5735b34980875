# SPDX-License-Identifier: PostgreSQL
"""outbox-consume beside the soak: an SQL function that notes each event, and what must come of it."""

from checker import Effect, check_effects
from harness import Service, WaitTimeout, wait_until

# A member that was killed is missed soon, a topic made anew with more partitions is noticed soon.
QUICK = "session.timeout.ms=6000\nheartbeat.interval.ms=500\ntopic.metadata.refresh.interval.ms=5000"

SCHEMA = """
create schema effects;
create table effects.taken (place bigserial, id uuid not null);
create function effects.take(event outbox.consumed_event) returns text language plpgsql as $$
begin
    if event.type <> 'Geprüft' or event.key not like 'schlüssel-%' then
        raise exception 'type %, key %', event.type, event.key;
    end if;
    insert into effects.taken (id) values (event.id::uuid);
    return 'taken';
end $$;
"""


class EffectsConsumer:
    """The consumer and the effects it has had. ends: how often the program has ended by itself."""

    def __init__(self, session, kafka, database, topics, env=None):
        self.database = database
        database.execute(SCHEMA)
        self.service = Service(session, "outbox-consume", {
            "database": database.dsn(), "bootstrap_servers": kafka.bootstrap, "group_id": "soak-effects",
            "topics": ",".join(topics), "function": "effects.take", "kafka_properties": QUICK, "threads": 2,
            "crash_max": 100,  # it is killed so often that one record is soon in hand three times
        }, env=env)
        self.ends = 0
        self.away = False

    def start(self):
        self.away = False
        self.service.start(wait=False)

    def stop(self, kill):
        """Have it away until start()."""
        self.away = True
        if kill:
            self.service.kill9()
        else:
            self.service.stop()

    def look(self):
        """Do what a supervisor does for a program that ends."""
        if not self.away and not self.service.running:
            self.ends += 1
            print(f"outbox-consume has ended: {self.service.log_lines()[-1]}", flush=True)
            self.start()

    def effects(self):
        return [Effect(*row) for row in self.database.execute("select id::text, place from effects.taken")]

    def check(self, seen, readable, patience):
        """Wait until every record that is there has its effect, or none came for patience seconds; the report."""
        expected = {record.id for record in seen}
        count = 0

        def moved():
            nonlocal count
            self.look()
            before, count = count, self.database.value("select count(*) from effects.taken")
            return count > before
        try:
            while not expected <= {effect.id for effect in self.effects()}:
                wait_until(moved, patience, "a further effect", interval=1)
        except WaitTimeout as error:
            print(f"the consumer stands: {error}", flush=True)
        self.service.stop()
        return check_effects(seen, readable, self.effects())
