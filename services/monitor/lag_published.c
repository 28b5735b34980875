/* SPDX-License-Identifier: PostgreSQL
 *
 * lag_published.c
 *	  The last snapshot, and the lock under which HTTP threads read it.
 *
 * Runs in outbox-monitor: the poller writes, the HTTP threads read under the lock.
 */
#include "lag_published.h"

#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t publish_lock = PTHREAD_MUTEX_INITIALIZER;

/* Guarded by publish_lock; written by the poller alone. */
static OutboxLagSnapshot *published;
static char				  published_error[512] = "no poll has ended yet";

void
outbox_lag_publish(OutboxLagSnapshot *snapshot, const char *error)
{
	OutboxLagSnapshot *old = NULL;

	pthread_mutex_lock(&publish_lock);
	if (snapshot != NULL)
	{
		old = published;
		published = snapshot;
	}
	snprintf(published_error, sizeof(published_error), "%s", error);
	pthread_mutex_unlock(&publish_lock);
	outbox_lag_snapshot_free(old);
}

OutboxLagSnapshot *
outbox_lag_published(void)
{
	return published;
}

const OutboxLagSnapshot *
outbox_lag_view(const char **error)
{
	pthread_mutex_lock(&publish_lock);
	*error = published_error;
	return published_error[0] == '\0' ? published : NULL;
}

void
outbox_lag_release(void)
{
	pthread_mutex_unlock(&publish_lock);
}
