/* SPDX-License-Identifier: PostgreSQL
 *
 * log_writer.h
 *	  Lines on their way to standard error: nobody who logs waits for who reads.
 */
#ifndef OUTBOX_LOG_WRITER_H
#define OUTBOX_LOG_WRITER_H

#include <stddef.h>

#define OUTBOX_LOG_QUEUE_BYTES (1024 * 1024) /* of lines that wait */

/*
 * Takes a line, malloc'ed and ended by a newline.  Any thread.  While the writer's thread runs, the
 * line waits for it, or is counted in outbox_log_lines_dropped_total when too many wait; else it is
 * written here and now.
 */
extern void outbox_log_write(char *line, size_t len);

/*
 * make_notice returns the line (as above) that says how many were lost; NULL: out of memory.
 * Writer's thread.
 */
extern void outbox_log_writer_start(char *(*make_notice)(unsigned long lost));

/*
 * Waits until all is written, two seconds at most, and ends the thread; what is left is lost.
 * Harmless without a thread.
 */
extern void outbox_log_writer_stop(void);

#endif /* OUTBOX_LOG_WRITER_H */
