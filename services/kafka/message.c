/* SPDX-License-Identifier: PostgreSQL
 *
 * message.c
 *	  A message of librdkafka as a record.
 *
 * Runs in the services and the monitor, any thread.
 */
#include "message.h"

#include <stdlib.h>
#include <string.h>

#include "src/common/kafka_headers.h"

bool
outbox_record_take_headers(const rd_kafka_message_t *message, OutboxRecord *record)
{
	rd_kafka_headers_t *headers;
	OutboxHeader		header;
	const void		   *value;
	size_t				count;
	size_t				size;
	uint8_t			   *end = NULL;

	if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return true;
	count = rd_kafka_header_cnt(headers);
	size = outbox_varint_size((int64_t) count);
	for (int pass = 0; pass < 2; pass++)
	{
		if (pass == 1)
		{
			record->header_memory = malloc(size);
			if (record->header_memory == NULL)
				return false;
			end = outbox_varint_put(record->header_memory, (int64_t) count);
		}
		for (size_t i = 0; i < count; i++)
		{
			rd_kafka_header_get_all(headers, i, &header.name, &value, &header.value_len);
			header.name_len = strlen(header.name);
			header.value = value;
			if (pass == 0)
				size += outbox_header_size(&header);
			else
				end = outbox_header_put(end, &header);
		}
	}
	record->headers = record->header_memory;
	record->headers_len = size;
	return true;
}
