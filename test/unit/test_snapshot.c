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

#include "unit.h"
#include "bgworker/events/snapshot.h"

#define MOST_TXIDS	40
#define MOST_EVENTS 400

typedef struct Schedule
{
	OutboxEntry	   entries[MOST_EVENTS];
	size_t		   count;
	OutboxSnapshot upper;
	uint64_t	   running[MOST_TXIDS];
} Schedule;

/* Transactions 3..: some still run, some are without a commit time. */
static void
make_schedule(Schedule *schedule, bool timed)
{
	int		transactions = 1 + rand() % (MOST_TXIDS - 1);
	int64_t seq = 0;

	memset(schedule, 0, sizeof(*schedule));
	schedule->upper.xip = schedule->running;
	schedule->upper.xmax = 3 + transactions;
	for (int i = 0; i < transactions; i++)
	{
		uint64_t txid = 3 + i;
		int		 events = rand() % 8;
		int64_t	 order = 1000 + rand() % 50;

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
			entry->rank = e > 0 ? entry[-1].rank :
				timed			? OUTBOX_RANK_TIMED :
								  rand() % (OUTBOX_RANK_TIMED + 1);
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

#define PIECE 8

/* A list that has a few of its entries in memory. */
static void
load_piece(OutboxEntryList *list, size_t at)
{
	static OutboxEntry piece[PIECE];
	const Schedule	  *schedule = list->file;

	list->entries = piece;
	list->first = at / PIECE * PIECE;
	list->loaded = schedule->count - list->first < PIECE ? schedule->count - list->first : PIECE;
	memcpy(piece, &schedule->entries[list->first], list->loaded * sizeof(OutboxEntry));
}

/* Cuts the window into chunks as the relay does; each must hold just its own entries. */
static bool
chain_is_exact(Schedule *schedule, size_t chunk_events)
{
	uint64_t		lowest[MOST_EVENTS / OUTBOX_ENTRY_BLOCK + 1];
	OutboxEntryList list = {.lowest = lowest, .load = load_piece, .file = schedule};
	uint64_t		lists[2][2 * MOST_TXIDS];
	uint64_t		none[1];
	OutboxRange		range = {.lower = {.xmax = 3, .xip = none}};
	int				turn = 0;

	for (size_t i = 0; i < schedule->count; i++)
		outbox_lowest_note(lowest, i, schedule->entries[i].txid);
	for (size_t first = 0; first < schedule->count;)
	{
		size_t end =
			first + chunk_events < schedule->count ? first + chunk_events : schedule->count;
		OutboxSnapshot *upper = &range.upper;

		upper->xip = lists[turn];
		turn = 1 - turn;
		if (!outbox_cut(&range.lower, &schedule->upper, &list, schedule->count, first, end,
						&upper->xmax, upper->xip, 2 * MOST_TXIDS, &upper->nxip))
			return false;
		range.upper_at.txid = 0;
		if (end < schedule->count && schedule->entries[end].txid == schedule->entries[end - 1].txid)
		{
			range.upper_at.txid = schedule->entries[end - 1].txid;
			range.upper_at.seq = schedule->entries[end - 1].seq;
		}
		for (size_t i = 0; i < schedule->count; i++)
		{
			bool expected = i >= first && i < end;

			if (outbox_range_holds(&range, schedule->entries[i].txid, schedule->entries[i].seq) !=
				expected)
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
	int64_t expected[] = {3, 4, 2, 1, 8, 9};

	outbox_entries_sort(entries, 6);
	for (int i = 0; i < 6; i++)
	{
		if (entries[i].seq != expected[i])
			return false;
	}
	return true;
}

/* Bytes of entries compare as the entries sort, and give the entries back. */
static bool
keys_sort_as_entries(Schedule *schedule)
{
	uint8_t keys[2][OUTBOX_ENTRY_KEY];

	for (size_t i = 0; i < schedule->count; i++)
	{
		OutboxEntry decoded = {0};

		schedule->entries[i].block = (uint32_t) rand();
		schedule->entries[i].offset = (uint16_t) rand();
		schedule->entries[i].leaf = (uint8_t) (rand() % 8);
		outbox_entry_encode(&schedule->entries[i], keys[i % 2]);
		outbox_entry_decode(keys[i % 2], &decoded);
		if (memcmp(&decoded, &schedule->entries[i], sizeof(decoded)) != 0)
			return false;
		if (i > 0 && memcmp(keys[1 - i % 2], keys[i % 2], OUTBOX_ENTRY_KEY) >= 0)
			return false;
	}
	return true;
}

/* Signs: an order or seq below zero sorts before one above. */
static bool
negative_keys_sort_first(void)
{
	OutboxEntry below = {.order = -5, .seq = ~INT64_C(7), .txid = 3};
	OutboxEntry above = {.order = 5, .seq = 7, .txid = 3};
	uint8_t		keys[2][OUTBOX_ENTRY_KEY];
	bool		first;

	outbox_entry_encode(&below, keys[0]);
	outbox_entry_encode(&above, keys[1]);
	first = memcmp(keys[0], keys[1], OUTBOX_ENTRY_KEY) < 0;
	above.order = below.order;
	outbox_entry_encode(&above, keys[1]);
	return first && memcmp(keys[0], keys[1], OUTBOX_ENTRY_KEY) < 0;
}

int
main(void)
{
	Schedule schedule;
	bool	 ordered = true;
	bool	 exact = true;
	bool	 keyed = negative_keys_sort_first();
	uint64_t twice[] = {9, 4, 9, 7, 4};

	srand(20261122);
	for (int round = 0; round < 10000; round++)
	{
		make_schedule(&schedule, round % 2 == 0);
		outbox_entries_sort(schedule.entries, schedule.count);
		ordered = ordered && is_ordered(&schedule);
		keyed = keyed && keys_sort_as_entries(&schedule);
		exact = exact && chain_is_exact(&schedule, 1 + rand() % 12);
	}
	CHECK(ordered, "10,000 windows are in commit order, then seq");
	CHECK(keyed, "entries as bytes sort as entries do, and come back");
	CHECK(exact, "10,000 chains of cuts hold each event exactly once");
	CHECK(begun_comes_first(), "the rest of a transaction cut inside comes first");
	CHECK(outbox_snapshot_sort(twice, 5) == 3 && twice[0] == 4 && twice[2] == 9,
		  "a list of xids is sorted and unique");
	return finish_tests();
}
