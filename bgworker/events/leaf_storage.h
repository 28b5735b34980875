/* SPDX-License-Identifier: PostgreSQL
 *
 * leaf_storage.h
 *	  Empties a leaf of the event ring or of the batch log.
 *
 * Process: the relay.
 */
#ifndef OUTBOX_LEAF_STORAGE_H
#define OUTBOX_LEAF_STORAGE_H

/*
 * Gives relation new, empty storage, with its TOAST table and all indexes, if every
 * lock is free at once and `may` still agrees under them.  Own transaction,
 * committed locally.  false: nothing was changed.
 */
typedef bool (*OutboxEmptyCheck)(void *arg);
extern bool outbox_leaf_empty(Oid relation, OutboxEmptyCheck may, void *arg, bool *locked);

#endif /* OUTBOX_LEAF_STORAGE_H */
