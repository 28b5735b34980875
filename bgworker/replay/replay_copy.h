/* SPDX-License-Identifier: PostgreSQL
 *
 * replay_copy.h
 *	  Finds the events of a replay in the leaves, and copies them.
 *
 * Process: the relay, in transactions of replay.c.
 */
#ifndef OUTBOX_REPLAY_COPY_H
#define OUTBOX_REPLAY_COPY_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "replay_held.h"
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
	int	   leaf;
	uint64 txid;	   /* first one not read in this leaf */
	uint64 timed_from; /* now */
	Oid	   filenodes[OUTBOX_LEAVES];
} OutboxReplayScan;

/*
 * Inside a transaction.  Reads a piece of the leaves into the plan; true: the
 * scan is over.  Begins anew by itself when a leaf was emptied or rewritten meanwhile.
 */
extern bool outbox_replay_scan(const OutboxReplayJob *job, OutboxReplayScan *scan,
							   OutboxReplayPlan *plan);
extern void outbox_replay_scan_start(OutboxReplayScan *scan, OutboxReplayPlan *plan);

/* What one transaction has done. */
typedef struct OutboxReplayDone
{
	bool  locked; /* the leaf that takes events is, by somebody: nothing is done */
	bool  stale;  /* a leaf was emptied or rewritten, the scan must begin anew */
	int	  taken;  /* entries of the plan */
	int	  held;	  /* of them left out, for they wait with their topic */
	text *held_topic;
	int64 bytes; /* keys, payloads and headers written */
} OutboxReplayDone;

/*
 * Inside a transaction.  Copies the plan's next entries, at most `most`, but for what waits with
 * the topics of holds.
 */
extern void outbox_replay_copy(const OutboxReplayJob *job, const OutboxReplayScan *scan,
							   const OutboxReplayPlan *plan, const OutboxReplayHolds *holds,
							   int most, OutboxReplayDone *done);

#endif /* OUTBOX_REPLAY_COPY_H */
