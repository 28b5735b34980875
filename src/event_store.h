/* SPDX-License-Identifier: PostgreSQL
 *
 * event_store.h
 *	  Writes one row of outbox.event into the current leaf.
 */
#ifndef OUTBOX_EVENT_STORE_H
#define OUTBOX_EVENT_STORE_H

#include "datatype/timestamp.h"
#include "emit.h"

/* Bytes of key, payload and headers, as src/backlog.h and outbox.max_event_bytes count them. */
extern int64 outbox_event_size(const OutboxEvent *event);

/*
 * Inserts the checked event with its index entries under the top-level transaction id.  Application
 * backend, or the relay for a copy.  copied_at: 0 = not a copy.  Keeps ROW EXCLUSIVE on
 * outbox.event and, locked after it, on the leaf until the transaction ends: the relay cannot empty
 * the leaf, and nobody can change what an INSERT would have to do.
 */
extern void outbox_event_store_insert(const OutboxEvent *event, const pg_uuid_t *id,
									  TimestampTz created_at, TimestampTz copied_at);

#endif /* OUTBOX_EVENT_STORE_H */
