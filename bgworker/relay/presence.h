/* SPDX-License-Identifier: PostgreSQL
 *
 * presence.h
 *	  Who else sends for this installation, as the relay asks its sender and waits.
 *
 * Process: the relay.  relay->sight keeps what was seen.
 */
#ifndef OUTBOX_PRESENCE_H
#define OUTBOX_PRESENCE_H

#include "answers.h"
#include "self.h"

/*
 * true: nobody else was there just now; else asks for the members when it is time.  Not while an
 * answer is awaited.
 */
extern bool outbox_presence_is_alone(OutboxRelay *relay);

/* MEMBERS, in CONNECTING and FENCING.  Diverges when another one outlives every session. */
extern OutboxTurn outbox_presence_take(OutboxRelay *relay, const OutboxLiving *members);

#endif /* OUTBOX_PRESENCE_H */
