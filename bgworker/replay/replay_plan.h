/* SPDX-License-Identifier: PostgreSQL
 *
 * replay_plan.h
 *	  Which events a replay copies next, in commit order and bounded memory; and
 *	  when.
 *
 * Pure: no PostgreSQL, no allocation, no clock.  A replay may hold more events
 * than fit in memory: a scan over all of them keeps the first ones after a
 * position; when those are copied, the next scan takes the next ones.
 */
#ifndef OUTBOX_REPLAY_PLAN_H
#define OUTBOX_REPLAY_PLAN_H

#include "bgworker/events/snapshot.h"

typedef struct OutboxReplayPlan
{
	OutboxEntry *entries; /* room for 2 * limit */
	size_t		 limit;	  /* entries kept, at most */
	size_t		 count;
	size_t		 next;	/* first entry that is not copied */
	OutboxEntry	 after; /* last entry copied, if begun */
	bool		 begun;
	bool		 truncated; /* there are more behind entries[limit - 1] */
} OutboxReplayPlan;

/* Forgets the entries, before a scan; `after` and `begun` stay. */
extern void outbox_replay_plan_clear(OutboxReplayPlan *plan);

/* Takes an entry of the scan, in any order. */
extern void outbox_replay_plan_add(OutboxReplayPlan *plan, const OutboxEntry *entry);

/* The scan is over: sorts what was kept. */
extern void outbox_replay_plan_finish(OutboxReplayPlan *plan);

/* The next `count` entries are copied. */
extern void outbox_replay_plan_advance(OutboxReplayPlan *plan, size_t count);

/* Events of one step at a rate (events a second): a fifth of a second's, at most `most`. */
extern int outbox_replay_slice(int rate, int most);

/*
 * When the next step is due after one of `copied` events that was due at due_us and ran at now_us
 * (microseconds of one monotonic clock).  A step that came late is made up for by at most one
 * slice, so the rate is kept but never exceeded for long.
 */
extern int64_t outbox_replay_next_due(int64_t due_us, int64_t now_us, int copied, int rate);

#endif /* OUTBOX_REPLAY_PLAN_H */
