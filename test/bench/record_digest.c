/* SPDX-License-Identifier: PostgreSQL
 *
 * record_digest.c
 *	  Number and digest of the committed records of a topic, to prove that two
 *	  topics hold the same records.
 *
 *	  record_digest TOPIC NAME=VALUE...
 *
 * The digest is the sum of a hash over key, value and headers of each record, so it does not depend
 * on the order of partitions, nor on when the records were sent.  Prints "records=... digest=...".
 */
#include "bench.h"

#include <inttypes.h>
#include <stdio.h>

#define WAIT_MS		1000
#define SILENCE_NS	(60 * INT64_C(1000000000))
#define HASH_START	UINT64_C(14695981039346656037)
#define HASH_FACTOR UINT64_C(1099511628211)

/* FNV-1a, the length first so that fields cannot run together. */
static uint64_t
hash_bytes(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	hash = (hash ^ len) * HASH_FACTOR;
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ bytes[i]) * HASH_FACTOR;
	return hash;
}

static uint64_t
hash_record(const rd_kafka_message_t *message)
{
	uint64_t			hash = hash_bytes(HASH_START, message->key, message->key_len);
	rd_kafka_headers_t *headers;
	const char		   *name;
	const void		   *value;
	size_t				size;

	hash = hash_bytes(hash, message->payload, message->len);
	if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return hash;
	for (size_t i = 0;
		 rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
		 i++)
	{
		const char *end = name;

		while (*end != '\0')
			end++;
		hash = hash_bytes(hash, name, (size_t) (end - name));
		hash = hash_bytes(hash, value, size);
	}
	return hash;
}

int
main(int argc, char **argv)
{
	rd_kafka_conf_t *conf;
	rd_kafka_t		*consumer;
	uint64_t		 records = 0;
	uint64_t		 digest = 0;
	int				 waiting;
	int64_t			 last = bench_clock_ns();

	if (argc < 3)
		bench_die("usage: record_digest TOPIC NAME=VALUE...");
	conf = bench_conf(argc, argv, 2);
	bench_set(conf, "enable.partition.eof", "true");
	consumer = bench_consumer(conf, argv[1], false, &waiting);
	while (waiting > 0)
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, WAIT_MS);

		if (message == NULL)
		{
			if (bench_clock_ns() - last > SILENCE_NS)
				bench_die("topic %s does not end", argv[1]);
			continue;
		}
		last = bench_clock_ns();
		if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			waiting--;
		else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			bench_die("reading %s: %s", argv[1], rd_kafka_message_errstr(message));
		else
		{
			records++;
			digest += hash_record(message);
		}
		rd_kafka_message_destroy(message);
	}
	printf("records=%" PRIu64 " digest=%016" PRIx64 "\n", records, digest);
	rd_kafka_destroy(consumer);
	return 0;
}
