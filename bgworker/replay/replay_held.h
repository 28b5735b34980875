/* SPDX-License-Identifier: PostgreSQL
 *
 * replay_held.h
 *	  Events that a replay leaves out: their topic is held apart, and they were not sent.
 *
 * Process: the relay, inside transactions of replay.c.
 */
#ifndef OUTBOX_REPLAY_HELD_H
#define OUTBOX_REPLAY_HELD_H

#include "executor/tuptable.h"

#include "bgworker/events/snapshot.h"

/* A topic that is held apart.  What `sent` sees, or sent_at covers, was sent. */
typedef struct OutboxReplayHeld
{
	text		  *topic;
	OutboxSnapshot sent;
	OutboxPosition sent_at;
} OutboxReplayHeld;

typedef struct OutboxReplayHolds
{
	OutboxReplayHeld *topics;
	int				  count;
} OutboxReplayHolds;

/* Reads them, in the current context; last: the range of the newest batch. */
extern void outbox_replay_holds_load(OutboxReplayHolds *holds, const OutboxRange *last);

/* The topic that the event in slot waits with; NULL: it does not. */
extern text *outbox_replay_holds_find(const OutboxReplayHolds *holds, TupleTableSlot *slot,
									  uint64 txid, int64 seq);

#endif /* OUTBOX_REPLAY_HELD_H */
