/* SPDX-License-Identifier: PostgreSQL
 *
 * oracle.c
 *	  Judges a schedule by sets of event ids: every event that is committed in the
 *	  end was delivered once, itself or a copy of it, nothing else was delivered, and
 *	  each key is in commit order.
 *
 * Exceptions the design names, kept as sets: what a lossy cut of the log took away may be in Kafka;
 * what an adoption repeats may be there twice, and a copy of a hold that has ended beside its
 * original; what it skips may be missing; without a cursor the last batch may be there twice; the
 * dead letters of the last batch, and what holds left out of it, may be in the tail that was lost.
 */
#include "simulation.h"

static int	repeats[MOST_EVENTS]; /* deliveries beyond the first that an exception allows */
static bool may_miss[MOST_EVENTS];
static bool may_be_phantom[MOST_EVENTS];
static bool lossy_cut; /* a hold has a cause */
static char verdict[512];

void
oracle_reset(void)
{
	memset(repeats, 0, sizeof(repeats));
	memset(may_miss, 0, sizeof(may_miss));
	memset(may_be_phantom, 0, sizeof(may_be_phantom));
	lossy_cut = false;
	verdict[0] = '\0';
}

void
oracle_fail(const char *format, ...)
{
	va_list args;

	if (verdict[0] != '\0')
		return;
	va_start(args, format);
	vsnprintf(verdict, sizeof(verdict), format, args);
	va_end(args);
}

static bool
is_committed(const SimEvent *event)
{
	return tables.transactions[event->txid].state == TX_COMMITTED;
}

static int
count_logged(int id)
{
	int count = 0;

	for (int i = 0; i < nlogged; i++)
		count += logged[i] == id;
	return count;
}

void
oracle_cut(int kept, bool lossy)
{
	lossy_cut |= lossy;
	for (int i = 0; lossy && i < tables.nevents; i++)
	{
		const SimEvent *event = &tables.events[i];

		if (is_committed(event) && tables.transactions[event->txid].commit_record >= kept)
			may_be_phantom[event->id] = true;
		/* prepared at the cut, or a copy that is lost, it may be delivered once more */
		repeats[event->id] += may_be_phantom[event->id];
	}
}

/* Is it a copy of a hold that has ended?  It comes again as its original does. */
static bool
is_ended_copy(const SimEvent *event)
{
	const SimCopy *copy = event->copy ? tables_copies_of(event->txid) : NULL;

	return event->copy && (copy == NULL || tables.holds[copy->hold].state >= HOLD_ENDED);
}

void
oracle_adopted(bool resend, const OutboxSnapshot *base, const OutboxPosition *base_at)
{
	for (int i = 0; i < tables.nevents; i++)
	{
		const SimEvent *event = &tables.events[i];
		bool			below = outbox_snapshot_sees(base, event->txid) ||
			(event->txid == base_at->txid && event->seq <= base_at->seq);

		if (resend && !below && (broker_may_have(event->id) || is_ended_copy(event)))
			repeats[event->id]++;
		if (!resend && is_committed(event) && count_logged(event->id) == 0)
			may_miss[event->id] = true;
	}
}

void
oracle_rows_lost(const OutboxRange *range)
{
	for (int i = 0; i < tables.nevents; i++)
	{
		const SimEvent *event = &tables.events[i];

		if (outbox_range_holds(range, event->txid, event->seq) && count_logged(event->id) == 0)
			may_miss[event->id] = true;
	}
}

void
oracle_cursor_forgotten(void)
{
	int64 last = tables_batch(-1)->row.batch_no;

	/* the one before is the last after a failover, when the last was not replicated yet */
	for (int i = 0; i < 2 * tables.nevents; i++)
	{
		const SimEvent *event = &tables.events[i / 2];
		const SimBatch *batch = tables_batch(Max(last - i % 2, 0));

		if (batch != NULL && outbox_range_holds(&batch->row.range, event->txid, event->seq))
			repeats[event->id]++;
	}
}

void
oracle_held(const char *reason)
{
	if (!lossy_cut)
		oracle_fail("the relay holds without a cause: %s", reason);
}

/* Of the event or a copy of it? */
static bool
is_exclusion_of(const SimExclusion *exclusion, int id)
{
	for (int i = 0; i < tables.nevents; i++)
	{
		const SimEvent *event = &tables.events[i];

		if (event->id == id && event->txid == exclusion->txid && event->seq == exclusion->seq)
			return true;
	}
	return false;
}

static void
judge_event(const SimEvent *event)
{
	int	 count = count_logged(event->id);
	bool letter = false;

	for (int i = 0; i < tables.nexclusions && event->poison; i++)
		letter |= is_exclusion_of(&tables.exclusions[i], event->id);
	if (event->poison)
	{
		if (count > 0)
			oracle_fail("event %d was refused and delivered", event->id);
		else if (!letter && !may_miss[event->id])
			oracle_fail("event %d was refused and has no dead letter", event->id);
	}
	else if (count == 0 && !may_miss[event->id])
		oracle_fail("event %d is lost", event->id);
	else if (count > 1 + repeats[event->id])
		oracle_fail("event %d was delivered %d times", event->id, count);
}

static const SimEvent *
find_event(int id)
{
	for (int i = 0; i < tables.nevents; i++)
	{
		if (tables.events[i].id == id)
			return &tables.events[i];
	}
	return NULL;
}

/* First deliveries of a key follow the commits; a repeat says nothing about order. */
static void
judge_order(void)
{
	const SimEvent *newest[KEYS] = {NULL};
	bool			met[MOST_EVENTS] = {false};

	for (int i = 0; i < nlogged; i++)
	{
		const SimEvent *event = find_event(logged[i]);
		const SimEvent *before;
		int				place;

		if (event == NULL || !is_committed(event) || met[logged[i]] || repeats[event->id] > 0)
			continue;
		met[logged[i]] = true;
		before = newest[event->key];
		newest[event->key] = event;
		if (before == NULL)
			continue;
		place = tables.transactions[event->txid].commit_record -
			tables.transactions[before->txid].commit_record;
		if (place < 0 || (place == 0 && event->seq < before->seq))
			oracle_fail("events %d and %d of key %d are out of order", before->id, event->id,
						event->key);
	}
}

const char *
oracle_judge(void)
{
	for (int i = 0; i < tables.nevents; i++)
	{
		if (is_committed(&tables.events[i]) && !tables.events[i].copy)
			judge_event(&tables.events[i]);
	}
	for (int i = 0; i < nlogged; i++)
	{
		const SimEvent *event = find_event(logged[i]);

		if ((event == NULL || !is_committed(event)) && !may_be_phantom[logged[i]])
			oracle_fail("event %d was delivered and is not committed", logged[i]);
	}
	judge_order();
	return verdict[0] != '\0' ? verdict : NULL;
}
