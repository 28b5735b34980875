/* SPDX-License-Identifier: PostgreSQL
 *
 * steps.h
 *	  What each state of the relay does when it has its turn, and with an answer of the sender.
 *
 * Process: the relay.  Own transactions.
 */
#ifndef OUTBOX_STEPS_H
#define OUTBOX_STEPS_H

#include "answers.h"
#include "self.h"

/* The state's turn. */
extern OutboxTurn outbox_relay_step(OutboxRelay *relay);

/* The state takes an answer; one to what an earlier state asked is passed over. */
extern OutboxTurn outbox_relay_take(OutboxRelay *relay, const OutboxAnswer *answer);

#endif /* OUTBOX_STEPS_H */
