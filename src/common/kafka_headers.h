/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_headers.h
 *	  Record headers in Kafka's own encoding: ordered, repeats allowed, values
 *	  are bytes or NULL.
 *
 * Compiled into server, sender and services.  The encoding is that of the record format v2 (Kafka
 * documentation, "Record Header"): zigzag varint count, then for each header varint key length,
 * key, varint value length (-1: NULL), value.  The column outbox.event.headers and the EVENT frame
 * hold exactly this.
 */
#ifndef OUTBOX_KAFKA_HEADERS_H
#define OUTBOX_KAFKA_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Headers of a copy that outbox.replay() made.  id: the replay's uuid.  group: the
 * one consumer it is for; absent = all.  mode: "reprocess", run it although it was
 * processed before; absent = an ordinary redelivery.
 */
#define OUTBOX_REPLAY_ID_HEADER	   "outbox-replay-id"
#define OUTBOX_REPLAY_GROUP_HEADER "outbox-replay-group"
#define OUTBOX_REPLAY_MODE_HEADER  "outbox-replay-mode"
#define OUTBOX_REPLAY_REPROCESS	   "reprocess"

#define OUTBOX_VARINT_MAX 10 /* bytes of the longest varint */

typedef struct OutboxHeader
{
	const char	  *name; /* not terminated */
	size_t		   name_len;
	const uint8_t *value; /* NULL: a NULL value */
	size_t		   value_len;
} OutboxHeader;

typedef struct OutboxHeaderReader
{
	const uint8_t *pos;
	const uint8_t *end;
	int64_t		   left; /* headers not read yet */
	bool		   bad;	 /* the bytes are not headers */
} OutboxHeaderReader;

extern void outbox_headers_read(OutboxHeaderReader *reader, const uint8_t *data, size_t len);
extern bool outbox_headers_next(OutboxHeaderReader *reader, OutboxHeader *header);

/*
 * Has the header that name, or one that begins so?  In any case of letters, of which ASCII's alone
 * have two, whatever the locale; name is ASCII.
 */
extern bool outbox_header_is(const OutboxHeader *header, const char *name);
extern bool outbox_header_begins(const OutboxHeader *header, const char *prefix);

/*
 * Writing: sum outbox_header_size over the headers, add outbox_varint_size of their count, then put
 * count and headers one after the other.
 */
extern size_t outbox_varint_size(int64_t value);
extern uint8_t *outbox_varint_put(uint8_t *dst, int64_t value);
extern size_t outbox_header_size(const OutboxHeader *header);
extern uint8_t *outbox_header_put(uint8_t *dst, const OutboxHeader *header);

#endif /* OUTBOX_KAFKA_HEADERS_H */
