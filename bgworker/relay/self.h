/* SPDX-License-Identifier: PostgreSQL
 *
 * self.h
 *	  What the relay keeps of itself, and what a state says with its turn.
 *
 * Process: the relay, one per database.  Nothing here is shared.  Times are by outbox_clock_now().
 */
#ifndef OUTBOX_SELF_H
#define OUTBOX_SELF_H

#include "nodes/pg_list.h"

#include "hand.h"
#include "start_rules.h"
#include "state.h"

#define OUTBOX_LOOK_MS 1000 /* idle look: COMMIT PREPARED elsewhere wakes nobody */
#define OUTBOX_TURN_MS 200	/* longest wait while work is under way (I5) */

/* What a state says comes next, with its turn or with an answer; the loop does it. */
typedef enum OutboxTurnKind
{
	OUTBOX_TURN_WAITS,	 /* nothing, until something happens */
	OUTBOX_TURN_REPEATS, /* the same state again, at once */
	OUTBOX_TURN_ENTERS,	 /* another state */
	OUTBOX_TURN_FAILS,	 /* the cursor is asked for again, after a while (I6) */
	OUTBOX_TURN_HOLDS,
	OUTBOX_TURN_DIVERGES, /* relay->comparison has found it */
	OUTBOX_TURN_ADOPTS,	  /* a person has decided about a hold */
} OutboxTurnKind;

typedef struct OutboxTurn
{
	OutboxTurnKind	 kind;
	OutboxRelayState state;		  /* ENTERS */
	const char		*text;		  /* FAILS, HOLDS: why; in the turn's context */
	bool			 drop_sender; /* FAILS */
	long			 least_ms;	  /* FAILS: of the wait */
	bool			 resend;	  /* ADOPTS, else skip */
} OutboxTurn;

#define OUTBOX_WAIT		 ((OutboxTurn) {.kind = OUTBOX_TURN_WAITS})
#define OUTBOX_REPEAT	 ((OutboxTurn) {.kind = OUTBOX_TURN_REPEATS})
#define OUTBOX_ENTER(to) ((OutboxTurn) {.kind = OUTBOX_TURN_ENTERS, .state = (to)})
#define OUTBOX_FAIL(why) ((OutboxTurn) {.kind = OUTBOX_TURN_FAILS, .text = (why)})
#define OUTBOX_HOLD(why) ((OutboxTurn) {.kind = OUTBOX_TURN_HOLDS, .text = (why)})
#define OUTBOX_DIVERGE	 ((OutboxTurn) {.kind = OUTBOX_TURN_DIVERGES})

/*
 * Who else sends, as far as this way to a fence has shown.  Writers: connect.c, presence.c;
 * transition.c resets it.
 */
typedef struct OutboxSight
{
	bool		looked; /* CONNECTING: the cursor is read, the group of living relays is not */
	bool		alone;	/* nobody else was in it at alone_at */
	TimestampTz alone_at;
	TimestampTz other_since;   /* another was seen first, 0 = none */
	TimestampTz gone_since;	   /* and not since then, 0 = it is there */
	TimestampTz joining_since; /* our own member is not seen since then, 0 = it is */
} OutboxSight;

/* What holds until Kafka commits a batch.  Writers: connect.c, divergence.c; deliver.c ends it. */
typedef struct OutboxUntilCommit
{
	bool overruled;	   /* a person or on_divergence has decided: no comparison */
	bool cursor_lost;  /* said in the log and counted */
	bool time_refused; /* Kafka has refused the batch's time stamp */
} OutboxUntilCommit;

typedef struct OutboxRelay
{
	OutboxSlot	  *slot;
	OutboxIdentity identity;
	MemoryContext  scratch; /* current context of a turn, reset by it */

	OutboxRelayState state;	  /* set by outbox_relay_enter alone */
	TimestampTz entered_at;	  /* since when it is in this state, or has heard of the sender in it */
	bool		silence_told; /* last_error has said that no answer comes in it */
	OutboxPeer	peer;		  /* the sender; written where it is asked and where it answers */
	uint8	   *watched;	  /* the WATCH it was told, NULL = none; leader_watch.c */
	size_t		watched_len;  /* of that */
	bool		spare;		  /* its producer has the spare transactional id; connect.c */
	OutboxUntilCommit until_commit;

	/* last.c */
	OutboxBatchRow last;		 /* newest row of outbox.batch */
	MemoryContext  last_context; /* owns its snapshots */
	int64		   delivered;	 /* last batch known delivered, -1 = unknown */
	int64		   owed;		 /* bytes of the last batch that are still in the backlog */
	int64		   timed_batch; /* the newest whose time is known, 0 = none; its events and time: */
	int64		   timed_events;
	int64		   timed_ms;

	/* connect.c, presence.c */
	OutboxComparison comparison; /* newest */
	OutboxSight		 sight;
	TimestampTz		 looked_at;		/* of the last unfenced cursor */
	TimestampTz		 next_ask;		/* for the group of living relays */
	bool			 no_right_told; /* that the group may not be used; until the relay ends */
	bool			 other_told;	/* of this other one */
	int64			 longest_ms;	/* that a batch may take with the sender's producer */
	int64			 usual_ms;		/* the same by the settings; 0 = not told yet */
	char			*settings;		/* what OPEN said, to see a change; hello.c */

	/* work.c, deliver.c */
	OutboxWindow   window;
	OutboxLetters  letters;
	OutboxHolds	   holds;
	OutboxReissues reissues; /* that windows from the last batch on could hold */
	MemoryContext  reissue_context;
	OutboxHand	   hand;
	XLogRecPtr	   start_fence; /* what the standbys need before a resend */
	XLogRecPtr	   row_end;		/* what they need before this batch */
	List		  *waypoints;	/* OutboxSnapshot *, taken while Kafka was away */
	MemoryContext  waypoint_context;
	TimestampTz	   next_waypoint;
	TimestampTz	   refreshed_at; /* the cursor last, which Kafka forgets when it is idle */

	bool		look_due; /* something may be new in the tables */
	TimestampTz next_look;
	TimestampTz next_try;				 /* BACKOFF */
	int			failures;				 /* in a row */
	char		cause[OUTBOX_TEXT_SIZE]; /* of the last of them, UTF-8 */

	/* owner_hold.c */
	bool		held_by_owner;	 /* HOLD, for an object is not the extension owner's */
	TimestampTz next_owner_look; /* while held_by_owner */
} OutboxRelay;

#endif /* OUTBOX_SELF_H */
