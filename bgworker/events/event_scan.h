/* SPDX-License-Identifier: PostgreSQL
 *
 * event_scan.h
 *	  Reads outbox.event through its leaves' indexes on txid (I1).
 *
 * Process: the relay and the probe, inside a transaction with an active
 * snapshot.  No planner, so no statistics or setting can turn a look-up into a
 * scan of a leaf.
 */
#ifndef OUTBOX_EVENT_SCAN_H
#define OUTBOX_EVENT_SCAN_H

#include "access/sdir.h"
#include "executor/tuptable.h"
#include "utils/timestamp.h"

#include "snapshot.h"

/* An event of the range: txid and seq are deformed, more on demand. */
typedef void (*OutboxEventVisitor)(void *arg, int leaf, uint64 txid, int64 seq,
								   TupleTableSlot *slot);

/*
 * Visits every event of the range once, in no order.  filenodes (NULL: not
 * wanted) gets the leaves' storage.  ERROR when a leaf has no valid index.
 */
extern void outbox_event_scan(const OutboxRange *range, Oid *filenodes, OutboxEventVisitor visit,
							  void *arg);

/*
 * Visits the events of transactions from <= txid < end of one leaf, in the order of txid, whole
 * transactions, until it has visited `most`: a single transaction is one piece however large,
 * interruptible.  Returns the first transaction it has not visited, 0 = none is left.  *filenode:
 * the leaf's storage.
 */
extern uint64 outbox_event_scan_piece(int leaf, uint64 from, uint64 end, int most, Oid *filenode,
									  OutboxEventVisitor visit, void *arg);

/*
 * The event at the beginning (ForwardScanDirection) or end of a leaf's index;
 * false: none is visible.  written_at: created_at, of a copy copied_at.
 */
extern bool outbox_event_at_end(int leaf, ScanDirection direction, uint64 *txid,
								TimestampTz *written_at);

/* Has the leaf a visible event of this transaction? */
extern bool outbox_event_exists(int leaf, uint64 txid);

#endif /* OUTBOX_EVENT_SCAN_H */
