/* SPDX-License-Identifier: PostgreSQL
 *
 * copy.h
 *	  Events written into the ring again, with the same id.
 *
 * Process: the relay, inside a transaction.  A copy is an ordinary event (I1); copied_at tells it
 * from an original.
 */
#ifndef OUTBOX_COPY_H
#define OUTBOX_COPY_H

#include "executor/tuptable.h"
#include "utils/timestamp.h"

#include "src/common/kafka_headers.h"
#include "src/event_store.h"

/* What a copy has other than its event. */
typedef struct OutboxCopyChanges
{
	text			   *target_topic; /* NULL: the event's own */
	const OutboxHeader *headers;	  /* behind the event's own */
	int					header_count;
} OutboxCopyChanges;

/* Copies of one transaction. */
typedef struct OutboxCopier
{
	const OutboxCopyChanges *changes;
	OutboxEventWriter		*writer;  /* NULL: nothing is copied yet */
	MemoryContext			 context; /* of one copy */
	TimestampTz				 now;
} OutboxCopier;

/*
 * Locks what copies are written to, until the transaction ends; false: somebody else has it locked.
 * changes stays as long as the copier.
 */
extern bool outbox_copy_begin(OutboxCopier *copier, const OutboxCopyChanges *changes);

/*
 * Copies the event in slot, whose columns are read, into the current leaf.  Returns its bytes as
 * src/backlog.h counts them.  Another topic than its own may refuse it, as emit() would.
 */
extern int64 outbox_copy_event(OutboxCopier *copier, TupleTableSlot *slot);
extern void outbox_copy_end(OutboxCopier *copier);

#endif /* OUTBOX_COPY_H */
