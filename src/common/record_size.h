/* SPDX-License-Identifier: PostgreSQL
 *
 * record_size.h
 *	  How large an event is in Kafka, and how small a compressed record can be.
 *
 * Compiled into server and sender.  A topic's max.message.bytes limits the batch of records that
 * a request brings; the smallest is one of a single record.
 */
#ifndef OUTBOX_RECORD_SIZE_H
#define OUTBOX_RECORD_SIZE_H

#include <stddef.h>
#include <stdint.h>

typedef struct OutboxRecordParts
{
	int64_t		   key_len;		/* bytes; -1: no key */
	int64_t		   payload_len; /* -1: tombstone */
	const uint8_t *headers;		/* the event's own in Kafka's encoding; NULL: none */
	size_t		   headers_len;
	size_t		   type_len;
	size_t		   content_type_len; /* 0: no content-type header */
	int64_t		   source_len;		 /* of ce_source; -1: no CloudEvents envelope */
} OutboxRecordParts;

/*
 * Bytes of the batch that holds the event's record alone, uncompressed: what max.message.bytes is
 * compared with.
 */
extern size_t outbox_record_batch_size(const OutboxRecordParts *parts);

/* Which sequences of four bytes were seen, by hash; the caller owns `seen`, all zero at first. */
typedef struct OutboxSequences
{
	uint8_t *seen;
	size_t	 bits; /* a power of two, at least 8 */
} OutboxSequences;

/* Adds the sequences of data to those that were seen. */
extern void outbox_sequences_note(OutboxSequences *sequences, const uint8_t *data, size_t len);

/*
 * The fewest bytes that LZ4 or Snappy can make of data behind what was noted: both repeat sequences
 * of at least four bytes and copy everything else.  Counts up to `enough`.
 */
extern size_t outbox_sequences_least(OutboxSequences *sequences, const uint8_t *data, size_t len,
									 size_t enough);

#endif /* OUTBOX_RECORD_SIZE_H */
