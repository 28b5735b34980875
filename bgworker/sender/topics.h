/* SPDX-License-Identifier: PostgreSQL
 *
 * topics.h
 *	  The topics the sender knows.
 *
 * Main thread.
 */
#ifndef OUTBOX_TOPICS_H
#define OUTBOX_TOPICS_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include <librdkafka/rdkafka.h>

#include "src/common/topic_names.h"

/* A topic's settings in Kafka that decide what it takes. */
typedef struct OutboxTopicLimits
{
	bool	known;			   /* else nothing below counts */
	bool	compacted;		   /* cleanup.policy has compact: no record without a key */
	int64_t max_message_bytes; /* INT64_MAX: not told */
	int64_t before_max_ms; /* message.timestamp.before.max.ms; -1: not told, as in the next two */
	int64_t after_max_ms;  /* message.timestamp.after.max.ms */
	int64_t difference_max_ms; /* message.timestamp.difference.max.ms, before Kafka 4 */
	int64_t read_us;		   /* when Kafka was asked, 0: never */
} OutboxTopicLimits;

/* A topic of which the sender has heard: declared, or sent to. */
typedef struct OutboxTopic
{
	char				name[OUTBOX_TOPIC_NAME_SIZE];
	size_t				name_len;
	rd_kafka_topic_t   *handle; /* of the current producer, or NULL */
	/* offsets acknowledged to the current producer, by partition; -1 none */
	int64_t			   *newest;
	int32_t				newest_count;
	int32_t				known_partitions; /* when the current producer opened it */
	/* has it still as many? a partition has its first record of this producer */
	bool				unsure;
	uint64_t			used_in_batch; /* serial of the last batch that used it */
	uint32_t			first_event;   /* its first event in that batch */
	/* serial of the last batch that had an event of it; for the next two */
	uint64_t			seen_in_batch;
	/* the first event in that batch that Kafka has not judged; UINT32_MAX: none */
	uint32_t			unanswered_from;
	bool				refused;   /* in that batch, as a whole */
	uint32_t			under_way; /* events of it in that batch of which nothing is reported */
	bool				withheld;  /* some are not handed over, for it has no leader */
	OutboxTopicLimits	limits;
	bool				limits_denied_told; /* that they may not be read is in the log */
	/* last used since it refused requests larger than its limit; 0: has not */
	int64_t				crowded_us;
	int64_t				absent_us; /* when Kafka was last found not to have it; 0: never */
	bool				declared;  /* the fields below were given */
	bool				present;   /* known to exist in Kafka */
	bool				absent;	   /* the current producer did not find it when it opened it */
	int32_t				partitions;
	int16_t				replication;
	int64_t				retention_ms;		/* -1 for ever, INT64_MIN broker's default */
	int64_t				max_message_bytes;	/* INT64_MIN broker's default */
	bool				waits;				/* no batch is given up because it has no leader */
	char				cleanup_policy[64]; /* empty: broker's default */
	char				flaw[320];			/* what is wrong with the declaration, empty: nothing */
	rd_kafka_resp_err_t create_error;		/* why it is not present; 0: not tried */
	char				create_text[640];	/* the same for people */
} OutboxTopic;

extern OutboxTopic *outbox_topic_find(const char *name, size_t len);
extern OutboxTopic *outbox_topic_known(const char *name);
extern OutboxTopic *outbox_topics_next(size_t *at);
extern bool outbox_topic_note_offset(OutboxTopic *topic, int32_t partition, int64_t offset);
extern void outbox_topic_unanswered(OutboxTopic *topic, uint32_t index);
extern size_t outbox_topics_list_unlimited(OutboxTopic **list, size_t most, const OutboxTopic *but);
extern int64_t outbox_topics_batch_bytes(void);
extern bool outbox_topics_leave_crowd(uint64_t serial);

#endif /* OUTBOX_TOPICS_H */
