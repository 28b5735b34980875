/* SPDX-License-Identifier: PostgreSQL
 *
 * snapshot.c
 *	  Sets of transactions as snapshots, and which events lie between two (I1).
 *
 * Pure: no PostgreSQL, no allocation.
 */
#include "snapshot.h"

#include <stdlib.h>

int
outbox_txid_compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *) a;
	uint64_t right = *(const uint64_t *) b;

	return (left > right) - (left < right);
}

bool
outbox_txid_is_in(uint64_t txid, const uint64_t *sorted, size_t count)
{
	return count > 0 && bsearch(&txid, sorted, count, sizeof(txid), outbox_txid_compare) != NULL;
}

bool
outbox_snapshot_sees(const OutboxSnapshot *snapshot, uint64_t txid)
{
	if (txid >= snapshot->xmax)
		return false;
	if (snapshot->nxip == 0 || txid < snapshot->xip[0])
		return true;
	return !outbox_txid_is_in(txid, snapshot->xip, snapshot->nxip);
}

uint64_t
outbox_snapshot_xmin(const OutboxSnapshot *snapshot)
{
	return snapshot->nxip > 0 ? snapshot->xip[0] : snapshot->xmax;
}

uint32_t
outbox_snapshot_sort(uint64_t *xip, uint32_t nxip)
{
	uint32_t kept = 0;

	if (nxip == 0)
		return 0;
	qsort(xip, nxip, sizeof(uint64_t), outbox_txid_compare);
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

int
outbox_entries_compare(const void *a, const void *b)
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
	size_t first = 0;

	qsort(entries, count, sizeof(OutboxEntry), compare_by_transaction);
	while (first < count)
	{
		size_t end = first + 1;

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
	bool untimed = false;
	bool sorted = true;

	for (size_t i = 0; i < count; i++)
	{
		untimed |= entries[i].rank == OUTBOX_RANK_UNTIMED;
		if (i > 0 && outbox_entries_compare(&entries[i - 1], &entries[i]) > 0)
			sorted = false;
	}
	if (untimed)
		order_untimed(entries, count);
	if (untimed || !sorted)
		qsort(entries, count, sizeof(OutboxEntry), outbox_entries_compare);
}

void
outbox_lowest_note(uint64_t *lowest, size_t at, uint64_t txid)
{
	uint64_t *slot = &lowest[at / OUTBOX_ENTRY_BLOCK];

	if (at % OUTBOX_ENTRY_BLOCK == 0 || txid < *slot)
		*slot = txid;
}

static void
put_big_endian(uint8_t **at, uint64_t value, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--)
		*(*at)++ = (uint8_t) (value >> (8 * i));
}

static uint64_t
get_big_endian(const uint8_t **at, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value = value << 8 | *(*at)++;
	return value;
}

#define SIGN_BIT (UINT64_C(1) << 63)

void
outbox_entry_encode(const OutboxEntry *entry, uint8_t key[OUTBOX_ENTRY_KEY])
{
	uint8_t *at = key;

	put_big_endian(&at, entry->rank, 1);
	put_big_endian(&at, (uint64_t) entry->order ^ SIGN_BIT, 8);
	put_big_endian(&at, entry->txid, 8);
	put_big_endian(&at, (uint64_t) entry->seq ^ SIGN_BIT, 8);
	put_big_endian(&at, entry->block, 4);
	put_big_endian(&at, entry->offset, 2);
	put_big_endian(&at, entry->leaf, 1);
}

void
outbox_entry_decode(const uint8_t key[OUTBOX_ENTRY_KEY], OutboxEntry *entry)
{
	const uint8_t *at = key;

	entry->rank = (uint8_t) get_big_endian(&at, 1);
	entry->order = (int64_t) (get_big_endian(&at, 8) ^ SIGN_BIT);
	entry->txid = get_big_endian(&at, 8);
	entry->seq = (int64_t) (get_big_endian(&at, 8) ^ SIGN_BIT);
	entry->block = (uint32_t) get_big_endian(&at, 4);
	entry->offset = (uint16_t) get_big_endian(&at, 2);
	entry->leaf = (uint8_t) get_big_endian(&at, 1);
}

static void
add_member(uint64_t *xip, uint32_t room, uint32_t *nxip, uint64_t txid)
{
	if (*nxip < room)
		xip[*nxip] = txid;
	(*nxip)++;
}

bool
outbox_cut(const OutboxSnapshot *lower, const OutboxSnapshot *window_upper, OutboxEntryList *list,
		   size_t count, size_t first, size_t next, uint64_t *xmax, uint64_t *xip, uint32_t room,
		   uint32_t *nxip)
{
	uint64_t inside = next < count ? outbox_entry_at(list, next).txid : 0;
	uint64_t before = 0;

	*xmax = lower->xmax;
	for (size_t i = first; i < next; i++)
	{
		uint64_t txid = outbox_entry_at(list, i).txid;

		if (txid >= *xmax && txid != inside)
			*xmax = txid + 1;
	}

	*nxip = 0;
	for (uint32_t i = 0; i < window_upper->nxip && window_upper->xip[i] < *xmax; i++)
		add_member(xip, room, nxip, window_upper->xip[i]);
	for (size_t i = next; i < count;)
	{
		uint64_t txid;

		if (i % OUTBOX_ENTRY_BLOCK == 0 && list->lowest[i / OUTBOX_ENTRY_BLOCK] >= *xmax)
		{
			i += OUTBOX_ENTRY_BLOCK;
			continue;
		}
		txid = outbox_entry_at(list, i).txid;
		if (txid < *xmax && txid != before)
			add_member(xip, room, nxip, txid);
		before = txid;
		i++;
	}
	if (*nxip > room)
		return false;
	*nxip = outbox_snapshot_sort(xip, *nxip);
	return true;
}
