# SPDX-License-Identifier: PostgreSQL
"""A rolling restart of a consumer group under load: how long its partitions stand still."""

import datetime
import re

import pytest
from harness.timer import LateTimer
from member_group import member_group, sizes  # noqa: F401  a fixture

# What the session of a member that crashed would take: a hole below it shows that every one has left the group.
SESSION = "session.timeout.ms=30000"


# Between two effects of a partition nobody takes away: a record each 50 ms, and what a loop may take.
STAYED_GAP = 0.5


def given_since(group, name, since):
    """Partitions that members of the instance were given since then, as its log has them."""
    lines = [line for line in group.log_events(name, "partitions_assigned")
             if datetime.datetime.fromisoformat(line["ts"].replace("Z", "+00:00")) >= since]
    return {int(number) for line in lines for number in re.findall(r"\[(\d+)\]", line["msg"])}


def check_step(group, since, owners, gap_limit, late):
    """No partition stood still for long; those whose instance is the one before did not stand still at all."""
    gaps = group.gaps(since)
    assert max(gap for gap, _ in gaps.values()) < gap_limit + late, gaps
    # Between two members of one instance a partition moves as well.
    stayed = {partition: gap for partition, (gap, instances) in gaps.items()
              if instances == {owners[partition]} and partition not in given_since(group, owners[partition], since)}
    assert max(stayed.values(), default=0) < STAYED_GAP + late, gaps
    return max(gap for gap, _ in gaps.values()), max(stayed.values(), default=0), len(stayed)


def duplicates(group, name):
    """Records an instance has found done since its start."""
    return sum(value for series, value in group.services[name].metrics().items()
               if series.startswith("outbox_consumer_records_total") and 'result="duplicate"' in series)


def owners_now(group, since):
    """{partition: instance of its last effect}."""
    return dict(group.database.execute(
        "select distinct on (partition) partition, instance from app.effect where at >= %s order by partition, place desc",
        (since,)))


def restart_one(group, name, count, gap_limit):
    """SIGTERM, wait for the end, start again, wait until partitions are shared evenly."""
    since = group.now()
    group.await_effects(3)
    owners = owners_now(group, since)
    with LateTimer() as timer:
        revoked = group.rebalances("revoked", other_than=name)
        # What it counts is gone with it.
        assert duplicates(group, name) == 0
        assert group.services[name].stop() == 0
        group.wait_spread(count - group.services[name].config["threads"])
        group.await_effects(3)
        assert group.rebalances("revoked", other_than=name) == revoked, "a member lost partitions as another left"
        group.start(name)
        group.wait_spread(count)
        group.await_effects(3)
    return (*check_step(group, since, owners, gap_limit, timer.late), timer.late)


@pytest.mark.parametrize("instances, threads, partitions, gap_limit", sizes((3, 1, 6, 3), (4, 3, 12, 2)))
def test_rolling_restart(member_group, instances, threads, partitions, gap_limit):  # noqa: F811
    """Row 004.8: partitions stand still for less than 2 s, those that do not move never; each effect once."""
    group = member_group(partitions)
    names = [f"i{number}" for number in range(instances)]
    for name in names:
        group.start(name, threads=threads, kafka_properties=SESSION)
    group.wait_spread(instances * threads)
    with group.load(rate=20):
        steps = [restart_one(group, name, instances * threads, gap_limit) for name in names]
    for name, (gap, stayed_gap, stayed, late) in zip(names, steps, strict=True):
        print(f"{name}: longest gap {gap:.2f} s, of {stayed} partitions not moved {stayed_gap:.2f} s, late {late:.2f} s")
    assert sum(stayed for _, _, stayed, _ in steps) > 0
    group.check_effects()
    assert {name: duplicates(group, name) for name in names} == dict.fromkeys(names, 0)
    assert not any(group.log_events(name, "records_alone") for name in names), "a member left without taking its note back"
    assert group.rebalances("lost") == 0
    group.stop_all()
