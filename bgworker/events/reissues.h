/* SPDX-License-Identifier: PostgreSQL
 *
 * reissues.h
 *	  Transactions whose events come first in a window.
 *
 * Process: the relay.
 */
#ifndef OUTBOX_REISSUES_H
#define OUTBOX_REISSUES_H

#include "window.h"

/*
 * Inside a transaction.  Those that a window of the range could hold: they emitted dead letters
 * again, or ended a topic hold.  upper NULL: whatever comes.  In context, sorted.
 */
extern OutboxReissues outbox_reissues_load(MemoryContext context, const OutboxSnapshot *lower,
										   const OutboxSnapshot *upper, uint64 upper_at);

#endif /* OUTBOX_REISSUES_H */
