/* SPDX-License-Identifier: PostgreSQL
 *
 * hello.h
 *	  What the relay tells its sender besides batches: settings, questions, declared topics.
 *
 * Process: the relay.
 */
#ifndef OUTBOX_HELLO_H
#define OUTBOX_HELLO_H

#include "self.h"
#include "src/common/wire.h"

/*
 * OPEN.  NULL, or why it cannot be said: outbox.kafka_properties_file cannot be used, or no broker
 * is set.
 */
extern const char *outbox_hello_open(OutboxRelay *relay);

/*
 * What OPEN would say, as one text to be compared with relay->settings, in the current context;
 * NULL: outbox.kafka_properties_file cannot be used, for the reason in *problem.
 */
extern char *outbox_hello_settings_text(const OutboxRelay *relay, char **problem);

/* LOOK, ALIVE or FENCE: a frame without a body, whose answer is awaited. */
extern void outbox_hello_ask(OutboxRelay *relay, OutboxFrameType type);

/* Once: changes of outbox.topic are noticed from here on. */
extern void outbox_hello_watch_topics(void);

/* Has the sender yet to be told of topics? */
extern bool outbox_hello_topics_changed(void);

/* Own transaction.  DECLARE for each topic, if they have changed since the sender was told. */
extern void outbox_hello_declare_topics(OutboxRelay *relay);

#endif /* OUTBOX_HELLO_H */
