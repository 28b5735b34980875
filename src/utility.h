/* SPDX-License-Identifier: PostgreSQL
 *
 * utility.h
 *	  Keeps the relay out of the way of commands that need its database alone.
 */
#ifndef OUTBOX_UTILITY_H
#define OUTBOX_UTILITY_H

/* _PG_init, under shared_preload_libraries only: installs the utility hook. */
extern void outbox_utility_install(void);

#endif /* OUTBOX_UTILITY_H */
