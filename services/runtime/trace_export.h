/* SPDX-License-Identifier: PostgreSQL
 *
 * trace_export.h
 *	  Ended spans on their way: a bounded queue, their JSON, the thread that sends them.
 */
#ifndef OUTBOX_TRACE_EXPORT_H
#define OUTBOX_TRACE_EXPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "trace_json.h"

/* Starts the thread; url and service live as long as the process.  false: logged. */
extern bool outbox_export_start(const char *url, const char *service, size_t queue_spans);
extern void outbox_export_stop(void);

/* Any thread; copies the span, or drops and counts it. */
extern void outbox_export_put(const OutboxEndedSpan *span);

#endif /* OUTBOX_TRACE_EXPORT_H */
