/* SPDX-License-Identifier: PostgreSQL
 *
 * lag_status.c
 *	  The rules of the statuses.
 *
 * Runs in outbox-monitor, poller thread; and in the unit tests.
 */
#include "lag_status.h"

#include <string.h>

void
outbox_lag_window_add(OutboxLagWindow *window, int64_t committed, int64_t lag)
{
	if (window->count == OUTBOX_LAG_WINDOW)
	{
		memmove(&window->points[0], &window->points[1],
				(OUTBOX_LAG_WINDOW - 1) * sizeof(OutboxLagPoint));
		window->count--;
	}
	window->points[window->count].committed = committed;
	window->points[window->count].lag = lag;
	window->count++;
}

static bool
went_back(const OutboxLagWindow *window)
{
	for (int i = 1; i < window->count; i++)
	{
		if (window->points[i].committed < window->points[i - 1].committed)
			return true;
	}
	return false;
}

static bool
was_caught_up(const OutboxLagWindow *window)
{
	for (int i = 0; i < window->count; i++)
	{
		if (window->points[i].lag == 0)
			return true;
	}
	return false;
}

static bool
lag_never_fell(const OutboxLagWindow *window)
{
	for (int i = 1; i < window->count; i++)
	{
		if (window->points[i].lag < window->points[i - 1].lag)
			return false;
	}
	return true;
}

OutboxLagStatus
outbox_lag_judge(const OutboxLagWindow *window, bool owned)
{
	const OutboxLagPoint *first = &window->points[0];
	const OutboxLagPoint *last = &window->points[window->count - 1];

	if (window->count == 0)
		return OUTBOX_LAG_UNKNOWN;
	if (last->lag == 0)
		return OUTBOX_LAG_OK;
	if (went_back(window))
		return OUTBOX_LAG_REWIND;
	if (was_caught_up(window))
		return OUTBOX_LAG_OK;
	if (window->count < OUTBOX_LAG_WINDOW)
		return OUTBOX_LAG_UNKNOWN;
	if (first->committed == last->committed)
		return owned ? OUTBOX_LAG_STALL : OUTBOX_LAG_STOP;
	return lag_never_fell(window) ? OUTBOX_LAG_WARN : OUTBOX_LAG_OK;
}

int64_t
outbox_lag_beyond(const OutboxLogRange *range)
{
	if (range->committed == OUTBOX_LAG_NULL)
		return 0;
	if (range->missing)
		return range->committed;
	return range->end != OUTBOX_LAG_NULL && range->committed > range->end ?
		range->committed - range->end :
		0;
}

int64_t
outbox_lag_lost(const OutboxLogRange *range)
{
	int64_t start = range->start_before < range->start ? range->start_before : range->start;

	if (range->committed == OUTBOX_LAG_NULL || range->missing || start <= range->committed ||
		start <= range->clear_to)
		return 0;
	if (start - range->committed == 1 && range->start == range->end && !range->record_seen)
		return 0;
	return start - range->committed;
}

const char *
outbox_lag_status_name(OutboxLagStatus status)
{
	static const char *const names[] = {"UNKNOWN", "OK",   "WARN", "REWIND",
										"STALL",   "STOP", "LOST", "BEYOND"};

	return names[status];
}
