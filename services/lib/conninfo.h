/* SPDX-License-Identifier: PostgreSQL
 *
 * conninfo.h
 *	  Connection strings of libpq, judged before anything connects.
 */
#ifndef OUTBOX_CONNINFO_H
#define OUTBOX_CONNINFO_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Option check: does libpq take the string, are the values in range, can the files it names be
 * read?  error has names of options, and nothing of their values.  At start, main thread.
 */
extern bool outbox_conninfo_check(const char *conninfo, char *error, size_t size);

#endif /* OUTBOX_CONNINFO_H */
