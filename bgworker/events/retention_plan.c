/* SPDX-License-Identifier: PostgreSQL
 *
 * retention_plan.c
 *	  When the event ring moves on and which of its leaves is emptied.
 *
 * Pure; used by the relay.
 */
#include "retention_plan.h"

int
outbox_retention_oldest(const OutboxLeafFacts *leaves, int count, int current)
{
	for (int i = 1; i < count; i++)
	{
		int leaf = (current + i) % count;

		if (!leaves[leaf].empty)
			return leaf;
	}
	return -1;
}

void
outbox_retention_decide(const OutboxLeafFacts *leaves, int count, int current, int64_t retention_ms,
						int64_t leaf_bytes, OutboxRetentionPlan *plan)
{
	const OutboxLeafFacts *now = &leaves[current];
	int					   next = (current + 1) % count;
	int					   oldest = outbox_retention_oldest(leaves, count, current);

	plan->move_to = -1;
	plan->empty = -1;
	plan->full = false;

	if (!now->empty &&
		(now->first_age_ms >= retention_ms / OUTBOX_RETENTION_PARTS || now->bytes >= leaf_bytes))
	{
		if (leaves[next].empty)
			plan->move_to = next;
		else
			plan->full = true;
	}
	if (oldest >= 0 && leaves[oldest].relayed && leaves[oldest].last_age_ms >= retention_ms)
		plan->empty = oldest;
}
