/* SPDX-License-Identifier: PostgreSQL
 *
 * retention_plan.h
 *	  When the event ring moves on and which of its leaves is emptied.
 *
 * Pure: no PostgreSQL, no allocation, no clock, so a simulator can run it.
 */
#ifndef OUTBOX_RETENTION_PLAN_H
#define OUTBOX_RETENTION_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#define OUTBOX_AGE_UNKNOWN	   (-1)
#define OUTBOX_RETENTION_PARTS 7 /* the ring moves on every so many parts of retention */

/* What is known of one leaf of the event ring. */
typedef struct OutboxLeafFacts
{
	bool	empty;		  /* no blocks */
	int64_t bytes;		  /* of the current leaf */
	int64_t first_age_ms; /* of the current leaf's first event */
	int64_t last_age_ms;  /* of another leaf's last event, at most */
	bool	relayed;	  /* every event is delivered */
} OutboxLeafFacts;

typedef struct OutboxRetentionPlan
{
	int	 move_to; /* next current leaf, -1 = stay */
	int	 empty;	  /* leaf to empty, -1 = none */
	bool full;	  /* should move, but the next leaf is not empty */
} OutboxRetentionPlan;

/*
 * The ring moves on when the current leaf's first event is older than a seventh of retention_ms or
 * the leaf has reached leaf_bytes, and only onto an empty leaf.  Of the others only the oldest
 * that is not empty may be emptied: when all of it is relayed and older than retention_ms.
 */
extern void outbox_retention_decide(const OutboxLeafFacts *leaves, int count, int current,
									int64_t retention_ms, int64_t leaf_bytes,
									OutboxRetentionPlan *plan);

/* Oldest leaf that is neither current nor empty, -1 = none. */
extern int outbox_retention_oldest(const OutboxLeafFacts *leaves, int count, int current);

#endif /* OUTBOX_RETENTION_PLAN_H */
