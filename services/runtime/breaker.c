/* SPDX-License-Identifier: PostgreSQL
 *
 * breaker.c
 *	  Stops a consumer that makes dead letters only.
 *
 * Runs in the services, any thread.
 */
#define _GNU_SOURCE
#include "breaker.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "services/lib/clock.h"

void
outbox_breaker_init(OutboxBreaker *breaker, int limit, int64_t pause_ms)
{
	memset(breaker, 0, sizeof(*breaker));
	pthread_mutex_init(&breaker->lock, NULL);
	breaker->limit = limit;
	breaker->pause_ms = pause_ms;
	breaker->success_at = INT64_MIN;
}

OutboxBreakerState
outbox_breaker_state(OutboxBreaker *breaker)
{
	OutboxBreakerState state = OUTBOX_BREAKER_CLOSED;

	pthread_mutex_lock(&breaker->lock);
	if (breaker->open)
		state = outbox_clock_ms() < breaker->try_at ? OUTBOX_BREAKER_PAUSED : OUTBOX_BREAKER_TRYING;
	pthread_mutex_unlock(&breaker->lock);
	return state;
}

int64_t
outbox_breaker_try_at(OutboxBreaker *breaker)
{
	int64_t try_at;

	pthread_mutex_lock(&breaker->lock);
	try_at = breaker->try_at;
	pthread_mutex_unlock(&breaker->lock);
	return try_at;
}

int
outbox_breaker_room(OutboxBreaker *breaker)
{
	int room = INT_MAX;

	pthread_mutex_lock(&breaker->lock);
	if (breaker->limit > 0)
		room = breaker->limit - breaker->count;
	pthread_mutex_unlock(&breaker->lock);
	return room;
}

int64_t
outbox_breaker_success_at(OutboxBreaker *breaker)
{
	int64_t success_at;

	pthread_mutex_lock(&breaker->lock);
	success_at = breaker->success_at;
	pthread_mutex_unlock(&breaker->lock);
	return success_at;
}

bool
outbox_breaker_success(OutboxBreaker *breaker)
{
	bool closed;

	pthread_mutex_lock(&breaker->lock);
	closed = breaker->open;
	breaker->open = false;
	breaker->count = 0;
	breaker->success_at = outbox_clock_ms();
	pthread_mutex_unlock(&breaker->lock);
	return closed;
}

bool
outbox_breaker_dead(OutboxBreaker *breaker, const char *fingerprint, int64_t failing_ms)
{
	bool opened = false;

	pthread_mutex_lock(&breaker->lock);
	if (breaker->limit > 0 && !breaker->open &&
		outbox_clock_ms() - failing_ms >= breaker->success_at)
	{
		if (strcmp(fingerprint, breaker->fingerprint) != 0)
		{
			snprintf(breaker->fingerprint, sizeof(breaker->fingerprint), "%s", fingerprint);
			breaker->count = 0;
		}
		opened = ++breaker->count >= breaker->limit;
		if (opened)
		{
			breaker->open = true;
			breaker->count = 0;
			breaker->try_at = outbox_clock_ms() + breaker->pause_ms;
		}
	}
	pthread_mutex_unlock(&breaker->lock);
	return opened;
}

void
outbox_breaker_again(OutboxBreaker *breaker)
{
	pthread_mutex_lock(&breaker->lock);
	breaker->try_at = outbox_clock_ms() + breaker->pause_ms;
	pthread_mutex_unlock(&breaker->lock);
}
