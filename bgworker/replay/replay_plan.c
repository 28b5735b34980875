/* SPDX-License-Identifier: PostgreSQL
 *
 * replay_plan.c
 *	  Which events a replay copies next, and when.
 *
 * Pure; used by the relay.
 */
#include "replay_plan.h"

#include <stdlib.h>

#define MICROSECONDS INT64_C(1000000)
#define SLICES		 5 /* steps a second */

void
outbox_replay_plan_clear(OutboxReplayPlan *plan)
{
	plan->count = plan->next = 0;
	plan->truncated = false;
}

static void
prune(OutboxReplayPlan *plan)
{
	qsort(plan->entries, plan->count, sizeof(OutboxEntry), outbox_entries_compare);
	if (plan->count > plan->limit)
	{
		plan->count = plan->limit;
		plan->truncated = true;
	}
}

void
outbox_replay_plan_add(OutboxReplayPlan *plan, const OutboxEntry *entry)
{
	if (plan->begun && outbox_entries_compare(entry, &plan->after) <= 0)
		return;
	/* once truncated, the first `limit` entries are sorted */
	if (plan->truncated && outbox_entries_compare(entry, &plan->entries[plan->limit - 1]) > 0)
		return;
	plan->entries[plan->count++] = *entry;
	if (plan->count == 2 * plan->limit)
		prune(plan);
}

void
outbox_replay_plan_finish(OutboxReplayPlan *plan)
{
	prune(plan);
}

void
outbox_replay_plan_advance(OutboxReplayPlan *plan, size_t count)
{
	if (count == 0)
		return;
	plan->next += count;
	plan->after = plan->entries[plan->next - 1];
	plan->begun = true;
}

int
outbox_replay_slice(int rate, int most)
{
	int slice = rate / SLICES;

	if (slice > most)
		return most;
	return slice > 0 ? slice : 1;
}

int64_t
outbox_replay_next_due(int64_t due_us, int64_t now_us, int copied, int rate)
{
	int64_t oldest = now_us - MICROSECONDS / SLICES;

	return (due_us > oldest ? due_us : oldest) + copied * MICROSECONDS / rate;
}
