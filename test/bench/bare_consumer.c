/* SPDX-License-Identifier: PostgreSQL
 *
 * bare_consumer.c
 *	  The program the consumer runtime is compared with: records polled from
 *	  librdkafka, the handler's SQL called with each value by pipelined libpq, one
 *	  transaction a batch.  No de-duplication, no watermark, no decoding, no dead
 *	  letters.
 *
 *	  bare_consumer CONNINFO SQL TOPIC RECORDS BATCH NAME=VALUE...
 *
 * SQL takes the record's value as $1.  Ends when RECORDS records are committed;
 * prints "records=... cpu_s=... server_cpu_s=...".
 */
#include "bench.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POLL_TIMEOUT_MS 1000
#define BATCH_WAIT_MS	5 /* the runtime's */
#define BATCH_MAX		10000

static PGconn *
connect_database(const char *conninfo, const char *sql)
{
	PGconn	 *conn = PQconnectdb(conninfo);
	PGresult *result;

	if (PQstatus(conn) != CONNECTION_OK)
		bench_die("%s", PQerrorMessage(conn));
	result = PQprepare(conn, "handle", sql, 1, NULL);
	if (PQresultStatus(result) != PGRES_COMMAND_OK || PQenterPipelineMode(conn) != 1)
		bench_die("%s", PQerrorMessage(conn));
	PQclear(result);
	return conn;
}

/* CPU time of the server process, which runs on this machine; 0: it is not to be seen. */
static double
server_cpu_seconds(PGconn *conn)
{
	char		  path[64];
	unsigned long user = 0;
	unsigned long system = 0;
	FILE		 *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", PQbackendPID(conn));
	file = fopen(path, "r");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
			   &system) != 2)
		bench_die("%s cannot be read", path);
	fclose(file);
	return (double) (user + system) / (double) sysconf(_SC_CLK_TCK);
}

/* Polls up to `most` records: the first one however long it takes, the others for BATCH_WAIT_MS. */
static int
gather_records(rd_kafka_t *consumer, rd_kafka_message_t **records, int most)
{
	int64_t deadline = 0;
	int		count = 0;

	while (count < most)
	{
		int64_t left = count == 0 ? POLL_TIMEOUT_MS : (deadline - bench_clock_ns()) / 1000000;
		rd_kafka_message_t *record = rd_kafka_consumer_poll(consumer, left > 0 ? (int) left : 0);

		if (record != NULL && record->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			bench_die("reading: %s", rd_kafka_message_errstr(record));
		if (record != NULL)
			records[count++] = record;
		if (record != NULL && count == 1)
			deadline = bench_clock_ns() + BATCH_WAIT_MS * INT64_C(1000000);
		if (count > 0 && (record == NULL || bench_clock_ns() > deadline))
			break;
	}
	return count;
}

static void
check_result(PGconn *conn, ExecStatusType wanted)
{
	PGresult *result = PQgetResult(conn);

	if (PQresultStatus(result) != wanted)
		bench_die("%s", PQerrorMessage(conn));
	PQclear(result);
	if (wanted != PGRES_PIPELINE_SYNC)
		PQclear(PQgetResult(conn));
}

static void
send_plain(PGconn *conn, const char *sql)
{
	if (PQsendQueryParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0) != 1)
		bench_die("%s", PQerrorMessage(conn));
}

/* One transaction, one trip. */
static void
run_batch(PGconn *conn, rd_kafka_message_t **records, int count)
{
	send_plain(conn, "BEGIN");
	for (int i = 0; i < count; i++)
	{
		char	   *value = strndup(records[i]->payload, records[i]->len);
		const char *values[1] = {value};

		if (PQsendQueryPrepared(conn, "handle", 1, values, NULL, NULL, 0) != 1)
			bench_die("%s", PQerrorMessage(conn));
		free(value);
	}
	send_plain(conn, "COMMIT");
	if (PQpipelineSync(conn) != 1)
		bench_die("%s", PQerrorMessage(conn));
	check_result(conn, PGRES_COMMAND_OK);
	for (int i = 0; i < count; i++)
		check_result(conn, PGRES_TUPLES_OK);
	check_result(conn, PGRES_COMMAND_OK);
	check_result(conn, PGRES_PIPELINE_SYNC);
}

int
main(int argc, char **argv)
{
	static rd_kafka_message_t *records[BATCH_MAX];
	rd_kafka_t				  *consumer;
	PGconn					  *conn;
	long					   wanted;
	long					   done = 0;
	int						   batch;
	int						   partitions;

	if (argc < 7)
		bench_die("usage: bare_consumer CONNINFO SQL TOPIC RECORDS BATCH NAME=VALUE...");
	wanted = strtol(argv[4], NULL, 10);
	batch = atoi(argv[5]);
	if (batch < 1 || batch > BATCH_MAX)
		bench_die("BATCH is from 1 to %d", BATCH_MAX);
	conn = connect_database(argv[1], argv[2]);
	consumer = bench_consumer(bench_conf(argc, argv, 6), argv[3], false, &partitions);
	while (done < wanted)
	{
		int count = gather_records(consumer, records, batch);

		if (count > 0)
			run_batch(conn, records, count);
		for (int i = 0; i < count; i++)
			rd_kafka_message_destroy(records[i]);
		done += count;
	}
	printf("records=%ld cpu_s=%.3f server_cpu_s=%.3f\n", done, bench_cpu_seconds(),
		   server_cpu_seconds(conn));
	PQfinish(conn);
	rd_kafka_consumer_close(consumer);
	rd_kafka_destroy(consumer);
	return 0;
}
