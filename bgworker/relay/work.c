/* SPDX-License-Identifier: PostgreSQL
 *
 * work.c
 *	  Which events are next: the window and what it leaves out, and waypoints.
 *
 * Runs in the relay.  I1: a window begins where the newest row ends.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "work.h"
#include "bgworker/events/reissues.h"
#include "bgworker/events/take_snapshot.h"
#include "bgworker/replay/release.h"
#include "bgworker/session.h"
#include "src/backlog.h"
#include "src/fault.h"

#define MOST_WAYPOINTS 3600

/* A long outage keeps its pieces, they only get larger. */
static void
thin_waypoints(OutboxRelay *relay)
{
	ListCell *cell;

	foreach(cell, relay->waypoints)
	{
		OutboxSnapshot *waypoint = lfirst(cell);

		if (foreach_current_index(cell) % 2 == 0)
		{
			relay->waypoints = foreach_delete_current(relay->waypoints, cell);
			pfree(waypoint->xip);
			pfree(waypoint);
		}
	}
}

void
outbox_work_note_waypoint(OutboxRelay *relay)
{
	OutboxSnapshot	snapshot;
	OutboxSnapshot *newest = relay->waypoints ? llast(relay->waypoints) : &relay->last.range.upper;
	MemoryContext	previous;

	if (list_length(relay->waypoints) >= MOST_WAYPOINTS)
		thin_waypoints(relay);
	outbox_session_begin();
	outbox_snapshot_take(CurrentMemoryContext, &snapshot);
	if (snapshot.xmax != newest->xmax || snapshot.nxip != newest->nxip)
	{
		previous = MemoryContextSwitchTo(relay->waypoint_context);
		newest = palloc(sizeof(OutboxSnapshot));
		outbox_snapshot_copy(relay->waypoint_context, newest, &snapshot);
		relay->waypoints = lappend(relay->waypoints, newest);
		MemoryContextSwitchTo(previous);
	}
	outbox_session_end();
}

/* Inside a transaction.  The events that come first in windows from lower on, as the tables say. */
static void
load_reissues(OutboxRelay *relay, const OutboxSnapshot *lower)
{
	MemoryContextReset(relay->reissue_context);
	relay->reissues = outbox_reissues_load(relay->reissue_context, lower, NULL, 0);
}

/* Own transaction.  Is there anything behind the last batch, up to `upper` if there is one? */
static bool
open_window(OutboxRelay *relay, const OutboxSnapshot *upper)
{
	const OutboxRange *last = &relay->last.range;
	bool			   known = relay->letters.loaded && relay->holds.loaded;
	bool			   found;

	outbox_session_begin();
	if (!known)
		load_reissues(relay, &last->upper);
	outbox_letters_refresh(&relay->letters, &last->upper);
	outbox_holds_refresh(&relay->holds, relay->slot, &last->upper);
	found =
		outbox_window_open(&relay->window, &last->upper, &last->upper_at, upper, relay->reissues);
	outbox_session_end();
	return found;
}

/* What a replay or a release is told, by the state the relay is in. */
OutboxReplayTurn
outbox_work_describe_turn(const OutboxRelay *relay)
{
	OutboxReplayTurn turn = {
		.slot = relay->slot,
		.scratch = relay->scratch,
		.delivering = relay->state == OUTBOX_RELAY_IDLE || relay->state == OUTBOX_RELAY_SENDING,
		.last = &relay->last.range,
		.last_batch = relay->last.batch_no,
		.timed_batch = relay->timed_batch,
		.timed_events = relay->timed_events,
		.timed_ms = relay->timed_ms,
		.all_delivered = relay->delivered == relay->last.batch_no,
		.waiting = relay->window.count - relay->window.next,
		.most_bytes = relay->window.most_bytes,
	};

	/* the rest of a transaction that was cut inside comes before what ends a hold */
	turn.between = relay->state == OUTBOX_RELAY_IDLE && turn.all_delivered &&
		relay->waypoints == NIL && relay->last.range.upper_at.txid == 0 &&
		!outbox_hand_has_unsent(&relay->hand, &relay->window);
	for (int i = 0; i < relay->holds.count; i++)
		turn.releasing |= relay->holds.holds[i].releasing;
	return turn;
}

/* What is left of a hold that is released precedes what became visible since the last window. */
static void
end_release(OutboxRelay *relay)
{
	OutboxReplayTurn turn = outbox_work_describe_turn(relay);

	if (outbox_release_end(&turn))
		relay->holds.loaded = false;
}

/*
 * Waypoints come first.  Dead letters are emitted again between windows only: they precede what
 * became visible since the last one, and follow what that held.
 */
bool
outbox_work_find(OutboxRelay *relay)
{
	bool found = false;

	while (relay->waypoints != NIL && !found)
	{
		OutboxSnapshot *waypoint = linitial(relay->waypoints);

		found = open_window(relay, waypoint);
		relay->waypoints = list_delete_first(relay->waypoints);
		pfree(waypoint->xip);
		pfree(waypoint);
	}
	if (!found)
	{
		int64 bytes = 0;

		end_release(relay);
		outbox_letters_reissue(&relay->letters, &bytes);
		outbox_backlog_take(relay->slot, -bytes);
		found = open_window(relay, NULL);
	}
	OUTBOX_FAULT_WHEN(found, "relay-snapshot");
	return found;
}

void
outbox_work_reopen(OutboxRelay *relay, int64 batch_no, const OutboxRange *range)
{
	outbox_session_begin();
	load_reissues(relay, &range->lower);
	outbox_letters_load(&relay->letters, &range->lower, false);
	outbox_holds_load_batch(&relay->holds, batch_no, &range->lower);
	outbox_window_reopen(&relay->window, range, relay->reissues);
	outbox_session_end();
}
