/* SPDX-License-Identifier: PostgreSQL
 *
 * message.h
 *	  A message of librdkafka as a record.
 */
#ifndef OUTBOX_MESSAGE_H
#define OUTBOX_MESSAGE_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>

#include "record.h"

/* Writes the message's headers in Kafka's encoding; false when memory is short.  Any thread. */
extern bool outbox_record_take_headers(const rd_kafka_message_t *message, OutboxRecord *record);

#endif /* OUTBOX_MESSAGE_H */
