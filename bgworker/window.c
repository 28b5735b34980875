/* SPDX-License-Identifier: PostgreSQL
 *
 * window.c
 *	  The events between two snapshots, in order (I1).
 *
 * Runs in the relay.  Two kinds of index scan on each leaf find them: lower.xmax <= txid < upper.xmax,
 * and txid IN (lower.xip).
 * Whether an event belongs is decided by its txid column, besides the tuple's
 * own visibility: rows that were restored or applied carry txids this server never
 * ran.
 */
#include "postgres.h"

#include "access/commit_ts.h"
#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/htup_details.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lwlock.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "batch.h"
#include "event_columns.h"
#include "session.h"
#include "src/segment.h"

#define FIRST_ROOM	64

typedef struct WindowScan
{
	OutboxWindow *window;
	size_t		room;
	int			segment;
	uint64		oldest_timed;	/* no commit time is kept below it */
	uint64		last_txid;		/* rank and order of this one are known: */
	int64		last_order;
	uint8		last_rank;
} WindowScan;

/* Oldest transaction whose commit time can be asked for; none: UINT64_MAX. */
static uint64
find_oldest_timed(void)
{
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());
	TransactionId oldest;
	uint64		full;

	if (!track_commit_timestamp)
		return PG_UINT64_MAX;
	LWLockAcquire(CommitTsLock, LW_SHARED);
	oldest = ShmemVariableCache->oldestCommitTsXid;
	LWLockRelease(CommitTsLock);
	if (!TransactionIdIsNormal(oldest))
		return PG_UINT64_MAX;
	full = (next & ~UINT64CONST(0xFFFFFFFF)) | oldest;
	return full > next ? full - (UINT64CONST(1) << 32) : full;
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
	else if (txid >= scan->oldest_timed &&
			 TransactionIdGetCommitTsData((TransactionId) txid, &time, NULL) && time != 0)
		scan->last_rank = OUTBOX_RANK_TIMED;
	else
		scan->last_rank = OUTBOX_RANK_UNTIMED;
	scan->last_order = scan->last_rank == OUTBOX_RANK_TIMED ? time : 0;
}

static void
add_entry(WindowScan *scan, TupleTableSlot *slot)
{
	OutboxWindow *window = scan->window;
	OutboxEntry *entry;
	uint64		txid;
	int64		seq;

	slot_getsomeattrs(slot, OUTBOX_EVENT_SEQ);
	txid = U64FromFullTransactionId(DatumGetFullTransactionId(slot->tts_values[OUTBOX_EVENT_TXID - 1]));
	seq = DatumGetInt64(slot->tts_values[OUTBOX_EVENT_SEQ - 1]);
	if (!outbox_range_holds(&window->range, txid, seq))
		return;

	if (window->count == scan->room)
	{
		scan->room *= 2;
		window->entries = repalloc_huge(window->entries, scan->room * sizeof(OutboxEntry));
	}
	look_up_order(scan, txid);
	entry = &window->entries[window->count++];
	entry->order = scan->last_order;
	entry->rank = scan->last_rank;
	entry->txid = txid;
	entry->seq = seq;
	entry->block = ItemPointerGetBlockNumber(&slot->tts_tid);
	entry->offset = ItemPointerGetOffsetNumber(&slot->tts_tid);
	entry->segment = (uint8) scan->segment;
}

/* Adds the events of transactions from <= txid < end. */
static void
scan_txids(WindowScan *scan, IndexScanDesc index_scan, TupleTableSlot *slot,
		   uint64 from, uint64 end)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_XID8GE,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(from)));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_XID8LT,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(end)));
	index_rescan(index_scan, keys, 2, NULL, 0);
	while (index_getnext_slot(index_scan, ForwardScanDirection, slot))
	{
		add_entry(scan, slot);
		if (scan->window->count % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
	}
}

static Oid
find_txid_index(Relation leaf)
{
	List	   *indexes = RelationGetIndexList(leaf);
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Oid			oid = lfirst_oid(cell);
		Relation	index = index_open(oid, AccessShareLock);
		bool		fits = index->rd_index->indisvalid &&
		index->rd_index->indkey.values[0] == OUTBOX_EVENT_TXID &&
		index->rd_rel->relam == BTREE_AM_OID &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);

		index_close(index, fits ? NoLock : AccessShareLock);
		if (fits)
			return oid;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("table \"outbox.%s\" has no valid index on txid", RelationGetRelationName(leaf)),
			 errhint("Make it again: REINDEX TABLE outbox.%s.", RelationGetRelationName(leaf))));
}

static void
scan_leaf(WindowScan *scan)
{
	OutboxWindow *window = scan->window;
	const OutboxSnapshot *lower = &window->range.lower;
	Relation	leaf = table_open(outbox_segment_relation(scan->segment), AccessShareLock);

	window->filenodes[scan->segment] = leaf->rd_node.relNode;
	if (RelationGetNumberOfBlocks(leaf) > 0)
	{
		Relation	index = index_open(find_txid_index(leaf), NoLock);
		TupleTableSlot *slot = table_slot_create(leaf, NULL);
		IndexScanDesc index_scan = index_beginscan(leaf, index, GetActiveSnapshot(), 2, 0);

		scan_txids(scan, index_scan, slot, lower->xmax,
				   Max(window->range.upper.xmax, window->range.upper_at.txid + 1));
		for (uint32 i = 0; i < lower->nxip; i++)
		{
			uint64		txid = lower->xip[i];

			if (outbox_snapshot_sees(&window->range.upper, txid) || txid == window->range.upper_at.txid)
				scan_txids(scan, index_scan, slot, txid, txid + 1);
		}
		index_endscan(index_scan);
		ExecDropSingleTupleTableSlot(slot);
		index_close(index, NoLock);
	}
	table_close(leaf, NoLock);
}

/* Inside a transaction; window->range is set. */
static void
fill_window(OutboxWindow *window)
{
	WindowScan	scan = {.window = window, .room = FIRST_ROOM};

	window->commit_order = track_commit_timestamp;
	window->count = window->next = 0;
	window->entries = MemoryContextAlloc(window->context, FIRST_ROOM * sizeof(OutboxEntry));
	scan.oldest_timed = find_oldest_timed();
	for (scan.segment = 0; scan.segment < OUTBOX_SEGMENTS; scan.segment++)
		scan_leaf(&scan);
	if (window->count == 0)
		return;
	outbox_entries_sort(window->entries, window->count);
	window->lowest = MemoryContextAllocHuge(window->context,
											(window->count / OUTBOX_CUT_BLOCK + 1) * sizeof(uint64));
	outbox_cut_index(window->entries, window->count, window->lowest);
}

bool
outbox_window_open(OutboxWindow *window, const OutboxSnapshot *lower,
				   const OutboxPosition *lower_at, const OutboxSnapshot *upper)
{
	MemoryContextReset(window->context);
	outbox_session_begin();
	outbox_cursor_copy_snapshot(window->context, &window->range.lower, lower);
	window->range.lower_at = *lower_at;
	if (upper != NULL)
		outbox_cursor_copy_snapshot(window->context, &window->range.upper, upper);
	else
		outbox_cursor_snapshot(window->context, &window->range.upper);
	memset(&window->range.upper_at, 0, sizeof(window->range.upper_at));
	fill_window(window);
	outbox_session_end();
	return window->count > 0;
}

void
outbox_window_reopen(OutboxWindow *window, const OutboxRange *range)
{
	MemoryContextReset(window->context);
	outbox_session_begin();
	outbox_cursor_copy_snapshot(window->context, &window->range.lower, &range->lower);
	outbox_cursor_copy_snapshot(window->context, &window->range.upper, &range->upper);
	window->range.lower_at = range->lower_at;
	window->range.upper_at = range->upper_at;
	fill_window(window);
	outbox_session_end();
}
