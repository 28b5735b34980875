/* SPDX-License-Identifier: PostgreSQL
 *
 * hello.c
 *	  What the relay tells its sender besides batches: settings, questions, declared topics.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "hello.h"
#include "leader_watch.h"
#include "link.h"
#include "bgworker/session.h"
#include "src/common/topic_names.h"
#include "src/fault.h"
#include "src/guc.h"
#include "src/kafka_settings.h"
#include "src/source.h"
#include "src/topic.h"

#define NAME_PREFIX	 "outbox-relay."
#define ALIVE_PREFIX "outbox-alive."
#define NO_BROKERS \
	"no Kafka brokers are set: outbox.kafka_properties is empty, or was refused at the server's " \
	"start, as its log says"
#define KAFKA_MESSAGE_BYTES 1048588 /* what a topic takes by a broker's default */
#define LETTER_BYTES		65536	/* headers of a dead letter */

typedef struct PairWriter
{
	OutboxWireBuffer buffer;
	uint16			 pairs;
} PairWriter;

static bool topics_stale = true;
static Oid	topic_relation = InvalidOid;

static void *
grow_frame(void *data, size_t capacity)
{
	return data == NULL ? palloc(capacity) : repalloc(data, capacity);
}

/* ----------------------------------------------------------------- OPEN */

static bool
put_pair(const char *name, const char *value, PairWriter *writer)
{
	writer->pairs++;
	return outbox_wire_put_cstring(&writer->buffer, name) &&
		outbox_wire_put_cstring(&writer->buffer, value);
}

static bool
put_property(const char *name, const char *value, void *writer, char *reason, size_t reason_size)
{
	return put_pair(name, value, writer);
}

/* In the current memory context. */
static char *
choose_source(void)
{
	MemoryContext caller = CurrentMemoryContext;
	char		 *source;

	outbox_session_begin();
	source = MemoryContextStrdup(caller, outbox_source());
	outbox_session_end();
	return source;
}

/*
 * The properties as they are now, or NULL with *problem: the file is not there, or
 * not fit to be used.  Raised outside a transaction by code that holds nothing.
 */
static OutboxKafkaSettings *
read_properties(char **problem)
{
	MemoryContext caller = CurrentMemoryContext;
	OutboxKafkaSettings *volatile settings = NULL;

	PG_TRY();
	{
		settings = outbox_kafka_settings_read();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		*problem = error->detail == NULL ? error->message :
										   psprintf("%s: %s", error->message, error->detail);
	}
	PG_END_TRY();
	return settings;
}

static void
put_all_pairs(const OutboxRelay *relay, const OutboxKafkaSettings *properties, PairWriter *writer)
{
	char *uuid = DatumGetCString(DirectFunctionCall1(uuid_out,
													 UUIDPGetDatum(&relay->identity.installation)));
	char *name = psprintf(NAME_PREFIX "%s", uuid);
	char  token[OUTBOX_TOKEN_SIZE];

	outbox_alive_write_token(token, sizeof(token), relay->identity.timeline,
							 relay->identity.system_id, &relay->identity.directory,
							 relay->identity.database);
	put_pair(OUTBOX_OPEN_ALIVE_GROUP, psprintf(ALIVE_PREFIX "%s", uuid), writer);
	put_pair(OUTBOX_OPEN_ALIVE_CLIENT, token, writer);
	put_pair(OUTBOX_OPEN_DELIVERY, outbox_guc_delivery_name(outbox_guc_delivery), writer);
	put_pair(OUTBOX_OPEN_GROUP, name, writer);
	put_pair(OUTBOX_OPEN_CURSOR_TOPIC, OUTBOX_CURSOR_TOPIC, writer);
	put_pair(OUTBOX_OPEN_SOURCE, choose_source(), writer);
	put_pair(OUTBOX_OPEN_ENVELOPE, outbox_guc_envelope_name(outbox_guc_envelope), writer);
	OUTBOX_MUTATE("short_leader_times", put_pair(OUTBOX_OPEN_LEADERLESS, "4000", writer));
	if (outbox_guc_delivery == OUTBOX_DELIVERY_EXACTLY_ONCE)
		put_pair("transactional.id", name, writer);
	outbox_kafka_settings_each(properties, put_property, writer);
}

/* The pairs as one text, only to be compared with another. */
static char *
make_text(const PairWriter *writer)
{
	char *text = palloc(writer->buffer.len + 1);

	for (size_t i = 0; i < writer->buffer.len; i++)
		text[i] = writer->buffer.data[i] == '\0' ? ' ' : (char) writer->buffer.data[i];
	text[writer->buffer.len] = '\0';
	return text;
}

char *
outbox_hello_settings_text(const OutboxRelay *relay, char **problem)
{
	PairWriter			 writer = {.buffer = {.grow = grow_frame}};
	OutboxKafkaSettings *properties = read_properties(problem);

	if (properties == NULL)
		return NULL;
	put_all_pairs(relay, properties, &writer);
	outbox_kafka_settings_free(properties);
	return make_text(&writer);
}

const char *
outbox_hello_open(OutboxRelay *relay)
{
	PairWriter			 pairs = {.buffer = {.grow = grow_frame}};
	OutboxWireBuffer	 frame = {.grow = grow_frame};
	char				*problem = NULL;
	OutboxKafkaSettings *properties = read_properties(&problem);
	size_t				 mark;

	if (properties == NULL)
		return problem;
	outbox_shmem_recovered(relay->slot, OUTBOX_ERROR_OF_SETTINGS);
	if (!outbox_kafka_settings_complete(properties))
	{
		outbox_kafka_settings_free(properties);
		return NO_BROKERS;
	}
	put_all_pairs(relay, properties, &pairs);
	outbox_kafka_settings_free(properties);
	if (!outbox_wire_begin(&frame, OUTBOX_FRAME_OPEN, &mark) ||
		!outbox_wire_put_u16(&frame, OUTBOX_WIRE_VERSION) ||
		!outbox_wire_put_u16(&frame, pairs.pairs))
		elog(ERROR, "could not write a frame");
	frame.data = repalloc(frame.data, frame.len + pairs.buffer.len);
	frame.capacity = frame.len + pairs.buffer.len;
	memcpy(frame.data + frame.len, pairs.buffer.data, pairs.buffer.len);
	frame.len += pairs.buffer.len;
	outbox_wire_finish(&frame, mark);
	outbox_link_give_small(&frame);

	if (relay->settings != NULL)
		pfree(relay->settings);
	relay->settings = MemoryContextStrdup(TopMemoryContext, make_text(&pairs));
	topics_stale = true;
	outbox_leader_watch_forget(relay);
	return NULL;
}

/* ------------------------------------------------------------ questions */

void
outbox_hello_ask(OutboxRelay *relay, OutboxFrameType type)
{
	uint8_t			 bytes[OUTBOX_WIRE_HEADER_SIZE];
	OutboxWireBuffer frame = {.data = bytes, .capacity = sizeof(bytes)};
	size_t			 mark;

	if (!outbox_wire_begin(&frame, type, &mark))
		elog(ERROR, "could not write a frame");
	outbox_wire_finish(&frame, mark);
	outbox_link_give_small(&frame);
	relay->peer = OUTBOX_PEER_ASKED;
}

/* --------------------------------------------------------------- topics */

static void
invalidate_topics(Datum arg, Oid relation)
{
	if (relation == InvalidOid || relation == topic_relation)
		topics_stale = true;
}

void
outbox_hello_watch_topics(void)
{
	CacheRegisterRelcacheCallback(invalidate_topics, (Datum) 0);
}

static int64
get_int64(HeapTuple tuple, TupleDesc desc, int column, bool *given)
{
	bool  isnull;
	Datum value = SPI_getbinval(tuple, desc, column, &isnull);

	*given = !isnull;
	return isnull ? 0 : DatumGetInt64(value);
}

/* One DECLARE; with a flaw nothing but it and the name counts. */
static void
put_topic(OutboxWireBuffer *frame, const OutboxTopicValues *values, const char *flaw)
{
	size_t mark;
	int64  retention = values->has_retention ? values->retention_ms : PG_INT64_MIN;
	int64  bytes = values->has_max_bytes ? values->max_message_bytes : PG_INT64_MIN;

	if (!outbox_wire_begin(frame, OUTBOX_FRAME_DECLARE, &mark) ||
		!outbox_wire_put_cstring(frame, values->name) ||
		!outbox_wire_put_u32(frame, (uint32) values->partitions) ||
		!outbox_wire_put_u16(frame,
							 values->has_replication ? (uint16) values->replication :
													   (uint16) -1) ||
		!outbox_wire_put_u64(frame, (uint64) retention) ||
		!outbox_wire_put_u64(frame, (uint64) bytes) ||
		!outbox_wire_put_cstring(frame, flaw == NULL ? values->cleanup_policy : NULL) ||
		!outbox_wire_put_cstring(frame, flaw) ||
		!outbox_wire_put_u8(frame,
							values->on_unavailable != NULL &&
								strcmp(values->on_unavailable, "wait") == 0))
		elog(ERROR, "could not write a frame");
	outbox_wire_finish(frame, mark);
}

/*
 * A topic as it is declared, or with what is wrong with that: its events are refused, all others go
 * on.  A name that Kafka cannot have is not told, no event has it.  Returns whether the row is
 * right.
 */
static bool
declare_topic(OutboxRelay *relay, OutboxWireBuffer *frame, const OutboxTopicValues *values)
{
	const char *allowed;
	const char *bad = outbox_topic_bad_value(values, &allowed);
	char	   *flaw = NULL;

	if (bad != NULL)
	{
		int shown = pg_mbcliplen(values->name, (int) strlen(values->name), OUTBOX_TOPIC_NAME_MAX);

		flaw = psprintf("the row of topic \"%.*s\" in outbox.topic is wrong: %s is out of range "
						"(allowed: %s)",
						shown, values->name, bad, allowed);
		ereport(LOG, (errmsg("outbox relay: %s", flaw)));
		outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_TOPICS, flaw);
	}
	if (strlen(values->name) <= OUTBOX_TOPIC_NAME_MAX && values->name[0] != '\0')
		put_topic(frame, values, flaw);
	return flaw == NULL;
}

/*
 * The topic, and its dead letter topic with the same number of partitions, held as it is.  That one
 * takes what the topic takes and the headers of a dead letter, also where a broker by default takes
 * less.
 */
static bool
declare_row(OutboxRelay *relay, OutboxWireBuffer *frame, HeapTuple tuple, TupleDesc desc)
{
	OutboxTopicValues values = {0};
	OutboxTopicValues letters = {0};
	const char		 *allowed;
	bool			  given;
	bool			  good;

	values.name = SPI_getvalue(tuple, desc, 1);
	values.partitions = get_int64(tuple, desc, 2, &given);
	values.replication = get_int64(tuple, desc, 3, &values.has_replication);
	values.retention_ms = get_int64(tuple, desc, 4, &values.has_retention);
	values.cleanup_policy = SPI_getvalue(tuple, desc, 5);
	values.max_message_bytes = get_int64(tuple, desc, 6, &values.has_max_bytes);
	values.on_unavailable = SPI_getvalue(tuple, desc, 7);
	good = declare_topic(relay, frame, &values);

	letters.name = psprintf("%s" OUTBOX_DLT_SUFFIX, values.name);
	letters.partitions = values.partitions;
	letters.replication = values.replication;
	letters.has_replication = values.has_replication;
	letters.max_message_bytes = Min(values.max_message_bytes + LETTER_BYTES, PG_INT32_MAX);
	letters.on_unavailable = values.on_unavailable;
	letters.has_max_bytes = values.has_max_bytes && values.max_message_bytes > KAFKA_MESSAGE_BYTES;
	if (outbox_topic_bad_value(&letters, &allowed) == NULL)
		put_topic(frame, &letters, NULL);
	return good;
}

bool
outbox_hello_topics_changed(void)
{
	return topics_stale;
}

void
outbox_hello_declare_topics(OutboxRelay *relay)
{
	OutboxWireBuffer frames = {.grow = grow_frame};
	bool			 good = true;

	if (!topics_stale)
		return;
	topics_stale = false;
	outbox_session_begin();
	topic_relation = get_relname_relid("topic", get_namespace_oid("outbox", false));
	if (SPI_execute("SELECT name, partitions::bigint, replication_factor::bigint, retention_ms, "
					"cleanup_policy, "
					"max_message_bytes::bigint, on_unavailable "
					"FROM outbox.topic",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.topic");
	for (uint64 i = 0; i < SPI_processed; i++)
		good &= declare_row(relay, &frames, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	if (good)
		outbox_shmem_recovered(relay->slot, OUTBOX_ERROR_OF_TOPICS);
	if (frames.len > 0)
		outbox_link_give_small(&frames);
	outbox_session_end();
}
