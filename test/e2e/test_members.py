# SPDX-License-Identifier: PostgreSQL
"""Members of a consumer group at rest, lost, static and added: who has which partition, and what it tells."""

import os
import signal

import pytest
from harness import wait_until
from member_group import hold, member_group, sizes  # noqa: F401  a fixture


@pytest.mark.parametrize("busy, idle, idle_seconds", sizes((4, 8, 3), (90, 600, 60)))
def test_one_partition_each(member_group, kafka, busy, idle, idle_seconds):  # noqa: F811
    """Row 000.6, row 000.7: 12 members with one partition each and no rebalance; one idle line, none while busy."""
    group = member_group(12)
    for number in range(4):
        group.start(f"i{number}", threads=3, idle_seconds=idle_seconds)
    # The first instances may have been idle while the others started.
    group.wait_spread(12)

    def idle_lines():
        return {name: len(group.log_events(name, "idle")) for name in group.services}

    def idle_for(service):
        return service.metrics()[f'outbox_consumer_idle_seconds{{consumer="{group.group}"}}']
    with group.load(rate=4):
        group.await_effects(2)
        # The gauge is set once a second.
        wait_until(lambda: all(idle_for(service) < 1.5 for service in group.services.values()), 30, "nobody to be idle")
        before = idle_lines()

        def nobody_idle():
            assert all(idle_for(service) < idle_seconds for service in group.services.values())
        hold(nobody_idle, busy)
        assert idle_lines() == before
    group.check_effects()
    members = group.wait_spread(12)
    assert [len(partitions) for partitions in members.values()] == [1] * 12
    generation = kafka.group_generation(group.group)
    rebalances = group.rebalances("assigned"), group.rebalances("revoked")

    def unchanged():
        assert group.members() == members
    hold(unchanged, idle)
    assert kafka.group_generation(group.group) == generation
    assert (group.rebalances("assigned"), group.rebalances("revoked")) == rebalances
    assert group.rebalances("assigned") >= 12
    wait_until(lambda: idle_lines() == {name: count + 1 for name, count in before.items()}, 10, "an idle line of each")
    for service in group.services.values():
        metrics = service.metrics()
        assert idle_for(service) >= idle_seconds
        assert metrics[f'outbox_consumer_paused_partitions{{consumer="{group.group}"}}'] == 0
        assert metrics[f'outbox_consumer_partition_unassigned_seconds_count{{consumer="{group.group}"}}'] >= 3
    group.stop_all()


def test_lost_partitions(member_group):  # noqa: F811
    """Lost partitions handled: a member the group gave up stores nothing and redoes nothing."""
    group = member_group(4)
    frozen, other = group.start("frozen"), group.start("other")
    group.wait_spread(2)
    group.produce_each(5)
    group.check_effects()
    os.kill(frozen.pid, signal.SIGSTOP)
    group.wait_spread(1)
    group.produce_each(5)
    group.check_effects()
    os.kill(frozen.pid, signal.SIGCONT)
    lost = 'outbox_consumer_rebalances_total{consumer="%s",kind="lost"}' % group.group
    wait_until(lambda: frozen.metrics().get(lost) == 1, 30, "the lost assignment to be noticed")
    assert len(group.log_events("frozen", "partitions_lost")) == 1
    group.wait_spread(2)
    group.produce_each(5)
    group.check_effects()
    assert other.stop() == 0
    group.wait_spread(1)
    group.produce_each(1)
    group.check_effects()
    group.stop_all()


def test_static_members(member_group):  # noqa: F811
    """Static membership: a restart moves no partition; a second process of the same id ends the first."""
    group = member_group(4)
    session = "session.timeout.ms=20000\nheartbeat.interval.ms=500"
    for name in ("one", "two"):
        group.start(name, threads=2, group_instance_id=f"shop-{name}", kafka_properties=session)
    members = group.wait_spread(4)
    owned = sorted(members.values())
    group.produce_each(3)
    group.check_effects()
    rebalances = [group.rebalances(kind, other_than="one") for kind in ("assigned", "revoked")]
    assert group.services["one"].stop() == 0
    assert sorted(group.members().values()) == owned, "a static member stays when it closes"
    group.start("one", wait=True)
    group.produce_each(3)
    group.check_effects()
    assert sorted(group.members().values()) == owned
    assert [group.rebalances(kind, other_than="one") for kind in ("assigned", "revoked")] == rebalances
    group.start("twin", threads=2, group_instance_id="shop-one", kafka_properties=session)
    wait_until(lambda: not group.services["one"].running, 30, "the fenced process to end")
    assert group.services["one"].child.process.returncode == 1
    assert group.log_events("one", "instance_id_taken")
    group.services["twin"].wait_ready()
    group.produce_each(3)
    group.check_effects()
    group.stop_all()


@pytest.mark.parametrize("records, least", sizes((80, 2.0), (1000, 2.5)))
def test_instances_added(member_group, records, least):  # noqa: F811
    """Row 001.5: from one instance to three: all have partitions and effects; with a 5 ms handler >= 2.5 x the rate."""
    group = member_group(12)
    group.handler(work=0.005)

    def run():
        """Effects per second from the first to the last one of the records, which are there before the instances."""
        since = group.now()
        group.produce_each(records)
        group.check_effects(600)
        return group.database.value(
            "select count(*) / extract(epoch from max(at) - min(at))::float from app.effect where at >= %s", (since,))
    group.start("i0", batch_max=20)
    group.wait_spread(1)
    alone = run()
    for name in ("i1", "i2"):
        group.start(name, batch_max=20)
    members = group.wait_spread(3)
    assert sorted(len(partitions) for partitions in members.values()) == [4, 4, 4]
    since = group.now()
    together = run()
    shares = dict(group.database.execute("select instance, count(*) from app.effect where at >= %s group by 1", (since,)))
    print(f"alone={alone:.0f}/s together={together:.0f}/s ratio={together / alone:.2f} {shares}")
    assert shares == dict.fromkeys(("i0", "i1", "i2"), records * 4)
    assert together / alone >= least
    group.stop_all()
