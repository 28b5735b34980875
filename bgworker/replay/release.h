/* SPDX-License-Identifier: PostgreSQL
 *
 * release.h
 *	  Releases topics that were held apart: what their holds left out comes back as copies.
 *
 * Process: the relay.  A hold in state releasing (outbox.topic_hold) still holds its topic, but for
 * its own copies.  Its last copies and its end are one transaction, between two windows: they come
 * first in the next one, and what committed meanwhile comes behind them.  One hold at a time, the
 * one that was released first.
 */
#ifndef OUTBOX_RELEASE_H
#define OUTBOX_RELEASE_H

#include "replay.h"

/*
 * The relay's loop calls it when the state has nothing to do at once.  Own, short transactions:
 * copies a step, ends the hold if no window is open, or deletes rows of one that has ended.
 * COPIED: what the relay knows of holds is outdated, too.
 */
extern OutboxReplayOutcome outbox_release_step(const OutboxReplayTurn *turn);

/*
 * Own transaction.  Between two windows, before the next is opened: ends the hold if few of its
 * events are left, which are copied with it.  True: it has, and what the relay knows of holds is
 * outdated.
 */
extern bool outbox_release_end(const OutboxReplayTurn *turn);

/* Milliseconds until a step is due; LONG_MAX: none before something else happens. */
extern long outbox_release_wait(const OutboxReplayTurn *turn);

/* What this process knows of the release is read anew: copies or batches were given up. */
extern void outbox_release_forget(void);

/* Own transaction.  Sets the bytes held of each topic in shared memory to what the tables say. */
extern void outbox_release_measure(OutboxSlot *slot);

#endif /* OUTBOX_RELEASE_H */
