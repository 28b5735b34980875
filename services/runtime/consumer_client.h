/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer_client.h
 *	  The client's part of what is done for partitions, for consumer.c and log_reader.c alone.
 */
#ifndef OUTBOX_CONSUMER_CLIENT_H
#define OUTBOX_CONSUMER_CLIENT_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>

#include "consumer.h"

/* A list of one partition; the caller destroys it. */
extern rd_kafka_topic_partition_list_t *outbox_client_list(const OutboxPartition *partition,
														   int64_t				  offset);

/* false: not possible yet; refused often enough the partition is broken. */
extern bool outbox_client_seek(rd_kafka_t *rk, OutboxPartition *partition, int64_t offset);

/*
 * Gives the partition up and takes it again: the client neither seeks in one whose position was not
 * in the log, nor commits an offset below the last one.  It stays paused.
 */
extern bool outbox_client_retake(rd_kafka_t *rk, OutboxPartition *partition, int64_t offset);

/* As outbox_consumer_committed, waiting so long. */
extern bool outbox_client_committed(rd_kafka_t *rk, OutboxPartition *const *partitions,
									size_t count, int timeout_ms);

/* Stores the partition's position, to be committed by the client's timer. */
extern void outbox_client_store(rd_kafka_t *rk, OutboxPartition *partition);

/*
 * Asks the leaders of the partitions for something, so that the client looks after what it reads
 * there.  The answer is not waited for.  Writes to the offsets of the list.
 */
extern void outbox_client_wake(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *partitions);

/* Has the group not been left yet? */
extern bool outbox_client_is_member(rd_kafka_t *rk);

#endif /* OUTBOX_CONSUMER_CLIENT_H */
