# SPDX-License-Identifier: PostgreSQL
"""Dead letters that cannot be tried now: they wait, nothing is lost, and no other one waits with them."""

from harness import wait_until


def row_of(payment, order_id):
    """(state, attempts, next_attempt_at) of the order's dead letter."""
    found = payment.execute("select state, attempts, next_attempt_at from outbox.dead_letter where key = %s",
                            (order_id.encode(),))
    return found[0] if found else None


def test_waiting_letter_stops_no_other(payment):
    """Infrastructure never counts: a letter whose handler has to wait lets the other ones be tried."""
    payment.fail_orders("bad")
    payment.start(retry_backoff_ms=2000, retry_max=100)
    payment.order("bad-stuck", partition=0)
    payment.order("bad-other", partition=0)
    payment.flush()
    payment.wait_dead_letters("retrying", 2)
    payment.heal_orders()
    payment.fail_orders("bad-stuck", code="55P03")
    payment.wait_status("bad-other", "approved")
    attempts = row_of(payment, "bad-stuck")[1]
    times = set()
    wait_until(lambda: times.add(row_of(payment, "bad-stuck")[2]) or len(times) > 2, 30, "more tries of the stuck one")
    assert row_of(payment, "bad-stuck")[:2] == ("retrying", attempts)
    payment.heal_orders()
    payment.wait_status("bad-stuck", "approved", 60)


def test_letter_without_handler_waits(payment):
    """Row 002.10: a letter of a type that only a later version handles is not taken for done by this one."""
    payment.fail_orders("bad")
    payment.start(retry_backoff_ms=200, retry_max=100)
    for order in ("bad-later", "bad-now"):
        payment.order(order, partition=0)
    payment.flush()
    payment.wait_dead_letters("retrying", 2)
    payment.execute("""update outbox.dead_letter set headers = outbox.headers_encode(array(select
        row(h.name, case h.name when 'ce_type' then 'OrderPlaced'::bytea else h.value end)::outbox.header
        from outbox.headers_decode(headers) with ordinality h (name, value, n) order by h.n), false)
        where key = 'bad-later'""")
    payment.heal_orders()
    payment.wait_status("bad-now", "approved")
    times = set()
    wait_until(lambda: times.add(row_of(payment, "bad-later")[2]) or len(times) > 2, 30, "it to be put back twice")
    assert row_of(payment, "bad-later")[0] == "retrying"
    assert payment.database.value("select count(*) from outbox.idempotency") == 1
