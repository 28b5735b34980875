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
#include "src/segment.h"
#include "src/shmem.h"

/* One leaf and its index, open. */
typedef struct LeafScan
{
	int				segment;
	Relation		leaf;
	Relation		index; /* NULL: the leaf has no blocks */
	IndexScanDesc	scan;
	TupleTableSlot *slot;
} LeafScan;

static void
open_leaf(LeafScan *leaf, int segment)
{
	leaf->segment = segment;
	leaf->leaf = table_open(outbox_segment_relation(segment), AccessShareLock);
	outbox_event_check_columns(leaf->leaf);
	leaf->index = NULL;
	if (RelationGetNumberOfBlocks(leaf->leaf) == 0)
		return;
	leaf->index = outbox_segment_open_index(leaf->leaf);
	leaf->slot = table_slot_create(leaf->leaf, NULL);
	leaf->scan = outbox_compat_index_beginscan(leaf->leaf, leaf->index, GetActiveSnapshot(), 2);
}

static void
close_leaf(LeafScan *leaf)
{
	if (leaf->index != NULL)
	{
		index_endscan(leaf->scan);
		ExecDropSingleTupleTableSlot(leaf->slot);
		index_close(leaf->index, NoLock);
	}
	table_close(leaf->leaf, NoLock);
}

/* Restricts the scan to transactions from <= txid < end. */
static void
seek_txids(LeafScan *leaf, uint64 from, uint64 end)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_XID8GE,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(from)));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_XID8LT,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(end)));
	index_rescan(leaf->scan, keys, 2, NULL, 0);
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
visit_txids(LeafScan *leaf, uint64 from, uint64 end, const OutboxRange *range,
			OutboxEventVisitor visit, void *arg)
{
	seek_txids(leaf, from, end);
	while (index_getnext_slot(leaf->scan, ForwardScanDirection, leaf->slot))
	{
		uint64 txid = get_txid(leaf->slot);
		int64  seq = DatumGetInt64(leaf->slot->tts_values[OUTBOX_EVENT_SEQ - 1]);

		CHECK_FOR_INTERRUPTS();
		OUTBOX_MUTATE("xmin", txid = outbox_fault_tuple_xmin(leaf->slot));
		if (outbox_range_holds(range, txid, seq))
			visit(arg, leaf->segment, txid, seq, leaf->slot);
	}
}

void
outbox_event_scan(const OutboxRange *range, Oid *filenodes, OutboxEventVisitor visit, void *arg)
{
	const OutboxSnapshot *lower = &range->lower;
	uint64				  end = Max(range->upper.xmax, range->upper_at.txid + 1);

	for (int segment = 0; segment < OUTBOX_SEGMENTS; segment++)
	{
		LeafScan leaf;

		open_leaf(&leaf, segment);
		if (filenodes != NULL)
			filenodes[segment] = outbox_compat_file_node(leaf.leaf);
		if (leaf.index != NULL)
		{
			visit_txids(&leaf, lower->xmax, end, range, visit, arg);
			for (uint32 i = 0; i < lower->nxip; i++)
			{
				uint64 txid = lower->xip[i];

				if (outbox_snapshot_sees(&range->upper, txid) || txid == range->upper_at.txid)
					visit_txids(&leaf, txid, txid + 1, range, visit, arg);
			}
		}
		close_leaf(&leaf);
	}
}

uint64
outbox_event_scan_piece(int segment, uint64 from, uint64 end, int most, Oid *filenode,
						OutboxEventVisitor visit, void *arg)
{
	LeafScan leaf;
	uint64	 last = 0;
	uint64	 rest = 0;

	open_leaf(&leaf, segment);
	*filenode = outbox_compat_file_node(leaf.leaf);
	if (leaf.index != NULL)
	{
		seek_txids(&leaf, from, end);
		for (int visited = 0; index_getnext_slot(leaf.scan, ForwardScanDirection, leaf.slot);
			 visited++)
		{
			uint64 txid = get_txid(leaf.slot);

			CHECK_FOR_INTERRUPTS();
			if (visited >= most && txid != last)
			{
				rest = txid;
				break;
			}
			last = txid;
			visit(arg, segment, txid, DatumGetInt64(leaf.slot->tts_values[OUTBOX_EVENT_SEQ - 1]),
				  leaf.slot);
		}
	}
	close_leaf(&leaf);
	return rest;
}

bool
outbox_event_at_end(int segment, ScanDirection direction, uint64 *txid, TimestampTz *written_at)
{
	LeafScan leaf;
	bool	 found = false;

	open_leaf(&leaf, segment);
	if (leaf.index != NULL)
	{
		seek_txids(&leaf, 0, PG_UINT64_MAX);
		found = index_getnext_slot(leaf.scan, direction, leaf.slot);
		if (found)
		{
			*txid = get_txid(leaf.slot);
			*written_at = get_written_at(leaf.slot);
		}
	}
	close_leaf(&leaf);
	return found;
}

bool
outbox_event_exists(int segment, uint64 txid)
{
	LeafScan leaf;
	bool	 found = false;

	open_leaf(&leaf, segment);
	if (leaf.index != NULL)
	{
		seek_txids(&leaf, txid, txid + 1);
		found = index_getnext_slot(leaf.scan, ForwardScanDirection, leaf.slot);
	}
	close_leaf(&leaf);
	return found;
}
