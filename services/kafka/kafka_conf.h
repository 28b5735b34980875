/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_conf.h
 *	  The user's librdkafka properties in a configuration, and whether a client can be made of it.
 *
 * No error has anything of a value in it but numbers.
 */
#ifndef OUTBOX_KAFKA_CONF_H
#define OUTBOX_KAFKA_CONF_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>

#include "src/common/kafka_properties.h"

/* One property of ours. */
extern bool outbox_kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value,
								  char *error, size_t size);

/*
 * Those of a text (kafka_properties.h); error begins with the line.  The files they name must be
 * readable.
 */
extern bool outbox_kafka_conf_take(rd_kafka_conf_t *conf, const char *text, OutboxKafkaSide side,
								   char *error, size_t size);

/*
 * Makes a client of the configuration, which has no brokers, and drops it: keys, certificates and
 * values that contradict each other are looked at only then.  Destroys conf.  text: as above, to
 * keep its values out of error.
 */
extern bool outbox_kafka_conf_try(rd_kafka_conf_t *conf, rd_kafka_type_t type, const char *text,
								  OutboxKafkaSide side, char *error, size_t size);

/* The same of a client that could not be made: librdkafka's reason without values, as error. */
extern void outbox_kafka_conf_hide(const char *reason, const char *text, OutboxKafkaSide side,
								   char *error, size_t size);

#endif /* OUTBOX_KAFKA_CONF_H */
