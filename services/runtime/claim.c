/* SPDX-License-Identifier: PostgreSQL
 *
 * claim.c
 *	  What the database says of a record, as the answer's characters have it.
 *
 * Runs in the services, member threads.  No state, no database.
 */
#include "claim.h"

OutboxClaim
outbox_claim_decode(char answer)
{
	switch (answer)
	{
		case 'n':
			return OUTBOX_CLAIM_NEW;
		case 'd':
			return OUTBOX_CLAIM_DUPLICATE;
		case 'h':
			return OUTBOX_CLAIM_HELD;
		default:
			return OUTBOX_CLAIM_NONE;
	}
}
