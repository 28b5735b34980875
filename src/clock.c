/* SPDX-License-Identifier: PostgreSQL
 *
 * clock.c
 *	  A clock that does not step.
 *
 * Runs in application backends, the relay and the launcher.
 */
#include "postgres.h"

#include "portability/instr_time.h"

#include "clock.h"

TimestampTz
outbox_clock_now(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (TimestampTz) INSTR_TIME_GET_MICROSEC(now);
}
