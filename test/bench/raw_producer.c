/* SPDX-License-Identifier: PostgreSQL
 *
 * raw_producer.c
 *	  The plain librdkafka program the relay is compared with: the same
 *	  records with the same calls and settings, taken from memory.
 *
 *	  raw_producer RECORDS TOPIC TRANSACTION_SIZE SOURCE TYPE NAME=VALUE...
 *
 * RECORDS is a file of lines "id TAB ce_time TAB milliseconds TAB key TAB
 * payload"; it is read whole before the clock starts, which is when the first
 * transaction begins.  Prints "records=... seconds=... cpu_s=...".
 */
#include "bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROUP			   "bench-raw"
#define FIELDS			   5
#define INIT_TIMEOUT_MS	   30000
#define QUEUE_FULL_WAIT_MS 10

enum
{
	FIELD_ID,
	FIELD_TIME,
	FIELD_MS,
	FIELD_KEY,
	FIELD_PAYLOAD
};

typedef struct Record
{
	const char *field[FIELDS];
	uint32_t	len[FIELDS];
	int64_t		ms;
} Record;

static char *
read_file(const char *path, size_t *size)
{
	int			fd = open(path, O_RDONLY);
	struct stat status;
	char	   *data;
	size_t		done = 0;

	if (fd < 0 || fstat(fd, &status) != 0)
		bench_die("%s cannot be read", path);
	*size = (size_t) status.st_size;
	data = malloc(*size + 1);
	while (data != NULL && done < *size)
	{
		ssize_t n = read(fd, data + done, *size - done);

		if (n <= 0)
			bench_die("%s cannot be read", path);
		done += (size_t) n;
	}
	if (data == NULL)
		bench_die("no memory for %s", path);
	data[*size] = '\0';
	close(fd);
	return data;
}

/* Cuts the next line of the file into its fields; returns what follows it. */
static const char *
parse_line(const char *line, const char *end, Record *record)
{
	for (int i = 0; i < FIELDS; i++)
	{
		char		separator = i == FIELDS - 1 ? '\n' : '\t';
		const char *stop = memchr(line, separator, (size_t) (end - line));

		if (stop == NULL)
			bench_die("a line of the records has too few fields");
		record->field[i] = line;
		record->len[i] = (uint32_t) (stop - line);
		line = stop + 1;
	}
	record->ms = strtoll(record->field[FIELD_MS], NULL, 10);
	return line;
}

static Record *
parse_records(const char *data, size_t size, size_t *count)
{
	const char *end = data + size;
	size_t		room = 1024;
	Record	   *records = malloc(room * sizeof(Record));

	*count = 0;
	while (data < end)
	{
		if (*count == room)
		{
			room *= 2;
			records = realloc(records, room * sizeof(Record));
		}
		if (records == NULL)
			bench_die("no memory for the records");
		data = parse_line(data, end, &records[(*count)++]);
	}
	return records;
}

static void
set_pointer(rd_kafka_vu_t *part, rd_kafka_vtype_t type, const Record *record, int field)
{
	part->vtype = type;
	part->u.mem.ptr = (void *) record->field[field];
	part->u.mem.size = record->len[field];
}

static void
produce(rd_kafka_t *producer, rd_kafka_topic_t *topic, const Record *record, const char *source,
		const char *type)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
	rd_kafka_error_t   *error;
	rd_kafka_vu_t		parts[6];

	rd_kafka_header_add(headers, "ce_specversion", 14, "1.0", 3);
	rd_kafka_header_add(headers, "ce_id", 5, record->field[FIELD_ID], record->len[FIELD_ID]);
	rd_kafka_header_add(headers, "ce_source", 9, source, -1);
	rd_kafka_header_add(headers, "ce_type", 7, type, -1);
	rd_kafka_header_add(headers, "ce_time", 7, record->field[FIELD_TIME], record->len[FIELD_TIME]);
	rd_kafka_header_add(headers, "content-type", 12, "application/json", 16);
	parts[0].vtype = RD_KAFKA_VTYPE_RKT;
	parts[0].u.rkt = topic;
	parts[1].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
	parts[1].u.i = RD_KAFKA_MSG_F_COPY;
	set_pointer(&parts[2], RD_KAFKA_VTYPE_VALUE, record, FIELD_PAYLOAD);
	set_pointer(&parts[3], RD_KAFKA_VTYPE_KEY, record, FIELD_KEY);
	parts[4].vtype = RD_KAFKA_VTYPE_TIMESTAMP;
	parts[4].u.i64 = record->ms;
	parts[5].vtype = RD_KAFKA_VTYPE_HEADERS;
	parts[5].u.headers = headers;
	while ((error = rd_kafka_produceva(producer, parts, 6)) != NULL)
	{
		if (rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			bench_check(error, "producing");
		rd_kafka_error_destroy(error);
		rd_kafka_poll(producer, QUEUE_FULL_WAIT_MS);
	}
}

int
main(int argc, char **argv)
{
	char			 *data;
	size_t			  size;
	size_t			  count;
	size_t			  transaction_size;
	Record			 *records;
	rd_kafka_t		 *producer;
	rd_kafka_topic_t *topic;
	int64_t			  started;
	int64_t			  transactions = 0;
	double			  cpu;

	if (argc < 7)
		bench_die("usage: raw_producer RECORDS TOPIC TRANSACTION_SIZE SOURCE TYPE NAME=VALUE...");
	data = read_file(argv[1], &size);
	records = parse_records(data, size, &count);
	transaction_size = strtoul(argv[3], NULL, 10);
	producer = bench_producer(bench_conf(argc, argv, 6));
	bench_check(rd_kafka_init_transactions(producer, INIT_TIMEOUT_MS), "fencing");
	topic = bench_topic(producer, argv[2], NULL);

	started = bench_clock_ns();
	cpu = bench_cpu_seconds();
	for (size_t i = 0; i < count; i++)
	{
		if (i % transaction_size == 0)
			bench_check(rd_kafka_begin_transaction(producer), "beginning a transaction");
		produce(producer, topic, &records[i], argv[4], argv[5]);
		if (i % BENCH_POLL_EVERY == 0)
			rd_kafka_poll(producer, 0);
		if ((i + 1) % transaction_size == 0 || i + 1 == count)
			bench_commit(producer, GROUP, ++transactions);
	}
	printf("records=%zu seconds=%.6f cpu_s=%.3f\n", count,
		   (double) (bench_clock_ns() - started) / 1e9, bench_cpu_seconds() - cpu);
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(producer);
	return 0;
}
