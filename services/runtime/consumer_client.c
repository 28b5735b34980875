/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer_client.c
 *	  What consumer.c asks of librdkafka for its partitions.
 *
 * Runs in the services, on the member's thread.
 */
#define _GNU_SOURCE
#include "consumer_client.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "services/lib/log.h"

#define SEEK_TIMEOUT_MS	  10000
#define WAKE_TIMEOUT_MS	  1	 /* the answer is not waited for */
#define SEEKS_REFUSED_MAX 25 /* then the client has given the partition up without a word */

rd_kafka_topic_partition_list_t *
outbox_client_list(const OutboxPartition *partition, int64_t offset)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

	rd_kafka_topic_partition_list_add(list, partition->topic, partition->partition)->offset =
		offset;
	return list;
}

bool
outbox_client_seek(rd_kafka_t *rk, OutboxPartition *partition, int64_t offset)
{
	rd_kafka_topic_t   *rkt = rd_kafka_topic_new(rk, partition->topic, NULL);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__STATE;

	if (rkt != NULL)
	{
		err = rd_kafka_seek(rkt, partition->partition,
							offset == OUTBOX_OFFSET_BEGINNING ? RD_KAFKA_OFFSET_BEGINNING : offset,
							SEEK_TIMEOUT_MS);
		rd_kafka_topic_destroy(rkt);
	}
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return true;
	if (err == RD_KAFKA_RESP_ERR__STATE && ++partition->seeks_refused > SEEKS_REFUSED_MAX)
		partition->broken = true;
	outbox_log(OUTBOX_LOG_DEBUG, "seek_refused", "%s [%d]: %s", partition->topic,
			   (int) partition->partition, rd_kafka_err2str(err));
	return false;
}

bool
outbox_client_retake(rd_kafka_t *rk, OutboxPartition *partition, int64_t offset)
{
	rd_kafka_topic_partition_list_t *list =
		outbox_client_list(partition,
						   offset == OUTBOX_OFFSET_BEGINNING ? RD_KAFKA_OFFSET_BEGINNING : offset);
	rd_kafka_error_t *error;

	/* What is stored is committed when a partition is given up, wherever it is. */
	if (partition->went_back && offset >= 0)
		(void) rd_kafka_offsets_store(rk, list);
	list->elems[0].offset = offset == OUTBOX_OFFSET_BEGINNING ? RD_KAFKA_OFFSET_BEGINNING : offset;
	error = rd_kafka_incremental_unassign(rk, list);
	if (error != NULL)
		/* an earlier try came so far: then it is taken all the same */
		rd_kafka_error_destroy(error);
	error = rd_kafka_incremental_assign(rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (error == NULL)
		return true;
	outbox_log(OUTBOX_LOG_INFO, "partition_not_retaken", "%s [%d]: %s", partition->topic,
			   (int) partition->partition, rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	return false;
}

bool
outbox_client_committed(rd_kafka_t *rk, OutboxPartition *const *partitions, size_t count,
						int timeout_ms)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int) count);
	rd_kafka_resp_err_t				 err;

	for (size_t i = 0; i < count; i++)
		rd_kafka_topic_partition_list_add(list, partitions[i]->topic, partitions[i]->partition);
	err = rd_kafka_committed(rk, list, timeout_ms);
	for (size_t i = 0; err == RD_KAFKA_RESP_ERR_NO_ERROR && i < count; i++)
	{
		err = list->elems[i].err;
		partitions[i]->committed = list->elems[i].offset >= 0 ? list->elems[i].offset : -1;
	}
	rd_kafka_topic_partition_list_destroy(list);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		outbox_log(OUTBOX_LOG_WARNING, "committed_offsets_unknown", "%s", rd_kafka_err2str(err));
	return err == RD_KAFKA_RESP_ERR_NO_ERROR;
}

void
outbox_client_store(rd_kafka_t *rk, OutboxPartition *partition)
{
	rd_kafka_topic_partition_list_t *list = outbox_client_list(partition, RD_KAFKA_OFFSET_INVALID);
	int64_t							 offset = partition->next;
	rd_kafka_resp_err_t				 err = rd_kafka_position(rk, list);

	/* The position steps over transaction markers; it is unknown right after a seek. */
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR && list->elems[0].offset > offset &&
		partition->unfinished == 0)
		offset = list->elems[0].offset;
	if (offset >= 0 && offset > partition->stored)
	{
		list->elems[0].offset = offset;
		err = rd_kafka_offsets_store(rk, list);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			partition->stored = offset;
		else
			outbox_log(OUTBOX_LOG_INFO, "offset_not_stored", "%s [%d]: %s", partition->topic,
					   (int) partition->partition, rd_kafka_err2str(err));
	}
	rd_kafka_topic_partition_list_destroy(list);
}

bool
outbox_client_is_member(rd_kafka_t *rk)
{
	char *id = rd_kafka_memberid(rk);
	bool  found = id != NULL && id[0] != '\0';

	if (id != NULL)
		rd_kafka_mem_free(rk, id);
	return found;
}

typedef void (*ListOffsets)(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *partitions,
							const rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *queue);

/*
 * The request whose caller does not wait: of librdkafka 2.3.0 and later, which may run a program
 * that was built for 2.0.2.  NULL: it has none.
 */
static ListOffsets
find_list_offsets(void)
{
	ListOffsets found = NULL;
	void	   *symbol = dlsym(RTLD_DEFAULT, "rd_kafka_ListOffsets");

	memcpy(&found, &symbol, sizeof(found));
	return found;
}

void
outbox_client_wake(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *partitions)
{
	ListOffsets		  list_offsets = find_list_offsets();
	rd_kafka_queue_t *queue;

	for (int i = 0; i < partitions->cnt; i++)
		partitions->elems[i].offset = RD_KAFKA_OFFSET_END;
	if (partitions->cnt == 0)
		return;
	if (list_offsets == NULL)
	{
		(void) rd_kafka_offsets_for_times(rk, partitions, WAKE_TIMEOUT_MS);
		return;
	}
	/* Nobody reads the answer. */
	queue = rd_kafka_queue_new(rk);
	list_offsets(rk, partitions, NULL, queue);
	rd_kafka_queue_destroy(queue);
}
