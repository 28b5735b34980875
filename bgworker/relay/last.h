/* SPDX-License-Identifier: PostgreSQL
 *
 * last.h
 *	  The newest row of outbox.batch, as the relay keeps it, and its bytes of the backlog.
 *
 * Process: the relay.
 */
#ifndef OUTBOX_LAST_H
#define OUTBOX_LAST_H

#include "self.h"

/*
 * Own transactions.  Reads identity and newest row anew and measures the backlog; ERROR when
 * there is no row.
 */
extern void outbox_last_read(OutboxRelay *relay);

/* Own transaction.  The newest row alone; ERROR when there is none. */
extern void outbox_last_load(OutboxRelay *relay);

/* A row of `bytes` was stored and is the newest from here on. */
extern void outbox_last_keep(OutboxRelay *relay, const OutboxBatchRow *row, int64 bytes);

/* Takes it off the backlog once it is known delivered. */
extern void outbox_last_take_off(OutboxRelay *relay);

#endif /* OUTBOX_LAST_H */
