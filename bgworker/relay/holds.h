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

#include "hold_rules.h"
#include "bgworker/events/snapshot.h"
#include "src/shmem.h"

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
	/* what last_error says of them; "" = none is held */
	char		  told[OUTBOX_TEXT_SIZE];
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
 * among these?  What was read ahead without it must be read anew.  Notes which are releasing.
 */
extern bool outbox_holds_outdated(OutboxHolds *holds, OutboxSlot *slot);

/* The hold of a topic that is not ended, or NULL. */
extern const OutboxHold *outbox_holds_find(const OutboxHolds *holds, const char *topic, size_t len);

/* Are the events of this transaction copies that were refused?  No batch has them. */
extern bool outbox_holds_refused(const OutboxHolds *holds, uint64 txid);

#endif /* OUTBOX_HOLDS_H */
