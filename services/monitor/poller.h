/* SPDX-License-Identifier: PostgreSQL
 *
 * poller.h
 *	  The thread that asks Kafka, judges the groups and raises the alerts.
 */
#ifndef OUTBOX_POLLER_H
#define OUTBOX_POLLER_H

#include <stdbool.h>

/* Main thread, when the settings are read.  false: logged. */
extern bool outbox_poller_start(void);

/* false: the Kafka client could not be closed without a hang; its threads go on. */
extern bool outbox_poller_stop(void);

/* What is wrong (a constant), or NULL: for /livez and /readyz.  Any thread. */
extern const char *outbox_poller_alive(void);
extern const char *outbox_poller_ready(void);

#endif /* OUTBOX_POLLER_H */
