/* SPDX-License-Identifier: PostgreSQL
 *
 * transition.h
 *	  The relay goes from state to state, and what falls on the way.
 *
 * Process: the relay.  Every part of the relay may use this; it uses the link and the hand alone.
 */
#ifndef OUTBOX_TRANSITION_H
#define OUTBOX_TRANSITION_H

#include "answers.h"
#include "self.h"

/* The one setter of relay->state; publishes.  ERROR: state may not follow. */
extern void outbox_relay_enter(OutboxRelay *relay, OutboxRelayState state);

/* What comes after a known cursor, a commit or found work; refresh: the cursor is to be renewed. */
extern OutboxTurn outbox_relay_go_on(OutboxRelay *relay, bool refresh);

/*
 * The sender goes, and with it our place among the living; leave: it may say good-bye to Kafka
 * (link.h).
 */
extern void outbox_relay_drop_sender(OutboxRelay *relay, bool leave);

/* Drops what is under way; the cursor is asked for again after wait_ms (I6).  Enters BACKOFF. */
extern void outbox_relay_begin_anew(OutboxRelay *relay, long wait_ms);

/* Keeps text as last_error and begins anew, with a wait that grows, and is least_ms at least. */
extern void outbox_relay_fail(OutboxRelay *relay, bool drop_sender, const char *text,
							  long least_ms);

/*
 * An answer that the state does not wait for: FAILED fails, COMMITTED is an ERROR, and what an
 * earlier state asked is passed over.
 */
extern OutboxTurn outbox_relay_take_unasked(OutboxRelay *relay, const OutboxAnswer *answer);

/* The sender goes, and reason is what a person reads.  Enters HOLD. */
extern void outbox_relay_hold(OutboxRelay *relay, const char *reason);

/* There is no batch row to begin with: says so, once, in the log and in hold_reason. */
extern void outbox_relay_await_genesis(OutboxRelay *relay);

/* Events are sent again that Kafka may have. */
extern void outbox_relay_count_doubled(OutboxRelay *relay, int64 events);

#endif /* OUTBOX_TRANSITION_H */
