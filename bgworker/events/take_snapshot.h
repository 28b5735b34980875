/* SPDX-License-Identifier: PostgreSQL
 *
 * take_snapshot.h
 *	  Snapshots of PostgreSQL as sets of transactions, and their text.
 *
 * Process: the relay.
 */
#ifndef OUTBOX_TAKE_SNAPSHOT_H
#define OUTBOX_TAKE_SNAPSHOT_H

#include "utils/palloc.h"

#include "snapshot.h"

/*
 * Inside a transaction with an active snapshot: that snapshot as a set; xip is allocated in
 * context.
 */
extern void outbox_snapshot_take(MemoryContext context, OutboxSnapshot *snapshot);

extern void outbox_snapshot_copy(MemoryContext context, OutboxSnapshot *to,
								 const OutboxSnapshot *from);

/* The text of a pg_snapshot, in the current context, and back; ERROR when it is none. */
extern char *outbox_snapshot_format(const OutboxSnapshot *snapshot);
extern void outbox_snapshot_parse(const char *text, MemoryContext context,
								  OutboxSnapshot *snapshot);

/*
 * Inside a transaction.  Runs a query whose $1 and $2 are lower's xmax and its list: rows with
 * txids that lower does not see, or may not.  Their number; SPI_tuptable has them, to be freed.
 */
extern uint64 outbox_snapshot_select_beyond(const char *query, const OutboxSnapshot *lower);

#endif /* OUTBOX_TAKE_SNAPSHOT_H */
