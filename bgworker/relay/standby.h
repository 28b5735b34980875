/* SPDX-License-Identifier: PostgreSQL
 *
 * standby.h
 *	  Synchronous standbys, and what they must have before a batch is sent (I2).
 *
 * Process: the relay.
 */
#ifndef OUTBOX_STANDBY_H
#define OUTBOX_STANDBY_H

#include "access/xlogdefs.h"

/* Are there synchronous standbys, or may there be? */
extern bool outbox_standby_exists(void);

/* Have the synchronous standbys flushed up to lsn?  true when there are none. */
extern bool outbox_standby_has(XLogRecPtr lsn);

/*
 * A record in WAL behind everything visible now, flushed: what a restarted relay
 * waits for on the standbys before it sends an old batch again (I2).
 */
extern XLogRecPtr outbox_standby_fence(void);

#endif /* OUTBOX_STANDBY_H */
