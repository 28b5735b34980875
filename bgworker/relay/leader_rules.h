/* SPDX-License-Identifier: PostgreSQL
 *
 * leader_rules.h
 *	  When a topic is held for want of a leader, and when that hold ends.  Pure.
 */
#ifndef OUTBOX_LEADER_RULES_H
#define OUTBOX_LEADER_RULES_H

#include "hold_rules.h"

/* So long all partitions of a held topic have had leaders when it is released. */
#define OUTBOX_LEADERS_BACK_MS 10000

/* What the sender says of a topic. */
typedef struct OutboxTopicLeaders
{
	const char *topic;
	int			partition; /* the first that has none; -1: all have one */
	int64_t		for_ms;	   /* so long */
} OutboxTopicLeaders;

/* Does the hold end by itself, so that the leaders of its topic are watched? */
extern bool outbox_leader_is_watched(const OutboxHold *hold);

/* Does it end now?  back_ms: OUTBOX_LEADERS_BACK_MS. */
extern bool outbox_leader_ends_hold(const OutboxHold *hold, const OutboxTopicLeaders *leaders,
									int64_t back_ms);

#endif /* OUTBOX_LEADER_RULES_H */
