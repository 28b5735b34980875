/* SPDX-License-Identifier: PostgreSQL
 *
 * topic.h
 *	  Topic names, declared topics and the right to emit to them.
 */
#ifndef OUTBOX_TOPIC_H
#define OUTBOX_TOPIC_H

#include "src/common/topic_names.h"

#define OUTBOX_EVERY_TOPIC "*" /* in outbox.topic_grant */

/* A row of outbox.topic. */
typedef struct OutboxTopicValues
{
	const char *name;
	int64		partitions;
	int64		replication;	/* with has_replication, else the broker's default */
	int64		retention_ms;	/* with has_retention */
	const char *cleanup_policy; /* NULL: broker's default */
	bool		has_replication;
	bool		has_retention;
	int64		max_message_bytes; /* with has_max_bytes */
	bool		has_max_bytes;
	const char *on_unavailable; /* NULL: as it is, or hold */
} OutboxTopicValues;

/*
 * The first value that is not allowed: its column, and in *allowed what would be; NULL: all are.
 * The CHECKs of outbox.topic say the same, but a row may be older than they are.  Any process; does
 * not raise.
 */
extern const char *outbox_topic_bad_value(const OutboxTopicValues *values, const char **allowed);

/*
 * Raises when `name` (len bytes, not terminated) is no legal Kafka topic name or
 * is reserved for Kafka or the relay.  Any backend.
 */
extern void outbox_topic_check_name(const char *name, int len);

/*
 * Raises unless the user may emit to the topic: legal name, declared (when
 * outbox.require_declared_topics), right granted.  What holds for a topic holds for its dead-letter
 * topic <topic>.DLT.  Any backend, in a transaction; independent of the caller's snapshot, takes no
 * predicate lock.
 */
extern void outbox_topic_check_emit(const char *name, int len, Oid user);

/* What a declared topic does not take. */
typedef struct OutboxTopicRules
{
	bool  compacted;		 /* events without a key */
	int32 max_message_bytes; /* larger ones; 0: not declared */
} OutboxTopicRules;

/*
 * The rules of the topic as it is declared; none for one that is not.  Call after
 * outbox_topic_check_emit(), or anywhere in a transaction.
 */
extern OutboxTopicRules outbox_topic_rules(const char *name, int len);

/*
 * Would Kafka take the two for one?  It has no two topics whose names differ in "." and "_" alone.
 * Also true when one is the other's dead-letter topic but for that; false for equal names.
 */
extern bool outbox_topic_names_collide(const char *name, const char *other);

/* Raises 42710: the name collides with that topic's. */
extern void outbox_topic_refuse_collision(const char *name, const char *other);

#endif /* OUTBOX_TOPIC_H */
