/* SPDX-License-Identifier: PostgreSQL
 *
 * steps.c
 *	  What each state of the relay does when it has its turn, and with an answer of the sender.
 *
 * Runs in the relay.  The way to a fence is in connect.c, a batch on its way in deliver.c; here
 * are the states between, and the table of all.  A state says what comes next, and does not go
 * there: the loop does (relay.c).
 */
#include "postgres.h"

#include "attach.h"
#include "connect.h"
#include "deliver.h"
#include "hello.h"
#include "last.h"
#include "leader_watch.h"
#include "link.h"
#include "steps.h"
#include "transition.h"
#include "work.h"
#include "bgworker/events/retention.h"
#include "src/backlog.h"
#include "src/clock.h"
#include "src/guc.h"

#define REFRESH_MS	  (3600 * 1000)
#define LOOK_HOLDS_MS 1000 /* an unfenced cursor older than this is read again before a fence */

/* ----------------------------------------------------------------- idle */

/*
 * A sender that has had nothing to do for long goes, and with it its connections
 * and wake-ups; the next work begins with a new one.  One that watches leaders stays.
 */
static void
rest_sender(OutboxRelay *relay)
{
	if (outbox_guc_sender_idle_timeout == 0 || relay->peer == OUTBOX_PEER_NONE ||
		!outbox_link_idle() || outbox_leader_watch_wanted(relay) ||
		!TimestampDifferenceExceeds(relay->entered_at, outbox_clock_now(),
									outbox_guc_sender_idle_timeout * 1000))
		return;
	outbox_relay_drop_sender(relay, true);
	SpinLockAcquire(&relay->slot->mutex);
	relay->slot->status.sender_pid = 0;
	SpinLockRelease(&relay->slot->mutex);
}

/* Everything visible is delivered, whatever the counter of the backlog said before the look. */
static void
tell_all_delivered(OutboxRelay *relay, int64 backlog)
{
	outbox_backlog_take(relay->slot, backlog);
	relay->owed = 0;
	outbox_relay_progressed(relay->slot);
}

/* Looks for what is new in the tables; true: a window is open on it. */
static bool
look_for_work(OutboxRelay *relay)
{
	int64 backlog;

	relay->look_due = false;
	/* the last batch stays: it is sent again when Kafka has lost the cursor */
	outbox_retention_step(relay->slot, &relay->last.range.lower);
	backlog = (int64) pg_atomic_read_u64(&relay->slot->backlog);
	if (outbox_work_find(relay))
		return true;
	tell_all_delivered(relay, backlog);
	rest_sender(relay);
	return false;
}

/* An idle cursor is committed anew before Kafka forgets it (offsets.retention.minutes). */
static bool
refresh_is_due(const OutboxRelay *relay)
{
	return TimestampDifferenceExceeds(relay->refreshed_at, outbox_clock_now(), REFRESH_MS);
}

static OutboxTurn
step_idle(OutboxRelay *relay)
{
	bool work = relay->delivered < relay->last.batch_no;
	bool refresh;

	if (!work && relay->look_due)
	{
		work = look_for_work(relay);
		if (!work && outbox_hello_topics_changed())
		{
			/* the sender creates them without an event too */
			if (relay->peer == OUTBOX_PEER_NONE)
				return OUTBOX_ENTER(OUTBOX_RELAY_CONNECTING);
			outbox_hello_declare_topics(relay);
		}
		if (!work && relay->peer == OUTBOX_PEER_NONE && outbox_leader_watch_wanted(relay))
			return OUTBOX_ENTER(OUTBOX_RELAY_CONNECTING);
		if (!work && relay->peer != OUTBOX_PEER_NONE)
			outbox_leader_watch_tell(relay);
	}
	refresh = !work && refresh_is_due(relay);
	if (!work && !refresh)
		return OUTBOX_WAIT;
	if (relay->peer != OUTBOX_PEER_FENCED &&
		TimestampDifferenceExceeds(relay->looked_at, outbox_clock_now(), LOOK_HOLDS_MS))
		return OUTBOX_ENTER(OUTBOX_RELAY_CONNECTING); /* the cursor may have moved since (I4) */
	return outbox_relay_go_on(relay, refresh);
}

/* ------------------------------------------------------ hold and backoff */

static OutboxTurn
step_hold(OutboxRelay *relay)
{
	int decision;

	if (relay->held_by_owner)
		return OUTBOX_WAIT;
	SpinLockAcquire(&relay->slot->mutex);
	decision = relay->slot->adopt;
	relay->slot->adopt = OUTBOX_ADOPT_NONE;
	SpinLockRelease(&relay->slot->mutex);
	if (decision == OUTBOX_ADOPT_NONE)
		return OUTBOX_WAIT;
	outbox_last_load(relay); /* a restore may have gone on since */
	return (OutboxTurn) {.kind = OUTBOX_TURN_ADOPTS, .resend = decision == OUTBOX_ADOPT_RESEND};
}

static OutboxTurn
step_backoff(OutboxRelay *relay)
{
	if (outbox_clock_now() < relay->next_try)
		return OUTBOX_WAIT;
	return OUTBOX_ENTER(OUTBOX_RELAY_CONNECTING); /* I6 */
}

/* ---------------------------------------------------------- all of them */

/* What a state does with its turn, and with an answer of the sender. */
typedef struct StateActions
{
	OutboxTurn (*step)(OutboxRelay *relay);
	OutboxTurn (*take)(OutboxRelay *relay, const OutboxAnswer *answer);
} StateActions;

/* STOPPED has none: the loop begins with STARTING. */
static const StateActions actions[] = {
	[OUTBOX_RELAY_STARTING] = {outbox_connect_starting, outbox_relay_take_unasked},
	[OUTBOX_RELAY_CONNECTING] = {outbox_connect_connecting, outbox_connect_take},
	[OUTBOX_RELAY_FENCING] = {outbox_connect_fencing, outbox_connect_take},
	[OUTBOX_RELAY_IDLE] = {step_idle, outbox_relay_take_unasked},
	[OUTBOX_RELAY_PREPARING] = {outbox_deliver_preparing, outbox_relay_take_unasked},
	[OUTBOX_RELAY_REPLICATING] = {outbox_deliver_replicating, outbox_relay_take_unasked},
	[OUTBOX_RELAY_SENDING] = {outbox_deliver_sending, outbox_deliver_take},
	[OUTBOX_RELAY_BACKOFF] = {step_backoff, outbox_relay_take_unasked},
	[OUTBOX_RELAY_HOLD] = {step_hold, outbox_relay_take_unasked},
};

OutboxTurn
outbox_relay_step(OutboxRelay *relay)
{
	return actions[relay->state].step(relay);
}

OutboxTurn
outbox_relay_take(OutboxRelay *relay, const OutboxAnswer *answer)
{
	if (answer->type == OUTBOX_FRAME_LEADERS && !answer->leaders.given_up)
	{
		outbox_leader_watch_take(relay, &answer->leaders);
		return OUTBOX_WAIT;
	}
	return actions[relay->state].take(relay, answer);
}
