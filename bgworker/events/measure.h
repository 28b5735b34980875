/* SPDX-License-Identifier: PostgreSQL
 *
 * measure.h
 *	  Finds the size of events and of the backlog in the tables.
 *
 * Process: the relay when it starts, reads events or adopts; the probe of a database without a
 * relay that has a limit, once after a start of the server.
 */
#ifndef OUTBOX_MEASURE_H
#define OUTBOX_MEASURE_H

#include "executor/tuptable.h"

#include "snapshot.h"
#include "src/shmem.h"

/*
 * Own transaction, interruptible.  Sets slot's backlog to the bytes of `last`, the range of the
 * last batch, which may not be delivered, and of the events after it; what is added meanwhile is
 * kept.  Returns the bytes of the last batch.
 */
extern int64 outbox_measure_backlog(OutboxSlot *slot, const OutboxRange *last);

/*
 * The same in short transactions, so that no snapshot is held for long, and only until the
 * bytes exceed `limit`: false, then slot's backlog is at least what is set.  The process ends
 * soon after: what it allocates in TopMemoryContext is not freed.
 */
extern bool outbox_measure_up_to(OutboxSlot *slot, const OutboxRange *last, int64 limit);

/* Bytes of the event in slot, whose columns are read, as src/backlog.h counts them. */
extern int64 outbox_measure_event(TupleTableSlot *slot);

#endif /* OUTBOX_MEASURE_H */
