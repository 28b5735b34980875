/* SPDX-License-Identifier: PostgreSQL
 *
 * clock.c
 *	  The clock of time-outs, back-offs and metrics.
 *
 * Runs in the services, any thread.
 */
#define _GNU_SOURCE
#include "clock.h"

#include <time.h>

int64_t
outbox_clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
