/* SPDX-License-Identifier: PostgreSQL
 *
 * transition.c
 *	  The relay goes from state to state, and what falls on the way.
 *
 * Runs in the relay.  I6: every failure ends in BACKOFF, from where the cursor is asked for again.
 */
#include "postgres.h"

#include "pgstat.h"

#include "link.h"
#include "transition.h"
#include "bgworker/replay/release.h"
#include "src/clock.h"
#include "src/guc.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MOST_MS	 30000
#define FENCED_WAIT_MS	 1000

static void
publish_text(OutboxRelay *relay, char *field, const char *text)
{
	char fitting[OUTBOX_TEXT_SIZE];

	outbox_shmem_fit(fitting, text);
	SpinLockAcquire(&relay->slot->mutex);
	memcpy(field, fitting, sizeof(fitting));
	SpinLockRelease(&relay->slot->mutex);
}

void
outbox_relay_enter(OutboxRelay *relay, OutboxRelayState state)
{
	OutboxRelayStatus *status = &relay->slot->status;
	char			   activity[64];

	if (!outbox_relay_state_follows(relay->state, state))
		elog(ERROR, "relay cannot go from %s to %s", outbox_relay_state_name(relay->state),
			 outbox_relay_state_name(state));
	elog(DEBUG2, "outbox relay: %s -> %s", outbox_relay_state_name(relay->state),
		 outbox_relay_state_name(state));
	relay->state = state;
	relay->entered_at = outbox_clock_now();
	relay->silence_told = false;

	SpinLockAcquire(&relay->slot->mutex);
	status->state = state;
	status->sender_pid = outbox_link_pid();
	status->delivered_batch = relay->delivered;
	status->delivery = outbox_guc_delivery;
	status->commit_order = relay->window.commit_order;
	status->held_by_owner = false;
	if (state != OUTBOX_RELAY_HOLD)
		status->hold_reason[0] = '\0';
	SpinLockRelease(&relay->slot->mutex);

	snprintf(activity, sizeof(activity), "%s, batch " INT64_FORMAT, outbox_relay_state_name(state),
			 relay->last.batch_no);
	pgstat_report_activity(state == OUTBOX_RELAY_IDLE ? STATE_IDLE : STATE_RUNNING, activity);
}

OutboxTurn
outbox_relay_go_on(OutboxRelay *relay, bool refresh)
{
	OutboxStanding standing = {
		.peer = relay->peer,
		.delivered = relay->delivered,
		.last = relay->last.batch_no,
		.unsent = outbox_hand_has_unsent(&relay->hand, &relay->window),
		.refresh = refresh,
	};
	OutboxNext next = outbox_relay_next(&standing);

	relay->hand.errand = next.errand;
	return OUTBOX_ENTER(next.state);
}

void
outbox_relay_drop_sender(OutboxRelay *relay, bool leave)
{
	outbox_link_stop(leave);
	relay->peer = OUTBOX_PEER_NONE;
	relay->sight.looked = relay->sight.alone = false;
}

void
outbox_relay_begin_anew(OutboxRelay *relay, long wait_ms)
{
	relay->peer = Min(relay->peer, OUTBOX_PEER_OPENED);
	relay->sight = (OutboxSight) {0};
	outbox_hand_empty(&relay->hand);
	outbox_window_close(&relay->window);
	relay->letters.loaded = false;
	outbox_release_forget();
	relay->holds.loaded = false;
	relay->next_try = TimestampTzPlusMilliseconds(outbox_clock_now(), wait_ms);
	outbox_relay_enter(relay, OUTBOX_RELAY_BACKOFF);
}

void
outbox_relay_fail(OutboxRelay *relay, bool drop_sender, const char *text, long least_ms)
{
	long wait = Min(BACKOFF_FIRST_MS << Min(relay->failures, 9), BACKOFF_MOST_MS);

	if (relay->failures == 0)
		ereport(LOG, (errmsg("outbox relay: %s", text)));
	relay->failures++;
	outbox_shmem_fit(relay->cause, text);
	outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_RELAY, text);
	SpinLockAcquire(&relay->slot->mutex);
	relay->slot->status.recoveries++;
	SpinLockRelease(&relay->slot->mutex);
	if (drop_sender)
		outbox_relay_drop_sender(relay, false);
	outbox_relay_begin_anew(relay, Max(wait, least_ms));
}

static OutboxTurn
take_failed(const OutboxFailed *failed, OutboxPeer peer)
{
	OutboxTurn turn = {.kind = OUTBOX_TURN_FAILS, .drop_sender = peer < OUTBOX_PEER_OPENED};

	turn.text = psprintf("%s failed (%s, Kafka error %d): %s", failed->tried,
						 outbox_error_class_name(failed->class), failed->error, failed->text);
	/* the other one shows who it is in the cursor; until then it is left alone */
	if (failed->class == OUTBOX_ERROR_FENCED)
		turn.least_ms = FENCED_WAIT_MS;
	return turn;
}

OutboxTurn
outbox_relay_take_unasked(OutboxRelay *relay, const OutboxAnswer *answer)
{
	if (answer->type == OUTBOX_FRAME_COMMITTED)
		elog(ERROR, "the sender committed batch " INT64_FORMAT ", which was not asked for",
			 answer->committed.batch_no);
	if (answer->type == OUTBOX_FRAME_LEADERS && relay->state != OUTBOX_RELAY_HOLD)
		return OUTBOX_FAIL("the sender has given up a batch that nobody waits for");
	if (answer->type == OUTBOX_FRAME_FAILED && relay->state != OUTBOX_RELAY_HOLD)
		return take_failed(&answer->failed, relay->peer);
	return OUTBOX_WAIT;
}

void
outbox_relay_hold(OutboxRelay *relay, const char *reason)
{
	ereport(LOG,
			(errmsg("outbox relay holds: %s", reason),
			 errhint("Nothing is sent. Find out which history is right, then call "
					 "outbox.adopt('resend') or outbox.adopt('skip').")));
	outbox_relay_drop_sender(relay, true);
	outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_RELAY, reason);
	outbox_relay_enter(relay, OUTBOX_RELAY_HOLD);
	publish_text(relay, relay->slot->status.hold_reason, reason);
}

void
outbox_relay_await_genesis(OutboxRelay *relay)
{
	static const char reason[] =
		"outbox.batch is empty: call outbox.start_relay(), or wait for the end of a restore";

	if (relay->slot->status.hold_reason[0] != '\0')
		return; /* said; nobody else writes it while the relay runs */
	ereport(LOG, (errmsg("outbox relay waits: %s", reason)));
	publish_text(relay, relay->slot->status.hold_reason, reason);
}

void
outbox_relay_count_doubled(OutboxRelay *relay, int64 events)
{
	SpinLockAcquire(&relay->slot->mutex);
	relay->slot->status.possibly_doubled += events;
	SpinLockRelease(&relay->slot->mutex);
}
