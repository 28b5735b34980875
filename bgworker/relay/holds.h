/* SPDX-License-Identifier: PostgreSQL
 *
 * holds.h
 *	  What the relay knows of topics held apart: whose events a batch leaves out (I7).
 *
 * Process: the relay.  A copy of what outbox.topic_hold, topic_hold_batch and topic_hold_copy say.
 * Persons begin and release holds; all that matters for what a batch leaves out only the relay
 * writes, and whoever does sets loaded to false.
 */
#ifndef OUTBOX_HOLDS_H
#define OUTBOX_HOLDS_H

#include "utils/palloc.h"
#include "utils/timestamp.h"

#include "bgworker/events/snapshot.h"
#include "src/shmem.h"

typedef enum OutboxHoldCause
{
	OUTBOX_HOLD_LEADER,	  /* a partition has no leader */
	OUTBOX_HOLD_OPERATOR, /* outbox.topic_hold() */
	OUTBOX_HOLD_REFUSED,  /* Kafka takes nothing for the topic, dead_letter_policy is hold_topic */
} OutboxHoldCause;

/* A row of outbox.topic_hold that is not ended, or that an old batch left events out for. */
typedef struct OutboxHold
{
	int64			id;
	char		   *topic;
	uint64			topic_hash;
	OutboxHoldCause cause;
	int				partition; /* -1 = none is named */
	bool			releasing;
	bool			ended;	/* of an old batch only */
	bool			noted;	/* of an old batch: it has a row of outbox.topic_hold_batch */
	uint64		   *copies; /* sorted; transactions of its own copies that are not refused, those
							 * that a window from here on could hold */
	int				ncopies;
} OutboxHold;

typedef struct OutboxHolds
{
	MemoryContext context; /* owns all below */
	bool		  loaded;  /* false: to be read with the next window */
	OutboxHold	 *holds;   /* those with a row of the batch first */
	int			  count;
	uint64		 *refused; /* sorted; transactions of copies that Kafka refused, of any hold */
	int			  nrefused;
	uint32		  seen; /* OutboxSlot.replays when they were read */
	TimestampTz	  next_look;
} OutboxHolds;

/*
 * Inside a transaction.  Reads the holds there are, with what events beyond lower need, when
 * nothing is loaded, a person has asked, or a second is over.  Pointers into the holds of before
 * end here.
 */
extern void outbox_holds_refresh(OutboxHolds *holds, OutboxSlot *slot, const OutboxSnapshot *lower);

/*
 * Inside a transaction.  Those of an old row: with a row of outbox.topic_hold_batch, and those that
 * began with an earlier batch.  Not loaded for the next window.
 */
extern void outbox_holds_load_batch(OutboxHolds *holds, int64 batch_no,
									const OutboxSnapshot *lower);

/*
 * Own transaction, once a second or when a person has asked.  Does a topic have a hold that is not
 * among these?  What was read ahead without it must be read anew.
 */
extern bool outbox_holds_outdated(OutboxHolds *holds, OutboxSlot *slot);

extern uint64 outbox_hold_topic_hash(const char *topic, size_t len);

/* The hold of a topic that is not ended, or NULL. */
extern const OutboxHold *outbox_holds_find(const OutboxHolds *holds, const char *topic, size_t len);

/* Are these events the hold's own copies, and not refused? */
extern bool outbox_hold_owns(const OutboxHold *hold, uint64 txid);

/* Are they copies that Kafka refused?  They are left out of every batch. */
extern bool outbox_holds_refused(const OutboxHolds *holds, uint64 txid);

/* The hold that leaves an event out, its own copies never; NULL: none. */
extern const OutboxHold *outbox_holds_leave_out(const OutboxHolds *holds, const char *topic,
												size_t len, uint64 txid);

/* As outbox.topic_hold says it: "leader", ... */
extern const char *outbox_hold_cause_name(OutboxHoldCause cause);

#endif /* OUTBOX_HOLDS_H */
