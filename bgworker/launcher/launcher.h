/* SPDX-License-Identifier: PostgreSQL
 *
 * launcher.h
 *	  Starts the relay of each database whose switch is on.
 */
#ifndef OUTBOX_LAUNCHER_H
#define OUTBOX_LAUNCHER_H

#include "src/shmem.h"

/* _PG_init, under shared_preload_libraries only: registers the launcher. */
extern void outbox_launcher_register(void);

#endif /* OUTBOX_LAUNCHER_H */
