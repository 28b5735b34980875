/* SPDX-License-Identifier: PostgreSQL
 *
 * hold_rules.h
 *	  Which events a topic hold leaves out of a batch (I7).  Pure.
 *
 * Events of the hold's topic, but for its own copies; and copies that were refused, of whatever
 * hold, for they are copied again.
 */
#ifndef OUTBOX_HOLD_RULES_H
#define OUTBOX_HOLD_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum OutboxHoldCause
{
	OUTBOX_HOLD_LEADER,	  /* a partition has no leader */
	OUTBOX_HOLD_OPERATOR, /* outbox.topic_hold() */
	OUTBOX_HOLD_REFUSED,  /* Kafka takes nothing for the topic, dead_letter_policy is hold_topic */
} OutboxHoldCause;

/* A row of outbox.topic_hold that is not ended, or that an old batch left events out for. */
typedef struct OutboxHold
{
	int64_t			id;
	const char	   *topic;
	uint64_t		topic_hash;
	OutboxHoldCause cause;
	int				partition; /* -1 = none is named */
	const char	   *reason;
	bool			releasing;
	bool			ended;	/* of an old batch only */
	bool			noted;	/* of an old batch: it has a row of outbox.topic_hold_batch */
	uint64_t	   *copies; /* sorted; transactions of its own copies that are not refused, those
							 * that a window from here on could hold */
	size_t			ncopies;
} OutboxHold;

extern uint64_t outbox_hold_topic_hash(const char *topic, size_t len);

/* Is the hold of this topic?  hash: of the topic. */
extern bool outbox_hold_is_of(const OutboxHold *hold, uint64_t hash, const char *topic, size_t len);

/* Are the events of this transaction the hold's own copies, and not refused? */
extern bool outbox_hold_owns(const OutboxHold *hold, uint64_t txid);

/*
 * Of the holds that a batch has, the first that leaves an event out; NULL: none.  A refused copy is
 * left out before they are asked, and so is an event with a dead letter.
 */
extern const OutboxHold *outbox_hold_leaving_out(const OutboxHold *holds, size_t count,
												 const char *topic, size_t len, uint64_t txid);

/* As outbox.topic_hold says it: "leader", ... */
extern const char *outbox_hold_cause_name(OutboxHoldCause cause);

/* The cause of that name; false: there is none. */
extern bool outbox_hold_cause_named(const char *name, OutboxHoldCause *cause);

#endif /* OUTBOX_HOLD_RULES_H */
