/* SPDX-License-Identifier: PostgreSQL
 *
 * compat.h
 *	  What differs between the major versions of PostgreSQL, 15 to 19.
 *
 * Every condition on PG_VERSION_NUM stands here.  Server processes; to be
 * included after the server's own headers.
 */
#ifndef OUTBOX_COMPAT_H
#define OUTBOX_COMPAT_H

/* The library's name and version, as pg_get_loaded_modules() tells them. */
#if PG_VERSION_NUM >= 180000
#define OUTBOX_COMPAT_MODULE_MAGIC(called, is) PG_MODULE_MAGIC_EXT(.name = called, .version = is)
#else
#define OUTBOX_COMPAT_MODULE_MAGIC(called, is) PG_MODULE_MAGIC
#endif

/* VARDATA and its kin. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* Does the role own the database, the extension? */
#if PG_VERSION_NUM >= 160000
#define outbox_compat_owns_database(database, role) \
	object_ownercheck(DatabaseRelationId, database, role)
#define outbox_compat_owns_extension(extension, role) \
	object_ownercheck(ExtensionRelationId, extension, role)
#else
#define outbox_compat_owns_database(database, role)	  pg_database_ownercheck(database, role)
#define outbox_compat_owns_extension(extension, role) pg_extension_ownercheck(extension, role)
#endif

/* The file an opened relation is in; it gets a new, empty one. */
#if PG_VERSION_NUM >= 160000
#define outbox_compat_file_node(relation) ((relation)->rd_locator.relNumber)
#define outbox_compat_set_new_file(relation, persistence) \
	RelationSetNewRelfilenumber(relation, persistence)
#else
#define outbox_compat_file_node(relation) ((relation)->rd_node.relNode)
#define outbox_compat_set_new_file(relation, persistence) \
	RelationSetNewRelfilenode(relation, persistence)
#endif

/* Builds all indexes of a locked table anew. */
#if PG_VERSION_NUM >= 170000
#define outbox_compat_reindex(table, flags, params) reindex_relation(NULL, table, flags, params)
#else
#define outbox_compat_reindex(table, flags, params) reindex_relation(table, flags, params)
#endif

/* A message in WAL that no transaction carries; not flushed. */
#if PG_VERSION_NUM >= 170000
#define outbox_compat_log_message(prefix, message, size) \
	LogLogicalMessage(prefix, message, size, false, false)
#else
#define outbox_compat_log_message(prefix, message, size) \
	LogLogicalMessage(prefix, message, size, false)
#endif

/* The number of this process in ProcGlobal. */
#if PG_VERSION_NUM >= 170000
#define outbox_compat_proc_number() MyProcNumber
#else
#define outbox_compat_proc_number() (MyProc->pgprocno)
#endif

/* Shared variables of transaction ids. */
#if PG_VERSION_NUM >= 170000
#define outbox_compat_transam() (TransamVariables)
#else
#define outbox_compat_transam() (ShmemVariableCache)
#endif

/* A set of events that lives until it is freed. */
#if PG_VERSION_NUM >= 170000
#define outbox_compat_make_event_set(events) CreateWaitEventSet(NULL, events)
#else
#define outbox_compat_make_event_set(events) CreateWaitEventSet(TopMemoryContext, events)
#endif

/* The next datum of a sort, the caller's to free. */
#if PG_VERSION_NUM >= 160000
#define outbox_compat_sort_next(sort, datum, isnull) \
	tuplesort_getdatum(sort, true, true, datum, isnull, NULL)
#else
#define outbox_compat_sort_next(sort, datum, isnull) \
	tuplesort_getdatum(sort, true, datum, isnull, NULL)
#endif

/* A scan of an index without ORDER BY. */
#if PG_VERSION_NUM >= 190000
#define outbox_compat_index_beginscan(table, index, snapshot, keys) \
	index_beginscan(table, index, snapshot, NULL, keys, 0, 0)
#elif PG_VERSION_NUM >= 180000
#define outbox_compat_index_beginscan(table, index, snapshot, keys) \
	index_beginscan(table, index, snapshot, NULL, keys, 0)
#else
#define outbox_compat_index_beginscan(table, index, snapshot, keys) \
	index_beginscan(table, index, snapshot, keys, 0)
#endif

/* A scan of a whole table; rows found by what an index points to. */
#if PG_VERSION_NUM >= 190000
#define outbox_compat_table_beginscan(table, snapshot) table_beginscan(table, snapshot, 0, NULL, 0)
#define outbox_compat_fetch_begin(table)			   table_index_fetch_begin(table, 0)
#else
#define outbox_compat_table_beginscan(table, snapshot) table_beginscan(table, snapshot, 0, NULL)
#define outbox_compat_fetch_begin(table)			   table_index_fetch_begin(table)
#endif

/* Is the type a domain with constraints? */
#if PG_VERSION_NUM >= 190000
#define outbox_compat_is_constrained(type) DomainHasConstraints(type, NULL)
#else
#define outbox_compat_is_constrained(type) DomainHasConstraints(type)
#endif

/* Does the session write what another server has written? */
#if PG_VERSION_NUM >= 190000
#define outbox_compat_applies() (replorigin_xact_state.origin != InvalidReplOriginId)
#else
#define outbox_compat_applies() (replorigin_session_origin != InvalidRepOriginId)
#endif

/* Gives back what an index keeps between two entries. */
#if PG_VERSION_NUM >= 170000
#define outbox_compat_end_insert(index, info) index_insert_cleanup(index, info)
#else
#define outbox_compat_end_insert(index, info) ((void) (info))
#endif

#endif /* OUTBOX_COMPAT_H */
