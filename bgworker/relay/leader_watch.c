/* SPDX-License-Identifier: PostgreSQL
 *
 * leader_watch.c
 *	  Topics without a leader: a batch goes without them, and they come back by themselves.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "hold_rows.h"
#include "leader_rules.h"
#include "leader_watch.h"
#include "link.h"
#include "refused.h"
#include "transition.h"
#include "bgworker/session.h"
#include "src/fault.h"

/* ---------------------------------------------------------------- watch */

bool
outbox_leader_watch_wanted(const OutboxRelay *relay)
{
	for (int i = 0; i < relay->holds.count; i++)
	{
		if (outbox_leader_is_watched(&relay->holds.holds[i]))
			return true;
	}
	return false;
}

static void *
grow_frame(void *data, size_t capacity)
{
	return data == NULL ? palloc(capacity) : repalloc(data, capacity);
}

static void
put_watched(const OutboxRelay *relay, OutboxWireBuffer *frame)
{
	uint16 count = 0;
	size_t mark;
	bool   ok;

	for (int i = 0; i < relay->holds.count; i++)
		count += outbox_leader_is_watched(&relay->holds.holds[i]);
	ok = outbox_wire_begin(frame, OUTBOX_FRAME_WATCH, &mark) && outbox_wire_put_u16(frame, count);
	for (int i = 0; i < relay->holds.count; i++)
	{
		if (outbox_leader_is_watched(&relay->holds.holds[i]))
			ok = ok && outbox_wire_put_cstring(frame, relay->holds.holds[i].topic);
	}
	if (!ok)
		elog(ERROR, "could not write a frame");
	outbox_wire_finish(frame, mark);
}

void
outbox_leader_watch_forget(OutboxRelay *relay)
{
	if (relay->watched != NULL)
		pfree(relay->watched);
	relay->watched = NULL;
	relay->watched_len = 0;
}

void
outbox_leader_watch_tell(OutboxRelay *relay)
{
	OutboxWireBuffer frame = {.grow = grow_frame};

	if (relay->watched == NULL && !outbox_leader_watch_wanted(relay))
		return;
	put_watched(relay, &frame);
	if (relay->watched != NULL && relay->watched_len == frame.len &&
		memcmp(relay->watched, frame.data, frame.len) == 0)
		return;
	outbox_link_give_small(&frame);
	outbox_leader_watch_forget(relay);
	relay->watched = MemoryContextAlloc(TopMemoryContext, frame.len);
	memcpy(relay->watched, frame.data, frame.len);
	relay->watched_len = frame.len;
}

/* -------------------------------------------------------------- leaders */

/* Its copies come next (bgworker/replay).  A locked topic is told of again in a second. */
static void
release_hold(OutboxRelay *relay, const OutboxHold *hold)
{
	bool locked;

	outbox_session_begin();
	locked = outbox_hold_lock(hold->topic);
	if (locked)
		outbox_hold_release(hold->id);
	OUTBOX_FAULT_WHEN(locked, "hold-release-uncommitted");
	outbox_session_end();
	if (!locked)
		return;
	OUTBOX_FAULT("hold-release-committed");
	ereport(LOG,
			(errmsg("outbox relay: topic \"%s\" has had all its leaders for a while, its events "
					"come back",
					hold->topic)));
	relay->holds.loaded = false;
	relay->look_due = true;
}

/* So long until a topic with leaders is released; the hook is for tests. */
static int64
choose_back_ms(void)
{
	OUTBOX_MUTATE("short_leader_times", return 2000);
	return OUTBOX_LEADERS_BACK_MS;
}

static const OutboxHold *
find_hold(const OutboxRelay *relay, const char *topic)
{
	for (int i = 0; i < relay->holds.count; i++)
	{
		if (!relay->holds.holds[i].ended && strcmp(relay->holds.holds[i].topic, topic) == 0)
			return &relay->holds.holds[i];
	}
	return NULL;
}

static void
tell_leaderless(OutboxRelay *relay, const OutboxTopicLeaders *leaders)
{
	outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_RELAY,
							  psprintf("batch " INT64_FORMAT " waits: partition %d of topic \"%s\" "
									   "has no leader: for " INT64_FORMAT " s",
									   relay->delivered + 1, leaders->partition, leaders->topic,
									   leaders->for_ms / 1000));
	relay->silence_told = true; /* it would say less */
}

void
outbox_leader_watch_take(OutboxRelay *relay, const OutboxLeaders *leaders)
{
	for (int i = 0; i < leaders->count; i++)
	{
		const OutboxTopicLeaders *one = &leaders->topics[i];
		const OutboxHold		 *hold = find_hold(relay, one->topic);

		if (hold != NULL && outbox_leader_ends_hold(hold, one, choose_back_ms()))
			release_hold(relay, hold);
		else if (one->partition >= 0 && relay->state == OUTBOX_RELAY_SENDING &&
				 (hold == NULL || !outbox_leader_is_watched(hold)))
			tell_leaderless(relay, one);
	}
}

/* -------------------------------------------------------------- give up */

OutboxTurn
outbox_leader_watch_give_up(OutboxRelay *relay, const OutboxLeaders *leaders)
{
	for (int i = 0; i < leaders->count; i++)
	{
		const OutboxTopicLeaders *one = &leaders->topics[i];
		OutboxHoldWanted		  wanted = {.topic = one->topic,
											.cause = OUTBOX_HOLD_LEADER,
											.partition = one->partition};

		wanted.reason = psprintf("no leader for " INT64_FORMAT " s", one->for_ms / 1000);
		if (!outbox_refused_hold_topic(relay, &wanted))
			return OUTBOX_FAIL(psprintf("topic \"%s\" cannot be held yet: somebody has locked its "
										"row of outbox.topic",
										one->topic));
	}
	return outbox_refused_fence(relay);
}
