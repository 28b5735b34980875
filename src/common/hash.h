/* SPDX-License-Identifier: PostgreSQL
 *
 * hash.h
 *	  FNV-1a, 64 bits (Fowler, Noll, Vo): ids and names that must be the same everywhere.
 *
 * Runs in the relay, the sender and the services, any thread.
 */
#ifndef OUTBOX_HASH_H
#define OUTBOX_HASH_H

#include <stddef.h>
#include <stdint.h>

/* The hash of what `hash` is of, followed by len bytes. */
static inline uint64_t
outbox_hash_more(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	return hash;
}

/* The hash of len bytes. */
static inline uint64_t
outbox_hash_bytes(const void *data, size_t len)
{
	return outbox_hash_more(UINT64_C(0xcbf29ce484222325), data, len);
}

#endif /* OUTBOX_HASH_H */
