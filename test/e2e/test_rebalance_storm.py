# SPDX-License-Identifier: PostgreSQL
"""Members that join, leave and die in quick succession under load."""

import random
import time

import pytest
from harness import wait_until
from member_group import member_group, sizes  # noqa: F401  a fixture

PARTITIONS = 6
OWNERLESS_MAX = 15


class Storm:
    """What happens to a group at which time; one instance, the anchor, stays throughout."""

    def __init__(self, group, seed):
        print(f"seed={seed}")
        self.group = group
        self.choose = random.Random(seed)
        self.due = []  # (time, what)

    def plan(self, after, what):
        self.due.append((time.monotonic() + after, what))

    def run(self, timeout):
        """Do what is planned, each at its time, until nothing is left."""
        def step():
            now = time.monotonic()
            ripe = [entry for entry in self.due if entry[0] <= now]
            self.due = [entry for entry in self.due if entry[0] > now]
            for _, what in sorted(ripe, key=lambda entry: entry[0]):
                what()
            return not self.due
        wait_until(step, timeout, "the storm to be over", interval=0.02)


@pytest.mark.parametrize("waves, processes, threads", sizes((2, 5, 2), (5, 5, 4)))
def test_leave_soon_after_joining(member_group, waves, processes, threads):  # noqa: F811
    """Members leave within 3 s of joining: none aborts or hangs, no partition is without owner for 15 s."""
    group = member_group(PARTITIONS)
    group.start("anchor", wait=True, kafka_properties="")
    storm = Storm(group, seed=50001 + waves)
    # The first instants after the start are those that once aborted the process.
    leaves = {f"w{wave}-{number}": 3 * number / (processes - 1) for wave in range(waves) for number in range(processes)}

    def start(name, after):
        service = group.start(name, threads=threads, kafka_properties="")
        wait_until(lambda: group.log_events(name, "started"), 30, f"{name} to start", interval=0.01)
        storm.plan(after, service.child.process.terminate)
    since = group.now()
    with group.load(rate=10):
        group.await_effects(3)
        for wave in range(waves):
            for name, after in leaves.items():
                if name.startswith(f"w{wave}-"):
                    storm.plan(storm.choose.random(), lambda name=name, after=after: start(name, after))
            storm.run(120)
        wait_until(lambda: group.running() == ["anchor"], 60, "all to have left")
        group.wait_spread(1)
        group.await_effects(3)
    codes = {name: service.child.process.returncode for name, service in group.services.items() if name != "anchor"}
    assert codes == dict.fromkeys(leaves, 0)
    group.check_effects()
    gaps = {partition: gap for partition, (gap, _) in group.gaps(since).items()}
    print(f"members={len(codes) * threads} longest gap {max(gaps.values()):.2f} s")
    assert sorted(gaps) == list(range(PARTITIONS)) and max(gaps.values()) < OWNERLESS_MAX
    unassigned = sum(bool(group.log_events(name, "left_unassigned")) for name in codes)
    print(f"left without an assignment: {unassigned}")
    group.stop_all()


@pytest.mark.parametrize("events, kills", sizes((5, 2), (100, 34)))
def test_storm(member_group, events, kills):  # noqa: F811
    """Row F17: an instance joins, leaves or is killed every 2 s under load; each effect exactly once, in order."""
    group = member_group(PARTITIONS)
    group.start("anchor", wait=True)
    storm = Storm(group, seed=51000 + events)
    kinds = ["kill"] * kills + ["join", "leave"] * ((events - kills + 1) // 2)
    storm.choose.shuffle(kinds)
    numbers = iter(range(10 * events))

    def strike(kind):
        # Two at least beside the anchor, so that there is somebody to strike.
        while kind == "join" or len(group.running()) < 3:
            group.start(f"i{next(numbers)}", threads=2)
            kind = None if kind == "join" else kind
        others = [name for name in group.running() if name != "anchor"]
        if kind == "kill":
            group.services[storm.choose.choice(others)].kill9()
        elif kind == "leave":
            # One that has not come so far as to handle the signal just dies of it.
            started = wait_until(lambda: [name for name in others if group.log_events(name, "started")], 30, "one to strike")
            group.services[storm.choose.choice(started)].child.process.terminate()
    with group.load(rate=20):
        for place, kind in enumerate(kinds):
            storm.plan(2 * place, lambda kind=kind: strike(kind))
        storm.run(60 + 4 * events)
        group.await_effects(3)
    group.check_effects(120)
    shares = dict(group.database.execute("select instance, count(*) from app.effect group by 1"))
    killed = sum(service.child.process.returncode == -9 for service in group.services.values() if not service.running)
    left = [service.child.process.returncode for service in group.services.values()
            if not service.running and service.child.process.returncode != -9]
    print(f"records={len(group.produced)} instances={len(group.services)} killed={killed} left={len(left)} {shares}")
    assert killed == kills and set(left) <= {0} and len(shares) > 1
    group.stop_all()
