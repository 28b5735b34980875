/* SPDX-License-Identifier: PostgreSQL
 *
 * fault.h
 *	  OUTBOX_FAULT(name): a fault point of a server process (common/fault.h).
 */
#ifndef OUTBOX_FAULT_H
#define OUTBOX_FAULT_H

#include "src/common/fault.h"

#define OUTBOX_FAULT(name) OUTBOX_FAULT_AT(outbox_fault_pass_in_server, name)

#define OUTBOX_FAULT_WHEN(condition, name) \
	OUTBOX_FAULT_AT_WHEN(condition, outbox_fault_pass_in_server, name)

#ifdef OUTBOX_FAULTS

#include "access/xact.h"
#include "executor/tuptable.h"

/* An error is ereport(ERROR); a wait services interrupts.  Server processes. */
extern void outbox_fault_pass_in_server(const char *name, unsigned *passages);

/* For the mutant that decides by it: xmin of the slot's tuple with its epoch. */
extern uint64 outbox_fault_tuple_xmin(TupleTableSlot *slot);

#endif

#endif
