/* SPDX-License-Identifier: PostgreSQL
 *
 * cursor.h
 *	  Reads the cursor; in at_least_once commits it.
 *
 * Main thread.
 */
#ifndef OUTBOX_CURSOR_H
#define OUTBOX_CURSOR_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include <librdkafka/rdkafka.h>

#include "failure.h"
#include "settings.h"

#define OUTBOX_CURSOR_METADATA_SIZE 4097 /* Kafka's limit and a terminator */

/* A stored cursor. */
typedef struct OutboxCursor
{
	bool	present;
	int64_t batch_no;
	size_t	metadata_len;
	char	metadata[OUTBOX_CURSOR_METADATA_SIZE];
} OutboxCursor;

extern bool outbox_cursor_read(const OutboxSettings *settings, bool stable, OutboxCursor *cursor,
							   OutboxFailure *failure);
extern rd_kafka_topic_partition_list_t *outbox_cursor_offsets(const OutboxSettings *settings,
															  const OutboxCursor   *cursor);
extern void outbox_cursor_store(const OutboxCursor *cursor);
extern int64_t outbox_cursor_behind_us(void);
extern bool outbox_cursor_serve(const OutboxSettings *settings);
extern int outbox_cursor_wakeup_fd(void);
extern bool outbox_cursor_drain(const OutboxSettings *settings, int timeout_ms);
extern void outbox_cursor_close(void);

#endif /* OUTBOX_CURSOR_H */
