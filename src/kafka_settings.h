/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_settings.h
 *	  librdkafka properties of the server: outbox.kafka_properties and the file
 *	  outbox.kafka_properties_file.
 */
#ifndef OUTBOX_KAFKA_SETTINGS_H
#define OUTBOX_KAFKA_SETTINGS_H

#include "src/common/kafka_properties.h"
#include "src/common/kafka_property_text.h"

/* Texts as kafka_properties.h describes them. */
typedef struct OutboxKafkaSettings
{
	char *setting; /* outbox.kafka_properties, its lines apart */
	char *file;	   /* of outbox.kafka_properties_file; NULL: none is named */
} OutboxKafkaSettings;

/*
 * In the current memory context.  Backend or relay.  ERROR, never with a value in it,
 * when the file cannot be read, could be read by others or holds a property that is not
 * allowed.
 */
extern OutboxKafkaSettings *outbox_kafka_settings_read(void);

/* Calls fn for each property: those of the file, which win, last.  Errors as above. */
extern void outbox_kafka_settings_each(const OutboxKafkaSettings *settings,
									   OutboxKafkaPropertyFn fn, void *arg);

extern void outbox_kafka_settings_free(OutboxKafkaSettings *settings);

/* Is bootstrap.servers among them?  Errors as above. */
extern bool outbox_kafka_settings_complete(const OutboxKafkaSettings *settings);

#endif /* OUTBOX_KAFKA_SETTINGS_H */
