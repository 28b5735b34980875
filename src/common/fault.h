/* SPDX-License-Identifier: PostgreSQL
 *
 * fault.h
 *	  Fault points and mutants of test builds (-DOUTBOX_FAULTS); no other build
 *	  contains anything of them.
 *
 * A point is armed by a file outbox_fault/NAME below the working directory,
 * which is the data directory for server and sender alike.  It holds "ACTION
 * PASSAGE": kill, error or wait, and how many times one process passes until the
 * point strikes.  The process renames the file to NAME.fired first, so a point
 * strikes once; who waits goes on when that file is gone.  A mutant, a defence
 * switched off, is a file outbox_fault/mutant-NAME.
 */
#ifndef OUTBOX_COMMON_FAULT_H
#define OUTBOX_COMMON_FAULT_H

#ifdef OUTBOX_FAULTS

#include <stdbool.h>

typedef enum OutboxFaultAction
{
	OUTBOX_FAULT_NONE,
	OUTBOX_FAULT_ERROR,
	OUTBOX_FAULT_WAIT,
} OutboxFaultAction;

/*
 * Counts a passage and, when the point strikes, takes it: kills the process, or
 * returns what its caller has to do.  Any process, any thread.
 */
extern OutboxFaultAction outbox_fault_claim(const char *name, unsigned *passages);

/* May a process that waits at the point go on? */
extern bool outbox_fault_is_released(const char *name);

/* A point of a process without PostgreSQL: an error is its end with status 1. */
extern void outbox_fault_pass(const char *name, unsigned *passages);

/* Is the defence switched off? */
extern bool outbox_fault_is_mutant(const char *name);

/* A point with the function that acts for this kind of process. */
#define OUTBOX_FAULT_AT(pass, name) \
	do \
	{ \
		static unsigned passages; \
		pass(name, &passages); \
	} while (0)

/* A point that is passed only when the condition holds. */
#define OUTBOX_FAULT_AT_WHEN(condition, pass, name) \
	do \
	{ \
		if (condition) \
			OUTBOX_FAULT_AT(pass, name); \
	} while (0)

/* Statements that take the place of a defence. */
#define OUTBOX_MUTATE(name, ...) \
	do \
	{ \
		if (outbox_fault_is_mutant(name)) \
		{ \
			__VA_ARGS__; \
		} \
	} while (0)

#else

#define OUTBOX_FAULT_AT(pass, name)					((void) 0)
#define OUTBOX_FAULT_AT_WHEN(condition, pass, name) ((void) 0)
#define OUTBOX_MUTATE(name, ...)					((void) 0)

#endif

#endif
