/* SPDX-License-Identifier: PostgreSQL
 *
 * test_launch.c
 *	  States of a background worker: each pair of state and event is what the table of
 *	  bgworker/launcher/README.md says, and random schedules end with the right worker.
 */
#include <stdlib.h>
#include <string.h>

#include "src/launch_rules.h"
#include "unit.h"

/* ---------------------------------------------------------------- table */

#define CELLS  (OUTBOX_LAUNCH_EVENTS + 1)
#define DASH   "\u2013"
#define DAGGER " \u2020"

/* Splits a row of a table in place; returns the number of its cells, -1 = too many. */
static int
split_row(char *line, char *cells[CELLS])
{
	int count = 0;

	for (char *cell = strtok(line, "|\n"); cell != NULL; cell = strtok(NULL, "|\n"))
	{
		cell += strspn(cell, " ");
		for (char *last = cell + strlen(cell); last > cell && last[-1] == ' '; last--)
			last[-1] = '\0';
		if (*cell != '\0' && count == CELLS)
			return -1;
		if (*cell != '\0')
			cells[count++] = cell;
	}
	return count;
}

/* As the table writes it. */
static const char *
describe(OutboxLaunchStep step)
{
	static char text[64];

	if (!step.happens)
		return DASH;
	snprintf(text, sizeof(text), "%s%s", outbox_launch_state_name(step.next),
			 step.terminate ? DAGGER : "");
	return text;
}

static void
test_header(char *cells[CELLS], int count)
{
	CHECK(count == CELLS, "the table has a column for each event");
	for (int event = 0; count == CELLS && event < OUTBOX_LAUNCH_EVENTS; event++)
		CHECK(strcmp(cells[event + 1], outbox_launch_event_name(event)) == 0, cells[event + 1]);
}

static void
test_row(char *cells[CELLS], int count, OutboxWorkerState state)
{
	for (int event = 0; event < OUTBOX_LAUNCH_EVENTS; event++)
	{
		char what[128];

		snprintf(what, sizeof(what), "%s, %s: %s", outbox_launch_state_name(state),
				 outbox_launch_event_name(event),
				 count == CELLS ? cells[event + 1] : "not in the table");
		CHECK(count == CELLS &&
				  strcmp(cells[event + 1], describe(outbox_launch_step(state, event))) == 0,
			  what);
	}
}

/* Every pair, those that do not happen included. */
static void
test_table(void)
{
	FILE *file = fopen(TABLE, "r");
	char  line[512];
	int	  rows = 0;

	CHECK(file != NULL, "the README is there");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
	{
		char *cells[CELLS];
		int	  count = line[0] == '|' ? split_row(line, cells) : 0;

		if (count > 0 && strcmp(cells[0], "state") == 0)
			test_header(cells, count);
		for (int state = 0; count > 0 && state < OUTBOX_WORKER_STATES; state++)
			if (strcmp(cells[0], outbox_launch_state_name(state)) == 0)
			{
				test_row(cells, count, state);
				rows++;
			}
	}
	CHECK(rows == OUTBOX_WORKER_STATES, "the table has a row for each state");
	if (file != NULL)
		fclose(file);
}

static void
test_backoff(void)
{
	CHECK(outbox_launch_backoff_ms(1) == 1000, "1 s after the first failure");
	CHECK(outbox_launch_backoff_ms(2) == 2000, "twice as long after each further one");
	CHECK(outbox_launch_backoff_ms(6) == 32000, "32 s after the sixth");
	CHECK(outbox_launch_backoff_ms(7) == 60000, "never more than 60 s");
	CHECK(outbox_launch_backoff_ms(1000000) == 60000, "after however many");
}

/* ------------------------------------------------------------ schedules */

#define PROCESSES 4
#define SCHEDULES 2000
#define ACTIONS	  300

typedef enum Phase
{
	PHASE_NONE, /* no such process */
	PHASE_REGISTERED,
	PHASE_CONNECTED, /* has read the switch */
	PHASE_ATTACHED,
	PHASE_WORKING,	/* has said that the switch is on */
	PHASE_FINISHING /* has said that it is off */
} Phase;

typedef struct Process
{
	Phase	 phase;
	unsigned start;
	bool	 on; /* the switch when it connected */
	bool	 told_to_go;
} Process;

/* One worker's place, and what acts on it. */
typedef struct World
{
	OutboxWorkerState state;
	unsigned		  start;
	Process			 *attached; /* pid */
	Process			 *handle;	/* what the launcher has started */
	Process			  processes[PROCESSES];
	bool			  on;	/* the switch */
	int				  asks; /* of transactions that have committed, on their way */
	int				  suspended;
	bool			  impossible; /* an event came that does not happen */
} World;

static void
apply(World *world, OutboxLaunchEvent event)
{
	OutboxLaunchStep step = outbox_launch_step(world->state, event);

	if (!step.happens)
	{
		world->impossible = true;
		return;
	}
	world->state = step.next;
	if (step.terminate && world->attached != NULL)
		world->attached->told_to_go = true;
}

static void
resume(World *world)
{
	if (world->suspended > 0 && --world->suspended == 0)
		apply(world, OUTBOX_LAUNCH_RESUME);
}

static void
exit_process(World *world, Process *process)
{
	if (world->attached == process)
		world->attached = NULL;
	if (world->handle == process)
		world->handle = NULL;
	process->phase = PHASE_NONE;
}

/* As outbox_relay_attach() does. */
static void
answer(World *world, Process *process)
{
	apply(world, process->on ? OUTBOX_LAUNCH_ON : OUTBOX_LAUNCH_OFF);
	if (world->state == OUTBOX_WORKER_RUNNING)
		process->phase = PHASE_WORKING;
	else if (world->state == OUTBOX_WORKER_ENDING)
		process->phase = PHASE_FINISHING;
	else
		exit_process(world, process);
}

static void
run_process(World *world, Process *process)
{
	if (process->told_to_go || process->phase == PHASE_FINISHING)
		exit_process(world, process);
	else if (process->phase == PHASE_REGISTERED)
	{
		process->on = world->on;
		process->phase = PHASE_CONNECTED;
	}
	else if (process->phase == PHASE_CONNECTED)
	{
		if (world->state == OUTBOX_WORKER_LOOKING && world->start == process->start)
		{
			world->attached = process;
			process->phase = PHASE_ATTACHED;
		}
		else
			exit_process(world, process);
	}
	else if (process->phase == PHASE_ATTACHED)
		answer(world, process);
}

static void
start_process(World *world)
{
	for (int i = 0; i < PROCESSES; i++)
	{
		Process *process = &world->processes[i];

		if (process->phase != PHASE_NONE)
			continue;
		apply(world, OUTBOX_LAUNCH_START);
		*process = (Process) {.phase = PHASE_REGISTERED, .start = ++world->start};
		world->handle = process;
		return;
	}
}

/* As the launcher's look at one worker; reachable: can a worker connect? */
static void
run_launcher(World *world, bool reachable)
{
	if (world->handle != NULL || world->attached != NULL)
		return;
	switch (world->state)
	{
		case OUTBOX_WORKER_LOOKING:
			apply(world, reachable ? OUTBOX_LAUNCH_GONE : OUTBOX_LAUNCH_UNREACHABLE);
			break;
		case OUTBOX_WORKER_RUNNING:
		case OUTBOX_WORKER_ENDING:
			apply(world, OUTBOX_LAUNCH_GONE);
			break;
		case OUTBOX_WORKER_BACKOFF:
			apply(world, OUTBOX_LAUNCH_TIME);
			break;
		case OUTBOX_WORKER_ASKED:
			start_process(world);
			break;
		default:
			break;
	}
}

static void
restart_launcher(World *world)
{
	world->handle = NULL;
	if (world->attached == NULL)
		apply(world, OUTBOX_LAUNCH_ASK);
}

/* Mostly the launcher and the workers go on, so that schedules come far. */
static void
act(World *world)
{
	Process *process = &world->processes[rand() % PROCESSES];
	int		 what = rand() % 100;

	if (what < 3)
	{
		world->on = !world->on;
		world->asks++;
	}
	else if (what < 8 && world->asks > 0)
	{
		world->asks--;
		apply(world, OUTBOX_LAUNCH_ASK);
	}
	else if (what < 10)
	{
		world->suspended++;
		apply(world, OUTBOX_LAUNCH_SUSPEND);
	}
	else if (what < 20)
		resume(world);
	else if (what < 21 && process->phase != PHASE_NONE)
		exit_process(world, process);
	else if (what < 22)
		restart_launcher(world);
	else if (what < 40)
		run_launcher(world, true);
	else
		run_process(world, process);
}

/* Everybody does what is left to do. */
static void
finish(World *world)
{
	for (; world->asks > 0; world->asks--)
		apply(world, OUTBOX_LAUNCH_ASK);
	while (world->suspended > 0)
		resume(world);
	for (int i = 0; i < 50; i++)
	{
		run_launcher(world, true);
		for (int j = 0; j < PROCESSES; j++)
			run_process(world, &world->processes[j]);
	}
}

static bool
is_right(const World *world)
{
	if (world->on)
		return world->state == OUTBOX_WORKER_RUNNING && world->attached != NULL &&
			world->attached->phase == PHASE_WORKING && world->attached->on;
	return world->state == OUTBOX_WORKER_ABSENT && world->attached == NULL;
}

/* Whatever happens in whatever order, in the end a worker runs exactly if the switch is on. */
static void
test_schedules(void)
{
	int	 impossible = 0;
	int	 awry = 0;
	int	 wrong = 0;
	bool seen[OUTBOX_WORKER_STATES] = {false};
	int	 states = 0;

	for (int i = 0; i < SCHEDULES; i++)
	{
		World world = {.on = false};

		srand(i);
		for (int j = 0; j < ACTIONS; j++)
		{
			bool kept;

			act(&world);
			seen[world.state] = true;
			kept = world.state == OUTBOX_WORKER_SUSPENDED || world.state == OUTBOX_WORKER_BARRED;
			awry += kept != (world.suspended > 0);
		}
		finish(&world);
		impossible += world.impossible;
		wrong += !is_right(&world);
	}
	for (int i = 0; i < OUTBOX_WORKER_STATES; i++)
		states += seen[i];
	CHECK(states == OUTBOX_WORKER_STATES, "random schedules come to every state");
	CHECK(impossible == 0, "no event comes that does not happen");
	CHECK(awry == 0, "a worker is suspended or barred exactly while a command keeps it away");
	CHECK(wrong == 0, "in the end a worker runs exactly if the switch is on");
}

/* A worker that cannot connect: nothing is tried again before somebody asks. */
static void
test_unreachable(void)
{
	World world = {.on = true};

	apply(&world, OUTBOX_LAUNCH_ASK);
	run_launcher(&world, false);
	exit_process(&world, world.handle);
	run_launcher(&world, false);
	CHECK(world.state == OUTBOX_WORKER_ABSENT, "no worker of a database that takes no connections");
	apply(&world, OUTBOX_LAUNCH_ASK);
	finish(&world);
	CHECK(is_right(&world) && !world.impossible, "it runs when the database takes them again");
}

int
main(void)
{
	test_table();
	test_backoff();
	test_schedules();
	test_unreachable();
	return finish_tests();
}
