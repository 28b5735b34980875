/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer_conf.h
 *	  The properties of a consumer.
 */
#ifndef OUTBOX_CONSUMER_CONF_H
#define OUTBOX_CONSUMER_CONF_H

#include <librdkafka/rdkafka.h>

#include "consumer.h"

/* Option check for kafka_properties. */
extern bool outbox_consumer_check_properties(const char *text, char *error, size_t size);

/* The caller owns it; NULL when a property is refused, logged. */
extern rd_kafka_conf_t *outbox_consumer_make_conf(const OutboxConsumerConfig *config);

/* The same for a client that looks at single records and is in no group. */
extern rd_kafka_conf_t *outbox_consumer_make_reader_conf(const OutboxConsumerConfig *config);

/* Destroys a client that is closed; one that hangs meanwhile is left to the process's end. */
extern void outbox_client_destroy(rd_kafka_t *rk);

#endif /* OUTBOX_CONSUMER_CONF_H */
