/* SPDX-License-Identifier: PostgreSQL
 *
 * state.h
 *	  The relay's states: which may follow which, and which one comes next.  Pure.
 */
#ifndef OUTBOX_RELAY_STATE_H
#define OUTBOX_RELAY_STATE_H

#include "src/shmem.h"

/* What the relay knows of its sender. */
typedef enum OutboxPeer
{
	OUTBOX_PEER_NONE,	 /* there is no process */
	OUTBOX_PEER_OPENING, /* started, OPEN has no answer yet */
	OUTBOX_PEER_OPENED,	 /* it has its settings, and nothing is asked */
	OUTBOX_PEER_ASKED,	 /* LOOK, ALIVE or FENCE has no answer yet */
	OUTBOX_PEER_FENCED,	 /* its producer holds the transactional id */
} OutboxPeer;

/* What the batch in hand is for. */
typedef enum OutboxErrand
{
	OUTBOX_ERRAND_NEXT,	   /* what is new becomes the next row */
	OUTBOX_ERRAND_AGAIN,   /* the oldest row that is not known delivered, once more */
	OUTBOX_ERRAND_REFRESH, /* the last delivered row without its events: its cursor alone */
} OutboxErrand;

/* Where the relay stands once it knows a cursor or has found work. */
typedef struct OutboxStanding
{
	OutboxPeer peer;
	int64	   delivered; /* last batch known delivered */
	int64	   last;	  /* newest row of outbox.batch */
	bool	   unsent;	  /* the window has events that are in no row yet */
	bool	   refresh;	  /* the cursor is to be committed anew */
} OutboxStanding;

typedef struct OutboxNext
{
	OutboxRelayState state;
	OutboxErrand	 errand; /* PREPARING only */
} OutboxNext;

/* May `to` follow `from`?  Every state may fall to BACKOFF and HOLD. */
extern bool outbox_relay_state_follows(OutboxRelayState from, OutboxRelayState to);

/*
 * What comes next: a fence before all else (I4, I6), then old rows before new ones (I3).  IDLE:
 * nothing is left to be done.
 */
extern OutboxNext outbox_relay_next(const OutboxStanding *standing);

#endif /* OUTBOX_RELAY_STATE_H */
