/* SPDX-License-Identifier: PostgreSQL
 *
 * clock_step.c
 *	  Notices a wall clock that was set back, by its distance to the clock that does not step.
 *
 * Runs in application backends and in the relay; what was found is in shared memory.
 */
#include "postgres.h"

#include "access/transam.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "clock_step.h"
#include "shmem.h"

#define STEP_BACK_US 1000 /* a slower clock is being corrected, not set back */
/* before it is believed: the process may have stood between the two clocks */
#define MORE_LOOKS	 3

/* Too small by the time since wall was read, never too large. */
static int64
measure_distance(TimestampTz wall)
{
	return wall - outbox_clock_now();
}

static void
note_step(void)
{
	uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());
	uint64 noted = pg_atomic_read_u64(&outbox_shared->step_txid);

	while (noted < next && !pg_atomic_compare_exchange_u64(&outbox_shared->step_txid, &noted, next))
		;
}

void
outbox_clock_step_watch(TimestampTz wall)
{
	int64  distance;
	uint64 known;
	int64  least;

	if (outbox_shared == NULL)
		return;
	distance = measure_distance(wall);
	known = pg_atomic_read_u64(&outbox_shared->clock_distance);
	least = known == 0 ? PG_INT64_MIN : (int64) known - STEP_BACK_US;
	for (int look = 0; distance < least && look < MORE_LOOKS; look++)
		distance = Max(distance, measure_distance(GetCurrentTimestamp()));
	if (distance < least)
		note_step(); /* before the distance: who finds that one finds the step */
	if (distance < least || known == 0 || distance > (int64) known)
		(void) pg_atomic_compare_exchange_u64(&outbox_shared->clock_distance, &known,
											  (uint64) distance);
}

uint64
outbox_clock_step_last(void)
{
	return outbox_shared == NULL ? 0 : pg_atomic_read_u64(&outbox_shared->step_txid);
}
