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
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "replay_copy.h"
#include "bgworker/events/event_columns.h"
#include "bgworker/events/event_scan.h"
#include "bgworker/events/leaf_reader.h"
#include "bgworker/events/window.h"
#include "src/event_store.h"
#include "src/leaf.h"

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

/* The event's own headers, then the job's. */
static bytea *
make_headers(const OutboxReplayJob *job, const bytea *own)
{
	OutboxHeaderReader reader;
	size_t			   own_size = 0;
	size_t			   size;
	bytea			  *made;
	uint8_t			  *end;

	outbox_headers_read(&reader, own != NULL ? (const uint8_t *) VARDATA_ANY(own) : NULL,
						own != NULL ? VARSIZE_ANY_EXHDR(own) : 0);
	if (reader.bad)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the headers of an event are not in Kafka's encoding")));
	if (own != NULL)
		own_size = reader.end - reader.pos;
	size = outbox_varint_size(reader.left + job->header_count) + own_size;
	for (int i = 0; i < job->header_count; i++)
		size += outbox_header_size(&job->headers[i]);
	made = palloc(VARHDRSZ + size);
	SET_VARSIZE(made, VARHDRSZ + size);
	end = outbox_varint_put((uint8_t *) VARDATA(made), reader.left + job->header_count);
	if (own_size > 0)
		memcpy(end, reader.pos, own_size);
	end += own_size;
	for (int i = 0; i < job->header_count; i++)
		end = outbox_header_put(end, &job->headers[i]);
	return made;
}

static struct varlena *
get_varlena(TupleTableSlot *slot, int column)
{
	return slot->tts_isnull[column - 1] ? NULL : PG_DETOAST_DATUM_PACKED(get_column(slot, column));
}

/* Returns the copy's bytes, as src/backlog.h counts them. */
static int64
copy_event(const OutboxReplayJob *job, TupleTableSlot *slot, TimestampTz now)
{
	OutboxEvent event = {
		.topic =
			job->target_topic != NULL ? job->target_topic : get_varlena(slot, OUTBOX_EVENT_TOPIC),
		.key = get_varlena(slot, OUTBOX_EVENT_KEY),
		.type = get_varlena(slot, OUTBOX_EVENT_TYPE),
		.payload = get_varlena(slot, OUTBOX_EVENT_PAYLOAD),
		.content_type = get_varlena(slot, OUTBOX_EVENT_CONTENT_TYPE),
	};
	bytea *own = get_varlena(slot, OUTBOX_EVENT_HEADERS);

	event.headers = make_headers(job, own);
	if (job->target_topic != NULL)
		outbox_emit_check_topic(&event); /* its own topic has taken it */
	outbox_event_store_insert(&event, DatumGetUUIDP(get_column(slot, OUTBOX_EVENT_ID)),
							  DatumGetTimestampTz(get_column(slot, OUTBOX_EVENT_CREATED_AT)), now);
	return outbox_event_size(&event);
}

/* What a copy is written to, in the order of event_store.c; false: somebody has locked it. */
static bool
lock_target(void)
{
	return ConditionalLockRelationOid(outbox_leaf_ring(), RowExclusiveLock) &&
		ConditionalLockRelationOid(outbox_leaf_relation(outbox_leaf_current()), RowExclusiveLock);
}

int
outbox_replay_copy(const OutboxReplayJob *job, const OutboxReplayScan *scan,
				   const OutboxReplayPlan *plan, int most, int64 *bytes, bool *stale)
{
	MemoryContext	 context;
	MemoryContext	 outside;
	OutboxLeafReader reader = {0};
	TupleTableSlot	*slot;
	TimestampTz		 now = GetCurrentTimestamp();
	int				 copied = 0;

	*bytes = 0;
	*stale = false;
	if (!lock_target())
		return -1;
	context = AllocSetContextCreate(CurrentMemoryContext, "outbox copy", ALLOCSET_DEFAULT_SIZES);
	while (copied < most && plan->next + copied < plan->count && *bytes < COPY_BYTES)
	{
		slot =
			outbox_leaf_reader_fetch(&reader, scan->filenodes, &plan->entries[plan->next + copied]);
		if (slot == NULL)
		{
			*stale = true;
			break;
		}
		outside = MemoryContextSwitchTo(context);
		*bytes += copy_event(job, slot, now);
		copied++;
		MemoryContextSwitchTo(outside);
		MemoryContextReset(context);
		CHECK_FOR_INTERRUPTS();
	}
	outbox_leaf_reader_close(&reader);
	return copied;
}
