/* SPDX-License-Identifier: PostgreSQL
 *
 * divergence.c
 *	  Cursor and tables disagree: who decides, and how it ends.
 *
 * Runs in the relay.  Afterwards a new batch row without events is the base; what
 * `resend` keeps is above it, what `skip` drops is below it.  A copy gets an installation
 * of its own, so it cannot fence the database it was copied from.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/xid8.h"

#include "divergence.h"
#include "hold_rows.h"
#include "last.h"
#include "transition.h"
#include "bgworker/events/event_scan.h"
#include "bgworker/events/retention.h"
#include "bgworker/events/take_snapshot.h"
#include "bgworker/session.h"
#include "src/fault.h"
#include "src/guc.h"

static void
run(const char *command)
{
	if (SPI_execute(command, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", command);
}

/*
 * A dump carries transaction ids of another server.  Inside its own numbering the last batch row
 * still says which events are delivered: those get the oldest id, the others that of this
 * transaction.  An event emitted here since the restore is not judged by that numbering: its row's
 * xmin stands for one transaction, that of a COPY for many.  What a held topic waits with comes
 * with the others, whatever batch left it out.
 */
static void
restamp_events(const OutboxBatchRow *last, bool resend)
{
	const OutboxSnapshot *lower = &last->range.lower;
	StringInfoData		  command;

	initStringInfo(&command);
	appendStringInfo(&command,
					 "ALTER TABLE ONLY outbox.event DISABLE TRIGGER refuse_change; "
					 "SELECT outbox.topic_hold_restamp(%s); "
					 "UPDATE outbox.event SET txid = CASE WHEN txid = '4' THEN '3'::xid8 "
					 "WHEN txid = '5' THEN pg_current_xact_id() ",
					 resend ? quote_literal_cstr(outbox_snapshot_format(lower)) : "NULL");
	if (resend)
	{
		appendStringInfo(&command, "WHEN txid >= '" UINT64_FORMAT "'::xid8", lower->xmax);
		for (uint32 i = 0; i < lower->nxip; i++)
			appendStringInfo(&command, " OR txid = '" UINT64_FORMAT "'::xid8", lower->xip[i]);
		appendStringInfoString(&command,
							   " OR xmin::text NOT IN (SELECT xmin::text FROM outbox.event "
							   "GROUP BY 1 HAVING count(DISTINCT txid) > 1)"
							   " THEN pg_current_xact_id() ");
	}
	appendStringInfoString(&command,
						   "ELSE '3'::xid8 END; ALTER TABLE ONLY outbox.event ENABLE ALWAYS "
						   "TRIGGER refuse_change");
	run(command.data);
}

/*
 * Dead letters follow their events: what is left out stays so.  No transaction of this server has
 * emitted letters again.
 */
static void
restamp_letters(void)
{
	run("UPDATE outbox.dead_letter SET txid = '3', reissue_txid = NULL WHERE origin = 'relay'; "
		"UPDATE outbox.dead_letter d SET txid = e.txid FROM outbox.event e "
		"WHERE d.origin = 'relay' AND e.id = d.event_id AND e.seq = d.seq");
}

/* The range of the base: nothing, at the place where sending goes on. */
static void
choose_base(OutboxRelay *relay, bool resend, const OutboxBatchRow *oldest, OutboxBatchRow *base)
{
	OutboxSnapshot *place = &base->range.upper;

	if (relay->comparison.kind == OUTBOX_RESTORED || !resend)
		outbox_snapshot_take(relay->scratch, place);
	else if (relay->comparison.last_delivered)
	{
		outbox_snapshot_copy(relay->scratch, place, &relay->last.range.upper);
		base->range.upper_at = relay->last.range.upper_at;
	}
	else
	{
		outbox_snapshot_copy(relay->scratch, place, &oldest->range.lower);
		base->range.upper_at = oldest->range.lower_at;
	}
	base->range.lower = *place;
	base->range.lower_at = base->range.upper_at;
}

/*
 * Before the commit, so that the log tells of doubles also when a crash follows it and the counter
 * begins anew.
 */
static void
announce(const OutboxBatchRow *base, bool resend)
{
	ereport(LOG,
			(errmsg("outbox relay: ending the divergence by %s, batch " INT64_FORMAT
					" becomes the new base",
					resend ? "resend" : "skip", base->batch_no),
			 resend ? errdetail("Events that Kafka has already may be sent again.") : 0));
}

/* An OutboxEventVisitor. */
static void
count_event(void *arg, int leaf, uint64 txid, int64 seq, TupleTableSlot *slot)
{
	(*(int64 *) arg)++;
}

/* The events of the batches first to last, of which Kafka may have any. */
static int64
count_batches(int64 first, int64 last)
{
	char *query = psprintf("SELECT coalesce(sum(events), 0)::bigint FROM outbox.batch"
						   " WHERE batch_no BETWEEN " INT64_FORMAT " AND " INT64_FORMAT,
						   first, last);
	bool  isnull;

	if (SPI_execute(query, true, 0) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not run \"%s\"", query);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/*
 * Counts what Kafka may now get a second time.  Where Kafka is behind, what was in no batch here
 * was never sent; otherwise another history may have sent all that lies above the base.
 */
static int64
count_doubled(const OutboxRelay *relay, const OutboxBatchRow *oldest, int64 old_last)
{
	const OutboxComparison *comparison = &relay->comparison;
	OutboxRange above = {.lower = relay->last.range.upper, .lower_at = relay->last.range.upper_at};
	int64		doubled = 0;

	outbox_session_begin();
	if (comparison->kind == OUTBOX_LOST_HISTORY && comparison->kafka_batch >= 0 &&
		(comparison->letters_lost || comparison->kafka_batch < old_last - 1))
		doubled = count_batches(oldest->batch_no, old_last);
	else
	{
		outbox_snapshot_take(CurrentMemoryContext, &above.upper);
		outbox_event_scan(&above, NULL, count_event, &doubled);
	}
	outbox_session_end();
	return doubled;
}

/* Says what was done, and counts what Kafka may now get a second time. */
static void
tell(OutboxRelay *relay, bool resend, const OutboxBatchRow *oldest, int64 old_last)
{
	int64 doubled = resend ? count_doubled(relay, oldest, old_last) : 0;

	outbox_relay_count_doubled(relay, doubled);
	ereport(LOG,
			(errmsg("outbox relay: divergence ended by %s, batch " INT64_FORMAT " is the new base",
					resend ? "resend" : "skip", relay->last.batch_no),
			 errdetail(INT64_FORMAT " events are sent that Kafka may have already.", doubled)));
}

void
outbox_divergence_adopt(OutboxRelay *relay, bool resend)
{
	OutboxBatchRow base = {0};
	OutboxBatchRow oldest = relay->last;
	int64		   kafka_batch = relay->comparison.kafka_batch;
	int64		   old_last = relay->last.batch_no;

	/* Kafka has lost commits: all it does not have is repeated, if the rows are still here */
	if (relay->comparison.kind == OUTBOX_LOST_HISTORY && kafka_batch >= 0 &&
		kafka_batch + 1 < relay->last.batch_no &&
		!outbox_batch_log_load(kafka_batch + 1, relay->scratch, &oldest))
		oldest = relay->last;

	outbox_session_begin();
	choose_base(relay, resend, &oldest, &base);
	if (relay->comparison.kind == OUTBOX_RESTORED)
	{
		restamp_events(&relay->last, resend);
		restamp_letters();
	}
	else if (resend && !relay->comparison.last_delivered)
		outbox_hold_forget_batches(oldest.batch_no);
	outbox_identity_adopt(&relay->identity, relay->comparison.kind != OUTBOX_LOST_HISTORY);
	base.batch_no = Max(relay->last.batch_no, kafka_batch) + 1;
	outbox_batch_log_insert(&base, outbox_retention_batch_leaf(), &relay->identity);
	announce(&base, resend);
	OUTBOX_FAULT("adopt-uncommitted");
	outbox_session_end();
	OUTBOX_FAULT("adopt-committed");
	relay->row_end = XactLastCommitEnd;
	relay->until_commit.overruled = true;
	/* read everything anew; the sender gets the installation's new name */
	outbox_relay_drop_sender(relay, false);
	outbox_relay_begin_anew(relay, 0);
	outbox_last_read(relay); /* of the new base no bytes are owed */
	tell(relay, resend, &oldest, old_last);
}

void
outbox_divergence_decide(OutboxRelay *relay)
{
	OutboxComparison *comparison = &relay->comparison;

	outbox_start_mend_reason(comparison, GetDatabaseEncoding());
	/* no setting may have two servers send, nor end a restore that may still be bringing events */
	if (comparison->kind == OUTBOX_COPY)
		outbox_identity_keep_hold(comparison->reason, comparison->last_delivered);
	if (outbox_guc_on_divergence == OUTBOX_DIVERGENCE_HOLD ||
		comparison->kind != OUTBOX_LOST_HISTORY)
	{
		outbox_relay_hold(relay, comparison->reason);
		return;
	}
	ereport(LOG,
			(errmsg("outbox relay: %s", comparison->reason),
			 errdetail("outbox.on_divergence decides: %s.",
					   outbox_guc_on_divergence == OUTBOX_DIVERGENCE_RESEND ? "resend" : "skip")));
	outbox_divergence_adopt(relay, outbox_guc_on_divergence == OUTBOX_DIVERGENCE_RESEND);
}
