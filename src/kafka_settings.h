/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_settings.h
 *	  librdkafka properties of the server: outbox.kafka_properties and the file
 *	  outbox.kafka_properties_file.
 */
#ifndef OUTBOX_KAFKA_SETTINGS_H
#define OUTBOX_KAFKA_SETTINGS_H

/*
 * Text of the setting followed by that of the file (a later item wins), in the
 * current memory context.  Backend or relay.  ERROR, never with a value in it,
 * when the file cannot be read, could be read by others or holds a property that is not
 * allowed.
 */
extern char *outbox_kafka_settings_read(void);

/* Is bootstrap.servers among them?  Errors as above. */
extern bool outbox_kafka_settings_complete(void);

#endif							/* OUTBOX_KAFKA_SETTINGS_H */
