/* SPDX-License-Identifier: PostgreSQL
 *
 * auth_cache.c
 *	  Digests of admitted credentials under a key that ends with the process.
 *
 * Runs in outbox-monitor, on the threads that answer.
 */
#include "auth_cache.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define DIGEST_BYTES 32

typedef struct Entry
{
	unsigned char digest[DIGEST_BYTES];
	int64_t		  until; /* outbox_clock_ms; 0: empty */
	unsigned	  rights;
} Entry;

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static Entry		   entries[OUTBOX_AUTH_CACHE_ENTRIES]; /* guarded by cache_lock, as the key */
static unsigned char   key[DIGEST_BYTES];
static bool			   keyed;

/* Of the lengths and the texts; caller holds cache_lock.  false: no digest can be had. */
static bool
make_digest_locked(const char *user, const char *password, unsigned char *digest)
{
	size_t		   sizes[2] = {strlen(user), strlen(password)};
	size_t		   len = sizeof(sizes) + sizes[0] + sizes[1];
	unsigned char *text;
	bool		   made;

	if (!keyed)
		keyed = RAND_bytes(key, sizeof(key)) == 1;
	text = malloc(len);
	if (!keyed || text == NULL)
	{
		free(text);
		return false;
	}
	memcpy(text, sizes, sizeof(sizes));
	memcpy(text + sizeof(sizes), user, sizes[0]);
	memcpy(text + sizeof(sizes) + sizes[0], password, sizes[1]);
	made = HMAC(EVP_sha256(), key, sizeof(key), text, len, digest, NULL) != NULL;
	OPENSSL_cleanse(text, len);
	free(text);
	return made;
}

bool
outbox_auth_cache_find(const char *user, const char *password, int64_t now, unsigned *rights)
{
	unsigned char digest[DIGEST_BYTES];
	bool		  found = false;

	pthread_mutex_lock(&cache_lock);
	if (make_digest_locked(user, password, digest))
	{
		for (int i = 0; i < OUTBOX_AUTH_CACHE_ENTRIES; i++)
		{
			if (entries[i].until <= now ||
				CRYPTO_memcmp(entries[i].digest, digest, sizeof(digest)) != 0)
				continue;
			found = true;
			*rights = entries[i].rights;
		}
	}
	pthread_mutex_unlock(&cache_lock);
	return found;
}

void
outbox_auth_cache_add(const char *user, const char *password, int64_t now, unsigned rights)
{
	Entry *oldest = &entries[0];

	pthread_mutex_lock(&cache_lock);
	for (int i = 1; i < OUTBOX_AUTH_CACHE_ENTRIES; i++)
	{
		if (entries[i].until < oldest->until)
			oldest = &entries[i];
	}
	if (make_digest_locked(user, password, oldest->digest))
	{
		oldest->until = now + OUTBOX_AUTH_CACHE_MS;
		oldest->rights = rights;
	}
	pthread_mutex_unlock(&cache_lock);
}

void
outbox_auth_cache_forget(void)
{
	pthread_mutex_lock(&cache_lock);
	OPENSSL_cleanse(entries, sizeof(entries));
	pthread_mutex_unlock(&cache_lock);
}
