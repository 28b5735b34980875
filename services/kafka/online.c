/* SPDX-License-Identifier: PostgreSQL
 *
 * online.c
 *	  What --check-config=online asks of database and Kafka.
 *
 * Runs in the services and the monitor, main thread, and nothing else does meanwhile but
 * librdkafka's threads.
 */
#define _GNU_SOURCE
#include "online.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/lib/arguments.h"
#include "services/lib/db.h"
#include "services/lib/db_session.h"
#include "services/lib/objects.h"
#include "services/lib/text.h"

#define STATEMENT_MS 5000
#define ANSWER_MS	 10000

/* What Kafka's client has met with, told when a request has no answer. */
typedef struct ClientTrouble
{
	char text[256];
	bool refused; /* password, certificate */
} ClientTrouble;

static int fail(int code, char *error, size_t size, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static int
fail(int code, char *error, size_t size, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error, size, format, arguments);
	va_end(arguments);
	return code;
}

int
outbox_online_database(const char *name, const char *conninfo, const char *sql, char *error,
					   size_t size)
{
	OutboxDb  db;
	PGresult *result = NULL;
	char	  reason[512];
	int		  code = EXIT_SUCCESS;

	if (!outbox_db_open(&db, conninfo, STATEMENT_MS))
		return fail(EXIT_FAILURE, error, size, "out of memory");
	if (outbox_db_connect(&db))
		result = outbox_db_query_within(&db, sql, 0, NULL, STATEMENT_MS + 1000);
	if (result == NULL)
		code = fail(db.error.failure == OUTBOX_FAILURE_INFRASTRUCTURE ? EXIT_FAILURE :
																		OUTBOX_EXIT_SETTINGS,
					error, size, "%s: %s", name, db.error.message);
	else if (PQntuples(result) > 0 && !PQgetisnull(result, 0, 0))
		code = fail(OUTBOX_EXIT_SETTINGS, error, size, "%s: %s", name, PQgetvalue(result, 0, 0));
	else if (!outbox_objects_check(conninfo, reason, sizeof(reason)))
		code = fail(OUTBOX_EXIT_SETTINGS, error, size, "%s: %s", name, reason);
	PQclear(result);
	outbox_db_close(&db);
	return code;
}

static void
note_trouble(rd_kafka_t *rk, int code, const char *text, void *opaque)
{
	ClientTrouble *trouble = opaque;

	(void) rk;
	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && trouble->text[0] != '\0')
		return;
	outbox_text_copy(trouble->text, sizeof(trouble->text), text);
	trouble->refused = trouble->refused || code == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
		code == RD_KAFKA_RESP_ERR__SSL;
}

/* A request for one topic, or of the brokers alone; 0 or the code to end with. */
static int
ask_metadata(rd_kafka_t *rk, const char *topic, ClientTrouble *trouble, char *error, size_t size)
{
	const rd_kafka_metadata_t *metadata = NULL;
	rd_kafka_topic_t		  *handle = topic != NULL ? rd_kafka_topic_new(rk, topic, NULL) : NULL;
	rd_kafka_resp_err_t		   code = rd_kafka_metadata(rk, 0, handle, &metadata, ANSWER_MS);

	if (code == RD_KAFKA_RESP_ERR_NO_ERROR && topic != NULL && metadata->topic_cnt > 0)
		code = metadata->topics[0].err;
	rd_kafka_poll(rk, 0); /* the client's words come here */
	if (metadata != NULL)
		rd_kafka_metadata_destroy(metadata);
	if (handle != NULL)
		rd_kafka_topic_destroy(handle);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		return EXIT_SUCCESS;
	if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
		return fail(EXIT_FAILURE, error, size, "Kafka has no topic %s", topic);
	if (code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
		return fail(OUTBOX_EXIT_SETTINGS, error, size, "the Kafka user may not describe topic %s",
					topic);
	return fail(trouble->refused ? OUTBOX_EXIT_SETTINGS : EXIT_FAILURE, error, size,
				"Kafka: %s%s%s", rd_kafka_err2str(code), trouble->text[0] != '\0' ? ": " : "",
				trouble->text);
}

/* May the group's offsets be read? */
static int
ask_group(rd_kafka_t *rk, const char *topic, char *error, size_t size)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_resp_err_t				 code;

	rd_kafka_topic_partition_list_add(list, topic, 0);
	code = rd_kafka_committed(rk, list, ANSWER_MS);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		code = list->elems[0].err;
	rd_kafka_topic_partition_list_destroy(list);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		return EXIT_SUCCESS;
	return fail(code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ? OUTBOX_EXIT_SETTINGS :
																	   EXIT_FAILURE,
				error, size, "group_id: Kafka: %s", rd_kafka_err2str(code));
}

int
outbox_online_kafka(rd_kafka_conf_t *conf, const char *const *topics, size_t count, bool group,
					char *error, size_t size)
{
	ClientTrouble trouble = {0};
	rd_kafka_t	 *rk;
	char		  reason[512];
	int			  code;

	if (conf == NULL)
		return fail(OUTBOX_EXIT_SETTINGS, error, size,
					"kafka_properties: the configuration cannot be made");
	rd_kafka_conf_set_log_cb(conf, NULL);
	rd_kafka_conf_set_error_cb(conf, note_trouble);
	rd_kafka_conf_set_opaque(conf, &trouble);
	(void) rd_kafka_conf_set(conf, "allow.auto.create.topics", "false", NULL, 0);
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, reason, sizeof(reason));
	if (rk == NULL)
	{
		rd_kafka_conf_destroy(conf);
		return fail(OUTBOX_EXIT_SETTINGS, error, size,
					"kafka_properties: no client can be made of them");
	}
	code = ask_metadata(rk, NULL, &trouble, error, size);
	for (size_t i = 0; i < count && code == EXIT_SUCCESS; i++)
		code = ask_metadata(rk, topics[i], &trouble, error, size);
	if (code == EXIT_SUCCESS && group && count > 0)
		code = ask_group(rk, topics[0], error, size);
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	return code;
}
