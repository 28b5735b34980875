/* SPDX-License-Identifier: PostgreSQL
 *
 * snapshot.c
 *	  Sets of transactions as snapshots, and which events lie between two (I1).
 *
 * Pure: no PostgreSQL, no allocation.
 */
#include "snapshot.h"

#include <stdlib.h>

static int
compare_txids(const void *a, const void *b)
{
	uint64_t	left = *(const uint64_t *) a;
	uint64_t	right = *(const uint64_t *) b;

	return (left > right) - (left < right);
}

bool
outbox_snapshot_sees(const OutboxSnapshot *snapshot, uint64_t txid)
{
	if (txid >= snapshot->xmax)
		return false;
	if (snapshot->nxip == 0 || txid < snapshot->xip[0])
		return true;
	return bsearch(&txid, snapshot->xip, snapshot->nxip, sizeof(uint64_t), compare_txids) == NULL;
}

uint64_t
outbox_snapshot_xmin(const OutboxSnapshot *snapshot)
{
	return snapshot->nxip > 0 ? snapshot->xip[0] : snapshot->xmax;
}

uint32_t
outbox_snapshot_sort(uint64_t *xip, uint32_t nxip)
{
	uint32_t	kept = 0;

	if (nxip == 0)
		return 0;
	qsort(xip, nxip, sizeof(uint64_t), compare_txids);
	for (uint32_t i = 1; i < nxip; i++)
	{
		if (xip[i] != xip[kept])
			xip[++kept] = xip[i];
	}
	return kept + 1;
}

bool
outbox_range_holds(const OutboxRange *range, uint64_t txid, int64_t seq)
{
	if (!outbox_snapshot_sees(&range->upper, txid) &&
		!(txid == range->upper_at.txid && seq <= range->upper_at.seq))
		return false;
	if (outbox_snapshot_sees(&range->lower, txid))
		return false;
	return !(txid == range->lower_at.txid && seq <= range->lower_at.seq);
}

static int
compare_by_transaction(const void *a, const void *b)
{
	const OutboxEntry *left = a;
	const OutboxEntry *right = b;

	if (left->txid != right->txid)
		return left->txid < right->txid ? -1 : 1;
	return (left->seq > right->seq) - (left->seq < right->seq);
}

static int
compare_by_order(const void *a, const void *b)
{
	const OutboxEntry *left = a;
	const OutboxEntry *right = b;

	if (left->rank != right->rank)
		return left->rank < right->rank ? -1 : 1;
	if (left->order != right->order)
		return left->order < right->order ? -1 : 1;
	return compare_by_transaction(a, b);
}

/* Gives each transaction without a commit time its last seq as its order. */
static void
order_untimed(OutboxEntry *entries, size_t count)
{
	size_t		first = 0;

	qsort(entries, count, sizeof(OutboxEntry), compare_by_transaction);
	while (first < count)
	{
		size_t		end = first + 1;

		while (end < count && entries[end].txid == entries[first].txid)
			end++;
		if (entries[first].rank == OUTBOX_RANK_UNTIMED)
		{
			for (size_t i = first; i < end; i++)
				entries[i].order = entries[end - 1].seq;
		}
		first = end;
	}
}

void
outbox_entries_sort(OutboxEntry *entries, size_t count)
{
	bool		untimed = false;
	bool		sorted = true;

	for (size_t i = 0; i < count; i++)
	{
		untimed |= entries[i].rank == OUTBOX_RANK_UNTIMED;
		if (i > 0 && compare_by_order(&entries[i - 1], &entries[i]) > 0)
			sorted = false;
	}
	if (untimed)
		order_untimed(entries, count);
	if (untimed || !sorted)
		qsort(entries, count, sizeof(OutboxEntry), compare_by_order);
}

void
outbox_cut_index(const OutboxEntry *entries, size_t count, uint64_t *lowest)
{
	for (size_t i = 0; i < count; i++)
	{
		uint64_t   *slot = &lowest[i / OUTBOX_CUT_BLOCK];

		if (i % OUTBOX_CUT_BLOCK == 0 || entries[i].txid < *slot)
			*slot = entries[i].txid;
	}
}

static void
add_member(uint64_t *xip, uint32_t room, uint32_t *nxip, uint64_t txid)
{
	if (*nxip < room)
		xip[*nxip] = txid;
	(*nxip)++;
}

bool
outbox_cut(const OutboxSnapshot *lower, const OutboxSnapshot *window_upper,
		   const OutboxEntry *entries, size_t count, size_t first, size_t next,
		   const uint64_t *lowest, uint64_t *xmax, uint64_t *xip, uint32_t room,
		   uint32_t *nxip)
{
	uint64_t	inside = next < count ? entries[next].txid : 0;

	*xmax = lower->xmax;
	for (size_t i = first; i < next; i++)
	{
		if (entries[i].txid >= *xmax && entries[i].txid != inside)
			*xmax = entries[i].txid + 1;
	}

	*nxip = 0;
	for (uint32_t i = 0; i < window_upper->nxip && window_upper->xip[i] < *xmax; i++)
		add_member(xip, room, nxip, window_upper->xip[i]);
	for (size_t i = next; i < count;)
	{
		if (i % OUTBOX_CUT_BLOCK == 0 && lowest[i / OUTBOX_CUT_BLOCK] >= *xmax)
		{
			i += OUTBOX_CUT_BLOCK;
			continue;
		}
		if (entries[i].txid < *xmax &&
			(i == next || entries[i].txid != entries[i - 1].txid))
			add_member(xip, room, nxip, entries[i].txid);
		i++;
	}
	if (*nxip > room)
		return false;
	*nxip = outbox_snapshot_sort(xip, *nxip);
	return true;
}
