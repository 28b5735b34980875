/* SPDX-License-Identifier: PostgreSQL
 *
 * divergence.h
 *	  Cursor and tables disagree: who decides, and how it ends.
 *
 * Process: the relay.  Own transactions.
 */
#ifndef OUTBOX_DIVERGENCE_H
#define OUTBOX_DIVERGENCE_H

#include "self.h"

/* relay->comparison says DIVERGED: holds, or adopts where outbox.on_divergence may decide that. */
extern void outbox_divergence_decide(OutboxRelay *relay);

/* Ends the divergence the decided way, and begins anew. */
extern void outbox_divergence_adopt(OutboxRelay *relay, bool resend);

#endif /* OUTBOX_DIVERGENCE_H */
