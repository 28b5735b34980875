/* SPDX-License-Identifier: PostgreSQL
 *
 * group_alerts.h
 *	  The alerts of a consumer group.  Poller thread.
 */
#ifndef OUTBOX_GROUP_ALERTS_H
#define OUTBOX_GROUP_ALERTS_H

#include "lag_snapshot.h"

/* Begins and ends the alerts of a group whose threshold and status are known. */
extern void outbox_group_alerts_judge(OutboxLagGroup *group);

/* Ends the alerts of groups that the published snapshot has not. */
extern void outbox_group_alerts_sweep(void);

#endif /* OUTBOX_GROUP_ALERTS_H */
