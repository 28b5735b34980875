/* SPDX-License-Identifier: PostgreSQL
 *
 * attach.h
 *	  A relay worker takes over its slot, and what it tells the launcher by it.
 */
#ifndef OUTBOX_ATTACH_H
#define OUTBOX_ATTACH_H

#include "src/shmem.h"

/*
 * Relay, first thing after connecting to its database, outside a transaction:
 * takes over the slot and looks at the switch.  true: go on as the relay.
 * false: nothing to do here (switch off, no extension or one of another version
 * than the library, a utility command runs); exit with code 0.
 */
extern bool outbox_relay_attach(OutboxSlot *slot);

/*
 * Relay: it has delivered or is idle; the next exit is restarted after 1 s, and no event waits
 * for a relay.
 */
extern void outbox_relay_progressed(OutboxSlot *slot);

#endif /* OUTBOX_ATTACH_H */
