/* SPDX-License-Identifier: PostgreSQL
 *
 * retention.c
 *	  Moves the event ring and the batch log on and empties their old leaves.
 *
 * Runs in the relay.  Facts are gathered here, retention_plan.c decides,
 * leaf_storage.c empties.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "executor/spi.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "src/clock.h"
#include "src/fault.h"
#include "src/guc.h"
#include "src/leaf.h"

#include "event_scan.h"
#include "leaf_storage.h"
#include "retention.h"
#include "retention_plan.h"
#include "take_snapshot.h"
#include "bgworker/session.h"

#define LOOK_MIN_MS 200
#define LOOK_MAX_MS 5000
#define LOOK_PARTS	70 /* a look every so many parts of retention */
#define MEGABYTE	(INT64CONST(1024) * 1024)

/* A leaf and the snapshots its events must be seen by. */
typedef struct RelayedCheck
{
	int					  leaf;
	const OutboxSnapshot *delivered;
	const OutboxSnapshot *held; /* before what topic holds left out and must copy; NULL: nothing */
} RelayedCheck;

static TimestampTz next_look = 0;	/* not before; by outbox_clock_now() */
static TimestampTz due_at = 0;		/* an event's time comes, DT_NOEND = none */
static uint64	   looked_xmax = 0; /* delivered snapshot of the last look */
static bool		   full_logged = false;

static TimestampTz left_at[OUTBOX_LEAVES]; /* when the ring moved on from it, 0 = not known */
static int		   batch_leaf = -1;		   /* -1 = not known yet */

/* First column of a query's only row as int64 or timestamp; fallback if NULL. */
static int64
query_int64(const char *query, int64 fallback)
{
	bool  isnull;
	Datum value;

	if (SPI_execute(query, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\"", query);
	if (SPI_processed == 0)
		return fallback;
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? fallback : DatumGetInt64(value);
}

static bool
is_empty(Oid relation_oid)
{
	Relation relation = table_open(relation_oid, AccessShareLock);
	bool	 empty = RelationGetNumberOfBlocks(relation) == 0;

	table_close(relation, AccessShareLock);
	return empty;
}

/* Is every event of the leaf seen by the snapshot?  A few index look-ups. */
static bool
is_seen(int leaf, const OutboxSnapshot *snapshot)
{
	uint64		txid;
	TimestampTz created_at;

	if (!outbox_event_at_end(leaf, BackwardScanDirection, &txid, &created_at))
		return true;
	if (txid >= snapshot->xmax)
		return false;
	for (uint32 i = 0; i < snapshot->nxip; i++)
	{
		if (outbox_event_exists(leaf, snapshot->xip[i]))
			return false;
	}
	return true;
}

static bool
is_relayed(void *arg)
{
	const RelayedCheck *check = arg;

	OUTBOX_MUTATE("rotation_unchecked", return true);
	return is_seen(check->leaf, check->delivered) &&
		(check->held == NULL || is_seen(check->leaf, check->held));
}

/*
 * Where the oldest batch begins of which a topic hold has left out events; NULL: there is none.
 * Its rows go when all of it is delivered.
 */
static OutboxSnapshot *
find_held(MemoryContext context)
{
	OutboxSnapshot *held;

	if (SPI_execute("SELECT lower::text FROM outbox.topic_hold_batch ORDER BY batch_no LIMIT 1",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.topic_hold_batch");
	if (SPI_processed == 0)
		return NULL;
	held = MemoryContextAlloc(context, sizeof(OutboxSnapshot));
	outbox_snapshot_parse(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1), context,
						  held);
	return held;
}

/*
 * No event of this leaf, which is not the current one, was emitted later.  Events
 * of the next leaf came after it; one of them is as good as the time of the move.
 */
static TimestampTz
bound_last_event(int leaf, TimestampTz now)
{
	uint64 txid;

	if (left_at[leaf] == 0 &&
		!outbox_event_at_end((leaf + 1) % OUTBOX_LEAVES, ForwardScanDirection, &txid,
							 &left_at[leaf]))
		left_at[leaf] = now;
	return left_at[leaf];
}

/* Facts that the decision needs; due_at is set to when it may change. */
static void
gather_facts(OutboxLeafFacts *leaves, int current, RelayedCheck *check, TimestampTz now,
			 int64 retention_ms)
{
	int oldest;

	memset(leaves, 0, sizeof(*leaves) * OUTBOX_LEAVES);
	for (int leaf = 0; leaf < OUTBOX_LEAVES; leaf++)
	{
		leaves[leaf].empty = is_empty(outbox_leaf_relation(leaf));
		leaves[leaf].first_age_ms = OUTBOX_AGE_UNKNOWN;
		leaves[leaf].last_age_ms = OUTBOX_AGE_UNKNOWN;
	}
	due_at = DT_NOEND;
	if (!leaves[current].empty)
	{
		TimestampTz first = now;
		uint64		txid;

		(void) outbox_event_at_end(current, ForwardScanDirection, &txid, &first);
		left_at[current] = 0;
		leaves[current].first_age_ms = (now - first) / 1000;
		leaves[current].bytes =
			query_int64(psprintf("SELECT pg_catalog.pg_table_size('outbox.event_%d')", current), 0);
		due_at = first + retention_ms * 1000 / OUTBOX_RETENTION_PARTS;
	}
	oldest = outbox_retention_oldest(leaves, OUTBOX_LEAVES, current);
	if (oldest >= 0)
	{
		check->leaf = oldest;
		leaves[oldest].relayed = is_relayed(check);
		if (leaves[oldest].relayed)
		{
			TimestampTz last = bound_last_event(oldest, now);

			leaves[oldest].last_age_ms = (now - last) / 1000;
			due_at = Min(due_at, last + retention_ms * 1000);
		}
	}
}

static void
count_rotation(OutboxSlot *slot, bool done)
{
	SpinLockAcquire(&slot->mutex);
	if (done)
		slot->status.rotations++;
	else
		slot->status.rotations_refused++;
	SpinLockRelease(&slot->mutex);
}

static void
log_full_ring(bool full, int current)
{
	if (full && !full_logged)
		ereport(LOG,
				(errmsg("the event ring of outbox is full, segment %d grows on", current),
				 errdetail("The oldest segment holds events that are not relayed, or younger than "
						   "outbox.retention.")));
	full_logged = full;
}

/* The event ring: one look, and what is due. */
static void
tend_ring(OutboxSlot *slot, const OutboxSnapshot *delivered)
{
	OutboxLeafFacts		leaves[OUTBOX_LEAVES];
	OutboxRetentionPlan plan;
	TimestampTz			now = GetCurrentTimestamp();
	int64				retention_ms = (int64) outbox_guc_retention * 1000;
	RelayedCheck		check = {.delivered = delivered};
	MemoryContext		context = CurrentMemoryContext;
	Oid					leaf = InvalidOid;
	int					current;
	bool				locked;

	outbox_session_begin();
	current = outbox_leaf_current();
	check.held = find_held(context);
	gather_facts(leaves, current, &check, now, retention_ms);
	outbox_retention_decide(leaves, OUTBOX_LEAVES, current, retention_ms,
							outbox_guc_segment_size * MEGABYTE, &plan);
	if (plan.empty >= 0)
		leaf = outbox_leaf_relation(plan.empty);
	outbox_session_end();

	log_full_ring(plan.full, current);
	if (plan.move_to >= 0)
	{
		pg_atomic_write_u32(&slot->leaf, (uint32) plan.move_to + 1);
		left_at[current] = GetCurrentTimestamp();
		OUTBOX_FAULT("retention-moved");
		count_rotation(slot, true);
	}
	if (plan.empty < 0)
		return;

	check.leaf = plan.empty;
	if (!outbox_leaf_empty(leaf, is_relayed, &check, &locked) && !locked)
		count_rotation(slot, false);
	due_at = 0; /* there may be another one to empty */
}

/* The newest batch row is not in the leaf that is about to be emptied. */
static bool
is_outdated_batch_leaf(void *arg)
{
	int leaf = *(int *) arg;

	return query_int64(psprintf("SELECT (n.max > o.max)::int::bigint"
								" FROM (SELECT max(batch_no) FROM outbox.batch_%d) n,"
								" (SELECT coalesce(max(batch_no), -1) AS max FROM outbox.batch_%d) "
								"o",
								1 - leaf, leaf),
					   0) == 1;
}

/* The batch log: after enough rows the other leaf is emptied and takes the next. */
static void
tend_batch_log(OutboxSlot *slot)
{
	char  name[NAMEDATALEN];
	int64 rows;
	int	  other;
	Oid	  leaf;
	bool  free_leaf;
	bool  locked;

	outbox_session_begin();
	other = 1 - outbox_retention_batch_leaf();
	rows = query_int64(psprintf("SELECT max(batch_no) - min(batch_no) + 1 FROM outbox.batch_%d",
								1 - other),
					   0);
	snprintf(name, sizeof(name), "batch_%d", other);
	leaf = outbox_leaf_named_relation(name);
	free_leaf = is_empty(leaf);
	outbox_session_end();

	if (rows < outbox_guc_batch_log_rows)
		return;
	if (!free_leaf && !outbox_leaf_empty(leaf, is_outdated_batch_leaf, &other, &locked))
	{
		count_rotation(slot, false);
		return;
	}
	batch_leaf = other;
}

void
outbox_retention_step(OutboxSlot *slot, const OutboxSnapshot *delivered)
{
	int64 interval_ms = (int64) outbox_guc_retention * 1000 / LOOK_PARTS;

	if (outbox_clock_now() < next_look ||
		(delivered->xmax == looked_xmax && GetCurrentTimestamp() < due_at))
		return;
	OUTBOX_FAULT("retention-look");
	looked_xmax = delivered->xmax;
	tend_ring(slot, delivered);
	tend_batch_log(slot);
	interval_ms = Max(LOOK_MIN_MS, Min(interval_ms, LOOK_MAX_MS));
	next_look = TimestampTzPlusMilliseconds(outbox_clock_now(), interval_ms);
}

int
outbox_retention_batch_leaf(void)
{
	if (batch_leaf < 0)
		batch_leaf = (int) query_int64("SELECT leaf::bigint FROM outbox.batch"
									   " ORDER BY batch_no DESC LIMIT 1",
									   0);
	return batch_leaf;
}
