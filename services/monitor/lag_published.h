/* SPDX-License-Identifier: PostgreSQL
 *
 * lag_published.h
 *	  The last snapshot, as the HTTP threads see it.
 *
 * A published snapshot does not change any more but by the poller, under the lock; the HTTP threads
 * read it between outbox_lag_view and outbox_lag_release.
 */
#ifndef OUTBOX_LAG_PUBLISHED_H
#define OUTBOX_LAG_PUBLISHED_H

#include "lag_snapshot.h"

/*
 * Publishes; error "" or why Kafka could not be asked (snapshot NULL: the one before stays for the
 * poller).
 */
extern void outbox_lag_publish(OutboxLagSnapshot *snapshot, const char *error);

/* Poller thread: what it has published; NULL: nothing yet. */
extern OutboxLagSnapshot *outbox_lag_published(void);

/* Locks; NULL: Kafka does not answer, *error says why.  Release in both cases. */
extern const OutboxLagSnapshot *outbox_lag_view(const char **error);
extern void outbox_lag_release(void);

#endif /* OUTBOX_LAG_PUBLISHED_H */
