# SPDX-License-Identifier: PostgreSQL
"""outbox.replay(): retained events again, for everybody or one consumer, whatever breaks meanwhile."""

import psycopg
import pytest
from checker import Load, check, read_topics, read_truth
from fault_rounds import Blows, Rounds
from harness import wait_until

SEED = 140001


def replay(database, topic, **options):
    """Starts a replay of all of a topic; returns its id as text and its number of events."""
    arguments = {"topic": topic, **options}
    named = ", ".join(f"{name} => %({name})s" for name in arguments)
    rows = database.execute(f"select replay_id::text, events from outbox.replay('-infinity', 'infinity', {named})",
                            arguments)
    return rows[0]


def job(database, replay_id):
    """state, replayed and last_error of a replay."""
    return database.execute("select state, replayed, last_error from outbox.replays where replay_id = %s",
                            (replay_id,))[0]


def wait_done(database, replay_id, timeout=60):
    wait_until(lambda: job(database, replay_id)[0] not in ("running", "paused"), timeout, "the end of the replay")
    assert job(database, replay_id)[0] == "done", job(database, replay_id)


def wait_replayed(database, replay_id, least, timeout=60):
    """Wait until so many events are copied, of a replay that goes on."""
    def reached():
        state, replayed, error = job(database, replay_id)
        assert state == "running", (state, error)
        return replayed >= least
    wait_until(reached, timeout, f"{least} copies", interval=0.005)


def headers_of(record):
    return {name: value.decode() for name, value in record.headers()}


def test_copies_are_the_events(relay, kafka, topic, unique):
    """Row 003.4: by time range, type and key; the same event with the replay's headers; copies are not replayed."""
    target = relay.declare(unique("target"), 1)
    ids = [relay.emit(topic, f"k{n % 2}", "Odd" if n % 2 else "Even", f'{{"n": {n}}}', '{"shop": "x"}')
           for n in range(10)]
    kafka.wait_for_records(topic, 10)
    since, until = (relay.value("select created_at from outbox.event where id = %s", (ids[n],)) for n in (2, 8))
    filters = [
        ({}, ids), ({"type": "Odd"}, ids[1::2]), ({"key": "k0"}, ids[::2]), ({"key": "k0", "type": "Odd"}, []),
        ({"from": since, "to": until}, ids[2:8]),
    ]
    expected = []
    for options, wanted in filters:
        values = {"from": "-infinity", "to": "infinity", "topic": topic, "target_topic": target, **options}
        named = ", ".join(f'"{name}" => %({name})s' for name in values)
        replay_id, events = relay.execute(f"select replay_id::text, events from outbox.replay({named})", values)[0]
        wait_done(relay, replay_id)
        assert (events, job(relay, replay_id)[1]) == (len(wanted), len(wanted))
        expected += [(replay_id, event_id) for event_id in wanted]
    originals = {headers_of(record)["ce_id"]: record for record in kafka.read_all(topic)}
    copies = kafka.wait_for_records(target, len(expected))
    assert [(headers_of(r)["outbox-replay-id"], headers_of(r)["ce_id"]) for r in copies] == expected
    for copy in copies:
        added = headers_of(copy)
        original = originals[added["ce_id"]]
        assert (copy.key(), copy.value()) == (original.key(), original.value())
        assert added.pop("outbox-replay-id") and added == headers_of(original)
    assert len(kafka.read_all(topic)) == 10
    replay_id, events = replay(relay, target)
    wait_done(relay, replay_id)
    assert (events, job(relay, replay_id)[1]) == (0, 0)


def test_a_target_that_does_not_take_an_event_fails_the_job(relay, kafka, topic, unique):
    """What emit() refuses of a topic, a replay into it refuses, too; the relay goes on, and nothing is half done."""
    relay.emit(topic, "k", "T", '{"n": 1}')
    relay.execute("select outbox.emit(%s, null, 'T', to_jsonb(repeat('x', 3000)))", (topic,))
    kafka.wait_for_records(topic, 2)
    for option, wanted in (("cleanup_policy => 'compact'", "key of an event of topic"),
                           ("max_message_bytes => 2000", "event is too large for topic")):
        target = unique("target")
        relay.execute(f"select outbox.declare_topic(%s, 1, {option})", (target,))
        replay_id, events = replay(relay, topic, target_topic=target)
        wait_until(lambda: job(relay, replay_id)[0] not in ("running", "paused"), 30, "the end of the replay")
        state, replayed, error = job(relay, replay_id)
        assert (state, events, replayed) == ("failed", 2, 0) and wanted in error and target in error
        assert relay.value("select count(*) from outbox.event where topic = %s", (target,)) == 0
    assert relay.status()["state"] in ("idle", "preparing", "sending") and relay.status()["recoveries"] == 0
    # Its own topic has taken an event: of that nothing is asked.
    relay.execute("update outbox.topic set cleanup_policy = 'compact' where name = %s", (topic,))
    replay_id, _ = replay(relay, topic)
    wait_done(relay, replay_id)
    assert len(kafka.wait_for_records(topic, 4)) == 4


def test_commit_order_and_open_transactions(relay, kafka, topic_name, unique):
    """Rows 001.3, 003.4: copies come in commit order, not by seq or txid; what was open at the call is no part."""
    topic = relay.declare(topic_name, 1)
    target = relay.declare(unique("target"), 1)
    emit = "select outbox.emit(%s, 'k', %s, '{}')"
    with relay.connect(autocommit=False) as early, relay.connect(autocommit=False) as late:
        early.execute(emit, (topic, "EmittedFirst"))
        late.execute(emit, (topic, "CommittedFirst"))
        late.commit()
        early.commit()
    relay.stop_relay()
    relay.wait_state("stopped")
    with relay.connect(autocommit=False) as still_open:
        still_open.execute(emit, (topic, "Open"))
        relay.execute(emit, (topic, "Last"))
        replay_id, events = replay(relay, topic, target_topic=target)
        still_open.commit()
    relay.start_relay()
    wait_done(relay, replay_id)
    assert (events, job(relay, replay_id)[1]) == (3, 3)
    types = [headers_of(record)["ce_type"] for record in kafka.wait_for_records(target, 3)]
    assert types == ["CommittedFirst", "EmittedFirst", "Last"]
    assert len(kafka.wait_for_records(topic, 4)) == 4


def test_pace_pause_and_cancel(relay, kafka, topic, postgres):
    """Replay: the rate is kept, a pause stops it at once, live events pass; a restart goes on."""
    relay.execute("select outbox.emit(%s, n::text, 'T', '{}') from generate_series(1, 240) n", (topic,))
    kafka.wait_for_records(topic, 240)
    relay.wait_state("idle")
    replay_id, _ = replay(relay, topic, rate=60, reason="pace")
    wait_replayed(relay, replay_id, 40)
    relay.execute("select outbox.replay_pause(%s, 'wait')", (replay_id,))
    replayed = job(relay, replay_id)[1]
    assert 40 <= replayed < 240
    relay.emit(topic, "live")
    kafka.wait_for_records(topic, 241 + replayed)
    postgres.restart()
    relay.wait_state("idle")
    assert job(relay, replay_id) == ("paused", replayed, None)
    relay.execute("select outbox.replay_resume(%s)", (replay_id,))
    wait_done(relay, replay_id)
    seconds = relay.value("select extract(epoch from max(copied_at) - min(copied_at)) from outbox.event")
    assert seconds >= (240 - 2 * 12) / 60, "faster than its rate"
    keys = [record.key() for record in kafka.wait_for_records(topic, 481)]
    assert sorted(keys) == sorted([b"live"] + 2 * [str(n).encode() for n in range(1, 241)])

    replay_id, events = replay(relay, topic, rate=50)
    assert events == 241
    wait_replayed(relay, replay_id, 10)
    relay.execute("select outbox.replay_cancel(%s, 'enough')", (replay_id,))
    state, replayed, _ = job(relay, replay_id)
    assert state == "cancelled" and replayed < 241
    assert len(kafka.wait_for_records(topic, 481 + replayed)) == 481 + replayed
    actions = relay.execute("select action, reason, role from outbox.audit order by id")
    assert actions == [("replay", "pace", "postgres"), ("replay_pause", "wait", "postgres"),
                       ("replay_resume", None, "postgres"), ("replay", None, "postgres"),
                       ("replay_cancel", "enough", "postgres")]


def test_jobs_locked_by_somebody(relay, topic, kafka):
    """Design I5: neither the relay nor live events wait for a lock somebody holds on the jobs."""
    def live_events_flow(total):
        for _ in range(3):
            relay.emit(topic, "k")
        wait_until(lambda: relay.status()["state"] == "idle" and relay.status()["oldest_unsent_age"] is None, 30,
                   "every event to be sent")
        assert len(kafka.wait_for_records(topic, total)) == total

    lock = "lock table outbox.replay_job in access exclusive mode"
    relay.execute("select outbox.emit(%s, n::text, 'T', '{}') from generate_series(1, 60) n", (topic,))
    replay_id, _ = replay(relay, topic, rate=1)
    wait_replayed(relay, replay_id, 1)
    with relay.connect(autocommit=False) as locker:
        locker.execute(lock)
        before = relay.value("select count(*) from outbox.event where copied_at is not null")
        live_events_flow(63 + before)
        assert relay.value("select count(*) from outbox.event where copied_at is not null") == before
    wait_replayed(relay, replay_id, before + 1)
    with relay.connect(autocommit=False) as locker:
        locker.execute("select from outbox.replay_job for update")
        before = relay.value("select count(*) from outbox.event where copied_at is not null")
        live_events_flow(66 + before)
    relay.execute("select outbox.replay_cancel(%s, 'done')", (replay_id,))


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_survives_kills(relay, postgres, kafka, topic, unique, rounds):
    """Row 003.4: relay, sender and server are killed in the midst; each copy once, in commit order; live
    events flow."""
    Load(relay.dsn(), (topic,), transactions=2000 * rounds, writers=8, keys=50, group=5, seed=SEED).run()
    truth = read_truth(relay.dsn())
    target = relay.declare(unique("target"))
    live = relay.declare(unique("live"))
    blows = Blows(relay, postgres)
    with Rounds(relay, kafka, [live], SEED + 1, rate=200) as running:
        replay_id, events = replay(relay, topic, target_topic=target, rate=400)
        assert events == len(truth)
        for number in range(3 * rounds):
            wait_replayed(relay, replay_id, job(relay, replay_id)[1] + 100)
            [blows.kill_relay, blows.kill_sender, blows.kill_server][number % 3]()
            running.await_batches(2)
        wait_done(relay, replay_id, 300)
    running.check().require_ok()
    assert job(relay, replay_id)[1:] == (len(truth), None)
    assert relay.value("select count(*) from outbox.event where copied_at is not null") == len(truth)
    seen = read_topics(kafka.bootstrap, [target], {row.id for row in truth}, 90)
    check([row._replace(topic=target) for row in truth], seen).require_ok()


class Group:
    """A consumer group of outbox-sequence with a database of its own."""

    def __init__(self, name, database, service):
        self.name = name
        self.database = database
        self.service = service

    def model(self):
        """The read model, and the number of effects."""
        return (self.database.execute("select key, rank from sequence.latest order by key"),
                self.database.value("select count(*) from sequence.taken"))

    def wait_effects(self, count):
        wait_until(lambda: self.model()[1] >= count, 60, f"{count} effects of {self.name}")

    def counted(self, result):
        """Records of the runtime's metrics by what became of them."""
        return sum(value for name, value in self.service.metrics().items()
                   if name.startswith("outbox_consumer_records_total") and f'result="{result}"' in name)

    def wait_counted(self, result, count):
        wait_until(lambda: self.counted(result) == count, 60, f"{count} records {result} of {self.name}")

    def forget(self):
        self.database.execute("truncate sequence.latest, sequence.taken")


@pytest.fixture
def groups(relay, kafka, topic, sequence_program, make_database, service, unique):
    """Two groups on the relay's topic."""
    made = []
    for name in (unique("first"), unique("second")):
        database = make_database(relay.cluster)
        database.declare(topic)
        database.cluster.psql_file(database.cluster.environment.root / "test" / "services" / "sequence.sql",
                                   database.name)
        running = service(sequence_program, {
            "database": database.dsn(), "bootstrap_servers": kafka.bootstrap, "group_id": name, "topic": topic,
            "instance": name, "retry_backoff_ms": 200, "retry_max": 100}, name)
        made.append(Group(name, database, running))
    return made


def test_to_one_group(relay, kafka, topic, groups):
    """Row 003.4: a read model is rebuilt by re-processing in one group, whose retries count once; others skip it."""
    first, second = groups
    Load(relay.dsn(), (topic,), transactions=400, writers=8, keys=20, group=5, seed=SEED + 2).run()
    total = len(read_truth(relay.dsn()))
    for group in groups:
        group.wait_effects(total)
    before = first.model()
    assert before[1] == total and second.model() == before

    # Not re-processing: what the group has had is no effect, what it missed is one.
    first.database.execute("delete from outbox.idempotency where event_id in"
                           " (select event_id from sequence.taken where (key, rank) in (select key, max(rank)"
                           "  from sequence.taken group by key))")
    first.database.execute("update sequence.latest set rank = rank - 1")
    keys = len(before[0])
    replay_id, _ = replay(relay, topic, consumer=first.name)
    wait_done(relay, replay_id)
    first.wait_effects(total + keys)
    first.wait_counted("duplicate", total - keys)
    second.wait_counted("foreign_replay", total)
    assert first.model() == (before[0], total + keys)

    # Re-processing: the model from nothing; one key fails at first and is retried in order.
    victim = before[0][0][0]
    first.forget()
    first.database.execute(f"""alter table sequence.taken add constraint seeded check (key <> '{victim}')""")
    replay_id, events = replay(relay, topic, consumer=first.name, reprocess=True)
    assert events == total
    wait_done(relay, replay_id)
    of_victim = relay.value("select key_seq from checker.counter where key = %s", (victim,))
    first.wait_effects(total - of_victim)
    first.database.wait_for("select count(*) = %s from outbox.dead_letter where state in ('retrying', 'held')",
                            parameters=(of_victim,))
    first.database.execute("alter table sequence.taken drop constraint seeded")
    first.wait_effects(total)
    second.wait_counted("foreign_replay", 2 * total)
    assert first.model() == before and second.model() == before
    first.database.wait_for("select count(*) = 0 from outbox.dead_letter where state <> 'resolved'")

    # Once more by another replay: the same again.
    first.forget()
    replay_id, _ = replay(relay, topic, consumer=first.name, reprocess=True)
    first.wait_effects(total)
    wait_done(relay, replay_id)
    assert first.model() == before
    assert second.database.value("select count(*) from outbox.dead_letter") == 0


def test_errors_end_the_replay_not_the_relay(relay, kafka, topic):
    """Replay: a replay that cannot go on is failed with its reason; the relay goes on, resume tries again."""
    relay.execute("select outbox.emit(%s, n::text, 'T', '{}') from generate_series(1, 10) n", (topic,))
    kafka.wait_for_records(topic, 10)
    pid = relay.status()["pid"]
    relay.execute("create function public.refuse() returns trigger language plpgsql as"
                  " $$ begin raise exception 'seeded'; end $$")
    relay.execute("create trigger refuse before update of replayed on outbox.replay_job"
                  " for each row execute function public.refuse()")
    replay_id, _ = replay(relay, topic)
    wait_until(lambda: job(relay, replay_id)[0] == "failed", 30, "the replay to fail")
    assert job(relay, replay_id) == ("failed", 0, "seeded")
    relay.emit(topic, "live")
    assert len(kafka.wait_for_records(topic, 11)) == 11
    relay.execute("drop trigger refuse on outbox.replay_job")
    relay.execute("select outbox.replay_resume(%s)", (replay_id,))
    wait_done(relay, replay_id)
    assert len(kafka.wait_for_records(topic, 21)) == 21
    assert relay.status()["pid"] == pid


def test_restored_replay_does_not_go_on(relay, kafka, topic, postgres, make_database, unique):
    """Replay, dump and restore: a running replay goes on in its own database alone, a restored one says why not."""
    target = relay.declare(unique("target"))
    relay.execute("select outbox.emit(%s, n::text, 'T', '{}') from generate_series(1, 60) n", (topic,))
    kafka.wait_for_records(topic, 60)
    replay_id, _ = replay(relay, topic, target_topic=target, rate=1)
    wait_replayed(relay, replay_id, 1)
    restored = make_database(postgres, extension=False)
    postgres.psql(postgres.run("pg_dump", "-d", relay.dsn()), restored.name)
    assert restored.value("select state from outbox.replay_job") == "running"
    restored.start_relay()
    restored.wait_state("hold")
    restored.execute("select outbox.adopt('skip')")
    restored.wait_state("idle")
    state, replayed, error = job(restored, replay_id)
    assert (state, error) == ("failed", "restored or copied from another database: call outbox.replay() again")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        restored.execute("select outbox.replay_resume(%s)", (replay_id,))
    restored.emit(topic, "restored")
    kafka.wait_for_records(topic, 61)
    assert restored.value("select replayed from outbox.replay_job") == replayed
    wait_replayed(relay, replay_id, replayed + 1)
    relay.execute("select outbox.replay_cancel(%s, 'enough')", (replay_id,))
    copies = job(relay, replay_id)[1]
    assert replayed < copies < 60
    assert len(kafka.wait_for_records(target, copies)) == copies


def test_events_that_went_meanwhile(relay, postgres, kafka, topic):
    """Replay: what retention removes during a replay is counted; a rewritten table is read again."""
    relay.execute("select outbox.emit(%s, n::text, 'T', '{}') from generate_series(1, 100) n", (topic,))
    kafka.wait_for_records(topic, 100)
    replay_id, _ = replay(relay, topic, rate=50)
    wait_replayed(relay, replay_id, 10)
    relay.execute("vacuum full outbox.event_0")
    wait_replayed(relay, replay_id, 30)
    relay.execute("select outbox.replay_pause(%s)", (replay_id,))
    replayed = job(relay, replay_id)[1]
    last = relay.value("select done_seq from outbox.replay_job where id = %s", (replay_id,))
    relay.execute("alter table only outbox.event_0 disable trigger refuse_change")
    relay.execute("delete from outbox.event_0 where copied_at is null and seq > %s", (last + 20,))
    relay.execute("alter table only outbox.event_0 enable always trigger refuse_change")
    relay.execute("vacuum full outbox.event_0")
    relay.execute("select outbox.replay_resume(%s)", (replay_id,))
    wait_done(relay, replay_id)
    assert job(relay, replay_id) == ("done", replayed + 20, f"{80 - replayed} events were no longer retained")
    keys = [record.key() for record in kafka.wait_for_records(topic, 120 + replayed)]
    assert len(keys) == 120 + replayed
    assert max(keys.count(key) for key in keys) == 2


def test_retention_counts_from_the_copy(relay, postgres, topic):
    """Retention: copies of old events do not drive the ring on, nor look as if they had waited for long."""
    postgres.configure(outbox__retention="14s")
    postgres.reload()
    relay.emit(topic, "k", "Young")
    wait_until(lambda: relay.status()["rotations"] == 1, 60, "the ring to move on")
    relay.execute("insert into outbox.event (txid, seq, segment, id, topic, type, created_at) select '3', 1, 5,"
                  " gen_random_uuid(), %s, 'Old', now() - interval '2 days'", (topic,))
    replay_id, events = replay(relay, topic, type="Old")
    assert events == 1
    wait_done(relay, replay_id)
    wait_until(lambda: relay.status()["rotations"] == 2, 60, "the ring to move on again")
    first = "select clock_timestamp() - copied_at from outbox.event where copied_at is not null and segment = 1"
    assert relay.value(first).total_seconds() >= 2
    relay.stop_relay()
    relay.wait_state("stopped")
    relay.execute("insert into outbox.event (txid, seq, segment, id, topic, type, created_at, copied_at)"
                  " select pg_current_xact_id(), 1, 2, gen_random_uuid(), %s, 'Old', now() - interval '2 days', now()",
                  (topic,))
    assert relay.status()["oldest_unsent_age"].total_seconds() < 3600
    assert relay.value("select oldest_age < '1 h' from outbox.backlog")
