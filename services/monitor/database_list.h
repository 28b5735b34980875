/* SPDX-License-Identifier: PostgreSQL
 *
 * database_list.h
 *	  The databases whose dead letters are counted, one connection string a line.
 */
#ifndef OUTBOX_DATABASE_LIST_H
#define OUTBOX_DATABASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#define OUTBOX_DATABASES_MAX 32

/* Option check. */
extern bool outbox_database_list_check(const char *value, char *error, size_t size);

/* Asks each of them, as OutboxProgram.check_online does. */
extern int outbox_database_list_check_online(const char *list, char *error, size_t size);

#endif /* OUTBOX_DATABASE_LIST_H */
