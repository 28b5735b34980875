/* SPDX-License-Identifier: PostgreSQL
 *
 * item.h
 *	  A record in hand and what became of it.
 */
#ifndef OUTBOX_ITEM_H
#define OUTBOX_ITEM_H

#include <stdbool.h>

#include "claim.h"
#include "service.h"
#include "trace.h"
#include "services/kafka/record.h"

struct OutboxMember;

typedef struct OutboxItem
{
	OutboxRecord		 record;
	const OutboxHandler *handler; /* NULL: no handler takes it */
	OutboxCall			 call;
	OutboxVerdict		 verdict;
	bool				 foreign;  /* a replay for another consumer: stepped over */
	bool				 prepared; /* decode is done, and so is what it calls outside */
	bool				 done;	   /* its transaction is committed */
	OutboxSpan			 span;	   /* of this try */
	int					 tries;	   /* made so far, this one included */
	OutboxClaim			 claim;
	char				 outcome[64]; /* what the call returned */
	/* why its dead letter is not on <topic>.DLT; "": it is */
	char				 unpublished[256];

	/* of a record whose handler calls out: */
	bool in_window; /* it is an OutboxEntry's, see window.h */
	bool known;		/* it was processed before: stepped over, without a claim */
	bool held;		/* it waits behind a dead letter, was not called for and must not be run */
	bool again;		/* its transaction did not do it: it is judged and called for once more */
} OutboxItem;

/* Tells for whom it is: fills foreign and handler. */
extern void outbox_item_find_handler(struct OutboxMember *member, OutboxItem *item);

/* Finds the handler and decodes; fills verdict, call and span.  Member's thread. */
extern void outbox_item_prepare(struct OutboxMember *member, OutboxItem *item);

/* Is its handler's call run, or, of a record in hand, was it? */
extern bool outbox_item_is_call(const OutboxItem *item);

#endif /* OUTBOX_ITEM_H */
