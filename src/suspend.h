/* SPDX-License-Identifier: PostgreSQL
 *
 * suspend.h
 *	  Relays that are kept out of a command's way, and databases to look at, until the end of
 *	  a transaction.
 *
 * Process: the backend that executes the command.  All do nothing without the library's
 * shared memory.
 */
#ifndef OUTBOX_SUSPEND_H
#define OUTBOX_SUSPEND_H

#include "shmem.h"

/* One suspension: a command's, of one database. */
typedef struct OutboxSuspension OutboxSuspension;

/*
 * Ends the database's relay and keeps it away until the (sub)transaction ends, by whatever way, or
 * outbox_suspend_lift.  Waits up to 10 s for its exit.  Any number of them in a transaction.
 * command: what the views name.  NULL: no slot is free, so no relay can be there.
 */
extern OutboxSuspension *outbox_suspend_relay(Oid database, const char *command);

/* At commit the slot begins anew: the database (forget) or the extension's objects are gone. */
extern void outbox_suspend_end_slot(OutboxSuspension *suspension, bool forget);

/* The relay may come back before the end of the transaction. */
extern void outbox_suspend_lift(OutboxSuspension *suspension);

/* The relay of this database is out of the way while the transaction commits, no longer. */
extern void outbox_suspend_over_commit(void);

/*
 * At commit the launcher looks at the database's switch.  warn: say so when there is no slot for
 * it; InvalidOid does nothing.
 */
extern void outbox_suspend_look_at_commit(Oid database, bool warn);

#endif /* OUTBOX_SUSPEND_H */
