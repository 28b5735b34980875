/* SPDX-License-Identifier: PostgreSQL
 *
 * online.h
 *	  What --check-config=online asks of database and Kafka.
 */
#ifndef OUTBOX_ONLINE_H
#define OUTBOX_ONLINE_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Each returns 0, or an exit code (OutboxProgram.check_online) with one sentence in error.
 *
 * Connects and runs sql, which has one column: NULL, or what is wrong.  name: the setting.
 */
extern int outbox_online_database(const char *name, const char *conninfo, const char *sql,
								  char *error, size_t size);

/*
 * Connects; are the topics there, may they be described, and, when the configuration has a group,
 * may it be read?  Takes conf over; NULL: it is wrong (logged).  Makes no topic.
 */
extern int outbox_online_kafka(rd_kafka_conf_t *conf, const char *const *topics, size_t count,
							   bool group, char *error, size_t size);

#endif /* OUTBOX_ONLINE_H */
