/* SPDX-License-Identifier: PostgreSQL
 *
 * release_plan.c
 *	  What a release does next.
 *
 * Pure; used by the relay.
 */
#include "release_plan.h"

#define KEPT_WEIGHT	 0.95 /* of the batches before, with each */
#define LEAST_WEIGHT 5	  /* batches that say something */
#define FEWEST_STEPS 2
#define MOST_STEPS	 20
#define COPIES_SHARE 1.25 /* time of the copies to that of a batch of few events */

void
outbox_release_pace_note(OutboxReleasePace *pace, int64_t events, int64_t us)
{
	double x = (double) events;
	double y = (double) us;

	pace->weight = pace->weight * KEPT_WEIGHT + 1;
	pace->events = pace->events * KEPT_WEIGHT + x;
	pace->us = pace->us * KEPT_WEIGHT + y;
	pace->events_events = pace->events_events * KEPT_WEIGHT + x * x;
	pace->events_us = pace->events_us * KEPT_WEIGHT + x * y;
}

/* A straight line through what is known: us = begin + each * events. */
int64_t
outbox_release_pace_events(const OutboxReleasePace *pace, int64_t step_events, int64_t usual)
{
	double spread = pace->weight * pace->events_events - pace->events * pace->events;
	double together = pace->weight * pace->events_us - pace->events * pace->us;
	double wide = (double) step_events * pace->weight;
	double each;
	double begin;

	/* batches that differ by less than a step tell nothing of an event's time */
	if (pace->weight < LEAST_WEIGHT || spread < wide * wide / 4 || together <= 0)
		return usual;
	each = together / spread;
	begin = COPIES_SHARE * (pace->us - each * pace->events) / pace->weight;
	if (begin <= each * FEWEST_STEPS * (double) step_events)
		return FEWEST_STEPS * step_events;
	if (begin >= each * MOST_STEPS * (double) step_events)
		return MOST_STEPS * step_events;
	return (int64_t) (begin / each);
}

OutboxReleaseStep
outbox_release_choose(const OutboxReleaseFacts *facts, const OutboxReleaseLimits *limits)
{
	bool probing = facts->refused && facts->steps <= 1;
	bool few = facts->left_events <= limits->last_events && facts->left_bytes <= limits->last_bytes;

	if (probing && facts->steps == 0 && facts->left_events > 0)
		return facts->unsent == 0 ? OUTBOX_RELEASE_PROBES : OUTBOX_RELEASE_WAITS;
	if (probing && facts->steps == 1 && !facts->delivered)
		return OUTBOX_RELEASE_WAITS;
	/*
	 * The rest goes with the end of the hold.  Copies on the way there would be behind it: what
	 * ends a hold comes first in its window.
	 */
	if (few)
		return facts->between && facts->unsent == 0 ? OUTBOX_RELEASE_ENDS : OUTBOX_RELEASE_WAITS;
	if (facts->unsent > 0 && facts->unsent + limits->step_events > limits->unsent_events)
		return OUTBOX_RELEASE_WAITS;
	return OUTBOX_RELEASE_COPIES;
}

bool
outbox_release_joins(int64_t copied, int64_t copied_bytes, int64_t events, int64_t bytes,
					 const OutboxReleaseLimits *limits)
{
	return copied == 0 ||
		(copied + events <= limits->step_events && copied_bytes + bytes <= limits->step_bytes);
}
