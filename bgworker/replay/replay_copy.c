/* SPDX-License-Identifier: PostgreSQL
 *
 * replay_copy.c
 *	  Finds the events of a replay in the leaves, and copies them.
 *
 * Runs in the relay, in transactions of replay.c.  A scan goes through the index on txid in pieces
 * that end between transactions; what is in the job's snapshot does not change, so pieces of
 * different transactions fit together.
 */
#include "postgres.h"

#include "access/commit_ts.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "copy.h"
#include "replay_copy.h"
#include "bgworker/events/event_columns.h"
#include "bgworker/events/event_scan.h"
#include "bgworker/events/leaf_reader.h"
#include "bgworker/events/window.h"

#define SCAN_EVENTS 20000			  /* read in one transaction */
#define COPY_BYTES	(4 * 1024 * 1024) /* written in one transaction, and one event more */

/* ----------------------------------------------------------------- scan */

static Datum
get_column(TupleTableSlot *slot, int column)
{
	return slot->tts_values[column - 1];
}

/* Does a column hold these bytes?  wanted NULL: whatever it holds. */
static bool
holds_bytes(TupleTableSlot *slot, int column, const bytea *wanted)
{
	bytea *value;
	bool   equal;

	if (wanted == NULL)
		return true;
	if (slot->tts_isnull[column - 1])
		return false;
	value = DatumGetByteaPP(get_column(slot, column));
	equal = VARSIZE_ANY_EXHDR(value) == VARSIZE_ANY_EXHDR(wanted) &&
		memcmp(VARDATA_ANY(value), VARDATA_ANY(wanted), VARSIZE_ANY_EXHDR(wanted)) == 0;
	if ((Pointer) value != DatumGetPointer(get_column(slot, column)))
		pfree(value);
	return equal;
}

static bool
is_wanted(const OutboxReplayJob *job, TupleTableSlot *slot, uint64 txid)
{
	TimestampTz created_at = DatumGetTimestampTz(get_column(slot, OUTBOX_EVENT_CREATED_AT));

	return slot->tts_isnull[OUTBOX_EVENT_COPIED_AT - 1] && created_at >= job->created_from &&
		created_at < job->created_to && txid != job->txid &&
		outbox_snapshot_sees(&job->snapshot, txid) &&
		holds_bytes(slot, OUTBOX_EVENT_TOPIC, job->topic) &&
		holds_bytes(slot, OUTBOX_EVENT_TYPE, job->type) &&
		holds_bytes(slot, OUTBOX_EVENT_KEY, job->key);
}

/*
 * Events are copied in commit order; those without a known time first, by seq.  The
 * order must stay what it was when the job began, or its position would mean
 * something else.
 */
static void
set_order(const OutboxReplayJob *job, const OutboxReplayScan *scan, OutboxEntry *entry)
{
	TimestampTz time = 0;

	entry->rank = OUTBOX_RANK_UNTIMED;
	entry->order = entry->seq;
	if (entry->txid < job->timed_from)
		return;
	if (entry->txid < scan->timed_from)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("commit times of events of this replay are no longer kept"),
				 errhint("Cancel it and replay from the created_at of the last copy on.")));
	if (TransactionIdGetCommitTsData((TransactionId) entry->txid, &time, NULL) && time != 0)
	{
		entry->rank = OUTBOX_RANK_TIMED;
		entry->order = time;
	}
}

/* What take_event needs; an OutboxEventVisitor's argument. */
typedef struct PlanFill
{
	const OutboxReplayJob  *job;
	const OutboxReplayScan *scan;
	OutboxReplayPlan	   *plan;
} PlanFill;

static void
take_event(void *arg, int leaf, uint64 txid, int64 seq, TupleTableSlot *slot)
{
	PlanFill   *fill = arg;
	OutboxEntry entry = {
		.txid = txid,
		.seq = seq,
		.block = ItemPointerGetBlockNumber(&slot->tts_tid),
		.offset = ItemPointerGetOffsetNumber(&slot->tts_tid),
		.leaf = (uint8) leaf,
	};

	slot_getallattrs(slot);
	if (!is_wanted(fill->job, slot, txid))
		return;
	set_order(fill->job, fill->scan, &entry);
	outbox_replay_plan_add(fill->plan, &entry);
}

void
outbox_replay_scan_start(OutboxReplayScan *scan, OutboxReplayPlan *plan)
{
	outbox_replay_plan_clear(plan);
	scan->leaf = 0;
	scan->txid = 0;
	scan->timed_from = outbox_commit_times_from();
}

bool
outbox_replay_scan(const OutboxReplayJob *job, OutboxReplayScan *scan, OutboxReplayPlan *plan)
{
	PlanFill fill = {job, scan, plan};
	bool	 first = scan->txid == 0;
	Oid		 filenode;

	scan->txid = outbox_event_scan_piece(scan->leaf, scan->txid, job->snapshot.xmax, SCAN_EVENTS,
										 &filenode, take_event, &fill);
	if (first)
		scan->filenodes[scan->leaf] = filenode;
	if (scan->filenodes[scan->leaf] != filenode)
	{
		outbox_replay_scan_start(scan, plan);
		return false;
	}
	if (scan->txid != 0)
		return false;
	if (++scan->leaf < OUTBOX_LEAVES)
		return false;
	outbox_replay_plan_finish(plan);
	return true;
}

/* ----------------------------------------------------------------- copy */

void
outbox_replay_copy(const OutboxReplayJob *job, const OutboxReplayScan *scan,
				   const OutboxReplayPlan *plan, const OutboxReplayHolds *holds, int most,
				   OutboxReplayDone *done)
{
	OutboxCopyChanges changes = {
		.target_topic = job->target_topic,
		.headers = job->headers,
		.header_count = job->header_count,
	};
	OutboxCopier	 copier;
	OutboxLeafReader reader = {0};

	memset(done, 0, sizeof(*done));
	done->locked = !outbox_copy_begin(&copier, &changes);
	if (done->locked)
		return;
	while (done->taken < most && plan->next + done->taken < plan->count && done->bytes < COPY_BYTES)
	{
		const OutboxEntry *entry = &plan->entries[plan->next + done->taken];
		TupleTableSlot	  *slot = outbox_leaf_reader_fetch(&reader, scan->filenodes, entry);
		text			  *topic;

		if (slot == NULL)
		{
			done->stale = true;
			break;
		}
		done->taken++;
		topic = outbox_replay_holds_find(holds, slot, entry->txid, entry->seq);
		if (topic == NULL)
			done->bytes += outbox_copy_event(&copier, slot);
		else
		{
			done->held++;
			done->held_topic = topic;
		}
		CHECK_FOR_INTERRUPTS();
	}
	outbox_leaf_reader_close(&reader);
	outbox_copy_end(&copier);
}
