/* SPDX-License-Identifier: PostgreSQL
 *
 * launch_rules.c
 *	  The states of a background worker, and which follows at which event.
 *
 * Pure; in src, for backends move the states as the launcher and the workers do.
 */
#include "launch_rules.h"

#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MOST_MS	 60000

#define GO(state)	   {true, false, OUTBOX_WORKER_##state}
#define END_AND(state) {true, true, OUTBOX_WORKER_##state}

/* A pair that is not listed does not happen. */
static const OutboxLaunchStep steps[OUTBOX_WORKER_STATES][OUTBOX_LAUNCH_EVENTS] = {
	[OUTBOX_WORKER_ABSENT] =
		{
			[OUTBOX_LAUNCH_ASK] = GO(ASKED),
			[OUTBOX_LAUNCH_SUSPEND] = GO(BARRED),
		},
	[OUTBOX_WORKER_ASKED] =
		{
			[OUTBOX_LAUNCH_ASK] = GO(ASKED),
			[OUTBOX_LAUNCH_START] = GO(LOOKING),
			[OUTBOX_LAUNCH_ON] = GO(ASKED),
			[OUTBOX_LAUNCH_OFF] = GO(ASKED),
			[OUTBOX_LAUNCH_GONE] = GO(ASKED),
			[OUTBOX_LAUNCH_UNREACHABLE] = GO(ASKED),
			[OUTBOX_LAUNCH_SUSPEND] = END_AND(SUSPENDED),
		},
	[OUTBOX_WORKER_LOOKING] =
		{
			[OUTBOX_LAUNCH_ASK] = GO(ASKED), /* its answer will be too old: it goes by itself */
			[OUTBOX_LAUNCH_ON] = GO(RUNNING),
			[OUTBOX_LAUNCH_OFF] = GO(ENDING),
			[OUTBOX_LAUNCH_GONE] = GO(BACKOFF),
			[OUTBOX_LAUNCH_UNREACHABLE] = GO(ABSENT),
			[OUTBOX_LAUNCH_SUSPEND] = END_AND(SUSPENDED),
		},
	[OUTBOX_WORKER_RUNNING] =
		{
			[OUTBOX_LAUNCH_ASK] = END_AND(ASKED), /* it cannot see its switch change */
			[OUTBOX_LAUNCH_GONE] = GO(BACKOFF),
			[OUTBOX_LAUNCH_SUSPEND] = END_AND(SUSPENDED),
		},
	[OUTBOX_WORKER_ENDING] =
		{
			[OUTBOX_LAUNCH_ASK] = END_AND(ASKED),
			[OUTBOX_LAUNCH_GONE] = GO(ABSENT),
			[OUTBOX_LAUNCH_SUSPEND] = END_AND(SUSPENDED),
		},
	[OUTBOX_WORKER_BACKOFF] =
		{
			[OUTBOX_LAUNCH_ASK] = GO(ASKED),
			[OUTBOX_LAUNCH_TIME] = GO(ASKED),
			[OUTBOX_LAUNCH_SUSPEND] = GO(SUSPENDED),
		},
	[OUTBOX_WORKER_SUSPENDED] =
		{
			[OUTBOX_LAUNCH_ASK] = GO(SUSPENDED),
			[OUTBOX_LAUNCH_ON] = GO(SUSPENDED),
			[OUTBOX_LAUNCH_OFF] = GO(SUSPENDED),
			[OUTBOX_LAUNCH_GONE] = GO(SUSPENDED),
			[OUTBOX_LAUNCH_UNREACHABLE] = GO(SUSPENDED),
			[OUTBOX_LAUNCH_SUSPEND] = END_AND(SUSPENDED),
			[OUTBOX_LAUNCH_RESUME] = GO(ASKED),
		},
	[OUTBOX_WORKER_BARRED] =
		{
			[OUTBOX_LAUNCH_ASK] = GO(SUSPENDED),
			[OUTBOX_LAUNCH_SUSPEND] = GO(BARRED),
			[OUTBOX_LAUNCH_RESUME] = GO(ABSENT),
		},
};

static const char *const state_names[OUTBOX_WORKER_STATES] = {
	[OUTBOX_WORKER_ABSENT] = "absent",		 [OUTBOX_WORKER_ASKED] = "asked",
	[OUTBOX_WORKER_LOOKING] = "looking",	 [OUTBOX_WORKER_RUNNING] = "running",
	[OUTBOX_WORKER_ENDING] = "ending",		 [OUTBOX_WORKER_BACKOFF] = "backoff",
	[OUTBOX_WORKER_SUSPENDED] = "suspended", [OUTBOX_WORKER_BARRED] = "barred",
};

static const char *const event_names[OUTBOX_LAUNCH_EVENTS] = {
	[OUTBOX_LAUNCH_ASK] = "ask",	   [OUTBOX_LAUNCH_START] = "start",
	[OUTBOX_LAUNCH_ON] = "on",		   [OUTBOX_LAUNCH_OFF] = "off",
	[OUTBOX_LAUNCH_GONE] = "gone",	   [OUTBOX_LAUNCH_UNREACHABLE] = "unreachable",
	[OUTBOX_LAUNCH_TIME] = "time",	   [OUTBOX_LAUNCH_SUSPEND] = "suspend",
	[OUTBOX_LAUNCH_RESUME] = "resume",
};

OutboxLaunchStep
outbox_launch_step(OutboxWorkerState state, OutboxLaunchEvent event)
{
	return steps[state][event];
}

int
outbox_launch_backoff_ms(int failures)
{
	int wait = BACKOFF_FIRST_MS;

	for (int i = 1; i < failures && wait < BACKOFF_MOST_MS; i++)
		wait *= 2;
	return wait < BACKOFF_MOST_MS ? wait : BACKOFF_MOST_MS;
}

const char *
outbox_launch_state_name(OutboxWorkerState state)
{
	return state_names[state];
}

const char *
outbox_launch_event_name(OutboxLaunchEvent event)
{
	return event_names[event];
}
