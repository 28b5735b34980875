/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_groups.c
 *	  The consumer groups of a Kafka cluster and who is in them, by librdkafka's
 *	  admin calls.
 *
 * Runs in outbox-monitor, poller thread.
 */
#define _GNU_SOURCE
#include "kafka_groups.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/lib/clock.h"

static bool
fail(char *error, size_t size, const char *what, const char *why)
{
	snprintf(error, size, "%s: %s", what, why);
	return false;
}

/* What the brokers that answered have. */
static void
note_groups(OutboxLagSnapshot *snapshot, const rd_kafka_ListConsumerGroups_result_t *result,
			bool (*wanted)(const char *group))
{
	const rd_kafka_ConsumerGroupListing_t **listed;
	size_t									count;

	listed = rd_kafka_ListConsumerGroups_result_valid(result, &count);
	for (size_t i = 0; i < count; i++)
	{
		const char					   *name = rd_kafka_ConsumerGroupListing_group_id(listed[i]);
		rd_kafka_consumer_group_state_t state = rd_kafka_ConsumerGroupListing_state(listed[i]);
		OutboxLagGroup				   *group;

		if (!wanted(name))
			continue;
		group = outbox_lag_snapshot_add_group(snapshot, name);
		group->state = rd_kafka_consumer_group_state_name(state);
		group->empty = state == RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY;
		group->members = group->empty ? 0 : OUTBOX_LAG_NULL;
		group->simple = rd_kafka_ConsumerGroupListing_is_simple_consumer_group(listed[i]) != 0;
	}
}

/* A broker is silent: a group known before that no other broker has may be that one's. */
static void
keep_missing(OutboxLagSnapshot *snapshot, const OutboxLagSnapshot *before)
{
	size_t listed = snapshot->group_count;

	outbox_lag_snapshot_sort(snapshot);
	for (size_t i = 0; before != NULL && i < before->group_count; i++)
	{
		OutboxLagSnapshot known = {.groups = snapshot->groups, .group_count = listed};
		const char		 *name = before->groups[i].name;

		if (outbox_lag_snapshot_find(&known, name) == NULL)
			outbox_lag_snapshot_add_group(snapshot, name)->state =
				rd_kafka_consumer_group_state_name(RD_KAFKA_CONSUMER_GROUP_STATE_UNKNOWN);
	}
}

/* Fails when no broker answers with a group and one does not answer. */
bool
outbox_kafka_groups_list(const OutboxKafkaClient *client, OutboxLagSnapshot *snapshot,
						 const OutboxLagSnapshot *before, bool (*wanted)(const char *group),
						 char *error, size_t size)
{
	rd_kafka_queue_t		*queue = rd_kafka_queue_new(client->committed);
	rd_kafka_AdminOptions_t *options =
		outbox_kafka_client_options(client, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS, NULL, false);
	rd_kafka_event_t *event;
	size_t			  failures = 0;
	bool			  good = false;

	rd_kafka_ListConsumerGroups(client->committed, options, queue);
	/* The request ends by itself at its time-out; a little later is a fault of the client. */
	event = rd_kafka_queue_poll(queue, client->timeout_ms + 1000);
	if (event == NULL)
		fail(error, size, "list groups", "no answer");
	else if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
		fail(error, size, "list groups", rd_kafka_event_error_string(event));
	else
	{
		const rd_kafka_ListConsumerGroups_result_t *result =
			rd_kafka_event_ListConsumerGroups_result(event);
		const rd_kafka_error_t **errors =
			rd_kafka_ListConsumerGroups_result_errors(result, &failures);

		note_groups(snapshot, result, wanted);
		good = failures == 0 || snapshot->group_count > 0 ||
			fail(error, size, "list groups", rd_kafka_error_string(errors[0]));
		if (good && failures > 0)
			keep_missing(snapshot, before);
		outbox_lag_snapshot_sort(snapshot);
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_queue_destroy(queue);
	return good;
}

void
outbox_kafka_members_open(OutboxKafkaMembers *members, const OutboxKafkaClient *client)
{
	members->answers = rd_kafka_queue_new(client->committed);
	members->asked_at = 0;
}

void
outbox_kafka_members_close(OutboxKafkaMembers *members)
{
	rd_kafka_queue_destroy(members->answers);
}

static void
replace_text(char **target, const char *text)
{
	free(*target);
	*target = text != NULL ? strdup(text) : NULL;
}

static void
note_member(OutboxLagGroup *group, const rd_kafka_MemberDescription_t *member)
{
	const rd_kafka_MemberAssignment_t *assignment = rd_kafka_MemberDescription_assignment(member);
	const rd_kafka_topic_partition_list_t *list = NULL;

	if (assignment != NULL)
		list = rd_kafka_MemberAssignment_partitions(assignment);
	for (int i = 0; list != NULL && i < list->cnt; i++)
	{
		OutboxLagPartition *partition;

		partition = outbox_group_partition(group, list->elems[i].topic, list->elems[i].partition);
		replace_text(&partition->client_id, rd_kafka_MemberDescription_client_id(member));
		replace_text(&partition->consumer_id, rd_kafka_MemberDescription_consumer_id(member));
		replace_text(&partition->host, rd_kafka_MemberDescription_host(member));
	}
}

/*
 * Members and what they have.  Of a group of the newer protocol (KIP-848) the request of this
 * client knows nothing: Kafka calls it dead, while the list said that it lives.
 */
static void
note_description(OutboxLagSnapshot *snapshot, const rd_kafka_ConsumerGroupDescription_t *described)
{
	OutboxLagGroup *group;
	size_t			count = rd_kafka_ConsumerGroupDescription_member_count(described);

	group =
		outbox_lag_snapshot_find(snapshot, rd_kafka_ConsumerGroupDescription_group_id(described));
	if (group == NULL || rd_kafka_ConsumerGroupDescription_error(described) != NULL || count == 0)
		return;
	group->members = (long) count;
	group->empty = false;
	for (size_t i = 0; i < count; i++)
		note_member(group, rd_kafka_ConsumerGroupDescription_member(described, i));
}

static void
ask_members(OutboxKafkaMembers *members, const OutboxKafkaClient *client,
			const OutboxLagSnapshot *snapshot)
{
	rd_kafka_AdminOptions_t *options;
	const char			   **names = calloc(snapshot->group_count, sizeof(*names));

	if (names == NULL)
		abort();
	for (size_t i = 0; i < snapshot->group_count; i++)
		names[i] = snapshot->groups[i].name;
	options =
		outbox_kafka_client_options(client, RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, NULL, true);
	rd_kafka_DescribeConsumerGroups(client->committed, names, snapshot->group_count, options,
									members->answers);
	rd_kafka_AdminOptions_destroy(options);
	free(names);
	members->asked_at = outbox_clock_ms();
}

/* A late answer is of an earlier poll and is not used. */
void
outbox_kafka_members_read(OutboxKafkaMembers *members, const OutboxKafkaClient *client,
						  OutboxLagSnapshot *snapshot)
{
	const rd_kafka_ConsumerGroupDescription_t **described;
	rd_kafka_event_t						   *event;
	size_t										count;

	if (members->asked_at != 0)
	{
		event = rd_kafka_queue_poll(members->answers, 0);
		if (event == NULL)
			return;
		rd_kafka_event_destroy(event);
	}
	ask_members(members, client, snapshot);
	event = rd_kafka_queue_poll(members->answers, client->timeout_ms);
	if (event == NULL)
		return;
	members->asked_at = 0;
	if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		described = rd_kafka_DescribeConsumerGroups_result_groups(
			rd_kafka_event_DescribeConsumerGroups_result(event), &count);
		for (size_t i = 0; i < count; i++)
			note_description(snapshot, described[i]);
	}
	rd_kafka_event_destroy(event);
}
