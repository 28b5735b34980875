/* SPDX-License-Identifier: PostgreSQL
 *
 * trouble_plan.c
 *	  Records that fail for themselves alone: which failures count, when the next try is due.
 *
 * Runs in the services, member threads.  No state, no database.
 */
#include "trouble_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "services/lib/failure.h"


#define DECISION_MS	 200   /* until the next look, when nothing but proof is missing */
#define PAUSE_MAX_MS 12000 /* between tries that count */

bool
outbox_trouble_counts(const OutboxError *error)
{
	return strcmp(error->sqlstate, "55P03") != 0 && strcmp(error->sqlstate, "40P01") != 0;
}

void
outbox_trouble_error(OutboxError *error, const OutboxError *last, int tries, int64_t failing_ms)
{
	char text[sizeof(last->message) + 128];

	snprintf(text, sizeof(text),
			 "failed %d times in %" PRId64
			 " s, alone and in new sessions, while the database worked; %s%s",
			 tries, failing_ms / 1000,
			 last->ended ? "its session ended: " : "the last time: ", last->message);
	outbox_error_set(error, OUTBOX_FAILURE_CRASH, last->sqlstate, text);
}

int64_t
outbox_trouble_pause(int tries, int64_t failing_ms, bool ended, int64_t backoff_ms,
					 int64_t after_ms, unsigned random_number)
{
	int64_t left = after_ms - failing_ms;
	int64_t pause = backoff_ms < PAUSE_MAX_MS ? backoff_ms : PAUSE_MAX_MS;
	int64_t spread = after_ms / (OUTBOX_TROUBLE_TRIES - 2) + 1;

	if (tries >= OUTBOX_TROUBLE_TRIES && left <= 0)
		return DECISION_MS;
	if (ended)
		return tries < 2 ? pause : spread + random_number % (spread / 4 + 1);
	return left > 0 && left < pause ? left : pause;
}
