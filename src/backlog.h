/* SPDX-License-Identifier: PostgreSQL
 *
 * backlog.h
 *	  Bytes of committed events that are not delivered yet, and outbox.max_backlog.
 *
 * The figure is OutboxSlot.backlog of the database: emitting transactions add to it when they have
 * committed (or are prepared), the relay takes off what it has delivered.  Both happen a moment
 * after the fact, so it may be off by what is under way; the relay puts it right when it starts and
 * whenever nothing is unsent.  What a topic hold has left out of a delivered batch is counted for
 * its topic alone, from the tables when the relay starts.  Bytes of an event: key, payload,
 * headers, as outbox.max_event_bytes counts.
 */
#ifndef OUTBOX_BACKLOG_H
#define OUTBOX_BACKLOG_H

#include "shmem.h"

/*
 * Application backends, before an event of `bytes` is stored: counts it for the current
 * transaction or savepoint.  Past outbox.max_backlog: ERROR 53400, or one WARNING a transaction.
 */
extern void outbox_backlog_admit(const text *topic, int64 bytes);

/* End of the transaction: adds what it emitted to slot (NULL: no shared memory), or forgets it. */
extern void outbox_backlog_end(OutboxSlot *slot, bool committed);

/* Relay and probe: bytes were delivered (above zero) or found (below zero). */
extern void outbox_backlog_take(OutboxSlot *slot, int64 bytes);

/*
 * Relay: so many more bytes of a topic are held apart, or so many fewer.  They do not count as the
 * others': only events of the topic itself are refused for them.
 */
extern void outbox_backlog_hold(OutboxSlot *slot, const char *topic, size_t len, int64 bytes);

/* Relay: none are, of a topic or at all. */
extern void outbox_backlog_unhold(OutboxSlot *slot, const char *topic, size_t len);
extern void outbox_backlog_unhold_all(OutboxSlot *slot);

/* Bytes held apart of a topic; of one without an entry what those without have together. */
extern int64 outbox_backlog_held(OutboxSlot *slot, const char *topic, size_t len);

/* Of all topics, never below zero. */
extern int64 outbox_backlog_held_bytes(OutboxSlot *slot);

/* What is not delivered, never below zero. */
extern int64 outbox_backlog_bytes(OutboxSlot *slot);

#endif /* OUTBOX_BACKLOG_H */
