/* SPDX-License-Identifier: PostgreSQL
 *
 * wire.h
 *	  Frames between the relay (a background worker) and its sender (a child
 *	  process that speaks Kafka).
 *
 * Compiled into both sides: no palloc, no ereport, no libpq, no librdkafka.
 *
 * A frame is  u32 length | u8 type | body,  where length counts type and body.
 * Integers are big-endian.  A "string" is u32 length and that many bytes,
 * without a terminator; length UINT32_MAX means NULL.  The sender reads
 * frames from file descriptor 0 and answers on file descriptor 1, so it can be
 * run by hand with a file as its input.
 *
 * Conversation:
 *	  OPEN                  -> OPENED | FAILED
 *	  LOOK                  -> CURSOR | FAILED    (no fence; may be stale)
 *	  ALIVE                 -> MEMBERS | FAILED   (who is in the group of living senders)
 *	  FENCE                 -> CURSOR | FAILED    (new producer, fence, stable read)
 *	  DECLARE               -> nothing            (FAILED if Kafka cannot be asked)
 *	  WATCH                 -> LEADERS, about once a second until the next WATCH
 *	  BATCH EVENT... END    -> COMMITTED | REFUSED | FAILED | LEADERS that give it up
 * LEADERS that give nothing up may come at any time after OPENED.  REFUSED names all events of the
 * batch that are known to be refused.  Its transaction is aborted and the next BATCH may follow,
 * after FENCE if REFUSED says so.  After FAILED, and after a batch was given up, the sender has
 * dropped its producer: only OPEN, LOOK, ALIVE, FENCE, DECLARE or WATCH may follow, and frames of a
 * batch still in the pipe are skipped.
 */
#ifndef OUTBOX_WIRE_H
#define OUTBOX_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTBOX_WIRE_VERSION		5
#define OUTBOX_WIRE_HEADER_SIZE 5 /* length and type */
#define OUTBOX_WIRE_MAX_FRAME	(256u * 1024 * 1024)
#define OUTBOX_WIRE_NULL		UINT32_MAX /* length of a NULL string */
#define OUTBOX_WIRE_EVENT_FIXED 44		   /* bytes of EVENT before its strings */
#define OUTBOX_WIRE_END_SIZE	9		   /* bytes of an END frame */

typedef enum OutboxFrameType
{
	/*
	 * relay -> sender
	 */

	/*
	 * u16 version, u16 pairs, then (string key, string value) each.  Keys
	 * "relay.*" are listed below; every other key is a librdkafka property.
	 */
	OUTBOX_FRAME_OPEN = 'O',

	/* empty */
	OUTBOX_FRAME_LOOK = 'L',

	/* empty */
	OUTBOX_FRAME_ALIVE = 'A',

	/* empty */
	OUTBOX_FRAME_FENCE = 'F',

	/*
	 * string topic, i32 partitions, i16 replication factor (-1: broker's default), i64 retention ms
	 * (-1: for ever, INT64_MIN: broker's default), i64 max.message.bytes (INT64_MIN: broker's
	 * default), string cleanup policy (NULL: broker's default), string flaw, u8 wait (1: no batch
	 * is given up because the topic has no leader).  Created if absent, a dead letter topic (*.DLT)
	 * with its first event; an existing topic is never altered.  Events of a topic that cannot be
	 * created are REFUSED, and so are those of one with a flaw (NULL: none): it says what is wrong
	 * with the declaration.
	 */
	OUTBOX_FRAME_DECLARE = 'D',

	/*
	 * u64 batch number, i64 time stamp of its records (us since 1970), string cursor metadata (at
	 * most 4,096 bytes)
	 */
	OUTBOX_FRAME_BATCH = 'B',

	/* see OutboxWireEvent */
	OUTBOX_FRAME_EVENT = 'E',

	/* u32 number of EVENT frames since BATCH */
	OUTBOX_FRAME_END = 'Z',

	/* u16 topics, then string topic each: those whose leaders LEADERS is to tell of */
	OUTBOX_FRAME_WATCH = 'W',

	/*
	 * sender -> relay
	 */

	/* u16 version, string librdkafka version, string effective properties */
	OUTBOX_FRAME_OPENED = 'o',

	/*
	 * u8 present (0: no offset is stored), i64 batch number, string metadata, u32 ms a batch may
	 * take with this producer, u32 ms it usually may (message.timeout.ms), both 0 before the first
	 * fence; u8 spare (1: this producer has the spare transactional id), u8 passed over (1: the
	 * other id is not fenced), string why (NULL: both are fenced)
	 *
	 * A fence shuts out the earlier producers of both ids.  A transaction with a partition that has
	 * lost its leader is neither committed nor aborted until there is one again; its id is passed
	 * over meanwhile.
	 */
	OUTBOX_FRAME_CURSOR = 'c',

	/*
	 * u8 allowed (0: the group may not be joined or read; text says why), u8 joined (1: this
	 * sender is a member), string text, u16 members, then (string client id, string host) each
	 */
	OUTBOX_FRAME_MEMBERS = 'a',

	/*
	 * u64 batch number, u32 events, u64 payload and key bytes, u64 duration in
	 * us, u8 suspect (1: a transactional request may still be under way twice,
	 * the relay must FENCE before the next BATCH)
	 */
	OUTBOX_FRAME_COMMITTED = 'k',

	/*
	 * u8 fence (1: the relay must FENCE before the batch comes again), u32 suspects (records
	 * refused together, of which none is known to be to blame; 0: none), u32 records of a request
	 * at most when the batch comes again (0: no limit), string why; u16 texts, that many strings;
	 * u32 events, and for each, in the batch's order: u32 index in the batch, i32 Kafka error, u8
	 * whole topic (1: every event of its topic is refused alike), u16 number of its text.  No
	 * events: there are suspects.
	 */
	OUTBOX_FRAME_REFUSED = 'r',

	/*
	 * u8 OutboxErrorClass, i32 Kafka error, string what was tried, string text; then of a batch,
	 * else zeros: u64 payload and key bytes, u64 of them acknowledged, u64 ms until the last of
	 * those
	 */
	OUTBOX_FRAME_FAILED = 'f',

	/*
	 * u8 given up (1: the batch is, for the sake of these topics), u16 topics, and for each: string
	 * topic, i32 first partition without a leader (-1: all have one), u64 ms since when that is so
	 */
	OUTBOX_FRAME_LEADERS = 'l',
} OutboxFrameType;

/* Keys of OPEN that are not librdkafka properties. */
#define OUTBOX_OPEN_DELIVERY	 "relay.delivery"	  /* exactly_once | at_least_once */
#define OUTBOX_OPEN_GROUP		 "relay.group"		  /* consumer group of the cursor */
#define OUTBOX_OPEN_CURSOR_TOPIC "relay.cursor_topic" /* topic of the cursor */
/* group of the living senders of the installation */
#define OUTBOX_OPEN_ALIVE_GROUP	 "relay.alive_group"
#define OUTBOX_OPEN_ALIVE_CLIENT "relay.alive_client" /* this one's client id there */
#define OUTBOX_OPEN_SOURCE		 "relay.source"		  /* value of ce_source */
#define OUTBOX_OPEN_ENVELOPE	 "relay.envelope"	  /* cloudevents | none */
/* ms without a leader until a batch is given up; without the key OUTBOX_LEADERLESS_MS */
#define OUTBOX_OPEN_LEADERLESS	 "relay.leaderless_ms"
#define OUTBOX_LEADERLESS_MS	 30000

/* Why an event cannot be sent as it is: its frame stands for it, and it is REFUSED. */
typedef enum OutboxEventFlaw
{
	OUTBOX_EVENT_SOUND,
	OUTBOX_EVENT_TOO_LARGE, /* for a frame; what does not fit is left out */
	OUTBOX_EVENT_LONG_TEXT, /* topic, type or content type, which are cut or left out */
	OUTBOX_EVENT_NO_TIME,	/* created_at is not finite; 0 stands for it */
	OUTBOX_EVENT_NO_TEXT,	/* type or content type cannot become UTF-8, and is left out */
} OutboxEventFlaw;

/*
 * One event.  On the wire: u8 id[16], i64 created_at, u16 topic length, u16 type length, u16
 * content type length, u16 OutboxEventFlaw, u32 key length, u32 payload length (OUTBOX_WIRE_NULL:
 * NULL), u32 headers length (0: none); then the bytes of topic, type, content type, key, payload,
 * headers.  Type and content type are UTF-8.
 *
 * Headers are encoded as in a Kafka record (zigzag varint count, then for each
 * varint key length, key, varint value length or -1, value).
 */
typedef struct OutboxWireEvent
{
	const uint8_t *id;		   /* 16 bytes */
	int64_t		   created_at; /* us since 1970-01-01 UTC */
	const char	  *topic;
	const char	  *type;
	const char	  *content_type;
	const uint8_t *key;		/* NULL: no key */
	const uint8_t *payload; /* NULL: tombstone */
	const uint8_t *headers;
	uint16_t	   topic_len;
	uint16_t	   type_len;
	uint16_t	   content_type_len;
	uint16_t	   flaw; /* OutboxEventFlaw */
	uint32_t	   key_len;
	uint32_t	   payload_len;
	uint32_t	   headers_len;
} OutboxWireEvent;

/* A growing output buffer; memory comes from the owner's grow function. */
typedef struct OutboxWireBuffer
{
	uint8_t *data;
	size_t	 len;
	size_t	 capacity;
	/* returns data of at least `capacity` bytes, or NULL: the put fails */
	void *(*grow)(void *data, size_t capacity);
} OutboxWireBuffer;

/* Reads the body of one frame; `bad` is set once anything is out of bounds. */
typedef struct OutboxWireReader
{
	const uint8_t *pos;
	const uint8_t *end;
	bool		   bad;
} OutboxWireReader;

/* wire.c: writing.  Each returns false when memory could not be had. */
extern bool outbox_wire_begin(OutboxWireBuffer *buf, OutboxFrameType type, size_t *mark);
extern void outbox_wire_finish(OutboxWireBuffer *buf, size_t mark);
extern bool outbox_wire_put_u8(OutboxWireBuffer *buf, uint8_t value);
extern bool outbox_wire_put_u16(OutboxWireBuffer *buf, uint16_t value);
extern bool outbox_wire_put_u32(OutboxWireBuffer *buf, uint32_t value);
extern bool outbox_wire_put_u64(OutboxWireBuffer *buf, uint64_t value);
extern bool outbox_wire_put_string(OutboxWireBuffer *buf, const char *data, size_t len);
extern bool outbox_wire_put_bytes(OutboxWireBuffer *buf, const uint8_t *data, size_t len);
extern bool outbox_wire_put_cstring(OutboxWireBuffer *buf, const char *text); /* NULL allowed */
extern bool outbox_wire_put_event(OutboxWireBuffer *buf, const OutboxWireEvent *event);
/*
 * Does an event with so many bytes of topic, type, content type, key, payload and headers fit into
 * a frame?
 */
extern bool outbox_wire_event_fits(uint64_t bytes);

/* wire.c: reading */
extern bool outbox_wire_frame(const uint8_t *data, size_t len, OutboxFrameType *type,
							  OutboxWireReader *body, size_t *frame_size, bool *corrupt);
extern uint8_t outbox_wire_get_u8(OutboxWireReader *reader);
extern uint16_t outbox_wire_get_u16(OutboxWireReader *reader);
extern uint32_t outbox_wire_get_u32(OutboxWireReader *reader);
extern uint64_t outbox_wire_get_u64(OutboxWireReader *reader);
/* points into the frame; *data is NULL for a NULL string */
extern bool outbox_wire_get_string(OutboxWireReader *reader, const char **data, uint32_t *len);
extern bool outbox_wire_get_event(OutboxWireReader *reader, OutboxWireEvent *event);

#endif /* OUTBOX_WIRE_H */
