/* SPDX-License-Identifier: PostgreSQL
 *
 * bench.h
 *	  What the C programs of the benchmarks share.
 *
 * Every failure ends the program with one line on standard error: a benchmark
 * that went wrong has no figure.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

#define BENCH_POLL_EVERY 512 /* records between two looks at reports, as in the sender */

extern void bench_die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Monotonic clock in nanoseconds; the same for all threads and processes. */
extern int64_t bench_clock_ns(void);

/* CPU time of this process, user and system, in seconds. */
extern double bench_cpu_seconds(void);

/* argv[first...] are librdkafka properties, name=value; the caller owns the result. */
extern rd_kafka_conf_t *bench_conf(int argc, char **argv, int first);

extern void bench_set(rd_kafka_conf_t *conf, const char *name, const char *value);

/* Takes over conf; every record the broker does not acknowledge ends the program. */
extern rd_kafka_t *bench_producer(rd_kafka_conf_t *conf);

/* A topic handle whose metadata is known, so that the first record does not wait for it. */
extern rd_kafka_topic_t *bench_topic(rd_kafka_t *client, const char *name, int *partitions);

/* Ends the program if error is set. */
extern void bench_check(rd_kafka_error_t *error, const char *tried);

/*
 * Ends a transaction as the sender does: waits for every report in short
 * flushes, adds offset to the group's cursor, commits.
 */
extern void bench_commit(rd_kafka_t *producer, const char *group, int64_t offset);

/*
 * A read_committed consumer assigned to every partition of topic, from the
 * beginning or (at_end) from where each ends now.
 */
extern rd_kafka_t *bench_consumer(rd_kafka_conf_t *conf, const char *topic, bool at_end,
								  int *partitions);

#endif /* BENCH_H */
