# SPDX-License-Identifier: PostgreSQL
"""The checker finds what it is there to find (rows 001.1 and 001.3 rest on it)."""

import dataclasses
import random

import pytest
from checker import Report, Seen, Truth, check

FAULTS = [field.name for field in dataclasses.fields(Report) if field.type is list]


def make_history(events=2000, keys=37, partitions=3):
    """A faultless run: what was committed, and its records in partition order."""
    choose = random.Random(7)
    ranks, ends, truth, seen = {}, {}, [], []
    for number in range(events):
        key = f"k{choose.randrange(keys)}"
        ranks[key] = ranks.get(key, 0) + 1
        partition = sum(key.encode()) % partitions
        # Transaction markers leave holes between offsets.
        ends[partition] = ends.get(partition, -1) + choose.randint(1, 2)
        row = Truth(f"id-{number}", "t", key, ranks[key])
        truth.append(row)
        seen.append(Seen(row.id, "t", key, row.key_seq, partition, ends[partition]))
    return truth, seen


def past_the_end(seen, partition):
    return 1 + max(record.offset for record in seen if record.partition == partition)


def found(report):
    return {fault: len(getattr(report, fault)) for fault in FAULTS if getattr(report, fault)}


def test_a_faultless_history_passes():
    truth, seen = make_history()
    report = check(truth, seen).require_ok()
    assert report.committed == report.delivered == 2000


def test_records_of_several_partitions_may_come_in_any_order():
    truth, seen = make_history()
    random.Random(1).shuffle(seen)
    check(truth, seen).require_ok()


@pytest.mark.parametrize("at", [0, 999, 1999])
def test_a_loss_is_found(at):
    truth, seen = make_history()
    gone = seen.pop(at)
    report = check(truth, seen)
    assert found(report) == {"lost": 1} and report.lost[0].id == gone.id


def test_an_empty_topic_is_all_lost():
    truth, _ = make_history()
    assert found(check(truth, [])) == {"lost": 2000}


@pytest.mark.parametrize("times", [1, 3])
def test_a_double_is_found(times):
    truth, seen = make_history()
    for _ in range(times):
        record = seen[500]
        seen.append(record._replace(offset=past_the_end(seen, record.partition)))
    assert found(check(truth, seen)) == {"doubled": times}


def test_a_double_on_another_partition_is_found():
    truth, seen = make_history()
    record = seen[500]
    other = (record.partition + 1) % 3
    seen.append(record._replace(partition=other, offset=past_the_end(seen, other)))
    assert found(check(truth, seen)) == {"doubled": 1}


def test_a_phantom_is_found():
    truth, seen = make_history()
    gone = truth.pop(700)
    report = check(truth, seen)
    assert found(report) == {"phantom": 1} and report.phantom[0].id == gone.id


def test_an_inversion_is_found():
    truth, seen = make_history()
    first, second = [i for i, record in enumerate(seen) if record.key == "k5"][10:12]
    one, two = seen[first], seen[second]
    seen[first], seen[second] = one._replace(offset=two.offset), two._replace(offset=one.offset)
    report = check(truth, seen)
    assert found(report) == {"reordered": 1} and report.reordered[0].id == one.id


def test_a_key_on_two_partitions_is_found():
    truth, seen = make_history()
    at = max(i for i, record in enumerate(seen) if record.key == "k5")
    other = (seen[at].partition + 1) % 3
    seen[at] = seen[at]._replace(partition=other, offset=past_the_end(seen, other))
    report = check(truth, seen)
    assert found(report) == {"moved": 1} and report.moved[0][0] == ("t", "k5")


@pytest.mark.parametrize("change", [{"key": "other"}, {"key_seq": 10**6}])
def test_an_alteration_is_found(change):
    truth, seen = make_history(events=50, keys=50)
    seen[-1] = seen[-1]._replace(**change)
    assert found(check(truth, seen))["altered"] == 1


def test_equal_keys_of_two_topics_are_two_entities():
    truth, seen = make_history(events=100)
    again = [row._replace(id=f"b-{row.id}", topic="u") for row in truth]
    records = [record._replace(id=f"b-{record.id}", topic="u", partition=0, offset=n) for n, record in enumerate(seen)]
    check(truth + again, seen + records).require_ok()


def test_every_fault_fails_the_report():
    for fault in FAULTS:
        report = Report(**{fault: ["something"]})
        assert not report.ok
        with pytest.raises(AssertionError, match=f"{fault}=1"):
            report.require_ok()


def test_all_faults_at_once_are_told_apart():
    truth, seen = make_history()
    lost, phantom = seen.pop(10), truth.pop(1500)
    doubled = seen[300]
    seen.append(doubled._replace(offset=past_the_end(seen, doubled.partition)))
    report = check(truth, seen)
    assert report.lost[0].id == lost.id and report.phantom[0].id == phantom.id
    assert report.doubled[0].id == doubled.id and "lost=1 doubled=1 phantom=1" in report.summary()
