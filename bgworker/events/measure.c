/* SPDX-License-Identifier: PostgreSQL
 *
 * measure.c
 *	  Finds the size of events and of the backlog in the tables.
 *
 * Runs in the relay and in the probe.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "utils/memutils.h"

#include "event_columns.h"
#include "event_scan.h"
#include "measure.h"
#include "take_snapshot.h"
#include "bgworker/session.h"
#include "src/backlog.h"

#define PIECE_EVENTS 10000 /* of one transaction */

typedef struct Measure
{
	const OutboxRange *range; /* what counts */
	const OutboxRange *last;  /* of the last batch */
	int64			   last_bytes;
	int64			   bytes;
} Measure;

static int64
size_of(TupleTableSlot *slot, int column)
{
	return slot->tts_isnull[column - 1] ?
		0 :
		(int64) toast_raw_datum_size(slot->tts_values[column - 1]) - VARHDRSZ;
}

int64
outbox_measure_event(TupleTableSlot *slot)
{
	return size_of(slot, OUTBOX_EVENT_KEY) + size_of(slot, OUTBOX_EVENT_PAYLOAD) +
		size_of(slot, OUTBOX_EVENT_HEADERS);
}

/* An OutboxEventVisitor. */
static void
sum_sizes(void *arg, int leaf, uint64 txid, int64 seq, TupleTableSlot *slot)
{
	Measure *measure = arg;
	int64	 bytes;

	if (!outbox_range_holds(measure->range, txid, seq))
		return;
	slot_getallattrs(slot);
	bytes = outbox_measure_event(slot);
	measure->bytes += bytes;
	if (outbox_range_holds(measure->last, txid, seq))
		measure->last_bytes += bytes;
}

int64
outbox_measure_backlog(OutboxSlot *slot, const OutboxRange *last)
{
	OutboxRange range = {.lower = last->lower, .lower_at = last->lower_at};
	Measure		measure = {.range = &range, .last = last};
	int64		known = (int64) pg_atomic_read_u64(&slot->backlog);

	outbox_session_begin();
	outbox_snapshot_take(CurrentMemoryContext, &range.upper);
	outbox_event_scan(&range, NULL, sum_sizes, &measure);
	outbox_session_end();
	outbox_backlog_take(slot, known - measure.bytes);
	return measure.last_bytes;
}

bool
outbox_measure_up_to(OutboxSlot *slot, const OutboxRange *last, int64 limit)
{
	OutboxRange range = {.lower = last->lower, .lower_at = last->lower_at};
	Measure		measure = {.range = &range, .last = last};
	int64		known = (int64) pg_atomic_read_u64(&slot->backlog);
	uint64		from = outbox_snapshot_xmin(&range.lower);
	int			leaf = 0;

	outbox_session_begin();
	outbox_snapshot_take(TopMemoryContext, &range.upper);
	outbox_session_end();
	while (leaf < OUTBOX_LEAVES && measure.bytes <= limit)
	{
		Oid filenode;

		outbox_session_begin();
		from = outbox_event_scan_piece(leaf, from, range.upper.xmax, PIECE_EVENTS, &filenode,
									   sum_sizes, &measure);
		outbox_session_end();
		if (from != 0)
			continue;
		leaf++;
		from = outbox_snapshot_xmin(&range.lower);
	}
	outbox_backlog_take(slot, known - measure.bytes);
	return leaf == OUTBOX_LEAVES;
}
