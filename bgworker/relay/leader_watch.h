/* SPDX-License-Identifier: PostgreSQL
 *
 * leader_watch.h
 *	  Topics without a leader: a batch goes without them, and they come back by themselves.
 *
 * Process: the relay.
 */
#ifndef OUTBOX_LEADER_WATCH_H
#define OUTBOX_LEADER_WATCH_H

#include "answers.h"
#include "self.h"

/* Is there a hold that ends when the sender has seen the leaders of its topic? */
extern bool outbox_leader_watch_wanted(const OutboxRelay *relay);

/* WATCH, if the sender knows other topics to be watched than there are. */
extern void outbox_leader_watch_tell(OutboxRelay *relay);

/* OPEN: the sender knows of none. */
extern void outbox_leader_watch_forget(OutboxRelay *relay);

/*
 * Own transactions.  LEADERS that give nothing up: a hold whose topic has its leaders back is
 * released, of other topics last_error tells.
 */
extern void outbox_leader_watch_take(OutboxRelay *relay, const OutboxLeaders *leaders);

/*
 * Own transactions.  LEADERS that give the batch in hand up, in SENDING: their topics are held from
 * it on, and it comes again (I6, I7).
 */
extern OutboxTurn outbox_leader_watch_give_up(OutboxRelay *relay, const OutboxLeaders *leaders);

#endif /* OUTBOX_LEADER_WATCH_H */
