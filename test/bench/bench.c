/* SPDX-License-Identifier: PostgreSQL
 *
 * bench.c
 *	  What the C programs of the benchmarks share.
 *
 * Runs in those programs.
 */
#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define METADATA_TIMEOUT_MS 10000
#define CURSOR_TOPIC		"outbox.cursor"
#define CURSOR_NOTE "{\"nonce\":\"00000000-0000-0000-0000-000000000000\",\"host\":\"bench\"}"

void
bench_die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

int64_t
bench_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

double
bench_cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		(double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void
bench_set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char error[512];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
		bench_die("%s", error);
}

rd_kafka_conf_t *
bench_conf(int argc, char **argv, int first)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	for (int i = first; i < argc; i++)
	{
		char *equals = strchr(argv[i], '=');

		if (equals == NULL)
			bench_die("\"%s\" is not name=value", argv[i]);
		*equals = '\0';
		bench_set(conf, argv[i], equals + 1);
		*equals = '=';
	}
	return conf;
}

static void
require_delivery(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
	(void) producer;
	(void) opaque;
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		bench_die("a record was not delivered: %s", rd_kafka_err2str(message->err));
}

rd_kafka_t *
bench_producer(rd_kafka_conf_t *conf)
{
	char		error[512];
	rd_kafka_t *producer;

	rd_kafka_conf_set_dr_msg_cb(conf, require_delivery);
	producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (producer == NULL)
		bench_die("%s", error);
	return producer;
}

rd_kafka_topic_t *
bench_topic(rd_kafka_t *client, const char *name, int *partitions)
{
	rd_kafka_topic_t			   *topic = rd_kafka_topic_new(client, name, NULL);
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t				code;

	if (topic == NULL)
		bench_die("topic %s: %s", name, rd_kafka_err2str(rd_kafka_last_error()));
	code = rd_kafka_metadata(client, 0, topic, &metadata, METADATA_TIMEOUT_MS);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		bench_die("topic %s: %s", name, rd_kafka_err2str(code));
	if (metadata->topic_cnt != 1 || metadata->topics[0].partition_cnt == 0)
		bench_die("topic %s does not exist", name);
	if (partitions != NULL)
		*partitions = metadata->topics[0].partition_cnt;
	rd_kafka_metadata_destroy(metadata);
	return topic;
}

void
bench_check(rd_kafka_error_t *error, const char *tried)
{
	if (error != NULL)
		bench_die("%s: %s", tried, rd_kafka_error_string(error));
}

void
bench_commit(rd_kafka_t *producer, const char *group, int64_t offset)
{
	rd_kafka_consumer_group_metadata_t *member = rd_kafka_consumer_group_metadata_new(group);
	rd_kafka_topic_partition_list_t	   *offsets = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_t		   *cursor =
		rd_kafka_topic_partition_list_add(offsets, CURSOR_TOPIC, 0);

	while (rd_kafka_flush(producer, 1) == RD_KAFKA_RESP_ERR__TIMED_OUT)
		;
	cursor->offset = offset;
	cursor->metadata = strdup(CURSOR_NOTE);
	cursor->metadata_size = strlen(CURSOR_NOTE);
	bench_check(rd_kafka_send_offsets_to_transaction(producer, offsets, member, -1),
				"adding an offset to a transaction");
	rd_kafka_topic_partition_list_destroy(offsets);
	rd_kafka_consumer_group_metadata_destroy(member);
	bench_check(rd_kafka_commit_transaction(producer, -1), "committing a transaction");
}

rd_kafka_t *
bench_consumer(rd_kafka_conf_t *conf, const char *topic, bool at_end, int *partitions)
{
	rd_kafka_topic_partition_list_t *parts = rd_kafka_topic_partition_list_new(8);
	rd_kafka_t						*consumer;
	char							 error[512];

	bench_set(conf, "group.id", "bench-reader");
	bench_set(conf, "enable.auto.commit", "false");
	bench_set(conf, "isolation.level", "read_committed");
	consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));
	if (consumer == NULL)
		bench_die("%s", error);
	rd_kafka_topic_destroy(bench_topic(consumer, topic, partitions));
	for (int i = 0; i < *partitions; i++)
	{
		int64_t				low;
		int64_t				high;
		rd_kafka_resp_err_t code;

		code =
			rd_kafka_query_watermark_offsets(consumer, topic, i, &low, &high, METADATA_TIMEOUT_MS);
		if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
			bench_die("offsets of %s: %s", topic, rd_kafka_err2str(code));
		rd_kafka_topic_partition_list_add(parts, topic, i)->offset = at_end ? high : low;
	}
	if (rd_kafka_assign(consumer, parts) != RD_KAFKA_RESP_ERR_NO_ERROR)
		bench_die("the partitions of %s could not be assigned", topic);
	rd_kafka_topic_partition_list_destroy(parts);
	return consumer;
}
