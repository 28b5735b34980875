# SPDX-License-Identifier: PostgreSQL
"""SIGTERM while Kafka does not answer: how long an instance takes to end, and that nothing is lost by it."""

import time

import pytest
from harness import wait_until
from member_group import member_group  # noqa: F401  a fixture


@pytest.mark.parametrize("comes", (True, False), ids=("comes", "never"))
def test_unassigned(member_group, kafka, comes):  # noqa: F811
    """On SIGTERM a member polls until it is assigned, for 10 s at most, then it closes."""
    group = member_group(2)
    group.produce_each(1)
    kafka.pause()
    try:
        service = group.start("early")
        wait_until(lambda: group.log_events("early", "started"), 30, "the start")
        began = time.monotonic()
        service.child.process.terminate()
        wait_until(lambda: group.log_events("early", "stopping"), 30, "the signal to be seen")
        if comes:
            kafka.resume()
        wait_until(lambda: not service.running, 60, "the end")
    finally:
        kafka.resume()
    elapsed = time.monotonic() - began
    assert service.child.process.returncode == 0
    if comes:
        assert group.log_events("early", "partitions_assigned")
        assert not group.log_events("early", "left_unassigned")
    else:
        assert len(group.log_events("early", "left_unassigned")) == 1
        assert 10 <= elapsed < 20, elapsed
    group.start("next")
    group.check_effects(120)
    group.stop_all()


def test_hanging_close(member_group, proxy, kafka):  # noqa: F811
    """Watchdog: Kafka does not answer the last commit; the process ends with code 1 in 15 s, nothing is lost."""
    group = member_group(2)
    service = group.start("cut", wait=True, bootstrap_servers=proxy.bootstrap)
    group.produce_each(1)
    group.check_effects()
    kafka.pause()
    try:
        began = time.monotonic()
        assert service.stop(60) == 1
        elapsed = time.monotonic() - began
    finally:
        kafka.resume()
    assert group.log_events("cut", "close_timeout")
    assert 15 <= elapsed < 20, elapsed
    group.start("next")
    group.produce_each(1)
    group.check_effects(120)
    group.stop_all()
