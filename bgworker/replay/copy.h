/* SPDX-License-Identifier: PostgreSQL
 *
 * copy.h
 *	  One event written into the ring again, with the same id.
 *
 * Process: the relay, inside a transaction.  A copy is an ordinary event (I1); copied_at tells it
 * from an original.
 */
#ifndef OUTBOX_COPY_H
#define OUTBOX_COPY_H

#include "executor/tuptable.h"
#include "utils/timestamp.h"

#include "src/common/kafka_headers.h"

/* What a copy has other than its event. */
typedef struct OutboxCopyChanges
{
	text			   *target_topic; /* NULL: the event's own */
	const OutboxHeader *headers;	  /* behind the event's own */
	int					header_count;
} OutboxCopyChanges;

/* What copies are written to, until the transaction ends; false: somebody has locked it. */
extern bool outbox_copy_lock_target(void);

/*
 * Copies the event in slot, whose columns are read, into the current leaf; the target is locked.
 * Returns its bytes as src/backlog.h counts them.  Another topic than its own may refuse it, as
 * emit() would.  What it allocates stays in the current context.
 */
extern int64 outbox_copy_event(const OutboxCopyChanges *changes, TupleTableSlot *slot,
							   TimestampTz now);

#endif /* OUTBOX_COPY_H */
