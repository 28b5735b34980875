# SPDX-License-Identifier: PostgreSQL
"""A slow, late or cutting network between relay and broker: slower, never wrong."""

import threading
import time

import pytest
from fault_rounds import Rounds
from harness import wait_until

SEED = 60001
SECONDS = 20


def be_late(proxy, _):
    proxy.delay = 0.25


def be_narrow(proxy, _):
    proxy.rate = 64 * 1024


def cut_often(proxy, running):
    """Reset every connection at random moments while the network is bad."""
    def cut():
        while not halt.wait(running.choose.uniform(0.05, 1.5)):
            proxy.cut_all()
    halt = threading.Event()
    cutter = threading.Thread(target=cut, daemon=True)
    cutter.start()

    def heal():
        halt.set()
        cutter.join(10)
    return heal


@pytest.mark.long
@pytest.mark.parametrize("hurt", [be_late, be_narrow, cut_often])
@pytest.mark.parametrize("number", range(3))
def test_bad_network(database, postgres, kafka, proxy, topic, hurt, number):
    """F6: 250 ms a message each way, 64 kB/s, connections reset at random: 20 s each, then healed."""
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={proxy.bootstrap}")
    postgres.reload()
    database.start_relay()
    with Rounds(database, kafka, [topic], SEED + number, rate=300) as running:
        running.await_batches(5)
        heal = hurt(proxy, running)
        began = time.monotonic()
        running.await_batches(1, 90)  # also while it is bad
        wait_until(lambda: time.monotonic() - began > SECONDS, SECONDS + 5, "the end of the bad time", interval=0.2)
        if heal:
            heal()
        proxy.clear()
        began = time.monotonic()
        running.await_batches(3, 90)
        print(f"{hurt.__name__}: going on {time.monotonic() - began:.1f} s after the network was well")
    running.check(120).require_ok()
    status = database.status()
    print(f"recoveries={status['recoveries']} suspects={status['suspect_transactions']}")
    assert status["hold_reason"] is None
