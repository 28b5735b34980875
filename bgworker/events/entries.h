/* SPDX-License-Identifier: PostgreSQL
 *
 * entries.h
 *	  The order of a window, in memory or in a temporary file.
 *
 * Process: the relay.  Up to outbox.window_memory the entries are an array.  A
 * larger window is sorted by tuplesort in as much memory, and the result is a
 * temporary file that outlives the transaction (I5), read through a block of
 * OUTBOX_ENTRY_BLOCK entries; what stays in memory is 8 bytes a block.
 */
#ifndef OUTBOX_ENTRIES_H
#define OUTBOX_ENTRIES_H

#include "utils/tuplesort.h"

#include "snapshot.h"

typedef struct OutboxEntryWriter
{
	MemoryContext	context; /* of the list */
	OutboxEntry	   *entries; /* NULL: they are in the sorts */
	size_t			count;
	size_t			room;
	Tuplesortstate *sort;	 /* NULL: all are in memory */
	Tuplesortstate *untimed; /* UNTIMED, by txid and falling seq; NULL: none so far */
} OutboxEntryWriter;

/*
 * The three of one transaction, in this order.  The list lives in context, and
 * its file until context is reset.  ERROR when the disk is full.
 */
extern void outbox_entries_begin(OutboxEntryWriter *writer, MemoryContext context);
extern void outbox_entries_put(OutboxEntryWriter *writer, const OutboxEntry *entry);
extern OutboxEntryList *outbox_entries_finish(OutboxEntryWriter *writer);

#endif /* OUTBOX_ENTRIES_H */
