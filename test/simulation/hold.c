/* SPDX-License-Identifier: PostgreSQL
 *
 * hold.c
 *	  The relay's topic holds around their pure parts: what a batch leaves out, and what a release
 *	  does next.
 *
 * The order of steps is that of chunk_holds.c, hold_rows.c and refused.c of bgworker/relay, and of
 * held_events.c and release.c of bgworker/replay.
 */
#include "relay.h"

#include "bgworker/replay/release_plan.h"

static const char *const topic_names[TOPICS] = {"a", "b", "c"};

static uint64 known_copies[MOST_COPIES];

static const OutboxReleaseLimits usual_limits = {
	.step_events = 2,
	.step_bytes = INT64_MAX,
	.unsent_events = 5,
	.last_events = 3,
	.last_bytes = INT64_MAX,
};

/* ---------------------------------------------------- what batches leave out */

static bool
has_share(int hold, int64 first, int64 last)
{
	for (int i = 0; i < tables.nshares; i++)
	{
		const SimShare *share = &tables.shares[i];

		if (share->hold == hold && share->batch_no >= first && share->batch_no <= last)
			return true;
	}
	return false;
}

static void
know(int number, bool noted, int *used)
{
	const SimHold *hold = &tables.holds[number];
	OutboxHold	  *known = &relay.known[relay.nknown++];

	*known = (OutboxHold) {.id = number,
						   .topic = topic_names[hold->topic],
						   .topic_hash = outbox_hold_topic_hash(topic_names[hold->topic], 1),
						   .cause = hold->cause,
						   .releasing = hold->state == HOLD_RELEASING,
						   .ended = hold->state >= HOLD_ENDED,
						   .noted = noted,
						   .copies = &known_copies[*used]};
	for (int i = 0; i < tables.ncopies && mutant != MUTANT_COPIES_HELD; i++)
	{
		if (tables.copies[i].hold == number && tables.copies[i].refused_batch == 0)
			known->copies[known->ncopies++] = tables.copies[i].txid;
	}
	*used += (int) known->ncopies;
}

void
holds_load(int64 batch_no)
{
	int used = 0;

	relay.nknown = relay.nrefused = 0;
	for (int i = 0; i < tables.nholds && batch_no > 0; i++)
	{
		if (has_share(i, batch_no, batch_no))
			know(i, true, &used);
	}
	for (int i = 0; i < tables.nholds; i++)
	{
		SimHoldState state = tables.holds[i].state;

		if (state >= HOLD_ENDED || (mutant == MUTANT_RELEASE_PASSES && state == HOLD_RELEASING))
			continue;
		if (batch_no == 0 || (has_share(i, 1, batch_no - 1) && !has_share(i, batch_no, batch_no)))
			know(i, false, &used);
	}
	for (int i = 0; i < tables.ncopies && mutant != MUTANT_REFUSED_SENT; i++)
	{
		if (tables.copies[i].refused_batch != 0)
			relay.refused[relay.nrefused++] = tables.copies[i].txid;
	}
}

static bool
is_refused(uint64 txid)
{
	for (int i = 0; i < relay.nrefused; i++)
	{
		if (relay.refused[i] == txid)
			return true;
	}
	return false;
}

static void
note_refused(uint64 txid)
{
	SimBatch *batch = &relay.batch;

	if (batch->nrefused > 0 && batch->refused[batch->nrefused - 1] == txid)
		return;
	if (batch->nrefused == MOST_REFUSED)
		oracle_fail("the batch has too many refused copies");
	else
		batch->refused[batch->nrefused++] = txid;
}

static void
note_share(int hold)
{
	SimBatch *batch = &relay.batch;
	int		  place = 0;

	while (place < batch->nshares && batch->shares[place].hold != hold)
		place++;
	if (place == batch->nshares)
		batch->shares[batch->nshares++] =
			(SimShare) {.hold = hold, .batch_no = batch->row.batch_no};
	batch->shares[place].events++;
}

bool
holds_pass(const SimEvent *event)
{
	const OutboxHold *hold;

	if (is_refused(event->txid))
	{
		note_refused(event->txid);
		relay.held++;
		return false;
	}
	hold = outbox_hold_leaving_out(relay.known, relay.nknown, topic_names[topic_of(event->key)], 1,
								   event->txid);
	if (hold == NULL)
		return true;
	relay.held++;
	if (!hold->noted)
		note_share((int) hold->id);
	return false;
}

bool
holds_keep_whole(uint64 txid)
{
	for (int i = 0; i < relay.nknown; i++)
	{
		if (outbox_hold_owns(&relay.known[i], txid))
			return true;
	}
	return is_refused(txid);
}

void
holds_store_old(void)
{
	for (int i = 0; i < relay.batch.nshares; i++)
	{
		SimHoldChange change = {.hold = relay.batch.shares[i].hold, .share = relay.batch.shares[i]};

		change.now = tables.holds[change.hold];
		tables_change_hold(&change);
		flushed = records;
		relay.row_end = records;
	}
}

/* ------------------------------------------------------------ a hold begins */

/* The batch's copies of the hold, the oldest transaction first; all its other events are counted.
 */
static void
gather_sent(int topic, SimHoldChange *change)
{
	const OutboxHold *hold = NULL;

	for (int i = 0; i < relay.nknown; i++)
	{
		if (!relay.known[i].ended && tables.holds[relay.known[i].id].topic == topic)
			hold = &relay.known[i];
	}
	for (int i = 0; i < relay.nids; i++)
	{
		const SimEvent *event = &tables.events[relay.sent[i]];
		int				place = change->nrefused;

		if (topic_of(event->key) != topic)
			continue;
		if (hold == NULL || !outbox_hold_owns(hold, event->txid))
		{
			change->share.events++;
			continue;
		}
		while (place > 0 && change->refused[place - 1] > event->txid)
			place--;
		if (place > 0 && change->refused[place - 1] == event->txid)
			continue;
		memmove(&change->refused[place + 1], &change->refused[place],
				sizeof(uint64) * (change->nrefused - place));
		change->refused[place] = event->txid;
		change->nrefused++;
	}
}

void
holds_take_topic(int topic, OutboxHoldCause cause)
{
	SimHoldChange change = {.hold = tables_hold_of(topic),
							.refused_batch = relay.batch.row.batch_no};

	gather_sent(topic, &change);
	if (change.hold < 0)
	{
		change.hold = tables.nholds;
		change.now = (SimHold) {.topic = topic, .cause = cause};
	}
	else
		change.now = tables.holds[change.hold];
	if (change.nrefused > 0)
	{
		change.now.state = HOLD_HELD;
		change.now.cause = cause;
	}
	change.share.hold = change.hold;
	change.share.batch_no = relay.batch.row.batch_no;
	tables_change_hold(&change);
	if (mutant == MUTANT_LATE_HOLD)
		return;
	flushed = records;
	relay.row_end = Max(relay.row_end, records);
}

/* ------------------------------------------------------------------ release */

/* What is known of the hold that is being released. */
typedef struct Release
{
	int	   hold;
	uint64 newest;	 /* transaction of copies that was not refused; 0 = none */
	int64  batch_no; /* of which it copied last */
	uint64 refused;	 /* newest one that was */
	int64  steps;	 /* since then */
	int64  unsent;	 /* copies in no batch */
	int64  ncopied;	 /* events of batch_no that are copied */
	int64  left;
	int	   nletters;
	bool   copied[MOST_EVENTS]; /* by id, of batch_no */
} Release;

/* What one transaction copies. */
typedef struct Step
{
	uint64	txid;
	int64	first_batch;
	SimCopy row;
} Step;

static bool
is_batched(uint64 txid)
{
	const OutboxRange *last = &relay.last.row.range;

	return txid == last->upper_at.txid || outbox_snapshot_sees(&last->upper, txid);
}

static bool
is_delivered(uint64 txid)
{
	return txid == 0 || outbox_snapshot_sees(&relay.last.row.range.lower, txid) ||
		(relay.delivered == relay.last.row.batch_no &&
		 outbox_snapshot_sees(&relay.last.row.range.upper, txid));
}

static void
read_copies(Release *release)
{
	for (int i = 0; i < tables.ncopies; i++)
	{
		const SimCopy *copy = &tables.copies[i];

		if (copy->hold != release->hold)
			continue;
		if (copy->refused_batch != 0)
		{
			release->refused = copy->txid;
			continue;
		}
		release->newest = copy->txid;
		release->batch_no = copy->last_batch;
		release->unsent += is_batched(copy->txid) ? 0 : copy->copies;
	}
	for (int i = 0; i < tables.ncopies; i++)
	{
		const SimCopy *copy = &tables.copies[i];

		release->steps += copy->hold == release->hold && copy->refused_batch == 0 &&
			copy->txid > release->refused;
	}
}

static void
read_release(Release *release, int hold)
{
	memset(release, 0, sizeof(*release));
	release->hold = hold;
	read_copies(release);
	for (int i = 0; i < tables.nevents && release->newest > 0; i++)
	{
		const SimEvent *event = &tables.events[i];
		const SimCopy  *copy = event->copy ? tables_copies_of(event->txid) : NULL;

		if (copy != NULL && copy->hold == hold && copy->refused_batch == 0 &&
			copy->last_batch == release->batch_no)
		{
			release->copied[event->id] = true;
			release->ncopied++;
		}
	}
	for (int i = 0; i < tables.nshares; i++)
	{
		const SimShare *share = &tables.shares[i];

		if (share->hold == hold && share->batch_no >= release->batch_no)
			release->left += share->events;
	}
	release->left = Max(release->left - release->ncopied, 0);
}

/* A copy of it became a dead letter before the topic was refused as a whole. */
static bool
is_letter_now(int hold, int id)
{
	for (int i = 0; i < tables.nexclusions; i++)
	{
		const SimCopy *copy = tables_copies_of(tables.exclusions[i].txid);

		if (copy == NULL || copy->hold != hold)
			continue;
		for (int j = 0; j < tables.nevents; j++)
		{
			if (tables.events[j].id == id && tables.events[j].txid == copy->txid &&
				tables.events[j].seq == tables.exclusions[i].seq)
				return true;
		}
	}
	return false;
}

/* Neither a letter nor the hold's own copy, nor a copy that was refused. */
static bool
is_held_original(const Release *release, const SimEvent *event, int64 batch_no)
{
	const SimCopy *copy = event->copy ? tables_copies_of(event->txid) : NULL;

	return topic_of(event->key) == tables.holds[release->hold].topic &&
		!tables_excluded(batch_no, event->txid, event->seq) &&
		(copy == NULL || (copy->hold != release->hold && copy->refused_batch == 0));
}

static bool
is_full(const Step *step, int64 batch_no, const OutboxReleaseLimits *limits)
{
	return limits != NULL && step->first_batch == batch_no &&
		step->row.copies >= limits->step_events;
}

/* Copies of one batch what there is room for; false: the transaction ends. */
static bool
copy_range(const Release *release, const SimShare *share, Step *step,
		   const OutboxReleaseLimits *limits)
{
	static OutboxEntry entries[MOST_EVENTS];
	size_t			   count;

	if (limits != NULL && !outbox_release_joins(step->row.copies, 0, share->events, 0, limits))
		return false;
	if (step->row.copies == 0)
		step->first_batch = share->batch_no;
	count = range_entries(&tables_batch(share->batch_no)->row.range, entries);
	for (size_t i = 0; i < count; i++)
	{
		const SimEvent *event = &tables.events[entries[i].block];

		if (!is_held_original(release, event, share->batch_no) ||
			(share->batch_no == release->batch_no && release->copied[event->id]) ||
			is_letter_now(release->hold, event->id))
			continue;
		if (is_full(step, share->batch_no, limits))
			return false;
		if (step->txid == 0)
			step->txid = tables_begin();
		if (step->txid == 0)
		{
			oracle_fail("the schedule is too long for copies");
			return false;
		}
		tables_copy(step->txid, event);
		step->row.copies++;
		step->row.last_batch = share->batch_no;
	}
	return !is_full(step, share->batch_no, limits);
}

/* Copies a step; limits NULL: all that is left. */
static void
copy_events(const Release *release, Step *step, const OutboxReleaseLimits *limits)
{
	int64 done = release->batch_no - 1;
	bool  room = true;

	memset(step, 0, sizeof(*step));
	while (room)
	{
		const SimShare *next = NULL;
		SimShare		share;

		for (int i = 0; i < tables.nshares; i++)
		{
			const SimShare *one = &tables.shares[i];

			if (one->hold == release->hold && one->batch_no > done &&
				(next == NULL || one->batch_no < next->batch_no))
				next = one;
		}
		if (next == NULL)
			return;
		share = *next;
		done = share.batch_no;
		room = copy_range(release, &share, step, limits);
	}
}

/* The end in a transaction of its own, flushed, and the last copies in a later one. */
static void
end_apart(const Release *release)
{
	tables_end_copies(tables_begin(), NULL, release->hold);
	flushed = records;
}

static void
run_step(const Release *release, const OutboxReleaseLimits *limits, bool ends)
{
	Step step;

	if (ends && mutant == MUTANT_END_APART)
		end_apart(release);
	copy_events(release, &step, ends ? NULL : limits);
	if (step.txid == 0 && !ends)
		return;
	if (step.txid == 0)
		step.txid = tables_begin();
	if (step.txid == 0)
	{
		oracle_fail("the schedule is too long for copies");
		return;
	}
	step.row.hold = release->hold;
	step.row.txid = step.txid;
	tables_end_copies(step.txid, &step.row,
					  ends && mutant != MUTANT_END_APART ? release->hold : -1);
	if (happens(50))
		flushed = records;
}

static void
go_on_releasing(int hold)
{
	static Release		release;
	OutboxReleaseLimits limits = usual_limits;
	OutboxReleaseFacts	facts;
	OutboxReleaseStep	step;

	read_release(&release, hold);
	facts = (OutboxReleaseFacts) {
		.between = relay.state == OUTBOX_RELAY_IDLE && relay.nwaypoints == 0 &&
			relay.delivered == relay.last.row.batch_no && relay.next >= relay.count &&
			relay.last.row.range.upper_at.txid == 0,
		.refused = tables.holds[hold].cause == OUTBOX_HOLD_REFUSED || release.refused > 0,
		.steps = release.steps,
		.delivered = is_delivered(release.newest),
		.unsent = release.unsent,
		.left_events = release.left,
	};
	step = outbox_release_choose(&facts, &limits);
	if (step == OUTBOX_RELEASE_PROBES)
		limits.step_events = 1;
	if (step != OUTBOX_RELEASE_WAITS)
		run_step(&release, &limits, step == OUTBOX_RELEASE_ENDS);
}

/* -------------------------------------------------------------- between work */

static void
change_state(int hold, SimHoldState state)
{
	SimHoldChange change = {.hold = hold, .now = tables.holds[hold]};

	change.now.state = state;
	tables_change_hold(&change);
}

void
holds_tend(void)
{
	bool releases = true;

	for (int i = 0; i < tables.nholds; i++)
	{
		const SimHold *hold = &tables.holds[i];

		if (hold->state == HOLD_HELD && hold->cause == OUTBOX_HOLD_LEADER &&
			!broker_unled[hold->topic] && happens(40))
			change_state(i, HOLD_RELEASING);
		else if (hold->state == HOLD_ENDED && is_delivered(hold->ended_txid) && happens(40))
			change_state(i, HOLD_GONE);
		else if (hold->state == HOLD_RELEASING && releases)
		{
			releases = false;
			go_on_releasing(i);
		}
	}
}
