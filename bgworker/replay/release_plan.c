/* SPDX-License-Identifier: PostgreSQL
 *
 * release_plan.c
 *	  What a release does next.
 *
 * Pure; used by the relay.
 */
#include "release_plan.h"

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
