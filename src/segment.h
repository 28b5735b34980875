/* SPDX-License-Identifier: PostgreSQL
 *
 * segment.h
 *	  Which leaf of the event ring takes new events, and the extension's
 *	  relations by name.
 */
#ifndef OUTBOX_SEGMENT_H
#define OUTBOX_SEGMENT_H

#include "utils/relcache.h"

/*
 * Current leaf, 0..OUTBOX_SEGMENTS-1.  Backend or relay, inside a transaction.
 * Taken from shared memory; when unknown (after a restart, or not preloaded),
 * the leaf that holds the highest txid.  Never depends on the caller's snapshot
 * and takes no predicate lock.
 */
extern int	outbox_segment_current(void);

/* Oid of leaf `segment`; error when it is missing. */
extern Oid	outbox_segment_relation(int segment);

/* Opens a leaf's plain btree on txid, AccessShareLock; error when there is none. */
extern Relation outbox_segment_open_index(Relation leaf);

/* Oid of relation outbox.<name>; error when it is missing. */
extern Oid	outbox_segment_named_relation(const char *name);

#endif							/* OUTBOX_SEGMENT_H */
