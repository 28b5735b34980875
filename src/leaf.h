/* SPDX-License-Identifier: PostgreSQL
 *
 * leaf.h
 *	  Which leaf of the event ring takes new events, and the extension's
 *	  relations by name.
 */
#ifndef OUTBOX_LEAF_H
#define OUTBOX_LEAF_H

#include "utils/relcache.h"

/*
 * Current leaf, 0..OUTBOX_LEAVES-1.  Backend or relay, inside a transaction.
 * Taken from shared memory; when unknown (after a restart, or not preloaded),
 * the leaf that holds the highest txid.  Never depends on the caller's snapshot
 * and takes no predicate lock.
 */
extern int outbox_leaf_current(void);

/*
 * Oids of leaf `leaf`, of outbox.event, and of the sequence of its seq; ERROR 42P01 when it is
 * missing.  In a transaction.  Kept until a change of pg_class or pg_namespace is heard of, which
 * costs next to nothing; as with any look-up by name, only who has locked what was found and found
 * it again knows that it is still that.
 */
extern Oid outbox_leaf_relation(int leaf);
extern Oid outbox_leaf_ring(void);
extern Oid outbox_leaf_sequence(void);

/* Opens a leaf's plain btree on txid, AccessShareLock; error when there is none. */
extern Relation outbox_leaf_open_index(Relation leaf);

/* Oid of relation outbox.<name>, looked up; ERROR 42P01 when it is missing.  In a transaction. */
extern Oid outbox_leaf_named_relation(const char *name);

#endif /* OUTBOX_LEAF_H */
