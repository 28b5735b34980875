/* SPDX-License-Identifier: PostgreSQL
 *
 * window.c
 *	  The events between two snapshots, in order (I1).
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "access/commit_ts.h"
#include "access/transam.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "entries.h"
#include "event_scan.h"
#include "take_snapshot.h"
#include "window.h"
#include "src/clock_step.h"
#include "src/compat.h"

typedef struct WindowScan
{
	OutboxWindow	 *window;
	OutboxReissues	  reissues;
	OutboxEntryWriter writer;
	uint64			  oldest_timed; /* no commit time is kept below it */
	uint64			  last_txid;	/* rank and order of this one are known: */
	int64			  last_order;
	uint8			  last_rank;
	TimestampTz		  newest; /* of the commit times */
} WindowScan;

uint64
outbox_commit_times_from(void)
{
	uint64		  next = U64FromFullTransactionId(ReadNextFullTransactionId());
	TransactionId oldest;
	uint64		  full;

	if (!track_commit_timestamp)
		return PG_UINT64_MAX;
	LWLockAcquire(CommitTsLock, LW_SHARED);
	oldest = outbox_compat_transam()->oldestCommitTsXid;
	LWLockRelease(CommitTsLock);
	if (!TransactionIdIsNormal(oldest))
		return PG_UINT64_MAX;
	full = (next & ~UINT64CONST(0xFFFFFFFF)) | oldest;
	return full > next ? full - (UINT64CONST(1) << 32) : full;
}

/*
 * Was the wall clock set back while the window's transactions committed?  Their commit times are
 * not their order then.
 */
static bool
has_clock_stepped_back(const OutboxRange *range)
{
	outbox_clock_step_watch(GetCurrentTimestamp());
	return range->lower.xmax <= outbox_clock_step_last();
}

static void
look_up_order(WindowScan *scan, uint64 txid)
{
	TimestampTz time = 0;

	if (txid == scan->last_txid)
		return;
	scan->last_txid = txid;
	if (txid == scan->window->range.lower_at.txid)
		scan->last_rank = OUTBOX_RANK_BEGUN;
	else if (outbox_txid_is_in(txid, scan->reissues.txids, scan->reissues.count))
		scan->last_rank = OUTBOX_RANK_REISSUED;
	else if (txid >= scan->oldest_timed &&
			 TransactionIdGetCommitTsData((TransactionId) txid, &time, NULL) && time != 0)
		scan->last_rank = OUTBOX_RANK_TIMED;
	else
		scan->last_rank = OUTBOX_RANK_UNTIMED;
	scan->last_order = scan->last_rank == OUTBOX_RANK_TIMED ? time : 0;
	scan->newest = Max(scan->newest, scan->last_order);
}

/* An OutboxEventVisitor. */
static void
add_entry(void *arg, int leaf, uint64 txid, int64 seq, TupleTableSlot *slot)
{
	WindowScan *scan = arg;
	OutboxEntry entry = {.txid = txid, .seq = seq, .leaf = (uint8) leaf};

	look_up_order(scan, txid);
	entry.order = scan->last_order;
	entry.rank = scan->last_rank;
	entry.block = ItemPointerGetBlockNumber(&slot->tts_tid);
	entry.offset = ItemPointerGetOffsetNumber(&slot->tts_tid);
	outbox_entries_put(&scan->writer, &entry);
}

/* Returns the newest commit time that counted, 0 when none did. */
static TimestampTz
scan_window(OutboxWindow *window, OutboxReissues reissues, uint64 oldest_timed)
{
	WindowScan scan = {.window = window, .reissues = reissues, .oldest_timed = oldest_timed};

	outbox_entries_begin(&scan.writer, window->context);
	outbox_event_scan(&window->range, window->filenodes, add_entry, &scan);
	window->count = scan.writer.count;
	window->entries = outbox_entries_finish(&scan.writer);
	return scan.newest;
}

/* window->range is set. */
static void
fill_window(OutboxWindow *window, OutboxReissues reissues)
{
	uint64 oldest_timed =
		has_clock_stepped_back(&window->range) ? PG_UINT64_MAX : outbox_commit_times_from();

	window->commit_order = track_commit_timestamp;
	if (scan_window(window, reissues, oldest_timed) > GetCurrentTimestamp())
		/* it was set back while the server was down */
		(void) scan_window(window, reissues, PG_UINT64_MAX);
}

void
outbox_window_close(OutboxWindow *window)
{
	window->count = window->next = 0;
	window->entries = NULL;
	MemoryContextReset(window->context);
}

bool
outbox_window_open(OutboxWindow *window, const OutboxSnapshot *lower,
				   const OutboxPosition *lower_at, const OutboxSnapshot *upper,
				   OutboxReissues reissues)
{
	outbox_window_close(window);
	outbox_snapshot_copy(window->context, &window->range.lower, lower);
	window->range.lower_at = *lower_at;
	if (upper != NULL)
		outbox_snapshot_copy(window->context, &window->range.upper, upper);
	else
		outbox_snapshot_take(window->context, &window->range.upper);
	memset(&window->range.upper_at, 0, sizeof(window->range.upper_at));
	fill_window(window, reissues);
	return window->count > 0;
}

void
outbox_window_reopen(OutboxWindow *window, const OutboxRange *range, OutboxReissues reissues)
{
	outbox_window_close(window);
	outbox_snapshot_copy(window->context, &window->range.lower, &range->lower);
	outbox_snapshot_copy(window->context, &window->range.upper, &range->upper);
	window->range.lower_at = range->lower_at;
	window->range.upper_at = range->upper_at;
	fill_window(window, reissues);
}
