/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_offsets.c
 *	  What consumer groups have committed, by librdkafka's admin calls.
 *
 * Runs in outbox-monitor, poller thread.
 */
#define _GNU_SOURCE
#include "kafka_offsets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/lib/clock.h"
#include "services/lib/log.h"

/* A group whose offsets have been asked for and not told; opaque of the request. */
typedef struct OutboxAskedGroup
{
	struct OutboxAskedGroup *next;
	int64_t					 asked_at; /* outbox_clock_ms */
	bool					 current;  /* in this poll */
	char					 name[];
} OutboxAskedGroup;

void
outbox_kafka_offsets_open(OutboxKafkaOffsets *offsets, const OutboxKafkaClient *client)
{
	offsets->answers = rd_kafka_queue_new(client->committed);
	offsets->asked = NULL;
}

void
outbox_kafka_offsets_close(OutboxKafkaOffsets *offsets)
{
	rd_kafka_queue_destroy(offsets->answers);
}

static bool
is_asked(const OutboxKafkaOffsets *offsets, const char *group)
{
	for (const OutboxAskedGroup *asked = offsets->asked; asked != NULL; asked = asked->next)
	{
		if (!asked->current && strcmp(asked->name, group) == 0)
			return true;
	}
	return false;
}

static void
ask_offsets(OutboxKafkaOffsets *offsets, const OutboxKafkaClient *client, const char *group)
{
	OutboxAskedGroup					*asked = malloc(sizeof(*asked) + strlen(group) + 1);
	rd_kafka_AdminOptions_t				*options;
	rd_kafka_ListConsumerGroupOffsets_t *request;

	if (asked == NULL)
		abort();
	strcpy(asked->name, group);
	asked->asked_at = outbox_clock_ms();
	asked->current = true;
	asked->next = offsets->asked;
	offsets->asked = asked;
	options = outbox_kafka_client_options(client, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, asked,
										  true);
	request = rd_kafka_ListConsumerGroupOffsets_new(group, NULL);
	rd_kafka_ListConsumerGroupOffsets(client->committed, &request, 1, options, offsets->answers);
	rd_kafka_ListConsumerGroupOffsets_destroy(request);
	rd_kafka_AdminOptions_destroy(options);
}

static void
forget_asked(OutboxKafkaOffsets *offsets, OutboxAskedGroup *told)
{
	OutboxAskedGroup **place = &offsets->asked;

	while (*place != told)
		place = &(*place)->next;
	*place = told->next;
	free(told);
}

static void
note_offsets(OutboxLagGroup *group, const rd_kafka_group_result_t *result)
{
	const rd_kafka_topic_partition_list_t *list = rd_kafka_group_result_partitions(result);
	const rd_kafka_error_t				  *error = rd_kafka_group_result_error(result);

	if (error != NULL || list == NULL)
	{
		outbox_log(OUTBOX_LOG_INFO, "group_unanswered", "%s: %s", group->name,
				   error != NULL ? rd_kafka_error_string(error) : "an answer without partitions");
		return;
	}
	group->answered = true;
	for (int i = 0; i < list->cnt; i++)
	{
		const rd_kafka_topic_partition_t *found = &list->elems[i];

		if (found->err == RD_KAFKA_RESP_ERR_NO_ERROR && found->offset >= 0)
			outbox_group_partition(group, found->topic, found->partition)->committed =
				found->offset;
	}
}

/*
 * Takes one answer; a late one is of an earlier poll and is not used.  true: it was of this poll.
 */
static bool
take_answer(OutboxKafkaOffsets *offsets, OutboxLagSnapshot *snapshot, rd_kafka_event_t *event)
{
	OutboxAskedGroup			   *asked = rd_kafka_event_opaque(event);
	OutboxLagGroup				   *group = outbox_lag_snapshot_find(snapshot, asked->name);
	const rd_kafka_group_result_t **results;
	bool							current = asked->current;
	size_t							count;

	if (current && group != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		results = rd_kafka_ListConsumerGroupOffsets_result_groups(
			rd_kafka_event_ListConsumerGroupOffsets_result(event), &count);
		if (count == 1)
			note_offsets(group, results[0]);
	}
	forget_asked(offsets, asked);
	rd_kafka_event_destroy(event);
	return current;
}

bool
outbox_kafka_offsets_read(OutboxKafkaOffsets *offsets, const OutboxKafkaClient *client,
						  OutboxLagSnapshot *snapshot, char *error, size_t size)
{
	int64_t			  deadline = outbox_clock_ms() + client->timeout_ms;
	rd_kafka_event_t *event;
	size_t			  waiting = 0;

	for (OutboxAskedGroup *asked = offsets->asked; asked != NULL; asked = asked->next)
		asked->current = false;
	while ((event = rd_kafka_queue_poll(offsets->answers, 0)) != NULL)
		take_answer(offsets, snapshot, event);
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		if (is_asked(offsets, snapshot->groups[i].name))
			continue;
		ask_offsets(offsets, client, snapshot->groups[i].name);
		waiting++;
	}
	while (waiting > 0 && outbox_clock_ms() < deadline && !outbox_kafka_client_cancelled())
	{
		event = rd_kafka_queue_poll(offsets->answers, (int) (deadline - outbox_clock_ms()) + 1);
		if (event != NULL && take_answer(offsets, snapshot, event))
			waiting--;
	}
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		if (snapshot->groups[i].answered)
			return true;
	}
	snprintf(error, size, "list offsets: no coordinator answers");
	return false;
}

int64_t
outbox_kafka_offsets_oldest(const OutboxKafkaOffsets *offsets)
{
	int64_t oldest = 0;

	for (const OutboxAskedGroup *asked = offsets->asked; asked != NULL; asked = asked->next)
	{
		if (oldest == 0 || asked->asked_at < oldest)
			oldest = asked->asked_at;
	}
	return oldest;
}
