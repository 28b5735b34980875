/* SPDX-License-Identifier: PostgreSQL
 *
 * test_retention.c
 *	  The event ring, simulated: which leaf takes events and which is emptied.
 */
#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "bgworker/events/retention_plan.h"

#define LEAVES	  8
#define RETENTION 7000
#define LEAF	  1000

/* A leaf as the simulation knows it: times of its events, and their bytes. */
typedef struct SimLeaf
{
	int64_t first;
	int64_t last;
	int64_t bytes; /* 0 = empty */
} SimLeaf;

typedef struct SimRing
{
	SimLeaf leaves[LEAVES];
	int		current;
	int64_t now;
	int64_t relayed_until; /* events emitted later are not delivered */
	int		moves;
	bool	safe; /* nothing forbidden was done so far */
	bool	was_full;
} SimRing;

static void
plan_next(SimRing *ring, OutboxRetentionPlan *plan)
{
	OutboxLeafFacts facts[LEAVES];

	memset(facts, 0, sizeof(facts));
	for (int i = 0; i < LEAVES; i++)
	{
		const SimLeaf *leaf = &ring->leaves[i];

		facts[i].empty = leaf->bytes == 0;
		facts[i].bytes = leaf->bytes;
		facts[i].first_age_ms = facts[i].empty ? OUTBOX_AGE_UNKNOWN : ring->now - leaf->first;
		facts[i].last_age_ms = facts[i].empty ? OUTBOX_AGE_UNKNOWN : ring->now - leaf->last;
		facts[i].relayed = facts[i].empty || leaf->last <= ring->relayed_until;
	}
	outbox_retention_decide(facts, LEAVES, ring->current, RETENTION, LEAF, plan);
}

static void
follow_plan(SimRing *ring)
{
	OutboxRetentionPlan plan;

	plan_next(ring, &plan);
	ring->was_full = plan.full;
	if (plan.empty >= 0)
	{
		SimLeaf *leaf = &ring->leaves[plan.empty];

		ring->safe = ring->safe && plan.empty != ring->current && leaf->bytes > 0 &&
			leaf->last <= ring->relayed_until && ring->now - leaf->last >= RETENTION;
		leaf->bytes = 0;
	}
	if (plan.move_to >= 0)
	{
		ring->safe = ring->safe && plan.move_to == (ring->current + 1) % LEAVES &&
			ring->leaves[plan.move_to].bytes == 0;
		ring->current = plan.move_to;
		ring->moves++;
	}
}

static void
emit_event(SimRing *ring, int64_t bytes)
{
	SimLeaf *leaf = &ring->leaves[ring->current];

	if (leaf->bytes == 0)
		leaf->first = ring->now;
	leaf->last = ring->now;
	leaf->bytes += bytes;
}

static int64_t
find_oldest(const SimRing *ring)
{
	int64_t oldest = ring->now;

	for (int i = 0; i < LEAVES; i++)
	{
		if (ring->leaves[i].bytes > 0 && ring->leaves[i].first < oldest)
			oldest = ring->leaves[i].first;
	}
	return oldest;
}

static void
test_steady(void)
{
	SimRing ring = {.safe = true};
	bool	bounded = true;

	for (; ring.now < 20 * RETENTION; ring.now += 10)
	{
		emit_event(&ring, 1);
		ring.relayed_until = ring.now;
		follow_plan(&ring);
		bounded = bounded && ring.now - find_oldest(&ring) <= RETENTION + RETENTION / 7 + 20;
	}
	CHECK(ring.safe, "steady traffic: nothing is emptied that must stay");
	CHECK(ring.moves >= 130, "steady traffic: the ring moves every seventh of the retention");
	CHECK(bounded, "steady traffic: no event outlives retention and a seventh");
}

static void
test_stuck(void)
{
	SimRing ring = {.safe = true};

	ring.relayed_until = -1;
	for (; ring.now < 20 * RETENTION; ring.now += 10)
	{
		emit_event(&ring, 100);
		follow_plan(&ring);
	}
	CHECK(ring.safe && find_oldest(&ring) == 0, "nothing relayed: every event stays");
	CHECK(ring.moves == LEAVES - 1 && ring.was_full,
		  "nothing relayed: the ring fills once and says so");
	ring.relayed_until = ring.now;
	ring.now += RETENTION;
	for (int i = 0; i < 2 * LEAVES; i++)
		follow_plan(&ring);
	CHECK(ring.safe && find_oldest(&ring) == ring.now, "relayed and old: all of it leaves");
}

static void
test_random(void)
{
	bool safe = true;
	int	 moves = 0;

	srand(20261122);
	for (int round = 0; round < 1000; round++)
	{
		SimRing ring = {.safe = true};

		for (int step = 0; step < 500; step++)
		{
			ring.now += rand() % 500;
			if (rand() % 3)
				emit_event(&ring, 1 + rand() % 400);
			if (rand() % 4 == 0)
				ring.relayed_until = ring.now - rand() % 5000;
			follow_plan(&ring);
		}
		safe = safe && ring.safe;
		moves += ring.moves;
	}
	CHECK(safe && moves > 10000, "1,000 random histories: nothing is emptied that must stay");
}

int
main(void)
{
	test_steady();
	test_stuck();
	test_random();
	return finish_tests();
}
