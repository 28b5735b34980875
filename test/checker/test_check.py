# SPDX-License-Identifier: PostgreSQL
"""The checker finds what it is there to find (rows 001.1 and 001.3 rest on it)."""

import dataclasses
import random

import pytest
from checker import Effect, EffectReport, Report, Seen, Truth, check, check_effects
from checker.log_files import ABORTED, COMMITTED, PENDING, Producer
from checker.remains import Buried, proven

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


# Topics deleted and made anew -------------------------------------------------

OLD, NEW = Producer(7, 3), Producer(7, 4)


def make_destroyed(deleted_at=1200, **options):
    """A faultless run whose topic was deleted once: truth, what is there now, and what the deleted log held."""
    truth, seen = make_history(**options)
    remains = [Buried(record, COMMITTED, OLD) for record in seen[:deleted_at]]
    ends, rest = {}, []
    for record in seen[deleted_at:]:
        ends[record.partition] = ends.get(record.partition, -1) + 2
        rest.append(record._replace(offset=ends[record.partition], log=1))
    return truth, rest, remains


def judge(truth, seen, remains, commits=None):
    return check(truth, seen, proven(remains, commits or {}))


def test_what_a_deleted_log_held_is_destroyed_and_not_lost():
    """The checker counts by name what the fault destroyed, not as lost."""
    truth, seen, remains = make_destroyed()
    report = judge(truth, seen, remains).require_ok()
    assert report.destroyed == {row.id for row in truth[:1200]} and report.delivered == 2000
    assert "destroyed=1200" in report.summary()


def test_a_loss_beside_what_was_destroyed_is_found():
    """An event that no log held is lost, whether it was sent before or after the deletion."""
    truth, seen, remains = make_destroyed()
    before, after = remains.pop(700).record, seen.pop(300)
    report = judge(truth, seen, remains)
    assert found(report) == {"lost": 2} and {row.id for row in report.lost} == {before.id, after.id}


@pytest.mark.parametrize("fate, batch, commits, excused", [
    (COMMITTED, None, {}, True),
    (ABORTED, None, {}, False),
    (ABORTED, 5, {5: OLD}, False),  # whoever committed the batch did it in another transaction
    (PENDING, 5, {5: OLD}, True),
    (PENDING, 5, {5: NEW}, False),  # sent again by the next producer, so it must be in the new log
    (PENDING, 5, {6: OLD}, False),
    (PENDING, None, {5: OLD}, False),
])
def test_only_what_is_proven_is_excused(fate, batch, commits, excused):
    """A record in a deleted log is no proof that its transaction was committed."""
    truth, seen, remains = make_destroyed()
    remains[800] = remains[800]._replace(fate=fate, batch=batch)
    report = judge(truth, seen, remains, commits)
    assert found(report) == ({} if excused else {"lost": 1})


def test_an_aborted_record_that_was_sent_again_is_no_double():
    truth, seen, remains = make_destroyed()
    again = seen[0]
    remains.append(Buried(again._replace(log=0, offset=10**6), ABORTED, OLD))
    remains.append(Buried(again._replace(log=0, offset=10**6 + 1), PENDING, OLD, 9))
    assert judge(truth, seen, remains, {9: NEW}).ok


def test_an_event_in_the_old_log_and_the_new_is_doubled():
    truth, seen, remains = make_destroyed()
    record = remains[600].record
    seen.append(record._replace(log=1, offset=past_the_end(seen, record.partition)))
    assert found(judge(truth, seen, remains)) == {"doubled": 1}


def test_a_phantom_in_a_deleted_log_is_found():
    truth, seen, remains = make_destroyed()
    gone = truth.pop(100)
    report = judge(truth, seen, remains)
    assert found(report) == {"phantom": 1} and report.phantom[0].id == gone.id


@pytest.mark.parametrize("partitions", [3, 5])
def test_an_inversion_between_two_logs_is_found(partitions):
    """The later event of a key was in the log that was deleted, the earlier one in that made anew."""
    truth, seen, remains = make_destroyed()
    moved = [record._replace(partition=sum(record.key.encode()) % partitions) for record in seen]
    assert judge(truth, moved, remains).ok, "another number of partitions moves keys"
    last = max(i for i, row in enumerate(remains) if row.record.key == "k5")
    first = min(i for i, record in enumerate(moved) if record.key == "k5")
    one, two = remains[last].record, moved[first]
    remains[last] = remains[last]._replace(record=one._replace(id=two.id, key_seq=two.key_seq))
    moved[first] = two._replace(id=one.id, key_seq=one.key_seq)
    report = judge(truth, moved, remains)
    assert found(report) == {"reordered": 1} and report.reordered[0].id == one.id


def test_a_key_on_two_partitions_of_one_log_is_found():
    truth, seen, remains = make_destroyed()
    at = max(i for i, record in enumerate(seen) if record.key == "k5")
    other = (seen[at].partition + 1) % 3
    seen[at] = seen[at]._replace(partition=other, offset=past_the_end(seen, other))
    assert found(judge(truth, seen, remains)) == {"moved": 1}


# What a consumer has done -----------------------------------------------------

EFFECT_FAULTS = [field.name for field in dataclasses.fields(EffectReport) if field.type is list]


def make_effects(read=1000):
    """Records there are, records of a deleted log, and the effects of a consumer that had read that many of these."""
    _, seen, remains = make_destroyed()
    destroyed = [row.record for row in remains]
    done = destroyed[:read] + seen
    return seen, destroyed, [Effect(record.id, place) for place, record in enumerate(done)]


def found_effects(report):
    return {fault: len(getattr(report, fault)) for fault in EFFECT_FAULTS if getattr(report, fault)}


def test_each_record_has_its_effect():
    """What was destroyed before it was read is named, not lost."""
    seen, destroyed, effects = make_effects()
    report = check_effects(seen, destroyed, effects)
    assert report.ok and {record.id for record in report.unread} == {record.id for record in destroyed[1000:]}


@pytest.mark.parametrize("at", [3, 999, 1000, 1799])
def test_a_lost_effect_is_found(at):
    """At 3 and 999: of a record of the deleted log that others of its partition follow."""
    seen, destroyed, effects = make_effects()
    last = {destroyed[i].partition: i for i in range(1000)}
    at = at if at != 999 else min(last.values()) - 1
    gone = effects.pop(at)
    report = check_effects(seen, destroyed, effects)
    assert found_effects(report) == {"lost": 1} and report.lost[0].id == gone.id


def test_doubled_invented_and_reordered_effects_are_found():
    seen, destroyed, effects = make_effects()
    assert found_effects(check_effects(seen, destroyed, [*effects, Effect(effects[5].id, 10**6)])) == {"doubled": 1}
    assert found_effects(check_effects(seen, destroyed, [*effects, Effect("unheard of", 10**6)])) == {"phantom": 1}
    effects[1500] = effects[1500]._replace(place=10**6)
    after = sum(record.partition == seen[500].partition for record in seen[501:])
    assert found_effects(check_effects(seen, destroyed, effects)) == {"reordered": after}
