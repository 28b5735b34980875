/* SPDX-License-Identifier: PostgreSQL
 *
 * test_snapshot.c
 *	  Random schedules of transactions: every cut of a window must lie on whole
 *	  transactions, and a chain of batches must hold each event exactly once (I1).
 *
 * The oracle is the list of events itself.
 */
#include <stdlib.h>
#include <string.h>

#include "../../bgworker/snapshot.h"
#include "unit.h"

#define MOST_TXIDS	40
#define MOST_EVENTS	400

typedef struct Schedule
{
	OutboxEntry entries[MOST_EVENTS];
	size_t		count;
	OutboxSnapshot upper;
	uint64_t	running[MOST_TXIDS];
} Schedule;

/* Transactions 3..: some still run, some are without a commit time. */
static void
make_schedule(Schedule *schedule, bool timed)
{
	int			transactions = 1 + rand() % (MOST_TXIDS - 1);
	int64_t		seq = 0;

	memset(schedule, 0, sizeof(*schedule));
	schedule->upper.xip = schedule->running;
	schedule->upper.xmax = 3 + transactions;
	for (int i = 0; i < transactions; i++)
	{
		uint64_t	txid = 3 + i;
		int			events = rand() % 8;
		int64_t		order = 1000 + rand() % 50;

		if (rand() % 5 == 0)
		{
			schedule->running[schedule->upper.nxip++] = txid;
			continue;
		}
		for (int e = 0; e < events; e++)
		{
			OutboxEntry *entry = &schedule->entries[schedule->count++];

			entry->txid = txid;
			entry->seq = ++seq;
			entry->rank = e > 0 ? entry[-1].rank : timed ? OUTBOX_RANK_TIMED : rand() % (OUTBOX_RANK_TIMED + 1);
			entry->order = entry->rank == OUTBOX_RANK_TIMED ? order : 0;
		}
	}
}

static bool
is_ordered(const Schedule *schedule)
{
	for (size_t i = 1; i < schedule->count; i++)
	{
		const OutboxEntry *before = &schedule->entries[i - 1];
		const OutboxEntry *entry = &schedule->entries[i];

		if (before->rank > entry->rank)
			return false;
		if (before->rank == entry->rank && before->order > entry->order)
			return false;
		if (before->txid == entry->txid && before->seq >= entry->seq)
			return false;
	}
	return true;
}

/* Cuts the window into chunks as the relay does; each must hold just its own entries. */
static bool
chain_is_exact(const Schedule *schedule, size_t chunk_events)
{
	uint64_t	lowest[MOST_EVENTS / OUTBOX_CUT_BLOCK + 1];
	uint64_t	lists[2][2 * MOST_TXIDS];
	uint64_t	none[1];
	OutboxRange range = {.lower = {.xmax = 3, .xip = none}};
	int			turn = 0;

	outbox_cut_index(schedule->entries, schedule->count, lowest);
	for (size_t first = 0; first < schedule->count;)
	{
		size_t		end = first + chunk_events < schedule->count ? first + chunk_events : schedule->count;
		OutboxSnapshot *upper = &range.upper;

		upper->xip = lists[turn];
		turn = 1 - turn;
		if (!outbox_cut(&range.lower, &schedule->upper, schedule->entries, schedule->count, first, end,
						lowest, &upper->xmax, upper->xip, 2 * MOST_TXIDS, &upper->nxip))
			return false;
		range.upper_at.txid = 0;
		if (end < schedule->count && schedule->entries[end].txid == schedule->entries[end - 1].txid)
		{
			range.upper_at.txid = schedule->entries[end - 1].txid;
			range.upper_at.seq = schedule->entries[end - 1].seq;
		}
		for (size_t i = 0; i < schedule->count; i++)
		{
			bool		expected = i >= first && i < end;

			if (outbox_range_holds(&range, schedule->entries[i].txid, schedule->entries[i].seq) != expected)
				return false;
		}
		range.lower = range.upper;
		range.lower_at = range.upper_at;
		first = end;
	}
	for (uint32_t i = 0; i < schedule->upper.nxip; i++)
	{
		if (schedule->count > 0 && outbox_snapshot_sees(&range.upper, schedule->upper.xip[i]))
			return false;
	}
	return true;
}

/*
 * A transaction cut inside comes first when the window is opened anew, also when
 * one that became visible meanwhile is older; then reissued events, then
 * transactions without a commit time.
 */
static bool
begun_comes_first(void)
{
	OutboxEntry entries[] = {
		{.txid = 12, .seq = 9, .order = 100, .rank = OUTBOX_RANK_TIMED},
		{.txid = 11, .seq = 8, .order = 90, .rank = OUTBOX_RANK_TIMED},
		{.txid = 8, .seq = 2, .rank = OUTBOX_RANK_REISSUED},
		{.txid = 9, .seq = 1, .rank = OUTBOX_RANK_UNTIMED},
		{.txid = 10, .seq = 4, .rank = OUTBOX_RANK_BEGUN},
		{.txid = 10, .seq = 3, .rank = OUTBOX_RANK_BEGUN},
	};
	int64_t		expected[] = {3, 4, 2, 1, 8, 9};

	outbox_entries_sort(entries, 6);
	for (int i = 0; i < 6; i++)
	{
		if (entries[i].seq != expected[i])
			return false;
	}
	return true;
}

int
main(void)
{
	Schedule	schedule;
	bool		ordered = true;
	bool		exact = true;
	uint64_t	twice[] = {9, 4, 9, 7, 4};

	srand(20261122);
	for (int round = 0; round < 10000; round++)
	{
		make_schedule(&schedule, round % 2 == 0);
		outbox_entries_sort(schedule.entries, schedule.count);
		ordered = ordered && is_ordered(&schedule);
		exact = exact && chain_is_exact(&schedule, 1 + rand() % 12);
	}
	CHECK(ordered, "10,000 windows are in commit order, then seq");
	CHECK(exact, "10,000 chains of cuts hold each event exactly once");
	CHECK(begun_comes_first(), "the rest of a transaction cut inside comes first");
	CHECK(outbox_snapshot_sort(twice, 5) == 3 && twice[0] == 4 && twice[2] == 9,
			   "a list of xids is sorted and unique");
	return finish_tests();
}
