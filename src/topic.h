/* SPDX-License-Identifier: PostgreSQL
 *
 * topic.h
 *	  Topic names, declared topics and the right to emit to them.
 */
#ifndef OUTBOX_TOPIC_H
#define OUTBOX_TOPIC_H

#define OUTBOX_TOPIC_NAME_MAX	249 /* bytes, Kafka's limit */
#define OUTBOX_EVERY_TOPIC		"*" /* in outbox.topic_grant */

/*
 * Raises when `name` (len bytes, not terminated) is no legal Kafka topic name or
 * is reserved for Kafka or the relay.  Any backend.
 */
extern void outbox_topic_check_name(const char *name, int len);

/*
 * Raises unless the user may emit to the topic: legal name, declared
 * (when outbox.require_declared_topics), right granted.  What holds for a topic
 * holds for its dead-letter topic <topic>.DLT.  Any backend, in a transaction;
 * independent of the caller's snapshot, takes no predicate lock.
 */
extern void outbox_topic_check_emit(const char *name, int len, Oid user);

#endif							/* OUTBOX_TOPIC_H */
