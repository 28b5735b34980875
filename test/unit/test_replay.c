/* SPDX-License-Identifier: PostgreSQL
 *
 * test_replay.c
 *	  The plan of a replay: all entries once and in order, in bounded memory; its
 *	  pace.
 */
#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "bgworker/replay/replay_plan.h"

#define ENTRIES 1000
#define LIMIT	64

static OutboxEntry all[ENTRIES];
static OutboxEntry room[2 * LIMIT];

/* Entries as a scan by txid finds them; commit order is another one. */
static void
make_entries(unsigned seed)
{
	srand(seed);
	for (int i = 0; i < ENTRIES; i++)
	{
		OutboxEntry *entry = &all[i];

		memset(entry, 0, sizeof(*entry));
		entry->txid = (uint64_t) (1000 + i / 3);
		entry->seq = i;
		entry->rank = i % 10 == 0 ? OUTBOX_RANK_UNTIMED : OUTBOX_RANK_TIMED;
		entry->order = entry->rank == OUTBOX_RANK_TIMED ? rand() % 500 : i;
	}
}

static void
scan_all(OutboxReplayPlan *plan)
{
	outbox_replay_plan_clear(plan);
	for (int i = 0; i < ENTRIES; i++)
		outbox_replay_plan_add(plan, &all[i]);
	outbox_replay_plan_finish(plan);
}

/*
 * Copies all of it; begins anew, as after a restart, whenever rand() says so.  Returns the number
 * of entries copied, -1: out of order.
 */
static int
run_plan(int *scans)
{
	OutboxReplayPlan plan = {.entries = room, .limit = LIMIT};
	OutboxEntry		 last;
	int				 copied = 0;

	*scans = 0;
	do
	{
		scan_all(&plan);
		++*scans;
		while (plan.next < plan.count)
		{
			if (copied > 0 && outbox_entries_compare(&last, &plan.entries[plan.next]) >= 0)
				return -1;
			last = plan.entries[plan.next];
			outbox_replay_plan_advance(&plan, 1);
			copied++;
			if (rand() % 50 == 0)
			{
				plan.truncated = true;
				break;
			}
		}
	} while (plan.truncated);
	return copied;
}

static void
test_plan(void)
{
	OutboxReplayPlan plan = {.entries = room, .limit = LIMIT};
	bool			 whole = true;
	int				 scans;

	for (unsigned seed = 1; seed <= 20; seed++)
	{
		make_entries(seed);
		whole &= run_plan(&scans) == ENTRIES && scans >= ENTRIES / LIMIT;
	}
	CHECK(whole, "every entry once and in order, whenever it begins anew");

	make_entries(1);
	scan_all(&plan);
	qsort(all, ENTRIES, sizeof(OutboxEntry), outbox_entries_compare);
	CHECK(plan.count == LIMIT && plan.truncated &&
			  memcmp(room, all, LIMIT * sizeof(OutboxEntry)) == 0,
		  "a scan keeps the first entries and says there are more");
	outbox_replay_plan_advance(&plan, 0);
	CHECK(!plan.begun, "no copy is no position");
	plan.begun = true;
	plan.after = all[ENTRIES - LIMIT - 1];
	scan_all(&plan);
	CHECK(plan.count == LIMIT && !plan.truncated, "the last entries that just fit are all");
	plan.after = all[ENTRIES - 1];
	scan_all(&plan);
	CHECK(plan.count == 0 && !plan.truncated, "nothing is left after the last entry");
}

static void
test_pace(void)
{
	int64_t due = 0;
	int64_t now = 0;
	int		copied = 0;

	CHECK(outbox_replay_slice(1, 1000) == 1 && outbox_replay_slice(1000, 1000) == 200 &&
			  outbox_replay_slice(100000, 1000) == 1000,
		  "a slice is a fifth of a second, one event at least");
	while (due < 10 * 1000000)
	{
		now = due + 3000; /* each step is 3 ms late */
		due = outbox_replay_next_due(due, now, outbox_replay_slice(500, 1000), 500);
		copied += 100;
	}
	CHECK(copied == 5000, "small delays do not lower the rate");
	due = outbox_replay_next_due(due, due + 60 * 1000000, 100, 500);
	now += 60 * 1000000;
	CHECK(due >= now, "a long delay is not made up for");
	CHECK(outbox_replay_next_due(0, 0, 1, 1) == 1000000, "one event a second");
}

int
main(void)
{
	test_plan();
	test_pace();
	return finish_tests();
}
