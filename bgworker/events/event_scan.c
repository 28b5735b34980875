/* SPDX-License-Identifier: PostgreSQL
 *
 * event_scan.c
 *	  Reads outbox.event through its leaves' indexes on txid (I1).
 *
 * Runs in the relay and in the probe.  Two kinds of index scan on each leaf find the events of a
 * range: lower.xmax <= txid < upper.xmax, and txid IN (lower.xip).  Whether an event belongs is
 * decided by its txid column, besides the tuple's own visibility: rows that were restored or
 * applied carry txids this server never ran.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "event_columns.h"
#include "event_scan.h"
#include "src/compat.h"
#include "src/event_shape.h"
#include "src/fault.h"
#include "src/leaf.h"
#include "src/shmem.h"

/* One leaf and its index, open. */
typedef struct LeafScan
{
	int				leaf;
	Relation		relation;
	Relation		index; /* NULL: the leaf has no blocks */
	IndexScanDesc	index_scan;
	TupleTableSlot *slot;
} LeafScan;

static void
open_leaf(LeafScan *scan, int leaf)
{
	scan->leaf = leaf;
	scan->relation = table_open(outbox_leaf_relation(leaf), AccessShareLock);
	outbox_event_check_columns(scan->relation);
	scan->index = NULL;
	if (RelationGetNumberOfBlocks(scan->relation) == 0)
		return;
	scan->index = outbox_leaf_open_index(scan->relation);
	scan->slot = table_slot_create(scan->relation, NULL);
	scan->index_scan =
		outbox_compat_index_beginscan(scan->relation, scan->index, GetActiveSnapshot(), 2);
}

static void
close_leaf(LeafScan *scan)
{
	if (scan->index != NULL)
	{
		index_endscan(scan->index_scan);
		ExecDropSingleTupleTableSlot(scan->slot);
		index_close(scan->index, NoLock);
	}
	table_close(scan->relation, NoLock);
}

/* Restricts the scan to transactions from <= txid < end. */
static void
seek_txids(LeafScan *scan, uint64 from, uint64 end)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_XID8GE,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(from)));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_XID8LT,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(end)));
	index_rescan(scan->index_scan, keys, 2, NULL, 0);
}

static uint64
get_txid(TupleTableSlot *slot)
{
	slot_getsomeattrs(slot, OUTBOX_EVENT_SEQ);
	return U64FromFullTransactionId(DatumGetFullTransactionId(slot->tts_values[OUTBOX_EVENT_TXID -
																			   1]));
}

/* A copy is as old as the replay that made it, whatever its created_at says. */
static TimestampTz
get_written_at(TupleTableSlot *slot)
{
	int column = OUTBOX_EVENT_COPIED_AT;

	slot_getallattrs(slot);
	if (slot->tts_isnull[column - 1])
		column = OUTBOX_EVENT_CREATED_AT;
	return DatumGetTimestampTz(slot->tts_values[column - 1]);
}

static void
visit_txids(LeafScan *scan, uint64 from, uint64 end, const OutboxRange *range,
			OutboxEventVisitor visit, void *arg)
{
	seek_txids(scan, from, end);
	while (index_getnext_slot(scan->index_scan, ForwardScanDirection, scan->slot))
	{
		uint64 txid = get_txid(scan->slot);
		int64  seq = DatumGetInt64(scan->slot->tts_values[OUTBOX_EVENT_SEQ - 1]);

		CHECK_FOR_INTERRUPTS();
		OUTBOX_MUTATE("xmin", txid = outbox_fault_tuple_xmin(scan->slot));
		if (outbox_range_holds(range, txid, seq))
			visit(arg, scan->leaf, txid, seq, scan->slot);
	}
}

void
outbox_event_scan(const OutboxRange *range, Oid *filenodes, OutboxEventVisitor visit, void *arg)
{
	const OutboxSnapshot *lower = &range->lower;
	uint64				  end = Max(range->upper.xmax, range->upper_at.txid + 1);

	for (int leaf = 0; leaf < OUTBOX_LEAVES; leaf++)
	{
		LeafScan scan;

		open_leaf(&scan, leaf);
		if (filenodes != NULL)
			filenodes[leaf] = outbox_compat_file_node(scan.relation);
		if (scan.index != NULL)
		{
			visit_txids(&scan, lower->xmax, end, range, visit, arg);
			for (uint32 i = 0; i < lower->nxip; i++)
			{
				uint64 txid = lower->xip[i];

				if (outbox_snapshot_sees(&range->upper, txid) || txid == range->upper_at.txid)
					visit_txids(&scan, txid, txid + 1, range, visit, arg);
			}
		}
		close_leaf(&scan);
	}
}

uint64
outbox_event_scan_piece(int leaf, uint64 from, uint64 end, int most, Oid *filenode,
						OutboxEventVisitor visit, void *arg)
{
	LeafScan scan;
	uint64	 last = 0;
	uint64	 rest = 0;

	open_leaf(&scan, leaf);
	*filenode = outbox_compat_file_node(scan.relation);
	if (scan.index != NULL)
	{
		seek_txids(&scan, from, end);
		for (int visited = 0; index_getnext_slot(scan.index_scan, ForwardScanDirection, scan.slot);
			 visited++)
		{
			uint64 txid = get_txid(scan.slot);

			CHECK_FOR_INTERRUPTS();
			if (visited >= most && txid != last)
			{
				rest = txid;
				break;
			}
			last = txid;
			visit(arg, leaf, txid, DatumGetInt64(scan.slot->tts_values[OUTBOX_EVENT_SEQ - 1]),
				  scan.slot);
		}
	}
	close_leaf(&scan);
	return rest;
}

bool
outbox_event_at_end(int leaf, ScanDirection direction, uint64 *txid, TimestampTz *written_at)
{
	LeafScan scan;
	bool	 found = false;

	open_leaf(&scan, leaf);
	if (scan.index != NULL)
	{
		seek_txids(&scan, 0, PG_UINT64_MAX);
		found = index_getnext_slot(scan.index_scan, direction, scan.slot);
		if (found)
		{
			*txid = get_txid(scan.slot);
			*written_at = get_written_at(scan.slot);
		}
	}
	close_leaf(&scan);
	return found;
}

bool
outbox_event_exists(int leaf, uint64 txid)
{
	LeafScan scan;
	bool	 found = false;

	open_leaf(&scan, leaf);
	if (scan.index != NULL)
	{
		seek_txids(&scan, txid, txid + 1);
		found = index_getnext_slot(scan.index_scan, ForwardScanDirection, scan.slot);
	}
	close_leaf(&scan);
	return found;
}
