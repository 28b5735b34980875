/* SPDX-License-Identifier: PostgreSQL
 *
 * connect.h
 *	  The way to a fence: starting, connecting, fencing (I4, I6).
 *
 * Process: the relay.
 */
#ifndef OUTBOX_CONNECT_H
#define OUTBOX_CONNECT_H

#include "answers.h"
#include "self.h"

/* Own transactions.  Steps of the states. */
extern OutboxTurn outbox_connect_starting(OutboxRelay *relay);
extern OutboxTurn outbox_connect_connecting(OutboxRelay *relay);
extern OutboxTurn outbox_connect_fencing(OutboxRelay *relay);

/*
 * Answers in CONNECTING and FENCING: OPENED, CURSOR, MEMBERS, FAILED.  ERROR when the sender
 * speaks another version of the protocol.
 */
extern OutboxTurn outbox_connect_take(OutboxRelay *relay, const OutboxAnswer *answer);

#endif /* OUTBOX_CONNECT_H */
