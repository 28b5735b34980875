/* SPDX-License-Identifier: PostgreSQL
 *
 * backlog.h
 *	  Bytes of committed events that are not delivered yet, and outbox.max_backlog.
 *
 * The figure is OutboxSlot.backlog of the database: emitting transactions add to it when they have
 * committed (or are prepared), the relay takes off what it has delivered.  Both happen a moment
 * after the fact, so it may be off by what is under way; the relay puts it right when it starts and
 * whenever nothing is unsent.  Bytes of an event: key, payload, headers, as outbox.max_event_bytes
 * counts.
 */
#ifndef OUTBOX_BACKLOG_H
#define OUTBOX_BACKLOG_H

#include "shmem.h"

/*
 * Application backends, before an event of `bytes` is stored: counts it for the current
 * transaction or savepoint.  Past outbox.max_backlog: ERROR 53400, or one WARNING a transaction.
 */
extern void outbox_backlog_admit(int64 bytes);

/* End of the transaction: adds what it emitted to slot (NULL: no shared memory), or forgets it. */
extern void outbox_backlog_end(OutboxSlot *slot, bool committed);

/* Relay and probe: bytes were delivered (above zero) or found (below zero). */
extern void outbox_backlog_take(OutboxSlot *slot, int64 bytes);

/* What is not delivered, never below zero. */
extern int64 outbox_backlog_bytes(OutboxSlot *slot);

#endif /* OUTBOX_BACKLOG_H */
