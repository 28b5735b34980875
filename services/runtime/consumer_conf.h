/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer_conf.h
 *	  The properties of a consumer, for consumer.c alone.
 */
#ifndef OUTBOX_CONSUMER_CONF_H
#define OUTBOX_CONSUMER_CONF_H

#include <librdkafka/rdkafka.h>

#include "consumer.h"

/* The caller owns it; NULL when a property is refused, logged. */
extern rd_kafka_conf_t *outbox_consumer_make_conf(const OutboxConsumerConfig *config);

#endif							/* OUTBOX_CONSUMER_CONF_H */
