/* SPDX-License-Identifier: PostgreSQL
 *
 * owner_hold.h
 *	  The relay holds while an object of the extension is not its owner's.
 *
 * Process: the relay.
 */
#ifndef OUTBOX_OWNER_HOLD_H
#define OUTBOX_OWNER_HOLD_H

#include "self.h"

/*
 * Own transactions, before anything else of a turn.  Holds when an object is foreign, and goes on
 * by itself when none is any more.
 */
extern void outbox_owner_hold_watch(OutboxRelay *relay);

#endif /* OUTBOX_OWNER_HOLD_H */
