/* SPDX-License-Identifier: PostgreSQL
 *
 * declare.c
 *	  outbox.declare_topic, and what else the SQL functions on topics need.
 *
 * Runs in application backends, as the extension's owner (SECURITY DEFINER): the
 * gate is EXECUTE, given by outbox.grant_operate.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "topic.h"
#include "src/common/topic_names.h"

PG_FUNCTION_INFO_V1(outbox_declare_topic);
PG_FUNCTION_INFO_V1(outbox_check_grant);
PG_FUNCTION_INFO_V1(outbox_check_target);
PG_FUNCTION_INFO_V1(outbox_topics_changed);

/* Arguments of declare_topic, in the order of the queries' parameters. */
enum
{
	ARG_NAME,
	ARG_PARTITIONS,
	ARG_REPLICATION,
	ARG_RETENTION,
	ARG_CLEANUP,
	ARG_MAX_BYTES,
	ARG_UNAVAILABLE,
	ARGS
};

typedef struct TopicArgs
{
	Datum values[ARGS];
	char  nulls[ARGS]; /* 'n' or ' ', as SPI wants */
} TopicArgs;

static const Oid arg_types[ARGS] = {TEXTOID, INT4OID, INT4OID, INT8OID, TEXTOID, INT4OID, TEXTOID};

/* Runs a query with the first `count` arguments; the number of its rows. */
static uint64
execute_query(const char *query, int count, TopicArgs *args, int expected)
{
	int result =
		SPI_execute_with_args(query, count, (Oid *) arg_types, args->values, args->nulls, false, 0);

	if (result != expected)
		elog(ERROR, "could not declare a topic: %s", SPI_result_code_string(result));
	return SPI_processed;
}

static void
check_topic_name(const char *name)
{
	int	 len = (int) strlen(name);
	int	 suffix = (int) strlen(OUTBOX_DLT_SUFFIX);
	bool dead_letter;

	dead_letter = len > suffix && strcmp(name + len - suffix, OUTBOX_DLT_SUFFIX) == 0;
	outbox_topic_check_name(name, len);
	if (!dead_letter && len + suffix > OUTBOX_TOPIC_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME), errmsg("topic name \"%s\" is too long", name),
				 errdetail("Its dead-letter topic \"<name>%s\" would have more than %d characters.",
						   OUTBOX_DLT_SUFFIX, OUTBOX_TOPIC_NAME_MAX)));
}

static void
check_topic_args(const TopicArgs *args)
{
	OutboxTopicValues values = {0};
	const char		 *allowed;
	const char		 *bad;

	if (args->nulls[ARG_NAME] == 'n' || args->nulls[ARG_PARTITIONS] == 'n')
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name and partitions of a topic must not be null")));
	values.name = TextDatumGetCString(args->values[ARG_NAME]);
	check_topic_name(values.name);
	values.partitions = DatumGetInt32(args->values[ARG_PARTITIONS]);
	values.has_replication = args->nulls[ARG_REPLICATION] != 'n';
	values.replication = values.has_replication ? DatumGetInt32(args->values[ARG_REPLICATION]) : 0;
	values.has_retention = args->nulls[ARG_RETENTION] != 'n';
	values.retention_ms = values.has_retention ? DatumGetInt64(args->values[ARG_RETENTION]) : 0;
	if (args->nulls[ARG_CLEANUP] != 'n')
		values.cleanup_policy = TextDatumGetCString(args->values[ARG_CLEANUP]);
	values.has_max_bytes = args->nulls[ARG_MAX_BYTES] != 'n';
	values.max_message_bytes =
		values.has_max_bytes ? DatumGetInt32(args->values[ARG_MAX_BYTES]) : 0;
	if (args->nulls[ARG_UNAVAILABLE] != 'n')
		values.on_unavailable = TextDatumGetCString(args->values[ARG_UNAVAILABLE]);
	bad = outbox_topic_bad_value(&values, &allowed);
	if (bad != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a topic is out of range", bad), errdetail("Allowed: %s.", allowed)));
}

/* The topic has a row: nothing to do, more partitions, another on_unavailable, or a refusal. */
static void
change_topic(TopicArgs *args)
{
	char *name = TextDatumGetCString(args->values[ARG_NAME]);
	int	  wanted = DatumGetInt32(args->values[ARG_PARTITIONS]);
	int	  partitions;
	bool  other;
	bool  isnull;

	execute_query("SELECT partitions,"
				  " replication_factor IS NOT DISTINCT FROM $3"
				  " AND retention_ms IS NOT DISTINCT FROM $4"
				  " AND cleanup_policy IS NOT DISTINCT FROM $5"
				  " AND max_message_bytes IS NOT DISTINCT FROM $6,"
				  " on_unavailable IS DISTINCT FROM COALESCE($7, on_unavailable)"
				  " FROM outbox.topic WHERE name = $1 FOR UPDATE",
				  ARGS, args, SPI_OK_SELECT);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("topic \"%s\" was changed by another transaction", name)));
	partitions =
		DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	other = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull));
	if (!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("topic \"%s\" is already declared with other values", name),
				 errdetail("Only on_unavailable may change, and partitions, which only grow."),
				 errhint("Change the topic in Kafka, then its row in outbox.topic.")));
	if (wanted < partitions)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("topic \"%s\" cannot shrink from %d to %d partitions", name, partitions,
						wanted),
				 errdetail("Kafka cannot take partitions away.")));
	if (wanted > partitions || other)
		execute_query("UPDATE outbox.topic SET partitions = $2,"
					  " on_unavailable = COALESCE($7, on_unavailable) WHERE name = $1",
					  ARGS, args, SPI_OK_UPDATE);
}

/*
 * No other topic may be one with it in Kafka.  The lock lets no other session declare one
 * meanwhile; emit() is not kept out.
 */
static void
refuse_collision(const char *name)
{
	if (SPI_execute("LOCK TABLE outbox.topic IN SHARE ROW EXCLUSIVE MODE", false, 0) !=
			SPI_OK_UTILITY ||
		SPI_execute("SELECT name FROM outbox.topic ORDER BY name COLLATE \"C\"", false, 0) !=
			SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.topic");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char *other = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

		if (outbox_topic_names_collide(name, other))
			outbox_topic_refuse_collision(name, other);
	}
}

static void
add_topic(TopicArgs *args)
{
	refuse_collision(TextDatumGetCString(args->values[ARG_NAME]));
	if (execute_query("INSERT INTO outbox.topic"
					  " (name, partitions, replication_factor, retention_ms, cleanup_policy, "
					  "max_message_bytes, on_unavailable)"
					  " VALUES ($1, $2, $3, $4, $5, $6, COALESCE($7, 'hold'))"
					  " ON CONFLICT (name) DO NOTHING",
					  ARGS, args, SPI_OK_INSERT) == 0)
		change_topic(args);
}

/*
 * declare_topic(name text, partitions integer, replication_factor integer,
 *				 retention_ms bigint, cleanup_policy text, max_message_bytes integer,
 *				 on_unavailable text) returns void
 */
Datum
outbox_declare_topic(PG_FUNCTION_ARGS)
{
	TopicArgs args;

	for (int i = 0; i < ARGS; i++)
	{
		args.values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		args.nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	check_topic_args(&args);

	SPI_connect();
	if (execute_query("SELECT FROM outbox.topic WHERE name = $1", 1, &args, SPI_OK_SELECT) > 0)
		change_topic(&args);
	else
		add_topic(&args);
	SPI_finish();
	PG_RETURN_VOID();
}

/* check_grant(topic text) returns void, STRICT: a legal name or '*' */
Datum
outbox_check_grant(PG_FUNCTION_ARGS)
{
	char *name = TextDatumGetCString(PG_GETARG_DATUM(0));

	if (strcmp(name, OUTBOX_EVERY_TOPIC) != 0)
		outbox_topic_check_name(name, (int) strlen(name));
	PG_RETURN_VOID();
}

/*
 * check_target(topic text) returns void, STRICT: a topic emit() would take from the role that
 * called the SECURITY DEFINER function around this; what SET ROLE chose, else the session's.
 */
Datum
outbox_check_target(PG_FUNCTION_ARGS)
{
	text *name = PG_GETARG_TEXT_PP(0);

	outbox_topic_check_emit(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name), GetOuterUserId());
	PG_RETURN_VOID();
}

/* Statement trigger of outbox.topic and outbox.topic_grant: topic.c drops its copies. */
Datum
outbox_topics_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("outbox.topics_changed() must be called by a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}
