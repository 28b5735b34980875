/* SPDX-License-Identifier: PostgreSQL
 *
 * digest.c
 *	  A record's digest.
 *
 * Runs in the services, any thread.  Pure.
 */
#include "digest.h"

#include "src/common/hash.h"

uint64_t
outbox_digest_integer(uint64_t hash, uint64_t integer)
{
	uint8_t bytes[8];

	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t) (integer >> (56 - 8 * i));
	return outbox_hash_more(hash, bytes, sizeof(bytes));
}

/* NULL is told from empty by a length no data has. */
static uint64_t
add_part(uint64_t hash, const uint8_t *data, size_t len)
{
	hash = outbox_digest_integer(hash, data != NULL ? (uint64_t) len : UINT64_MAX);
	if (data == NULL)
		return hash;
	return outbox_hash_more(hash, data, len < OUTBOX_DIGEST_BYTES ? len : OUTBOX_DIGEST_BYTES);
}

uint64_t
outbox_record_digest(const uint8_t *key, size_t key_len, const uint8_t *value, size_t value_len)
{
	return add_part(add_part(outbox_hash_bytes("", 0), key, key_len), value, value_len);
}
