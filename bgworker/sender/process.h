/* SPDX-License-Identifier: PostgreSQL
 *
 * process.h
 *	  The process: its log line, clock, pauses, end and fault points.
 *
 * Any thread, but for the end.
 */
#ifndef OUTBOX_PROCESS_H
#define OUTBOX_PROCESS_H

#include <stdint.h>

#include "src/common/fault.h"

/* A fault point of the sender. */
#define OUTBOX_FAULT(name) OUTBOX_FAULT_AT(outbox_fault_pass, name)

extern void outbox_process_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern int64_t outbox_clock_us(void);
extern void outbox_pause_briefly(void);
extern void outbox_exit_out_of_memory(void);

#endif /* OUTBOX_PROCESS_H */
