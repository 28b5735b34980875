/* SPDX-License-Identifier: PostgreSQL
 *
 * snapshot.h
 *	  Sets of transactions as snapshots, and which events lie between two (I1).
 *
 * Pure: no PostgreSQL, no allocation, so a simulator can run it.  The
 * meaning is that of pg_snapshot (utils/adt/xid8funcs.c): a transaction is
 * seen if it is below xmax and not in the in-progress list.
 */
#ifndef OUTBOX_SNAPSHOT_H
#define OUTBOX_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct OutboxSnapshot
{
	uint64_t  xmax;
	uint32_t  nxip;
	uint64_t *xip; /* sorted, unique, all below xmax */
} OutboxSnapshot;

/* Events up to seq of a transaction that is larger than one batch. */
typedef struct OutboxPosition
{
	uint64_t txid; /* 0 = none */
	int64_t	 seq;
} OutboxPosition;

/* A batch: what upper sees (or upper_at covers), less what lower sees (or lower_at covers). */
typedef struct OutboxRange
{
	OutboxSnapshot lower;
	OutboxSnapshot upper;
	OutboxPosition lower_at;
	OutboxPosition upper_at;
} OutboxRange;

/* What comes first in a window.  All events of a transaction have one rank. */
typedef enum OutboxRank
{
	OUTBOX_RANK_BEGUN,	  /* rest of a transaction of which earlier batches hold a part */
	OUTBOX_RANK_REISSUED, /* dead letters that are sent again */
	OUTBOX_RANK_UNTIMED,  /* transaction without a commit time */
	OUTBOX_RANK_TIMED,
} OutboxRank;

/* Place of one event in the order of a window. */
typedef struct OutboxEntry
{
	int64_t	 order; /* of its transaction: TIMED commit time, UNTIMED last seq, else 0 */
	uint64_t txid;
	int64_t	 seq;
	uint32_t block; /* heap tuple */
	uint16_t offset;
	uint8_t	 leaf; /* leaf */
	uint8_t	 rank; /* OutboxRank */
} OutboxEntry;

/* Of two uint64_t, for qsort and bsearch. */
extern int outbox_txid_compare(const void *a, const void *b);

/* Is txid among the sorted ones? */
extern bool outbox_txid_is_in(uint64_t txid, const uint64_t *sorted, size_t count);

extern bool outbox_snapshot_sees(const OutboxSnapshot *snapshot, uint64_t txid);
extern uint64_t outbox_snapshot_xmin(const OutboxSnapshot *snapshot);

/* Sorts and makes unique; returns the new length. */
extern uint32_t outbox_snapshot_sort(uint64_t *xip, uint32_t nxip);

extern bool outbox_range_holds(const OutboxRange *range, uint64_t txid, int64_t seq);

/* qsort's comparison of two OutboxEntry: rank, order, txid, seq. */
extern int outbox_entries_compare(const void *a, const void *b);

/*
 * The entries of a window in order, all of them in memory or a block of them.
 * load brings in the block of entry `at`, does not return without it, and ends
 * the life of the block before; NULL: all are loaded.
 */
typedef struct OutboxEntryList
{
	OutboxEntry *entries; /* [first, first + loaded) */
	size_t		 first;
	size_t		 loaded;
	uint64_t	*lowest; /* smallest txid of each OUTBOX_ENTRY_BLOCK entries */
	void (*load)(struct OutboxEntryList *list, size_t at);
	void *file; /* load's own */
} OutboxEntryList;

#define OUTBOX_ENTRY_BLOCK 1024
#define OUTBOX_ENTRY_KEY   32 /* bytes of outbox_entry_encode */

static inline OutboxEntry
outbox_entry_at(OutboxEntryList *list, size_t at)
{
	if (at - list->first >= list->loaded)
		list->load(list, at);
	return list->entries[at - list->first];
}

/*
 * Sorts a window by rank, order, txid, seq.  The order of UNTIMED entries is
 * found here: their transaction's last seq.
 */
extern void outbox_entries_sort(OutboxEntry *entries, size_t count);

/* An entry as bytes that memcmp() sorts as outbox_entries_sort does, and back. */
extern void outbox_entry_encode(const OutboxEntry *entry, uint8_t key[OUTBOX_ENTRY_KEY]);
extern void outbox_entry_decode(const uint8_t key[OUTBOX_ENTRY_KEY], OutboxEntry *entry);

/* Notes the txid of entry `at` in lowest, which the entries come to in order. */
extern void outbox_lowest_note(uint64_t *lowest, size_t at, uint64_t txid);

/*
 * The upper snapshot of a batch of the entries [first, next) of a window of count: it sees what
 * lower sees and the transactions that are wholly before `next`.  xip has room for `room` members;
 * false when that is too small (*nxip says how much is needed).
 */
extern bool outbox_cut(const OutboxSnapshot *lower, const OutboxSnapshot *window_upper,
					   OutboxEntryList *list, size_t count, size_t first, size_t next,
					   uint64_t *xmax, uint64_t *xip, uint32_t room, uint32_t *nxip);

#endif /* OUTBOX_SNAPSHOT_H */
