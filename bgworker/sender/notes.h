/* SPDX-License-Identifier: PostgreSQL
 *
 * notes.h
 *	  What librdkafka's threads told last: errors of connections, topics denied or shrunk.
 *
 * Callbacks of librdkafka write, the main thread reads.
 */
#ifndef OUTBOX_NOTES_H
#define OUTBOX_NOTES_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include <librdkafka/rdkafka.h>

#include "src/common/error_class.h"

extern void outbox_note_client_error(rd_kafka_resp_err_t code, const char *text);
extern void outbox_forget_client_error(void);
extern bool outbox_is_unreachable(void);
extern OutboxErrorClass outbox_client_error_class(void);
extern const char *outbox_client_error_text(void);
extern int outbox_certificate_verify(rd_kafka_t *client, const char *broker, int32_t broker_id,
									 int *x509_error, int depth, const char *certificate,
									 size_t size, char *error, size_t error_size, void *opaque);
extern void outbox_note_denied_topic(const char *log_text);
extern bool outbox_take_denied_topic(char *name, size_t size);
extern void outbox_note_shrunk_topic(const char *log_text);
extern bool outbox_take_shrunk_topic(bool (*wanted)(const char *name), char *name, size_t size);

#endif /* OUTBOX_NOTES_H */
