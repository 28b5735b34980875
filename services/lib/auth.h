/* SPDX-License-Identifier: PostgreSQL
 *
 * auth.h
 *	  Who may do what: a file of "user:hash" or "user:hash:rights" lines, hashes of crypt(3)
 *	  (yescrypt, SHA-512, ...).
 */
#ifndef OUTBOX_AUTH_H
#define OUTBOX_AUTH_H

#include <stdbool.h>
#include <stddef.h>

/* Bits; what a route asks for, and what a user has. */
typedef enum OutboxRight
{
	OUTBOX_RIGHT_NONE = 0,	  /* any user */
	OUTBOX_RIGHT_READ = 1,	  /* "read"; what a line without rights gives */
	OUTBOX_RIGHT_OPERATE = 2, /* "operate" */
} OutboxRight;

/* Reads the file; false with one sentence in error. */
extern bool outbox_auth_load(const char *path, char *error, size_t size);

/*
 * Any thread, after the file has been read; fills the user's rights (bits of OutboxRight).  Takes
 * some ten milliseconds of computing when it has not admitted the same within a minute.  A file
 * that has changed is read anew; one that has become wrong is logged and leaves the users as they
 * were.
 */
extern bool outbox_auth_admits(const char *user, const char *password, unsigned *rights);

#endif /* OUTBOX_AUTH_H */
