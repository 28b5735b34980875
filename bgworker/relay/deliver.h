/* SPDX-License-Identifier: PostgreSQL
 *
 * deliver.h
 *	  A batch on its way: preparing, replicating, sending (I2, I3, I7).
 *
 * Process: the relay.
 */
#ifndef OUTBOX_DELIVER_H
#define OUTBOX_DELIVER_H

#include "answers.h"
#include "self.h"

/* Steps of the states; own transactions. */
extern OutboxTurn outbox_deliver_preparing(OutboxRelay *relay);
extern OutboxTurn outbox_deliver_replicating(OutboxRelay *relay);
extern OutboxTurn outbox_deliver_sending(OutboxRelay *relay);

/*
 * Answers in SENDING: COMMITTED, REFUSED, FAILED.  ERROR when another batch is committed than the
 * one that is sent.
 */
extern OutboxTurn outbox_deliver_take(OutboxRelay *relay, const OutboxAnswer *answer);

#endif /* OUTBOX_DELIVER_H */
