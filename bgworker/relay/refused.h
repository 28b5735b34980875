/* SPDX-License-Identifier: PostgreSQL
 *
 * refused.h
 *	  Events of the batch in hand are not taken: dead letters, or their topic is held.
 *
 * Process: the relay.
 */
#ifndef OUTBOX_REFUSED_H
#define OUTBOX_REFUSED_H

#include "answers.h"
#include "hold_rows.h"
#include "self.h"

/* Own transactions.  REFUSED in SENDING: the batch comes again without what it names. */
extern OutboxTurn outbox_refused_take(OutboxRelay *relay, const OutboxRefused *refused);

/*
 * Own transaction, flushed.  The batch in hand leaves this topic out from now on (I7), and so do
 * later ones; what was read ahead is dropped, and what at_least_once may have brought to Kafka is
 * counted.  The batch must come again, by a new producer where it may be in Kafka (I6).  false:
 * somebody has locked the topic, and nothing has changed.
 */
extern bool outbox_refused_hold_topic(OutboxRelay *relay, const OutboxHoldWanted *wanted);

/* The batch in hand comes again, by a new producer. */
extern OutboxTurn outbox_refused_fence(OutboxRelay *relay);

#endif /* OUTBOX_REFUSED_H */
