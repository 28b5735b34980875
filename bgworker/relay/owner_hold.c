/* SPDX-License-Identifier: PostgreSQL
 *
 * owner_hold.c
 *	  The relay holds while an object of the extension is not its owner's.
 *
 * Runs in the relay.  A change between this look and a transaction is found by the transaction
 * itself (session.c): an error, after which the next relay begins with this look.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "owner_hold.h"
#include "transition.h"
#include "bgworker/owner.h"
#include "src/clock.h"

static void
tell(OutboxRelay *relay, const char *foreign)
{
	OutboxRelayStatus *status = &relay->slot->status;
	char			   fitting[OUTBOX_TEXT_SIZE];
	bool			   news;

	outbox_shmem_fit(fitting, foreign);
	SpinLockAcquire(&relay->slot->mutex);
	status->held_by_owner = true;
	news = strcmp(status->hold_reason, fitting) != 0;
	memcpy(status->hold_reason, fitting, sizeof(fitting));
	SpinLockRelease(&relay->slot->mutex);
	if (!news)
		return;
	outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_RELAY, foreign);
	ereport(LOG,
			(errmsg("outbox relay holds: %s", foreign),
			 errdetail("The relay runs what the owners of the extension's objects wrote, with the "
					   "rights of the extension's owner."),
			 errhint("Give the objects to that role, with ALTER ... OWNER TO or REASSIGN OWNED BY "
					 "... TO: the relay then goes on by itself.")));
}

static void
hold(OutboxRelay *relay, const char *foreign)
{
	if (!relay->held_by_owner)
	{
		outbox_relay_drop_sender(relay, true);
		outbox_relay_begin_anew(relay, 0);
		outbox_relay_enter(relay, OUTBOX_RELAY_HOLD);
		relay->held_by_owner = true;
	}
	tell(relay, foreign);
}

void
outbox_owner_hold_watch(OutboxRelay *relay)
{
	TimestampTz now = outbox_clock_now();
	char	   *foreign;

	if (relay->held_by_owner ? now < relay->next_owner_look :
							   relay->state == OUTBOX_RELAY_HOLD ||
				!(relay->look_due || relay->state == OUTBOX_RELAY_STARTING))
		return;
	foreign = outbox_owner_look(relay->held_by_owner);
	relay->next_owner_look = TimestampTzPlusMilliseconds(now, OUTBOX_LOOK_MS);
	if (foreign != NULL)
		hold(relay, foreign);
	else if (relay->held_by_owner)
	{
		ereport(LOG,
				(errmsg("outbox relay: the extension's objects belong to its owner, the relay goes "
						"on")));
		relay->held_by_owner = false;
		outbox_relay_enter(relay, OUTBOX_RELAY_STARTING);
	}
}
