/* SPDX-License-Identifier: PostgreSQL
 *
 * digest.h
 *	  A record's digest: what tells it from another one at the same offset.
 *
 * Pure; any thread.
 */
#ifndef OUTBOX_DIGEST_H
#define OUTBOX_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define OUTBOX_DIGEST_BYTES 65536 /* of key and of value that count, besides their lengths */

/*
 * Of key and value: whether they are NULL, their lengths and the first OUTBOX_DIGEST_BYTES of each.
 * Kept in the database and in event ids, so the same for ever.
 */
extern uint64_t outbox_record_digest(const uint8_t *key, size_t key_len, const uint8_t *value,
									 size_t value_len);

/* Continues hash with the integer's eight bytes, the highest first. */
extern uint64_t outbox_digest_integer(uint64_t hash, uint64_t integer);

#endif /* OUTBOX_DIGEST_H */
