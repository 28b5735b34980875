/* SPDX-License-Identifier: PostgreSQL
 *
 * work.h
 *	  Which events are next: the window and what it leaves out, and waypoints.
 *
 * Process: the relay.
 */
#ifndef OUTBOX_WORK_H
#define OUTBOX_WORK_H

#include "self.h"
#include "bgworker/replay/replay.h"

/* What a replay or a release is told of the relay; pointers hold for this turn of the loop. */
extern OutboxReplayTurn outbox_work_describe_turn(const OutboxRelay *relay);

/* Own transactions.  Opens a window on what is new; false: nothing is. */
extern bool outbox_work_find(OutboxRelay *relay);

/* Own transaction.  The window of an old row, and what it leaves out (I1, I7). */
extern void outbox_work_reopen(OutboxRelay *relay, int64 batch_no, const OutboxRange *range);

/*
 * Own transaction.  While the relay is kept from looking: a snapshot, up to which a later window
 * reaches, so that a backlog stays in ordinary pieces.
 */
extern void outbox_work_note_waypoint(OutboxRelay *relay);

#endif /* OUTBOX_WORK_H */
