/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_ages.c
 *	  How old the first record is that a group has not done: read from the log.
 *
 * Runs in outbox-monitor, poller thread.
 *
 * Logs are read in rounds, all at once.  A log that does not answer in its round
 * waits until all others have been asked, so that it hides no other log's age.
 */
#define _GNU_SOURCE
#include "kafka_ages.h"

#include <stdlib.h>
#include <string.h>

#include "services/kafka/message.h"
#include "services/lib/clock.h"
#include "services/lib/wall_time.h"

#define ROUND_MAX	 500 /* partitions read at once */
#define ROUNDS		 4	 /* a round may take this part of the time-out */
#define ROUND_MIN_MS 500
#define REREAD_MS	 60000 /* a record may be gone by retention: look again */

/* One partition of which the age of the first pending record is wanted. */
typedef struct Question
{
	OutboxLagPartition *partition;
	bool				done;  /* answered */
	bool				late;  /* did not answer in its round: when no other question is left */
	bool				asked; /* in the round under way */
} Question;

/* By place in the log, so that groups which stand at the same record share an answer. */
static int
compare_questions(const void *a, const void *b)
{
	const OutboxLagPartition *one = ((const Question *) a)->partition;
	const OutboxLagPartition *two = ((const Question *) b)->partition;
	int						  order = strcmp(one->topic, two->topic);

	if (order == 0)
		order = (one->partition > two->partition) - (one->partition < two->partition);
	if (order == 0)
		order = (one->committed > two->committed) - (one->committed < two->committed);
	return order;
}

/* The partitions with lag of which no fresh age is known.  The caller frees. */
static Question *
collect_questions(OutboxLagSnapshot *snapshot, size_t *count)
{
	Question *questions;
	size_t	  room = 1;

	for (size_t i = 0; i < snapshot->group_count; i++)
		room += snapshot->groups[i].partition_count;
	questions = calloc(room, sizeof(Question));
	if (questions == NULL)
		abort();
	*count = 0;
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		for (size_t j = 0; j < snapshot->groups[i].partition_count; j++)
		{
			OutboxLagPartition *partition = &snapshot->groups[i].partitions[j];

			if (partition->lag <= 0 ||
				(partition->pending_ms != OUTBOX_LAG_NULL &&
				 outbox_clock_ms() - partition->pending_read_at < REREAD_MS))
				continue;
			questions[(*count)++].partition = partition;
		}
	}
	qsort(questions, *count, sizeof(Question), compare_questions);
	return questions;
}

static bool
same_log(const OutboxLagPartition *one, const OutboxLagPartition *two)
{
	return one->partition == two->partition && strcmp(one->topic, two->topic) == 0;
}

/* The next place of each log, ROUND_MAX at most.  The caller destroys the list. */
static rd_kafka_topic_partition_list_t *
choose_round(Question *questions, size_t count)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(ROUND_MAX);
	const OutboxLagPartition		*last = NULL;

	for (size_t i = 0; i < count; i++)
	{
		OutboxLagPartition *partition = questions[i].partition;

		questions[i].asked = false;
		if (questions[i].done || questions[i].late)
			continue;
		if (last == NULL || !same_log(last, partition))
		{
			if (list->cnt == ROUND_MAX)
				continue;
			rd_kafka_topic_partition_list_add(list, partition->topic, partition->partition)
				->offset = partition->committed;
			last = partition;
		}
		questions[i].asked = partition->committed == last->committed;
	}
	return list;
}

/*
 * Since when the message's event exists: what its ce_time says, else its own time stamp;
 * OUTBOX_LAG_NULL: not known.
 */
static int64_t
read_since(const rd_kafka_message_t *message)
{
	rd_kafka_timestamp_type_t type;
	OutboxRecord			  record = {
		.topic = rd_kafka_topic_name(message->rkt),
		.partition = message->partition,
		.offset = message->offset,
		.timestamp_ms = rd_kafka_message_timestamp(message, &type),
		.key = message->key,
		.key_len = message->key_len,
		.value = message->payload,
		.value_len = message->len,
	};
	int64_t since = OUTBOX_LAG_NULL;

	if (outbox_record_take_headers(message, &record))
	{
		outbox_record_identify(&record);
		since = outbox_event_since_ms(record.event_us, record.timestamp_ms, outbox_wall_ms());
	}
	outbox_record_clear(&record);
	return since >= 0 ? since : OUTBOX_LAG_NULL;
}

/*
 * Gives the answer to whoever stands at this place: since when, or OUTBOX_LAG_NULL; record: is
 * there one?
 */
static void
give_answer(Question *questions, size_t count, const char *topic, int32_t number, int64_t since_ms,
			bool record)
{
	for (size_t i = 0; i < count; i++)
	{
		OutboxLagPartition *partition = questions[i].partition;

		if (!questions[i].asked || questions[i].done || partition->partition != number ||
			strcmp(partition->topic, topic) != 0)
			continue;
		questions[i].done = true;
		partition->pending_ms = since_ms;
		partition->pending_read_at = outbox_clock_ms();
		if (!record)
		{
			partition->lag = 0;
			/* Where the log begins later, only what it still has was read. */
			if (partition->start != OUTBOX_LAG_NULL && partition->start <= partition->committed)
				partition->clear_to = partition->stable;
		}
	}
}

/* Is an answer for this log still waited for? */
static bool
is_open(const Question *questions, size_t count, const char *topic, int32_t number)
{
	for (size_t i = 0; i < count; i++)
	{
		if (questions[i].asked && !questions[i].done &&
			questions[i].partition->partition == number &&
			strcmp(questions[i].partition->topic, topic) == 0)
			return true;
	}
	return false;
}

static void
pause_partition(rd_kafka_t *rk, const char *topic, int32_t partition)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

	rd_kafka_topic_partition_list_add(list, topic, partition);
	rd_kafka_pause_partitions(rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

/* Reads until every partition of the round has answered or the time is over. */
static void
read_round(const OutboxKafkaClient *client, Question *questions, size_t count, int left,
		   int64_t deadline)
{
	while (left > 0 && outbox_clock_ms() < deadline && !outbox_kafka_client_cancelled())
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(client->committed, 100);
		bool				record;

		if (message == NULL)
			continue;
		record = message->err == RD_KAFKA_RESP_ERR_NO_ERROR;
		if (message->rkt != NULL && (record || message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF))
		{
			const char *topic = rd_kafka_topic_name(message->rkt);

			if (is_open(questions, count, topic, message->partition))
			{
				give_answer(questions, count, topic, message->partition,
							record ? read_since(message) : OUTBOX_LAG_NULL, record);
				if (record)
					pause_partition(client->committed, topic, message->partition);
				left--;
			}
		}
		rd_kafka_message_destroy(message);
	}
}

/* Is there a question that the round under way does not ask? */
static bool
others_wait(const Question *questions, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		if (!questions[i].done && !questions[i].asked)
			return true;
	}
	return false;
}

/* Who has not answered in this round lets all others go first. */
static void
put_off(Question *questions, size_t count)
{
	bool others = false;

	for (size_t i = 0; i < count; i++)
	{
		if (questions[i].asked && !questions[i].done)
			questions[i].late = true;
		others = others || !(questions[i].done || questions[i].late);
	}
	for (size_t i = 0; !others && i < count; i++)
		questions[i].late = false;
}

void
outbox_kafka_ages_read(const OutboxKafkaClient *client, OutboxLagSnapshot *snapshot)
{
	int64_t deadline = outbox_clock_ms() + client->timeout_ms;
	int		round_ms =
		client->timeout_ms / ROUNDS > ROUND_MIN_MS ? client->timeout_ms / ROUNDS : ROUND_MIN_MS;
	size_t	  count;
	Question *questions = collect_questions(snapshot, &count);

	while (outbox_clock_ms() < deadline && !outbox_kafka_client_cancelled())
	{
		rd_kafka_topic_partition_list_t *round = choose_round(questions, count);
		int								 size = round->cnt;
		int64_t until = others_wait(questions, count) ? outbox_clock_ms() + round_ms : deadline;

		if (size > 0 && rd_kafka_assign(client->committed, round) == RD_KAFKA_RESP_ERR_NO_ERROR)
			read_round(client, questions, count, size, until < deadline ? until : deadline);
		/* The pause of a partition outlives its assignment. */
		if (size > 0)
			rd_kafka_resume_partitions(client->committed, round);
		rd_kafka_topic_partition_list_destroy(round);
		if (size == 0)
			break;
		rd_kafka_assign(client->committed, NULL);
		put_off(questions, count);
	}
	free(questions);
}
