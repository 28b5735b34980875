/* SPDX-License-Identifier: PostgreSQL
 *
 * record_log.h
 *	  Log lines about a record: its topic, partition, offset, event_id, replay_id,
 *	  correlation_id, trace_id.
 */
#ifndef OUTBOX_RECORD_LOG_H
#define OUTBOX_RECORD_LOG_H

#include "services/kafka/record.h"
#include "services/lib/log.h"

/* outbox_log with the record's place and ids; NULL: without.  Any thread. */
extern void outbox_log_record(OutboxLogLevel level, const char *event, const OutboxRecord *record,
							  const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif /* OUTBOX_RECORD_LOG_H */
