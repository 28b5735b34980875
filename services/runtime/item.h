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
	bool				 prepared; /* decode and prepare are done */
	OutboxSpan			 span;	   /* of this try */
	int					 tries;	   /* made so far, this one included */
	OutboxClaim			 claim;
	char				 outcome[64]; /* what the call returned */
	/* why its dead letter is not on <topic>.DLT; "": it is */
	char				 unpublished[256];
} OutboxItem;

/* Finds the handler, decodes and prepares; fills verdict, call and span.  Member's thread. */
extern void outbox_item_prepare(struct OutboxMember *member, OutboxItem *item);

/* Is its handler's call run, or, of a record in hand, was it? */
extern bool outbox_item_is_call(const OutboxItem *item);

#endif /* OUTBOX_ITEM_H */
