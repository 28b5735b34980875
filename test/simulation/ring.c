/* SPDX-License-Identifier: PostgreSQL
 *
 * ring.c
 *	  The event ring moves on and old leaves are emptied, as retention_plan.c decides.
 */
#include "simulation.h"

#define RETENTION_MS  40
#define SEGMENT_BYTES 6 /* an event is a byte */

/* Where the oldest batch begins of which a hold has left something out; NULL: there is none. */
static const OutboxSnapshot *
find_held(void)
{
	int64 oldest = 0;

	for (int i = 0; i < tables.nshares; i++)
	{
		if (oldest == 0 || tables.shares[i].batch_no < oldest)
			oldest = tables.shares[i].batch_no;
	}
	return oldest == 0 || mutant == MUTANT_HELD_EMPTIED ? NULL :
														  &tables_batch(oldest)->row.range.lower;
}

/* A running transaction holds a lock on the leaf it wrote to. */
static bool
leaf_is_locked(int leaf)
{
	for (int i = 0; i < tables.nevents; i++)
	{
		const SimEvent *event = &tables.events[i];
		TxState			state = tables.transactions[event->txid].state;

		if (event->leaf == leaf && !event->emptied && (state == TX_RUNNING || state == TX_PREPARED))
			return true;
	}
	return false;
}

static void
gather_facts(OutboxLeafFacts *leaves, const OutboxSnapshot *delivered)
{
	const OutboxSnapshot *held = find_held();

	for (int leaf = 0; leaf < OUTBOX_LEAVES; leaf++)
		leaves[leaf] = (OutboxLeafFacts) {.empty = true,
										  .relayed = true,
										  .first_age_ms = OUTBOX_AGE_UNKNOWN,
										  .last_age_ms = OUTBOX_AGE_UNKNOWN};
	for (int i = 0; i < tables.nevents; i++)
	{
		const SimEvent	*event = &tables.events[i];
		OutboxLeafFacts *facts = &leaves[event->leaf];

		if (event->emptied)
			continue;
		if (facts->empty)
			facts->first_age_ms = clock_now - event->created_at;
		facts->empty = false;
		facts->bytes++;
		facts->last_age_ms = clock_now - event->created_at;
		if (facts->relayed && tables.transactions[event->txid].state == TX_COMMITTED)
			facts->relayed = mutant == MUTANT_ROTATION_UNCHECKED ||
				(outbox_snapshot_sees(delivered, event->txid) &&
				 (held == NULL || outbox_snapshot_sees(held, event->txid)));
	}
}

void
ring_tend(const OutboxSnapshot *delivered)
{
	OutboxLeafFacts		leaves[OUTBOX_LEAVES];
	OutboxRetentionPlan plan;

	gather_facts(leaves, delivered);
	outbox_retention_decide(leaves, OUTBOX_LEAVES, tables.leaf, RETENTION_MS, SEGMENT_BYTES, &plan);
	if (plan.move_to >= 0)
		tables.leaf = plan.move_to;
	if (plan.empty >= 0 && !leaf_is_locked(plan.empty) && leaves[plan.empty].relayed)
	{
		tables_empty_leaf(plan.empty);
		flushed = records;
	}
}
