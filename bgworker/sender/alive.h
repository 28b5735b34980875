/* SPDX-License-Identifier: PostgreSQL
 *
 * alive.h
 *	  Member of the group of living senders; who else is.
 *
 * Main thread.
 */
#ifndef OUTBOX_ALIVE_H
#define OUTBOX_ALIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "failure.h"
#include "settings.h"
#include "src/common/wire.h"

/* Who is in the group of the living. */
typedef struct OutboxMembers
{
	bool			 allowed; /* to join and to look; else text says why not */
	bool			 joined;  /* our own member is among them */
	char			 text[640];
	OutboxWireBuffer list; /* client id and host of each, as in MEMBERS */
	uint16_t		 count;
} OutboxMembers;

extern void outbox_alive_join(const OutboxSettings *settings);
extern bool outbox_alive_look(const OutboxSettings *settings, OutboxMembers *members,
							  OutboxFailure *failure);
extern int outbox_alive_wakeup_fd(void);
extern void outbox_alive_serve(void);
extern void outbox_alive_leave(void);
extern void outbox_alive_drop(void);

#endif /* OUTBOX_ALIVE_H */
