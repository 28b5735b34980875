/* SPDX-License-Identifier: PostgreSQL
 *
 * backoff.c
 *	  How long to wait before what has failed is tried again.
 *
 * Runs in the services, any thread.  No state.
 */
#define _GNU_SOURCE
#include "backoff.h"

#include <stdlib.h>

#define FIRST_MS 100
#define MOST_MS	 30000

int64_t
outbox_backoff_grow(int64_t first_ms, double factor, int64_t most_ms, unsigned failures)
{
	double pause = (double) first_ms;

	while (failures-- > 1 && pause < (double) most_ms)
		pause *= factor;
	return pause < (double) most_ms ? (int64_t) pause : most_ms;
}

int64_t
outbox_backoff(unsigned *random, unsigned failures)
{
	int64_t pause = outbox_backoff_grow(FIRST_MS, 2, MOST_MS, failures);

	/* Those that have failed together do not come back together. */
	return pause / 2 + rand_r(random) % (pause / 2 + 1);
}
