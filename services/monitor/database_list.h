/* SPDX-License-Identifier: PostgreSQL
 *
 * database_list.h
 *	  The databases that are asked, one connection string a line.
 */
#ifndef OUTBOX_DATABASE_LIST_H
#define OUTBOX_DATABASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#define OUTBOX_DATABASES_MAX 32

/* As answers, metrics and alerts name one.  Written before the threads start. */
typedef struct OutboxDatabaseName
{
	char name[64];
	char server[256]; /* host:port */
} OutboxDatabaseName;

/* Option check. */
extern bool outbox_database_list_check(const char *value, char *error, size_t size);

/* Asks each of them, as OutboxProgram.check_online does. */
extern int outbox_database_list_check_online(const char *list, char *error, size_t size);

#endif /* OUTBOX_DATABASE_LIST_H */
