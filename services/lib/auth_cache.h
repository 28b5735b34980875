/* SPDX-License-Identifier: PostgreSQL
 *
 * auth_cache.h
 *	  Who was admitted a moment ago, so that a hash that is slow on purpose is made once a minute.
 *
 * Any thread.
 */
#ifndef OUTBOX_AUTH_CACHE_H
#define OUTBOX_AUTH_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#define OUTBOX_AUTH_CACHE_MS	  60000
#define OUTBOX_AUTH_CACHE_ENTRIES 64

/* Was the pair added within the last minute, and not forgotten since?  now: outbox_clock_ms. */
extern bool outbox_auth_cache_find(const char *user, const char *password, int64_t now,
								   unsigned *rights);

/* Neither the password nor anything it can be found from without this process is kept. */
extern void outbox_auth_cache_add(const char *user, const char *password, int64_t now,
								  unsigned rights);

extern void outbox_auth_cache_forget(void);

#endif /* OUTBOX_AUTH_CACHE_H */
