# SPDX-License-Identifier: PostgreSQL
"""The circuit breaker of a consumer whose records all fail alike."""

from harness import wait_until


def events(service, name):
    return [line for line in service.log_lines() if line["event"] == name]


def gauge(hazard, service):
    return service.metrics()[f'outbox_consumer_breaker_open{{consumer="{hazard.group}"}}']


def wait_open(hazard, service):
    """Wait until the breaker is open, all that says so included."""
    wait_until(lambda: gauge(hazard, service) == 1, 60, "the breaker to open")
    status, text = service.request("GET", "/readyz")
    assert status == 503 and "dead letters of one kind" in text


def test_breaker(hazard):
    """Circuit breaker: N alike dead letters in a row pause the consumer; one record is tried; success ends it."""
    hazard.fail("bad", "no rate for 7 EUR", "OBX01")
    service = hazard.start(dlt_breaker=5, dlt_breaker_pause_ms=300)
    for n in range(9):
        hazard.produce("bad", key=f"k{n}")
    hazard.produce("good", key="good")
    hazard.flush()
    wait_open(hazard, service)
    calls = "select last_value from hazard.calls"
    wait_until(lambda: len(events(service, "breaker_stays_open")) >= 3, 60, "three records tried in vain")
    before, tried = hazard.database.value(calls), len(events(service, "breaker_stays_open"))
    wait_until(lambda: len(events(service, "breaker_stays_open")) >= tried + 3, 60, "three more")
    # One call of the handler for each pause.
    assert 3 <= hazard.database.value(calls) - before <= len(events(service, "breaker_stays_open")) - tried + 1
    assert hazard.letters("open") == 5 and hazard.taken() == []
    opened = events(service, "breaker_open")
    assert len(opened) == 1 and opened[0]["level"] == "error" and "no rate for 7 EUR" in opened[0]["msg"]
    assert hazard.database.value("select fingerprint from outbox.dead_letter limit 1") in opened[0]["msg"]
    hazard.heal()
    hazard.wait_taken(5)
    assert hazard.taken() == ["bad"] * 4 + ["good"]
    service.wait_ready()
    assert gauge(hazard, service) == 0 and len(events(service, "breaker_closed")) == 1
    assert hazard.letters("open") == 5 and hazard.letters("retrying") == 0


def test_breaker_in_retries(hazard):
    """Circuit breaker: the same when the dead letters are those of spent retries; a retry is tried, too."""
    hazard.fail("bad")
    service = hazard.start(dlt_breaker=3, dlt_breaker_pause_ms=300, retry_max=1, retry_backoff_ms=500)
    for n in range(6):
        hazard.produce("bad", key=f"k{n}")
    hazard.flush()
    wait_open(hazard, service)
    wait_until(lambda: len(events(service, "breaker_stays_open")) >= 3, 60, "three records tried in vain")
    assert (hazard.letters("open"), hazard.letters("retrying")) == (3, 3)
    hazard.heal()
    hazard.wait_taken(3)
    service.wait_ready()
    assert hazard.letters("open") == 3


def test_scattered_failures_do_not_pause(hazard):
    """Circuit breaker: dead letters among records that are done leave it closed, also when retries end together."""
    hazard.fail("bad")
    service = hazard.start(dlt_breaker=3, retry_max=1, retry_backoff_ms=300)
    for n in range(200):
        hazard.produce("bad" if n % 20 == 10 else "good", key=f"k{n}")
    hazard.flush()
    hazard.wait_letters("open", 10)
    assert len(hazard.taken()) == 190
    assert events(service, "breaker_open") == []
    # Malformed values of one kind differ from those of another.
    for value in (b"{", b"[]", b"{}") * 2:
        hazard.produce("", value=value, key=None)
    hazard.flush()
    hazard.wait_letters("open", 16)
    assert events(service, "breaker_open") == [] and gauge(hazard, service) == 0
