# SPDX-License-Identifier: PostgreSQL
"""What becomes of a key, and of a consumer, whose records fail: order, back-off, crashes, the breaker."""

from harness import wait_until
from harness.payment import SHORT_SESSION, same_key_partition


def test_order_of_a_failing_key(payment):
    """Later records of a key wait while an earlier one is retried, and follow in order; other keys pass."""
    payment.fail_orders("slow")
    service = payment.start(retry_backoff_ms=1500)
    place = same_key_partition(payment, "k")
    payment.order("slow-1", key="k", partition=place)
    payment.flush()
    payment.wait_dead_letters("retrying", 1)
    for n in range(3):
        payment.order(f"next-{n}", key="k", partition=place)
    payment.order("other", partition=place)
    payment.flush()
    payment.wait_status("other", "approved")
    payment.wait_dead_letters("held", 3)
    assert payment.payments() == 1
    payment.heal_orders()
    payment.wait_payments(5, 10)
    rows = payment.execute("select order_id from shop.payment where order_id <> 'other' order by completed_at")
    assert [row[0] for row in rows] == ["slow-1", "next-0", "next-1", "next-2"]
    payment.wait_dead_letters("resolved", 4)
    assert payment.count(service, "held") == 3 and payment.count(service, "dead_lettered") == 0


def orders_done(payment):
    """The orders paid, in their order."""
    return [row[0] for row in payment.execute("select order_id from shop.payment order by completed_at")]


def letter(payment, state="open"):
    """The id of the one dead letter in that state."""
    return payment.database.value("select id from outbox.dead_letter where state = %s", (state,))


def test_hold_until_discarded(payment):
    """dlt.order = hold: later records of a dead key wait, through a crash; discarded, they follow in order."""
    payment.fail_orders("bad")
    service = payment.start(retry_backoff_ms=100, kafka_properties=SHORT_SESSION)
    payment.order("bad-1", key="k", partition=0)
    payment.flush()
    payment.wait_dead_letters("open", 1)
    for n in range(5):
        payment.order(f"next-{n}", key="k", partition=0)
        payment.order(f"other-{n}", partition=0)
    payment.flush()
    payment.wait_dead_letters("held", 5)
    payment.wait_payments(5)
    service.kill9()
    payment.order("next-5", key="k", partition=0)
    payment.order("bad-6", key="k", partition=0)
    payment.order("next-7", key="k", partition=0)
    payment.flush()
    service = payment.start(retry_backoff_ms=100, kafka_properties=SHORT_SESSION)
    payment.wait_dead_letters("held", 8)
    assert not any(order.startswith("next") for order in orders_done(payment))
    payment.execute("select outbox.dead_letter_discard(%s, 'never')", (letter(payment),))
    payment.wait_payments(11)
    # The next dead one stops what is behind it.
    payment.wait_dead_letters("open", 1)
    assert payment.dead_letters("held") == 1
    payment.execute("select outbox.dead_letter_discard(%s, 'never')", (letter(payment),))
    payment.wait_payments(12)
    done = [order for order in orders_done(payment) if order.startswith("next")]
    assert done == [f"next-{n}" for n in (0, 1, 2, 3, 4, 5, 7)]
    assert payment.count(service, "held") == 3


def test_hold_within_a_batch(hazard):
    """dlt.order = hold: also a record that came in one batch with the dead one of its key waits."""
    hazard.fail("refused", code="OBX01")
    for value, key in ((b"no JSON", "undecoded"), (b"no JSON", "undecoded"), (None, "undecoded"), (None, "other")):
        hazard.produce(key, key=key, value=value)
    hazard.produce("refused", key="permanent")
    hazard.produce("behind", key="permanent")
    hazard.produce("last", key="last")
    hazard.flush()
    hazard.start(batch_wait_ms=500)
    hazard.wait_letters("open", 2)
    hazard.wait_letters("held", 3)
    hazard.wait_taken(2)
    assert hazard.taken() == ["other", "last"]


def test_replay_while_records_come(payment):
    """dlt.order = hold: an open letter is replayed while records of its key arrive: order holds."""
    payment.fail_orders("bad")
    payment.start(retry_backoff_ms=100, batch_max=7)
    payment.order("bad-0", key="k", partition=0)
    payment.flush()
    payment.wait_dead_letters("open", 1)
    payment.heal_orders()
    for n in range(1, 401):
        payment.order(f"next-{n:03}", key="k", partition=0)
        if n == 100:
            payment.execute("select outbox.dead_letter_replay(%s, 'mended')", (letter(payment),))
    payment.flush()
    payment.wait_payments(401, 60)
    assert orders_done(payment) == ["bad-0"] + [f"next-{n:03}" for n in range(1, 401)]
    payment.wait_dead_letters("held", 0)
    assert payment.dead_letters("retrying") == payment.dead_letters("open") == 0


def test_skip(payment):
    """dlt.order = skip: later records of a failing and of a dead key pass at once."""
    payment.fail_orders("bad")
    payment.start(retry_backoff_ms=300, dlt_order="skip")
    payment.order("bad-1", key="k", partition=0)
    payment.order("next-1", key="k", partition=0)
    payment.flush()
    payment.wait_status("next-1", "approved")
    assert payment.dead_letters("retrying") == 1
    payment.wait_dead_letters("open", 1)
    payment.order("next-2", key="k", partition=0)
    payment.flush()
    payment.wait_status("next-2", "approved")
    assert payment.database.value("select count(*) from outbox.dead_letter") == 1


def test_growing_backoff(payment):
    """The time between tries grows by retry_backoff_multiplier, up to retry_backoff_max_ms."""
    payment.fail_orders("bad")
    service = payment.start(retry_backoff_ms=50, retry_backoff_multiplier=20, retry_backoff_max_ms=2000)
    payment.order("bad-1")
    payment.flush()
    planned = "select extract(epoch from next_attempt_at - last_failed_at) from outbox.dead_letter where attempts = 3"
    wait_until(lambda: payment.execute(planned), 30, "three attempts")
    assert round(payment.database.value(planned), 1) == 2
    payment.wait_dead_letters("open", 1)
    times = payment.attempts(service, "bad-1")
    steps = [later - earlier for earlier, later in zip(times, times[1:])]
    # A busy machine makes them later, never sooner.
    assert len(steps) == 3 and all(step >= least - 0.02 for step, least in zip(steps, (0.05, 1, 2)))


def held_run(hazard, count, **settings):
    """One dead record, `count` held behind it, then the letter is replayed; returns the service."""
    hazard.fail("first")
    service = hazard.start(retry_max=0, **settings)
    hazard.produce("first")
    for n in range(count):
        hazard.produce(f"{n}")
    hazard.flush()
    hazard.wait_letters("held", count)
    return service


def replay(hazard):
    hazard.database.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter where state = 'open'")


def test_held_together(hazard):
    """Held rows: what is held behind a letter follows in order, each once, many in one transaction."""
    held_run(hazard, 600)
    hazard.heal()
    replay(hazard)
    hazard.wait_taken(601)
    assert hazard.taken() == ["first"] + [f"{n}" for n in range(600)]
    hazard.wait_letters("resolved", 601)
    assert hazard.database.value("select count(distinct xmin::text) from hazard.taken") < 60
    rows = hazard.database.execute("select distinct attempts, unended, blocked_by, troubles from outbox.dead_letter where \"offset\" > 0")
    assert rows == [(1, 0, None, 0)]


def test_failure_among_held(hazard):
    """Held rows: what is before a failing one is done, the rest is held; also with several failing, and a text that is none."""
    hazard.fail("100", code="OBX01")
    hazard.fail("101", code="23505")
    held_run(hazard, 200)
    hazard.database.execute("delete from hazard.failure where what = 'first'")
    replay(hazard)
    hazard.wait_taken(101)
    wait_until(lambda: hazard.letters("open") == 1 and hazard.letters("held") == 99, 30, "the failing one to be open")
    assert hazard.taken() == ["first"] + [f"{n}" for n in range(100)]
    hazard.database.execute("select outbox.dead_letter_discard(id, 'never') from outbox.dead_letter where state = 'open'")
    wait_until(lambda: hazard.letters("open") == 1 and hazard.letters("held") == 98, 30, "the next failing one to be open")
    hazard.heal()
    replay(hazard)
    hazard.wait_taken(200)
    assert hazard.taken() == ["first"] + [f"{n}" for n in range(200) if n != 100]


def test_killed_among_held(hazard):
    """Held rows: kill -9 amid a run, again and again: each effect is made once, in order, by whoever goes on."""
    service = held_run(hazard, 800)
    hazard.heal()
    replay(hazard)
    for least in (50, 200, 400):
        wait_until(lambda n=least: len(hazard.taken()) >= n, 60, f"{least} effects")
        service.kill9()
        service = hazard.start(wait=False)
    hazard.wait_taken(801)
    assert hazard.taken() == ["first"] + [f"{n}" for n in range(800)]
    hazard.wait_letters("resolved", 801)


def test_ended_among_held(hazard):
    """Held rows: one whose session ends is found among those of its transaction; it alone becomes class crash."""
    hazard.fail("40", code="end")
    held_run(hazard, 80, crash_after_seconds=2)
    hazard.database.execute("delete from hazard.failure where what = 'first'")
    replay(hazard)
    hazard.database.wait_for("select count(*) = 1 from outbox.dead_letter where error_class = 'crash' and state = 'open'", 60)
    assert hazard.taken() == ["first"] + [f"{n}" for n in range(40)] and hazard.letters("held") == 39
    hazard.database.execute("select outbox.dead_letter_discard(id, 'never') from outbox.dead_letter where state = 'open'")
    hazard.wait_taken(80)
    assert hazard.taken() == ["first"] + [f"{n}" for n in range(80) if n != 40]


def test_held_by_many_members(hazard):
    """Held rows: two processes of two members each on three held keys: order within each, each effect once."""
    for key in range(3):
        hazard.fail(f"{key}-first")
    services = [hazard.start(retry_max=0, threads=2) for _ in range(2)]
    for key in range(3):
        hazard.produce(f"{key}-first", key=f"{key}", partition=key)
        for n in range(200):
            hazard.produce(f"{key}-{n}", key=f"{key}", partition=key)
    hazard.flush()
    hazard.wait_letters("held", 600)
    hazard.heal()
    replay(hazard)
    for n in range(200, 300):
        hazard.produce(f"{n % 3}-late-{n}", key=f"{n % 3}", partition=n % 3)
    hazard.flush()
    hazard.wait_taken(703)
    for key in range(3):
        expected = [f"{key}-first"] + [f"{key}-{n}" for n in range(200)] + [f"{key}-late-{n}" for n in range(200, 300) if n % 3 == key]
        assert [what for what in hazard.taken() if what.startswith(f"{key}-")] == expected
    assert all(service.stop() == 0 for service in services)
