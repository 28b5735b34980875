/* SPDX-License-Identifier: PostgreSQL
 *
 * event_store.h
 *	  Writes rows of outbox.event into the current leaf.
 *
 * Application backends; the relay, for copies.
 */
#ifndef OUTBOX_EVENT_STORE_H
#define OUTBOX_EVENT_STORE_H

#include "datatype/timestamp.h"
#include "emit.h"

/* Bytes of key, payload and headers, as src/backlog.h and outbox.max_event_bytes count them. */
extern int64 outbox_event_size(const OutboxEvent *event);

/* Where events go until the transaction ends: the current leaf and its indexes, open. */
typedef struct OutboxEventWriter OutboxEventWriter;

/*
 * Opens the current leaf.  Keeps ROW EXCLUSIVE on outbox.event and, locked after it, on the leaf
 * until the transaction ends: the relay cannot empty the leaf, and nobody can change what an INSERT
 * would have to do.  In the current context, which outlives the writer.
 */
extern OutboxEventWriter *outbox_event_store_open(void);

/*
 * Inserts the checked event with its index entries under the top-level transaction id.  copied_at:
 * 0 = not a copy.  What it allocates in the current context may go when it returns.
 */
extern void outbox_event_store_put(OutboxEventWriter *writer, const OutboxEvent *event,
								   const pg_uuid_t *id, TimestampTz created_at,
								   TimestampTz copied_at);
extern void outbox_event_store_close(OutboxEventWriter *writer);

/* The three for one event.  Application backend. */
extern void outbox_event_store_insert(const OutboxEvent *event, const pg_uuid_t *id,
									  TimestampTz created_at);

#endif /* OUTBOX_EVENT_STORE_H */
