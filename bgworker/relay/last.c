/* SPDX-License-Identifier: PostgreSQL
 *
 * last.c
 *	  The newest row of outbox.batch, as the relay keeps it, and its bytes of the backlog.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "last.h"
#include "bgworker/events/measure.h"
#include "bgworker/events/take_snapshot.h"
#include "bgworker/replay/release.h"
#include "src/backlog.h"

void
outbox_last_load(OutboxRelay *relay)
{
	MemoryContextReset(relay->last_context);
	if (!outbox_batch_log_load(-1, relay->last_context, &relay->last))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("outbox.batch is empty"),
				 errhint("Call outbox.start_relay() in this database.")));
}

void
outbox_last_read(OutboxRelay *relay)
{
	outbox_identity_read(&relay->identity);
	outbox_last_load(relay);
	relay->owed = outbox_measure_backlog(relay->slot, &relay->last.range);
	outbox_release_measure(relay->slot);
}

void
outbox_last_keep(OutboxRelay *relay, const OutboxBatchRow *row, int64 bytes)
{
	OutboxRange *range = &relay->last.range;

	MemoryContextReset(relay->last_context);
	relay->last = *row;
	outbox_snapshot_copy(relay->last_context, &range->lower, &row->range.lower);
	outbox_snapshot_copy(relay->last_context, &range->upper, &row->range.upper);
	relay->owed = bytes;
}

void
outbox_last_take_off(OutboxRelay *relay)
{
	if (relay->delivered < relay->last.batch_no)
		return;
	outbox_backlog_take(relay->slot, relay->owed);
	relay->owed = 0;
}
