/* SPDX-License-Identifier: PostgreSQL
 *
 * presence.c
 *	  Who else sends for this installation, as the relay asks its sender and waits.
 *
 * Runs in the relay.  I4: the sender joins group outbox-alive.<installation> when it gets its
 * settings; before a fence, and before an idle relay stays, the group must have shown nobody else.
 */
#include "postgres.h"

#include "hello.h"
#include "presence.h"
#include "src/clock.h"

#define ALONE_HOLDS_MS 1000 /* a look at the group is good for so long */
#define ASK_AGAIN_MS   250
#define TELL_AFTER_MS  3000 /* then last_error says who is waited for */

#define WAITING "another sender of this installation is in Kafka, its session is waited for"

bool
outbox_presence_is_alone(OutboxRelay *relay)
{
	OutboxSight *sight = &relay->sight;
	TimestampTz	 now = outbox_clock_now();

	if (sight->alone && !TimestampDifferenceExceeds(sight->alone_at, now, ALONE_HOLDS_MS))
		return true;
	sight->alone = false;
	if (now >= relay->next_ask)
		outbox_hello_ask(relay, OUTBOX_FRAME_ALIVE);
	return false;
}

/* The first member that is another relay's, as text; NULL: there is none. */
static char *
find_other(const OutboxIdentity *identity, const OutboxLiving *members)
{
	char own[OUTBOX_TOKEN_SIZE];

	outbox_alive_write_token(own, sizeof(own), identity->timeline, identity->system_id,
							 &identity->directory, identity->database);
	for (int i = 0; i < members->count; i++)
	{
		const OutboxLivingSender *member = &members->members[i];

		if (outbox_alive_is_other(own, member->client))
			return psprintf("%s at %s", member->client, member->host);
	}
	return NULL;
}

/* For how long it holds, -1 = it does not; *since remembers when it began. */
static int64
ms_since(TimestampTz *since, bool holds, TimestampTz now)
{
	if (!holds)
		*since = 0;
	else if (*since == 0)
		*since = now;
	return holds ? TimestampDifferenceMilliseconds(*since, now) : -1;
}

static void
tell_of_other(OutboxRelay *relay, const char *other, int64 seen_ms)
{
	char *text = psprintf(WAITING ": %s", other);

	if (seen_ms == 0)
		ereport(LOG, (errmsg("outbox relay: %s", text)));
	if (seen_ms < TELL_AFTER_MS || relay->other_told)
		return;
	relay->other_told = true;
	outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_RELAY, text);
}

/* The wait has ended well: no error any more. */
static void
forget_other(OutboxRelay *relay)
{
	OutboxLastError *error = &relay->slot->status.errors[OUTBOX_ERROR_OF_RELAY];

	SpinLockAcquire(&relay->slot->mutex);
	if (strncmp(error->text, WAITING, strlen(WAITING)) == 0)
	{
		error->text[0] = '\0';
		error->at = error->recovered_at = 0;
	}
	SpinLockRelease(&relay->slot->mutex);
}

static void
tell_of_right(OutboxRelay *relay, const char *problem)
{
	if (relay->no_right_told)
		return;
	relay->no_right_told = true;
	ereport(WARNING,
			(errmsg("outbox relay: a copy of this server that sends at the same time would not be "
					"seen: %s",
					problem),
			 errhint("The relay must be able to join group outbox-alive.<installation> "
					 "(docs/settings.md).")));
}

static OutboxTurn
hold_for_other(OutboxRelay *relay, const char *other)
{
	bool delivered = relay->delivered >= relay->last.batch_no;

	outbox_start_call_copy(
		&relay->comparison,
		psprintf("another server sends for this installation, %.250s: one of the two is a copy. "
				 "Stop the wrong one; adopt() makes this one an installation of its own",
				 other));
	relay->comparison.last_delivered = delivered;
	return OUTBOX_DIVERGE;
}

/* What the members of this moment say, and since when. */
static OutboxAliveView
see(OutboxRelay *relay, const OutboxLiving *members, bool other, TimestampTz now)
{
	OutboxSight	   *sight = &relay->sight;
	OutboxAliveView view = {.other = other,
							.joined = members->joined,
							.allowed = members->allowed,
							.last_writer = relay->comparison.written_here};

	view.other_for_ms = ms_since(&sight->other_since, other || sight->other_since != 0, now);
	view.gone_for_ms = ms_since(&sight->gone_since, !other && sight->other_since != 0, now);
	view.joining_for_ms = ms_since(&sight->joining_since, !members->joined, now);
	return view;
}

static void
note_alone(OutboxRelay *relay, TimestampTz now)
{
	OutboxSight *sight = &relay->sight;

	sight->alone = true;
	sight->alone_at = now;
	if (sight->other_since == 0)
		return;
	forget_other(relay);
	sight->looked = false; /* who has gone may have moved the cursor */
	sight->other_since = sight->gone_since = 0;
}

OutboxTurn
outbox_presence_take(OutboxRelay *relay, const OutboxLiving *members)
{
	char			  *other = find_other(&relay->identity, members);
	TimestampTz		   now = outbox_clock_now();
	OutboxAliveView	   view;
	OutboxAliveVerdict verdict;

	relay->peer = OUTBOX_PEER_OPENED;
	relay->entered_at = now; /* the sender does answer */
	view = see(relay, members, other != NULL, now);
	if (view.other)
		tell_of_other(relay, other, view.other_for_ms);
	else
		relay->other_told = false;

	verdict = outbox_alive_judge(&view);
	if (!view.allowed)
		tell_of_right(relay, members->problem);
	else if (verdict == OUTBOX_ALIVE_ALONE && !view.joined)
		tell_of_right(relay,
					  psprintf("its sender is not in the group after %d s",
							   OUTBOX_ALIVE_JOIN_MS / 1000));
	if (verdict == OUTBOX_ALIVE_HOLD)
		return hold_for_other(relay, other);
	if (verdict == OUTBOX_ALIVE_LOOK)
		relay->next_ask = TimestampTzPlusMilliseconds(now, ASK_AGAIN_MS);
	else
		note_alone(relay, now);
	return OUTBOX_REPEAT;
}
