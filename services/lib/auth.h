/* SPDX-License-Identifier: PostgreSQL
 *
 * auth.h
 *	  Who may read: a file of "user:hash" lines, hashes of crypt(3) (yescrypt, SHA-512, ...).
 */
#ifndef OUTBOX_AUTH_H
#define OUTBOX_AUTH_H

#include <stdbool.h>
#include <stddef.h>

/* Reads the file; false with one sentence in error. */
extern bool outbox_auth_load(const char *path, char *error, size_t size);

/* Any thread, after the file has been read. */
extern bool outbox_auth_admits(const char *user, const char *password);

#endif /* OUTBOX_AUTH_H */
