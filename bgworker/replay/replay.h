/* SPDX-License-Identifier: PostgreSQL
 *
 * replay.h
 *	  Carries out outbox.replay(): copies of retained events as new ones.
 *
 * Process: the relay.  Nothing here is shared.
 */
#ifndef OUTBOX_REPLAY_H
#define OUTBOX_REPLAY_H

#include "utils/uuid.h"

#include "replay_plan.h"
#include "src/common/kafka_headers.h"
#include "src/shmem.h"

#define OUTBOX_REPLAY_HEADERS 3 /* id, group, mode */

/* A row of outbox.replay_job; all in one memory context. */
typedef struct OutboxReplayJob
{
	Datum		   id; /* uuid */
	char		  *id_text;
	TimestampTz	   created_from;
	TimestampTz	   created_to;
	bytea		  *topic; /* filters, as bytes of the column; NULL = all */
	bytea		  *type;
	bytea		  *key;
	text		  *target_topic; /* NULL = the event's own */
	int			   rate;		 /* events a second */
	OutboxSnapshot snapshot;	 /* what it may copy */
	uint64		   txid;		 /* the transaction that asked is not part */
	uint64		   timed_from;	 /* oldest transaction with a commit time when it began */
	OutboxHeader   headers[OUTBOX_REPLAY_HEADERS]; /* of its copies */
	int			   header_count;
} OutboxReplayJob;

/* How far the scan of the leaves is. */
typedef struct OutboxReplayScan
{
	int	   segment;
	uint64 txid;	   /* first one not read in this leaf */
	uint64 timed_from; /* now */
	Oid	   filenodes[OUTBOX_SEGMENTS];
} OutboxReplayScan;

/* What a replay must know of the relay it works beside. */
typedef struct OutboxReplayTurn
{
	OutboxSlot		  *slot;
	MemoryContext	   scratch;	   /* of the turn */
	bool			   delivering; /* the relay is idle or sends; else no step is due */
	const OutboxRange *last;	   /* of the newest batch */
	size_t			   waiting;	   /* events of the open window that are in no batch */
} OutboxReplayTurn;

/* What became of a turn. */
typedef enum OutboxReplayOutcome
{
	OUTBOX_REPLAY_NOTHING, /* no step was due */
	OUTBOX_REPLAY_WORKED,  /* turn again at once */
	OUTBOX_REPLAY_COPIED,  /* the same, and there are new events */
} OutboxReplayOutcome;

/*
 * replay.c.  The relay's loop calls it when the state has nothing to do at once.  Own,
 * short transactions.
 */
extern OutboxReplayOutcome outbox_replay_step(const OutboxReplayTurn *turn);

/* Milliseconds until a step is due; LONG_MAX: none before something else happens. */
extern long outbox_replay_wait(const OutboxReplayTurn *turn);

/*
 * replay_copy.c.  Inside a transaction.  Reads a piece of the leaves into the plan; true: the
 * scan is over.  Begins anew by itself when a leaf was emptied or rewritten meanwhile.
 */
extern bool outbox_replay_scan(const OutboxReplayJob *job, OutboxReplayScan *scan,
							   OutboxReplayPlan *plan);
extern void outbox_replay_scan_start(OutboxReplayScan *scan, OutboxReplayPlan *plan);

/*
 * Inside a transaction.  Copies the plan's next entries, at most `most`; returns their number.
 * *bytes: keys, payloads and headers written.  *stale: a leaf was emptied or rewritten, the scan
 * must begin anew.  -1: the leaf that takes events is locked by somebody, nothing is done.
 */
extern int outbox_replay_copy(const OutboxReplayJob *job, const OutboxReplayScan *scan,
							  const OutboxReplayPlan *plan, int most, int64 *bytes, bool *stale);

#endif /* OUTBOX_REPLAY_H */
