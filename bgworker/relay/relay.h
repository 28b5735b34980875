/* SPDX-License-Identifier: PostgreSQL
 *
 * relay.h
 *	  The relay's own state and the parts of its loop.
 *
 * Process: the relay, one per database.  Nothing here is shared.
 */
#ifndef OUTBOX_RELAY_H
#define OUTBOX_RELAY_H

#include "nodes/pg_list.h"

#include "batch.h"
#include "start_rules.h"
#include "state.h"
#include "src/common/wire.h"

#define OUTBOX_LOOK_MS 1000 /* idle look: COMMIT PREPARED elsewhere wakes nobody */
#define OUTBOX_TURN_MS 200	/* longest wait while work is under way (I5) */

typedef struct OutboxRelay
{
	OutboxSlot		*slot;
	OutboxIdentity	 identity;
	OutboxRelayState state;
	/* since when it is in this state; by outbox_clock_now(), as all times here */
	TimestampTz		 entered_at;
	bool			 silence_told; /* last_error has said that no answer comes in it */
	MemoryContext	 scratch;	   /* current context of a turn, reset by it */

	OutboxBatchRow last;		 /* newest row of outbox.batch */
	MemoryContext  last_context; /* owns its snapshots */
	int64		   delivered;	 /* last batch known delivered */
	int64		   owed;		 /* bytes of the last batch that are still in the backlog */
	bool		   cursor_lost;	 /* said in the log and counted; until the next commit */

	bool			 opened;	 /* the sender has its settings */
	bool			 fenced;	 /* our producer holds the transactional id */
	bool			 asked;		 /* LOOK or FENCE is out, no answer yet */
	bool			 overruled;	 /* a person or on_divergence has decided: no comparison */
	OutboxComparison comparison; /* newest */

	bool		looked; /* CONNECTING: the cursor is read, the group of living relays is not */
	bool		alone;	/* nobody else was in it at alone_at */
	TimestampTz alone_at;
	TimestampTz other_since;   /* another was seen first, 0 = none */
	TimestampTz gone_since;	   /* and not since then, 0 = it is there */
	TimestampTz joining_since; /* our own member is not seen since then, 0 = it is */
	TimestampTz next_ask;	   /* for the group */
	bool		no_right_told; /* that the group may not be used; until the relay ends */
	bool		other_told;	   /* of this other one */

	OutboxWindow  window;
	OutboxLetters letters;
	OutboxChunk	  chunks[2];	/* one is sent, the other read ahead */
	int			  sending;		/* index of the one that is sent */
	bool		  started;		/* the one to be sent is being read */
	bool		  ahead;		/* the other one is started */
	bool		  end_due;		/* END is kept back until the row is flushed */
	bool		  resending;	/* the chunk's row is older than this process */
	bool		  refreshing;	/* the chunk is the last delivered batch, its cursor alone */
	bool		  time_refused; /* Kafka has refused the batch's time stamp; until a commit */
	XLogRecPtr	  start_fence;	/* what the standbys need before a resend */
	XLogRecPtr	  row_end;		/* what they need before this batch */

	List		 *waypoints; /* OutboxSnapshot *, taken while Kafka was away */
	MemoryContext waypoint_context;

	TimestampTz looked_at; /* of the last unfenced cursor */
	bool		look_due;
	TimestampTz next_look;
	TimestampTz next_waypoint;
	TimestampTz next_try;				 /* BACKOFF */
	TimestampTz next_refresh;			 /* of an idle cursor, which Kafka forgets */
	TimestampTz next_owner_look;		 /* while held_by_owner */
	bool		held_by_owner;			 /* HOLD, for an object is not the extension owner's */
	int			failures;				 /* in a row */
	char		cause[OUTBOX_TEXT_SIZE]; /* of the last of them, UTF-8 */
	int64		longest_ms;				 /* that a batch may take with the sender's producer */
	int64		usual_ms;				 /* the same by the settings; 0 = not told yet */
	char	   *settings;				 /* what OPEN said, to see a change */
} OutboxRelay;

/* relay.c: the one setter; logs and publishes. */
extern void outbox_relay_enter(OutboxRelay *relay, OutboxRelayState state);
/* Keeps text as last_error, drops the producer and waits before the next try. */
extern void outbox_relay_fail(OutboxRelay *relay, bool drop_sender, const char *text);
/* Drops what is under way; the cursor is asked for again after wait_ms (I6). */
extern void outbox_relay_begin_anew(OutboxRelay *relay, bool drop_sender, long wait_ms);
/* The sender goes, and with it our place among the living. */
extern void outbox_relay_hold(OutboxRelay *relay, const char *reason);
/* There is no batch row to begin with: says so, once, in the log and in hold_reason. */
extern void outbox_relay_await_genesis(OutboxRelay *relay);
/* Error when there is none. */
extern void outbox_relay_load_last(OutboxRelay *relay);
/* Takes the last batch off the backlog once it is known delivered. */
extern void outbox_relay_settle_backlog(OutboxRelay *relay);

/*
 * owner_hold.c: own transactions, before anything else of a turn.  Holds while an object of
 * the extension is not its owner's, and goes on by itself.
 */
extern void outbox_relay_watch_owner(OutboxRelay *relay);

/* steps.c: a frame without a body; its answer is awaited. */
extern void outbox_relay_ask(OutboxRelay *relay, OutboxFrameType type);
/* What a state does when it has its turn; true: turn again at once. */
extern bool outbox_relay_step(OutboxRelay *relay);
extern void outbox_relay_note_waypoint(OutboxRelay *relay);
extern void outbox_relay_after_commit(OutboxRelay *relay);
extern void outbox_relay_send_again(OutboxRelay *relay);

/* answers.c: frames of the sender. */
extern void outbox_relay_read_answers(OutboxRelay *relay);
extern void outbox_relay_decide(OutboxRelay *relay);
/* Events that are sent again and that Kafka may have. */
extern void outbox_relay_count_doubled(OutboxRelay *relay, int64 events);

/*
 * hello.c: OPEN and DECLARE.  When outbox.kafka_properties_file cannot be used,
 * open fails the relay (BACKOFF), and the text is NULL with the reason in *problem.
 */
extern void outbox_relay_open(OutboxRelay *relay);
extern char *outbox_relay_settings_text(const OutboxRelay *relay, char **problem);
extern void outbox_relay_declare_topics(OutboxRelay *relay);
extern void outbox_relay_watch_topics(void);
/* Has the sender yet to be told of topics? */
extern bool outbox_relay_topics_changed(void);

/* presence.c: who else sends for this installation. */
/* true: nobody else was there just now; else asks for the members when it is time. */
extern bool outbox_relay_is_alone(OutboxRelay *relay);
extern void outbox_relay_take_members(OutboxRelay *relay, OutboxWireReader *body);

/* divergence.c: own transactions.  Ends a divergence the decided way. */
extern void outbox_relay_adopt(OutboxRelay *relay, bool resend);

#endif /* OUTBOX_RELAY_H */
