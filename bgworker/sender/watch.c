/* SPDX-License-Identifier: PostgreSQL
 *
 * watch.c
 *	  The watch for torn transactions (KAFKA-17754): was a transactional
 *	  request really sent more often than once, or left unanswered?
 *
 * Runs in the sender.  The interceptors are called by librdkafka's broker and
 * main threads, so the counters are atomics and nothing else is touched.
 *
 * A second EndTxn or TxnOffsetCommit on the wire, or any transactional request
 * that timed out or lost its connection, may reach the broker late and act on
 * the next transaction, even when this one's commit was answered with success.
 * A repeat of AddPartitions or AddOffsets after an answered
 * CONCURRENT_TRANSACTIONS is ordinary and not counted.
 */
#include "watch.h"

#include <stdatomic.h>

#include "process.h"

#define API_ADD_PARTITIONS_TO_TXN 24
#define API_ADD_OFFSETS_TO_TXN	  25
#define API_END_TXN				  26
#define API_TXN_OFFSET_COMMIT	  28

/* Since outbox_watch_begin. */
static atomic_uint end_txn_sent;
static atomic_uint offset_commit_sent;
static atomic_uint unanswered;

static rd_kafka_resp_err_t
count_sent(rd_kafka_t *client, int sockfd, const char *broker_name, int32_t broker_id,
		   int16_t api_key, int16_t api_version, int32_t correlation_id, size_t size, void *opaque)
{
	(void) client;
	(void) sockfd;
	(void) broker_name;
	(void) broker_id;
	(void) api_version;
	(void) correlation_id;
	(void) size;
	(void) opaque;
	if (api_key == API_END_TXN)
	{
		OUTBOX_FAULT("sender-end-sent");
		atomic_fetch_add(&end_txn_sent, 1);
	}
	else if (api_key == API_TXN_OFFSET_COMMIT)
		atomic_fetch_add(&offset_commit_sent, 1);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/*
 * Called twice for each response by librdkafka 2.0.2, which does no harm to a
 * flag.  _TIMED_OUT_QUEUE is not looked at: that request was never sent.
 */
static rd_kafka_resp_err_t
look_at_response(rd_kafka_t *client, int sockfd, const char *broker_name, int32_t broker_id,
				 int16_t api_key, int16_t api_version, int32_t correlation_id, size_t size,
				 int64_t rtt, rd_kafka_resp_err_t error, void *opaque)
{
	(void) client;
	(void) sockfd;
	(void) broker_name;
	(void) broker_id;
	(void) api_version;
	(void) correlation_id;
	(void) size;
	(void) rtt;
	(void) opaque;
	if (error != RD_KAFKA_RESP_ERR__TIMED_OUT && error != RD_KAFKA_RESP_ERR__TRANSPORT)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	if (api_key == API_ADD_PARTITIONS_TO_TXN || api_key == API_ADD_OFFSETS_TO_TXN ||
		api_key == API_END_TXN || api_key == API_TXN_OFFSET_COMMIT)
		atomic_fetch_add(&unanswered, 1);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
add_interceptors(rd_kafka_t *client, const rd_kafka_conf_t *conf, void *opaque, char *error,
				 size_t error_size)
{
	rd_kafka_resp_err_t code;

	(void) conf;
	(void) opaque;
	(void) error;
	(void) error_size;
	code = rd_kafka_interceptor_add_on_request_sent(client, "outbox", count_sent, NULL);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return code;
	return rd_kafka_interceptor_add_on_response_received(client, "outbox", look_at_response, NULL);
}

/*
 * Makes the producer that will be built from conf a watched one.  If building it
 * fails, conf must not be destroyed any more.
 */
void
outbox_watch_install(rd_kafka_conf_t *conf)
{
	rd_kafka_conf_interceptor_add_on_new(conf, "outbox", add_interceptors, NULL);
}

/* Called before each transaction. */
void
outbox_watch_begin(void)
{
	atomic_store(&end_txn_sent, 0);
	atomic_store(&offset_commit_sent, 0);
	atomic_store(&unanswered, 0);
}

/* May a request of the transaction since outbox_watch_begin still be under way? */
bool
outbox_watch_is_suspect(void)
{
	OUTBOX_MUTATE("no_watch", return false);
	return atomic_load(&end_txn_sent) > 1 || atomic_load(&offset_commit_sent) > 1 ||
		atomic_load(&unanswered) > 0;
}
