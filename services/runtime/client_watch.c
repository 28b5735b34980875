/* SPDX-License-Identifier: PostgreSQL
 *
 * client_watch.c
 *	  Notices a Kafka client that hangs.
 *
 * Runs in the services, member threads.
 */
#include "client_watch.h"

#define STEP_MAX_MS 15000

void
outbox_client_watch_begin(OutboxClientWatch *watch, int64_t now)
{
	watch->heard = false;
	watch->polled_at = now;
	watch->silent_ms = 0;
}

bool
outbox_client_watch_polled(OutboxClientWatch *watch, int64_t now)
{
	int64_t step = now - watch->polled_at;

	watch->silent_ms =
		watch->heard ? 0 : watch->silent_ms + (step < STEP_MAX_MS ? step : STEP_MAX_MS);
	watch->heard = false;
	watch->polled_at = now;
	return watch->silent_ms < OUTBOX_CLIENT_SILENT_MS;
}
