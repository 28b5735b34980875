/* SPDX-License-Identifier: PostgreSQL
 *
 * topic_admin.h
 *	  Reads and changes topics by librdkafka's admin API.
 *
 * All calls block, for about a minute at most, and belong to one thread; on
 * failure they return false with one sentence in admin->error.
 */
#ifndef OUTBOX_TOPIC_ADMIN_H
#define OUTBOX_TOPIC_ADMIN_H

#include <librdkafka/rdkafka.h>

#include "topic_plan.h"

typedef struct OutboxTopicAdmin
{
	rd_kafka_t		 *client;
	rd_kafka_queue_t *queue;
	char			  error[1024];
	char			  client_error[512]; /* last thing the client complained of */
} OutboxTopicAdmin;

/* properties: text of allow-listed librdkafka properties, "" for none */
extern bool outbox_topic_admin_open(OutboxTopicAdmin *admin, const char *bootstrap_servers,
									const char *properties);
extern void outbox_topic_admin_close(OutboxTopicAdmin *admin);

/* Fills the states of the plan's topics and its brokers.  Creates nothing. */
extern bool outbox_topic_admin_read(OutboxTopicAdmin *admin, OutboxTopicPlan *plan);

/*
 * Does what the plan says: creates, alters, adds partitions.  Goes on after a failure of one
 * topic; admin->error has the first.
 */
extern bool outbox_topic_admin_apply(OutboxTopicAdmin *admin, const OutboxTopicPlan *plan);

#endif /* OUTBOX_TOPIC_ADMIN_H */
