/* SPDX-License-Identifier: PostgreSQL
 *
 * launcher.h
 *	  Starts the relay of each database whose switch is on.
 */
#ifndef OUTBOX_LAUNCHER_H
#define OUTBOX_LAUNCHER_H

#include "src/shmem.h"

/* _PG_init, under shared_preload_libraries only: registers the launcher. */
extern void outbox_launcher_register(void);

/*
 * Relay, first thing after connecting to its database, outside a transaction:
 * takes over the slot and looks at the switch.  true: go on as the relay.
 * false: nothing to do here (switch off, no extension or one of another version
 * than the library, a utility command runs); exit with code 0.
 */
extern bool outbox_relay_probe(OutboxSlot *slot);

/*
 * Relay: it has delivered or is idle; the next exit is restarted after 1 s, and no event waits for
 * a relay.
 */
extern void outbox_relay_progressed(OutboxSlot *slot);

#endif /* OUTBOX_LAUNCHER_H */
