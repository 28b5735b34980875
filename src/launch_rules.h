/* SPDX-License-Identifier: PostgreSQL
 *
 * launch_rules.h
 *	  The states of a background worker, and which follows at which event.
 *
 * Pure: no PostgreSQL, no allocation, no clock.  The table stands in
 * bgworker/launcher/README.md.
 */
#ifndef OUTBOX_LAUNCH_RULES_H
#define OUTBOX_LAUNCH_RULES_H

#include <stdbool.h>

/* Of one database, one kind of worker, one shard. */
typedef enum OutboxWorkerState
{
	OUTBOX_WORKER_ABSENT,	 /* none is there, none is asked for */
	OUTBOX_WORKER_ASKED,	 /* one is due, once the one before is gone and there is room */
	OUTBOX_WORKER_LOOKING,	 /* started, has not said yet what the switch is */
	OUTBOX_WORKER_RUNNING,	 /* the switch is on: it works */
	OUTBOX_WORKER_ENDING,	 /* the switch is off: it ends by itself */
	OUTBOX_WORKER_BACKOFF,	 /* it failed, the next one has a time */
	OUTBOX_WORKER_SUSPENDED, /* kept away by a command, asked for at its end */
	OUTBOX_WORKER_BARRED,	 /* kept away by a command, not asked for */
	OUTBOX_WORKER_STATES	 /* their number */
} OutboxWorkerState;

typedef enum OutboxLaunchEvent
{
	OUTBOX_LAUNCH_ASK,		   /* look at the switch; backends, launcher at its start */
	OUTBOX_LAUNCH_START,	   /* a worker is registered; launcher */
	OUTBOX_LAUNCH_ON,		   /* the switch is on; worker */
	OUTBOX_LAUNCH_OFF,		   /* the switch is off; worker */
	OUTBOX_LAUNCH_GONE,		   /* the worker is gone or could not be registered; launcher */
	OUTBOX_LAUNCH_UNREACHABLE, /* so, as the database takes no connections; launcher */
	OUTBOX_LAUNCH_TIME,		   /* the back-off is over; launcher */
	OUTBOX_LAUNCH_SUSPEND,	   /* one more command keeps workers away; backends */
	OUTBOX_LAUNCH_RESUME,	   /* the last such command has ended; backends */
	OUTBOX_LAUNCH_EVENTS	   /* their number */
} OutboxLaunchEvent;

typedef struct OutboxLaunchStep
{
	bool			  happens;	 /* false: such an event cannot come in this state */
	bool			  terminate; /* a worker that is there has to be told to go */
	OutboxWorkerState next;
} OutboxLaunchStep;

/* What follows at an event. */
extern OutboxLaunchStep outbox_launch_step(OutboxWorkerState state, OutboxLaunchEvent event);

/* Length of the back-off in ms after so many failures in a row, 1 or more. */
extern int outbox_launch_backoff_ms(int failures);

/* Names as in the table: "backoff", "unreachable". */
extern const char *outbox_launch_state_name(OutboxWorkerState state);
extern const char *outbox_launch_event_name(OutboxLaunchEvent event);

#endif /* OUTBOX_LAUNCH_RULES_H */
