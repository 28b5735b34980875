/* SPDX-License-Identifier: PostgreSQL
 *
 * replay.h
 *	  Carries out outbox.replay(): copies of retained events as new ones.
 *
 * Process: the relay.  Nothing here is shared.
 */
#ifndef OUTBOX_REPLAY_H
#define OUTBOX_REPLAY_H

#include "utils/palloc.h"

#include "bgworker/events/snapshot.h"
#include "src/shmem.h"

/* What a replay or a release must know of the relay it works beside. */
typedef struct OutboxReplayTurn
{
	OutboxSlot		  *slot;
	MemoryContext	   scratch;		  /* of the turn */
	bool			   delivering;	  /* the relay is idle or sends; else no step is due */
	const OutboxRange *last;		  /* of the newest batch */
	int64			   last_batch;	  /* its number */
	bool			   all_delivered; /* it is, too */
	int64  timed_batch; /* the newest whose time is known, 0 = none; its events and time: */
	int64  timed_events;
	int64  timed_ms;
	size_t waiting;	   /* events of the open window that are in no batch */
	int64  most_bytes; /* of a batch by the rate seen, 0 = any */
	bool   between;	   /* no window is open, no waypoint and no cut transaction is left */
	bool   releasing;  /* a topic hold is, as far as the relay knows */
} OutboxReplayTurn;

/* What became of a turn. */
typedef enum OutboxReplayOutcome
{
	OUTBOX_REPLAY_NOTHING, /* no step was due */
	OUTBOX_REPLAY_WORKED,  /* turn again at once */
	OUTBOX_REPLAY_COPIED,  /* the same, and there are new events */
} OutboxReplayOutcome;

/*
 * The relay's loop calls it when the state has nothing to do at once.  Own,
 * short transactions.
 */
extern OutboxReplayOutcome outbox_replay_step(const OutboxReplayTurn *turn);

/* Milliseconds until a step is due; LONG_MAX: none before something else happens. */
extern long outbox_replay_wait(const OutboxReplayTurn *turn);

#endif /* OUTBOX_REPLAY_H */
