/* SPDX-License-Identifier: PostgreSQL
 *
 * relay.c
 *	  The relay: takes committed events to Kafka in commit order.
 *
 * Runs in one background worker for each database that called start_relay().
 * Each turn of the loop: owners, settings, answers of the sender, time, one step of the
 * state, a replay's step, wait.  A state says what comes next (steps.h), and do_turn goes there.
 * I5: no transaction is open across the wait, and no turn takes longer than reading a piece of a
 * batch.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"

#include "answers.h"
#include "attach.h"
#include "divergence.h"
#include "hello.h"
#include "link.h"
#include "owner_hold.h"
#include "self.h"
#include "steps.h"
#include "transition.h"
#include "work.h"
#include "bgworker/replay/release.h"
#include "bgworker/replay/replay.h"
#include "bgworker/session.h"
#include "src/clock.h"
#include "src/clock_step.h"
#include "src/compat.h"
#include "src/encoding.h"
#include "src/guc.h"

#define ANSWER_MS		180000 /* the sender's own limits are well below, but for a batch's */
#define ANSWER_SLACK_MS 60000  /* beyond those */
#define SILENCE_MS		8000   /* then last_error says that Kafka does not answer */

PGDLLEXPORT void outbox_relay_main(Datum main_arg);

static void
connect_worker(Datum main_arg)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(main_arg), InvalidOid, 0);
	ConfigReloadPending = true; /* a worker that is being started ignores SIGHUP: one may be lost */
	outbox_session_prepare();
}

static OutboxRelay *
make_relay(OutboxSlot *slot)
{
	OutboxRelay *relay = MemoryContextAllocZero(TopMemoryContext, sizeof(OutboxRelay));

	relay->slot = slot;
	relay->state = OUTBOX_RELAY_STOPPED;
	relay->delivered = -1;
	relay->scratch = AllocSetContextCreate(TopMemoryContext, "outbox turn", ALLOCSET_DEFAULT_SIZES);
	relay->last_context =
		AllocSetContextCreate(TopMemoryContext, "outbox last batch", ALLOCSET_SMALL_SIZES);
	relay->waypoint_context =
		AllocSetContextCreate(TopMemoryContext, "outbox waypoints", ALLOCSET_DEFAULT_SIZES);
	relay->window.context =
		AllocSetContextCreate(TopMemoryContext, "outbox window", ALLOCSET_DEFAULT_SIZES);
	relay->letters.context =
		AllocSetContextCreate(TopMemoryContext, "outbox letters", ALLOCSET_DEFAULT_SIZES);
	relay->reissue_context =
		AllocSetContextCreate(TopMemoryContext, "outbox reissues", ALLOCSET_SMALL_SIZES);
	relay->holds.context =
		AllocSetContextCreate(TopMemoryContext, "outbox holds", ALLOCSET_DEFAULT_SIZES);
	outbox_hand_make(&relay->hand, &relay->letters, &relay->holds);
	SpinLockAcquire(&slot->mutex);
	slot->status.pid = MyProcPid;
	slot->status.started_at = GetCurrentTimestamp();
	SpinLockRelease(&slot->mutex);
	pg_atomic_write_u32(&slot->relay_proc, (uint32) outbox_compat_proc_number());
	return relay;
}

static void
reload_settings(OutboxRelay *relay)
{
	char *problem = NULL;
	char *text;

	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	relay->letters.loaded = false; /* outbox.dead_letter_policy may have changed */
	if (relay->state == OUTBOX_RELAY_HOLD)
		return;
	text = outbox_hello_settings_text(relay, &problem);
	if (text == NULL)
	{
		ereport(LOG, (errmsg("outbox relay: the settings are not changed: %s", problem)));
		outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_SETTINGS, problem);
	}
	else if (relay->settings != NULL && strcmp(text, relay->settings) != 0)
	{
		outbox_shmem_recovered(relay->slot, OUTBOX_ERROR_OF_SETTINGS);
		ereport(LOG, (errmsg("outbox relay: settings have changed, the sender is started anew")));
		relay->failures = 0;
		outbox_relay_drop_sender(relay, true);
		outbox_relay_begin_anew(relay, 0);
	}
	else
	{
		outbox_shmem_recovered(relay->slot, OUTBOX_ERROR_OF_SETTINGS);
		if (relay->state == OUTBOX_RELAY_BACKOFF)
			relay->next_try = outbox_clock_now();
	}
}

/* While the sender owes an answer: says early that it is late, and in the end replaces it. */
static void
watch_answer(OutboxRelay *relay, TimestampTz now)
{
	int64 answer_ms = ANSWER_MS;
	char *text;

	if (relay->state != OUTBOX_RELAY_CONNECTING && relay->state != OUTBOX_RELAY_FENCING &&
		relay->state != OUTBOX_RELAY_SENDING)
		return;
	if (relay->state == OUTBOX_RELAY_SENDING)
		answer_ms = Max(ANSWER_MS, relay->longest_ms + ANSWER_SLACK_MS);
	if (now - relay->entered_at > answer_ms * 1000)
		outbox_relay_fail(relay, true, "the sender does not answer, it is replaced", 0);
	else if (!relay->silence_told && TimestampDifferenceExceeds(relay->entered_at, now, SILENCE_MS))
	{
		text = psprintf("Kafka has not answered for %d s (%s, batch " INT64_FORMAT ")%s%s",
						SILENCE_MS / 1000, outbox_relay_state_name(relay->state),
						relay->delivered + 1, relay->failures > 0 ? "; before: " : "",
						relay->failures > 0 ?
							outbox_encoding_shown(relay->cause, (int) strlen(relay->cause)) :
							"");
		if (relay->failures == 0)
			ereport(LOG, (errmsg("outbox relay: %s", text)));
		outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_RELAY, text);
		relay->silence_told = true;
	}
}

static void
watch_time(OutboxRelay *relay)
{
	TimestampTz now = outbox_clock_now();

	if (now >= relay->next_look)
	{
		relay->look_due = true;
		relay->next_look = TimestampTzPlusMilliseconds(now, OUTBOX_LOOK_MS);
	}
	watch_answer(relay, now);
	outbox_clock_step_watch(GetCurrentTimestamp());
	if (relay->state != OUTBOX_RELAY_IDLE && relay->state != OUTBOX_RELAY_HOLD &&
		now >= relay->next_waypoint)
	{
		if (relay->next_waypoint != 0 && relay->delivered >= 0)
			outbox_work_note_waypoint(relay);
		relay->next_waypoint = TimestampTzPlusMilliseconds(now, OUTBOX_LOOK_MS);
	}
}

static long
choose_wait(const OutboxRelay *relay)
{
	TimestampTz until = relay->next_look;
	long		ms;

	if (relay->state == OUTBOX_RELAY_REPLICATING)
	{
		/* a standby's progress sets no latch of ours */
		ms = TimestampDifferenceMilliseconds(relay->entered_at, outbox_clock_now()) / 8;
		return Min(Max(ms, 1), OUTBOX_TURN_MS);
	}
	if (relay->state == OUTBOX_RELAY_BACKOFF)
		until = Min(until, relay->next_try);
	ms = TimestampDifferenceMilliseconds(outbox_clock_now(), until);
	if (relay->state != OUTBOX_RELAY_IDLE && relay->state != OUTBOX_RELAY_HOLD &&
		relay->state != OUTBOX_RELAY_STARTING)
		ms = Min(ms, OUTBOX_TURN_MS);
	return Max(ms, 1);
}

/* Beside the relay's own work; true: turn again at once. */
static bool
step_aside(OutboxRelay *relay)
{
	OutboxReplayTurn	turn = outbox_work_describe_turn(relay);
	OutboxReplayOutcome released = outbox_release_step(&turn);
	OutboxReplayOutcome replayed =
		released == OUTBOX_REPLAY_NOTHING ? outbox_replay_step(&turn) : OUTBOX_REPLAY_NOTHING;

	if (released == OUTBOX_REPLAY_COPIED)
		relay->holds.loaded = false;
	relay->look_due |= released == OUTBOX_REPLAY_COPIED || replayed == OUTBOX_REPLAY_COPIED;
	return released != OUTBOX_REPLAY_NOTHING || replayed != OUTBOX_REPLAY_NOTHING;
}

/* What a state has said; true: turn again at once. */
static bool
do_turn(OutboxRelay *relay, OutboxTurn turn)
{
	switch (turn.kind)
	{
		case OUTBOX_TURN_WAITS:
			return false;
		case OUTBOX_TURN_REPEATS:
			break;
		case OUTBOX_TURN_ENTERS:
			outbox_relay_enter(relay, turn.state);
			break;
		case OUTBOX_TURN_FAILS:
			outbox_relay_fail(relay, turn.drop_sender, turn.text, turn.least_ms);
			break;
		case OUTBOX_TURN_HOLDS:
			outbox_relay_hold(relay, turn.text);
			break;
		case OUTBOX_TURN_DIVERGES:
			outbox_divergence_decide(relay);
			break;
		case OUTBOX_TURN_ADOPTS:
			outbox_divergence_adopt(relay, turn.resend);
			break;
	}
	return true;
}

/* The states take what the sender has answered; one that has ended is a failure. */
static void
read_answers(OutboxRelay *relay)
{
	OutboxFrameType	 type;
	OutboxWireReader body;
	OutboxAnswer	 answer;

	if (relay->peer == OUTBOX_PEER_NONE)
		return;
	if (!outbox_link_pump())
	{
		outbox_link_stop(false);
		outbox_relay_fail(relay, true, psprintf("the sender has ended: %s", outbox_link_ending()),
						  0);
		return;
	}
	while (relay->peer != OUTBOX_PEER_NONE && outbox_link_next(&type, &body))
	{
		outbox_answer_read(type, &body, &answer);
		(void) do_turn(relay, outbox_relay_take(relay, &answer));
	}
}

static void
run_loop(OutboxRelay *relay)
{
	OutboxReplayTurn turn;

	outbox_relay_enter(relay, OUTBOX_RELAY_STARTING);
	for (;;)
	{
		MemoryContextReset(relay->scratch);
		MemoryContextSwitchTo(relay->scratch);
		if (MyLatch->is_set)
		{
			ResetLatch(MyLatch);
			relay->look_due = true;
		}
		CHECK_FOR_INTERRUPTS();
		outbox_owner_hold_watch(relay);
		reload_settings(relay);
		read_answers(relay);
		watch_time(relay);
		if (do_turn(relay, outbox_relay_step(relay)) || step_aside(relay))
			continue;
		Assert(!IsTransactionState());
		turn = outbox_work_describe_turn(relay);
		outbox_link_wait(Min(choose_wait(relay),
							 Min(outbox_replay_wait(&turn), outbox_release_wait(&turn))));
	}
}

void
outbox_relay_main(Datum main_arg)
{
	OutboxSlot *slot;

	connect_worker(main_arg);
	slot = outbox_shmem_slot_of(MyDatabaseId, false);
	if (!outbox_relay_attach(slot))
		proc_exit(0); /* an answer, not a failure */

	outbox_hello_watch_topics();
	PG_TRY();
	{
		run_loop(make_relay(slot));
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		outbox_shmem_report_error(slot, OUTBOX_ERROR_OF_RELAY, error->message);
		PG_RE_THROW();
	}
	PG_END_TRY();
}
