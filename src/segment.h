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
extern int outbox_segment_current(void);

/*
 * Oids of leaf `segment`, of outbox.event, and of the sequence of its seq; ERROR 42P01 when it is
 * missing.  In a transaction.  Kept until a change of pg_class or pg_namespace is heard of, which
 * costs next to nothing; as with any look-up by name, only who has locked what was found and found
 * it again knows that it is still that.
 */
extern Oid outbox_segment_relation(int segment);
extern Oid outbox_segment_ring(void);
extern Oid outbox_segment_sequence(void);

/* Opens a leaf's plain btree on txid, AccessShareLock; error when there is none. */
extern Relation outbox_segment_open_index(Relation leaf);

/* Oid of relation outbox.<name>, looked up; ERROR 42P01 when it is missing.  In a transaction. */
extern Oid outbox_segment_named_relation(const char *name);

#endif /* OUTBOX_SEGMENT_H */
