/* SPDX-License-Identifier: PostgreSQL
 *
 * leaf_reader.h
 *	  Rows of outbox.event by their place.
 *
 * Process: the relay, inside one transaction.
 */
#ifndef OUTBOX_LEAF_READER_H
#define OUTBOX_LEAF_READER_H

#include "executor/tuptable.h"
#include "utils/relcache.h"

#include "snapshot.h"
#include "src/shmem.h"

/* Zeroed before its first use. */
typedef struct OutboxLeafReader
{
	Relation					leaves[OUTBOX_LEAVES];
	struct IndexFetchTableData *fetches[OUTBOX_LEAVES]; /* keeps the last block pinned */
	TupleTableSlot			   *slots[OUTBOX_LEAVES];
} OutboxLeafReader;

/*
 * The row of an entry, all columns read, valid until the next call for its leaf.  NULL: the
 * leaf was emptied or rewritten since its storage was noted in filenodes.
 */
extern TupleTableSlot *outbox_leaf_reader_fetch(OutboxLeafReader *reader, const Oid *filenodes,
												const OutboxEntry *entry);
extern void outbox_leaf_reader_close(OutboxLeafReader *reader);

/*
 * A column of bytes or text, detoasted; NULL: *data NULL, *len 0.  Returns what to pfree when
 * *data is no longer used, or NULL.
 */
extern struct varlena *outbox_leaf_reader_bytes(TupleTableSlot *slot, int column,
												const uint8_t **data, uint32_t *len);

#endif /* OUTBOX_LEAF_READER_H */
