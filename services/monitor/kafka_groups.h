/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_groups.h
 *	  The consumer groups of a Kafka cluster, and who is in them.
 */
#ifndef OUTBOX_KAFKA_GROUPS_H
#define OUTBOX_KAFKA_GROUPS_H

#include "kafka_client.h"
#include "lag_snapshot.h"

/* The question who is in the groups.  Poller thread. */
typedef struct OutboxKafkaMembers
{
	rd_kafka_queue_t *answers;
	int64_t			  asked_at; /* outbox_clock_ms of the request under way; 0: none is */
} OutboxKafkaMembers;

extern void outbox_kafka_members_open(OutboxKafkaMembers *members, const OutboxKafkaClient *client);
extern void outbox_kafka_members_close(OutboxKafkaMembers *members);

/*
 * The groups that wanted() takes into an empty snapshot, sorted.  before (NULL allowed) is the last
 * one: a group of a broker that is silent stays.  false: Kafka does not answer, error says why.
 */
extern bool outbox_kafka_groups_list(const OutboxKafkaClient *client, OutboxLagSnapshot *snapshot,
									 const OutboxLagSnapshot *before,
									 bool (*wanted)(const char *group), char *error, size_t size);

/*
 * Members of all groups of a sorted snapshot, in one answer: a coordinator that is silent holds
 * back all of it, and nothing is known of members meanwhile.
 */
extern void outbox_kafka_members_read(OutboxKafkaMembers *members, const OutboxKafkaClient *client,
									  OutboxLagSnapshot *snapshot);

#endif /* OUTBOX_KAFKA_GROUPS_H */
