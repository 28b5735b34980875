# SPDX-License-Identifier: PostgreSQL
"""A topic that was held apart comes back: once, in order, beside the others, whatever breaks meanwhile."""

import os

import psycopg
import pytest
from checker import Load, check_database
from harness import OVERSIZED, KafkaBroker, limit_records, wait_until
from harness.process import private_mib


@pytest.fixture(scope="module")
def strict(session):
    """A broker that makes no topic by itself."""
    broker = KafkaBroker(session, "no_creation", {"auto.create.topics.enable": "false"}).start()
    yield broker
    broker.stop()


def hold(database, topic, reason="test"):
    database.execute("select outbox.topic_hold(%s, %s)", (topic, reason))


def release(database, topic):
    database.execute("select outbox.topic_release(%s, 'test')", (topic,))


def held(database, topic):
    """Events held and not copied yet, of the topic's newest hold."""
    return database.value(
        "select (select coalesce(sum(b.events), 0) from outbox.topic_hold_batch b where b.hold = h.id)"
        " - (select coalesce(sum(c.copies), 0) from outbox.topic_hold_copy c where c.hold = h.id"
        " and c.refused_batch is null) from outbox.topic_hold h where h.topic = %s order by h.id desc limit 1",
        (topic,))


def state(database, topic):
    return database.value("select state from outbox.topic_hold where topic = %s order by id desc limit 1", (topic,))


def wait_held(database, topic, count, timeout=60):
    wait_until(lambda: held(database, topic) >= count, timeout, f"{count} held events of {topic}")


def wait_ended(database, topic, timeout=60):
    wait_until(lambda: state(database, topic) == "ended", timeout, f"the end of the hold of {topic}")


def test_held_events_come_back_once_and_in_order(relay, kafka, topic_name, unique):
    """10,000 events held over many batches come back while their keys are emitted to: each once, each key in its
    order, and the other topic's events never wait for them."""
    topic = relay.declare(topic_name, 3)
    other = relay.declare(unique("other"), 3)
    load = Load(relay.dsn(), (topic, other), transactions=10**7, writers=4, keys=200, rate=4000).prepare()
    running = load.start()
    try:
        relay.await_batches(2)
        hold(relay, topic)
        wait_held(relay, topic, 10000, 120)
        last = relay.value("select count(*) from checker.truth where topic = %s", (other,))
        release(relay, topic)
        wait_ended(relay, topic)
        relay.await_batches(3)
    finally:
        running.stop()
        running.wait()
    assert relay.value("select count(*) from checker.truth where topic = %s", (other,)) > last
    check_database(relay.dsn(), kafka.bootstrap, [topic, other], timeout=60).require_ok()
    wait_until(lambda: relay.value("select (select count(*) from outbox.topic_hold_batch)"
                                   " + (select count(*) from outbox.topic_hold_copy)") == 0, 30, "rows that go")
    assert relay.value("select copied from outbox.topic_hold where topic = %s", (topic,)) >= 10000


def keys(records):
    return [record.key().decode() for record in records]


def emit_numbers(database, topic, first, last):
    """Events with the keys first..last, in one transaction."""
    database.execute("select count(outbox.emit(%s, n::text, 'T', '{}')) from generate_series(%s::int, %s) n",
                     (topic, first, last))


def copies_of(database):
    """copies and refused_batch of each transaction of copies, in order."""
    return database.execute("select copies, refused_batch from outbox.topic_hold_copy order by txid")


def test_batches_larger_than_a_step_come_back_in_order(own_postgres, make_database, kafka, topic_name):
    """A batch of which a step copies a part, among events of others; the relay ends in between and goes on there."""
    postgres = own_postgres()
    database = make_database(postgres)
    topic, other = database.declare(topic_name, 1), database.declare(topic_name + "-other", 1)
    database.start_relay()
    hold(database, topic)
    database.execute("select count(outbox.emit(case when n %% 3 = 0 then %s else %s end, n::text, 'T', '{}'))"
                     " from generate_series(1, 90000) n", (other, topic))
    wait_held(database, topic, 60000)
    database.wait_delivered()
    kafka.pause()
    release(database, topic)
    wait_until(lambda: copies_of(database), 30, "a step")
    postgres.kill9()
    kafka.resume()
    postgres.start()
    wait_ended(database, topic, 120)
    assert keys(kafka.wait_for_records(topic, 60000, 120)) == [str(n) for n in range(1, 90001) if n % 3]
    assert keys(kafka.read_all(other)) == [str(n) for n in range(3, 90001, 3)]
    assert database.value("select copied from outbox.topic_hold") == 60000


def test_many_small_batches_come_back_in_bounded_transactions(relay, postgres, kafka, topic_name):
    """What 1,600 batches left out comes in order, and no transaction copies more than the last one may."""
    topic = relay.declare(topic_name, 1)
    postgres.configure(outbox__batch_max_events="5")
    postgres.reload()
    hold(relay, topic)
    emit_numbers(relay, topic, 1, 8000)
    wait_held(relay, topic, 8000, 120)
    assert relay.value("select count(*) from outbox.topic_hold_batch") == 1600
    postgres.configure(outbox__batch_max_events="50000")
    postgres.reload()
    release(relay, topic)
    wait_ended(relay, topic)
    assert keys(kafka.wait_for_records(topic, 8000)) == [str(n) for n in range(1, 8001)]
    sizes = "select count(*) from outbox.event where copied_at is not null group by txid"
    assert max(size for size, in relay.execute(sizes)) <= 5000


def test_few_events_of_many_batches_are_copied_before_the_end(relay, kafka, topic_name, unique):
    """A hold whose few events are spread over many batches does not end before most of these have been looked at: the
    last transaction would look at all their events, while every topic waits."""
    topic, other = relay.declare(topic_name, 1), relay.declare(unique("other"), 1)
    hold(relay, topic)
    for number in range(1, 31):
        emit_numbers(relay, topic, number, number)
        wait_held(relay, topic, number)
    relay.wait_delivered()
    kafka.pause()
    relay.emit(other, "k")
    relay.wait_for("select s.state = 'sending' from outbox.relay_status s")
    release(relay, topic)
    wait_until(lambda: copies_of(relay), 30, "a step")
    kafka.resume()
    wait_ended(relay, topic)
    assert keys(kafka.wait_for_records(topic, 30)) == [str(n) for n in range(1, 31)]


def test_later_events_come_behind_the_last_copy(relay, kafka, topic_name):
    """What is emitted while a topic is released, before or after its end, follows what was held."""
    topic = relay.declare(topic_name, 1)
    hold(relay, topic)
    emit_numbers(relay, topic, 1, 3)
    wait_held(relay, topic, 3)
    with relay.connect(autocommit=False) as session:
        session.execute("select outbox.topic_release(%s)", (topic,))
        session.execute("select outbox.emit(%s, '4', 'T', '{}')", (topic,))
        session.commit()
    relay.emit(topic, "5")
    wait_ended(relay, topic)
    relay.emit(topic, "6")
    assert keys(kafka.wait_for_records(topic, 6)) == ["1", "2", "3", "4", "5", "6"]


def test_held_again_while_released(relay, kafka, topic_name):
    """A hold that is released and held again at once, and a second hold: nothing is lost or doubled."""
    topic = relay.declare(topic_name, 1)
    expected = []
    for number in range(1, 6):
        hold(relay, topic)
        emit_numbers(relay, topic, number * 10, number * 10 + 4)
        expected += [str(n) for n in range(number * 10, number * 10 + 5)]
        release(relay, topic)
    wait_ended(relay, topic)
    assert keys(kafka.wait_for_records(topic, 25)) == expected
    assert len(kafka.read_all(topic)) == 25


def test_what_is_refused_again_stays_held(relay, postgres, strict, unique):
    """dead_letter_policy hold_topic: a release tries at most a hundred events; when Kafka refuses the topic still,
    all stay held, and the next release brings them in order."""
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={strict.bootstrap}",
                       outbox__require_declared_topics="off", outbox__dead_letter_policy="hold_topic")
    postgres.reload()
    gone, fine = strict.create_topic(unique("undeclared"), 1), relay.declare(unique("fine"), 1)
    emit_numbers(relay, gone, 1, 1)
    strict.wait_for_records(gone, 1)
    strict.delete_topic(gone)
    emit_numbers(relay, gone, 1, 300)
    wait_held(relay, gone, 300)
    assert relay.execute("select topic, cause, state from outbox.topic_hold") == [(gone, "refused", "held")]
    release(relay, gone)
    wait_until(lambda: [row for row in copies_of(relay) if row[1]], 60, "refused copies")
    assert [copies for copies, _ in copies_of(relay)] == [100]
    assert (state(relay, gone), held(relay, gone)) == ("held", 300)
    emit_numbers(relay, gone, 301, 310)
    emit_numbers(relay, fine, 1, 1)
    strict.wait_for_records(fine, 1)
    strict.create_topic(gone, 1)
    release(relay, gone)
    wait_ended(relay, gone)
    assert keys(strict.wait_for_records(gone, 310)) == [str(n) for n in range(1, 311)]
    assert relay.value("select count(*) from outbox.dead_letter") == 0


def test_a_person_holds_what_is_being_tried(relay, postgres, strict, unique):
    """topic_hold() while a release is under way makes the hold the person's, also when Kafka refuses the copies then."""
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={strict.bootstrap}",
                       outbox__require_declared_topics="off", outbox__dead_letter_policy="hold_topic")
    postgres.reload()
    gone = strict.create_topic(unique("undeclared"), 1)
    emit_numbers(relay, gone, 1, 1)
    strict.wait_for_records(gone, 1)
    strict.delete_topic(gone)
    emit_numbers(relay, gone, 1, 3)
    wait_held(relay, gone, 3)
    relay.wait_delivered()
    strict.pause()
    release(relay, gone)
    wait_until(lambda: copies_of(relay), 30, "copies")
    relay.execute("update outbox.topic_hold set state = 'held', cause = 'operator', reason = 'mine'")  # as topic_hold()
    strict.resume()
    wait_until(lambda: [row for row in copies_of(relay) if row[1]], 60, "refused copies")
    assert relay.execute("select cause, state, reason, partition from outbox.topic_hold") == [("operator", "held", "mine", None)]
    assert held(relay, gone) == 3


def test_a_release_passes_one_that_is_locked(relay, kafka, topic_name, unique):
    """A topic whose hold somebody has locked does not keep another one, released later, from coming back."""
    locked, free, other = (relay.declare(unique(name), 1) for name in ("locked", "free", "other"))
    for topic in (locked, free):
        hold(relay, topic)
        emit_numbers(relay, topic, 1, 3)
        wait_held(relay, topic, 3)
    relay.wait_delivered()
    kafka.pause()
    relay.emit(other, "k")
    relay.wait_for("select s.state = 'sending' from outbox.relay_status s")
    release(relay, locked)
    with relay.connect(autocommit=False) as person:
        person.execute("select from outbox.topic_hold where topic = %s for update", (locked,))
        release(relay, free)
        kafka.resume()
        wait_ended(relay, free)
        assert state(relay, locked) == "releasing"
        person.rollback()
    wait_ended(relay, locked)
    for topic in (locked, free):
        assert keys(kafka.wait_for_records(topic, 3)) == ["1", "2", "3"]


def test_what_is_held_is_retained(relay, postgres, kafka, topic_name, unique):
    """The leaf with held events is not emptied, however old, until their copies are delivered."""
    postgres.configure(outbox__retention="1s")
    postgres.reload()
    topic, other = relay.declare(topic_name, 1), relay.declare(unique("other"), 1)
    hold(relay, topic)
    emit_numbers(relay, topic, 1, 5)
    wait_held(relay, topic, 5)
    leaf = relay.value("select segment from outbox.event where topic = %s limit 1", (topic,))
    rotated = relay.status()["rotations"]

    def emitted(count):
        relay.emit(other, "k")
        return relay.status()["rotations"] >= rotated + count
    wait_until(lambda: emitted(4), 60, "a ring that moves on")
    assert relay.value("select count(*) from outbox.event where topic = %s and segment = %s", (topic, leaf)) == 5
    release(relay, topic)
    assert keys(kafka.wait_for_records(topic, 5)) == ["1", "2", "3", "4", "5"]
    wait_until(lambda: emitted(0) and relay.value("select pg_relation_size(format('outbox.event_%%s', %s::int)::regclass)", (leaf,)) == 0,
               60, "an empty leaf")


def test_a_replay_leaves_out_what_is_held(relay, kafka, topic_name, unique):
    """A replay copies what was sent, and says how many events of which topic are held."""
    topic, target = relay.declare(topic_name, 1), relay.declare(unique("target"), 1)
    emit_numbers(relay, topic, 1, 3)
    kafka.wait_for_records(topic, 3)
    hold(relay, topic)
    emit_numbers(relay, topic, 4, 8)
    wait_held(relay, topic, 5)
    relay.execute("select outbox.replay('-infinity', 'infinity', %s, target_topic => %s)", (topic, target))
    relay.wait_for("select state = 'done' from outbox.replays")
    assert relay.execute("select replayed, last_error from outbox.replays") == [
        (3, f"5 events are held with topic {topic}")]
    release(relay, topic)
    wait_ended(relay, topic)
    assert keys(kafka.wait_for_records(topic, 8)) == [str(n) for n in range(1, 9)]
    assert keys(kafka.read_all(target)) == ["1", "2", "3"]


def test_letters_of_a_held_topic_return_after_it(relay, kafka, topic_name, policy):
    """A dead letter that is replayed while its topic is held waits for the end of the hold, and comes behind it."""
    policy("dead_letter")
    topic = relay.declare(kafka.create_topic(topic_name, 1, {"max.message.bytes": "2000"}), 1)
    relay.execute(f"select outbox.emit(%s, 'large', 'T', {OVERSIZED})", (topic,))
    letter = relay.wait_for("select id from outbox.dead_letter where state = 'open'", 60)
    limit_records(kafka, topic, 100000)
    hold(relay, topic)
    emit_numbers(relay, topic, 1, 3)
    wait_held(relay, topic, 3)
    relay.execute("select outbox.dead_letter_replay(%s, 'widened')", (letter,))
    for number in (4, 5):  # two looks at what is due
        relay.wait_delivered()
        emit_numbers(relay, topic, number, number)
        wait_held(relay, topic, number)
    assert relay.value("select state from outbox.dead_letter") == "releasing"
    release(relay, topic)
    assert keys(kafka.wait_for_records(topic, 6)) == ["1", "2", "3", "4", "5", "large"]


def emit_bytes(database, topic, size):
    database.execute("select outbox.emit(%s, null, 'T', to_jsonb(repeat('x', %s)))", (topic, size))


def test_a_held_topic_has_a_backlog_of_its_own(relay, postgres, kafka, topic_name, unique):
    """outbox.max_backlog: emit() to the held topic is refused by its name, the others do not count what it holds; so
    too after a restart, until it is released."""
    topic, other = relay.declare(topic_name, 1), relay.declare(unique("other"), 1)
    postgres.configure(outbox__max_backlog="64kB")
    postgres.reload()
    hold(relay, topic)
    for count in range(1, 7):
        emit_bytes(relay, topic, 10000)
        wait_held(relay, topic, count)
    relay.wait_delivered()

    def refused():
        with pytest.raises(psycopg.Error) as error:
            emit_bytes(relay, topic, 10000)
        assert error.value.sqlstate == "53400" and f'topic "{topic}", which is held' in str(error.value)
        assert "60012 bytes of it are held" in error.value.diag.message_detail
        for _ in range(10):
            emit_bytes(relay, other, 10000)
            relay.wait_delivered()
    refused()
    postgres.restart()
    relay.wait_state("idle")
    refused()
    postgres.configure(outbox__max_backlog_action="warn")
    postgres.reload()
    emit_bytes(relay, topic, 10000)
    wait_held(relay, topic, 7)
    release(relay, topic)
    wait_ended(relay, topic)
    relay.wait_delivered()
    for _ in range(10):
        emit_bytes(relay, topic, 10000)
        relay.wait_delivered()
    assert len(kafka.wait_for_records(topic, 17)) == 17


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
def test_an_hour_held_comes_back_in_bounded_memory(relay, postgres, kafka, topic_name, unique):
    """HELD_SECONDS (an hour) at HELD_RATE events a second (1,000) held, then released beside as much of another
    topic: each once and in order; the relay's memory does not grow with what is held."""
    seconds, rate = int(os.environ.get("HELD_SECONDS", 3600)), int(os.environ.get("HELD_RATE", 1000))
    topic, other = relay.declare(topic_name, 6), relay.declare(unique("other"), 6)
    load = Load(relay.dsn(), (topic, other), transactions=10**8, writers=4, keys=1000, rate=2 * rate).prepare()
    running = load.start()
    try:
        relay.await_batches(2)
        hold(relay, topic)
        wait_held(relay, topic, min(1000, seconds * rate))
        before = private_mib(relay.status()["pid"])
        wait_held(relay, topic, seconds * rate, 4 * seconds)
        release(relay, topic)
        peak = [0.0]

        def ended():
            peak[0] = max(peak[0], private_mib(relay.status()["pid"]))
            return state(relay, topic) == "ended"
        wait_until(ended, 2 * seconds, "the end of the hold")
    finally:
        running.stop()
        running.wait()
    print(f"before={before:.1f} MiB peak={peak[0]:.1f} MiB")
    assert peak[0] < before + 40
    check_database(relay.dsn(), kafka.bootstrap, [topic, other], timeout=300).require_ok()
