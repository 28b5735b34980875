/* SPDX-License-Identifier: PostgreSQL
 *
 * event_shape.c
 *	  What a leaf of the event ring must look like to be written below the executor.
 *
 * Runs in application backends and in the relay.  emit() forms a tuple and its index entries
 * itself, which is what makes it fast; so whatever else an INSERT would do (defaults, constraints,
 * triggers, policies, rules) is either done here, once for many events, or makes emit() refuse.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/partition.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_language_d.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/prs2lock.h"
#include "rewrite/rewriteDefine.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "event_shape.h"
#include "leaf.h"

/* Our own trigger; a logical subscriber's rows are no events of this server. */
#define OWN_TRIGGER_SYMBOL "outbox_drop_replicated"

static const struct
{
	const char *name;
	Oid			type;
	bool		may_be_null;
} columns[OUTBOX_COLUMNS] = {
	[OUTBOX_COLUMN_TXID] = {"txid", XID8OID, false},
	[OUTBOX_COLUMN_SEQ] = {"seq", INT8OID, false},
	[OUTBOX_COLUMN_SEGMENT] = {"segment", INT2OID, false},
	[OUTBOX_COLUMN_ID] = {"id", UUIDOID, false},
	[OUTBOX_COLUMN_TOPIC] = {"topic", TEXTOID, false},
	[OUTBOX_COLUMN_KEY] = {"key", BYTEAOID, true},
	[OUTBOX_COLUMN_TYPE] = {"type", TEXTOID, false},
	[OUTBOX_COLUMN_PAYLOAD] = {"payload", BYTEAOID, true},
	[OUTBOX_COLUMN_CONTENT_TYPE] = {"content_type", TEXTOID, true},
	[OUTBOX_COLUMN_HEADERS] = {"headers", BYTEAOID, true},
	[OUTBOX_COLUMN_CREATED_AT] = {"created_at", TIMESTAMPTZOID, false},
	[OUTBOX_COLUMN_COPIED_AT] = {"copied_at", TIMESTAMPTZOID, true},
};

/* The shape of the leaf that was asked for last. */
static struct
{
	MemoryContext	 context; /* owns what the others point to */
	Oid				 leaf;
	Oid				 parent;
	bool			 valid;
	bool			 changed;	   /* an invalidation came while it was made */
	bool			 with_domains; /* a constraint of a type counts too */
	char			*obstacle;	   /* NULL: the shape may be used */
	OutboxEventShape shape;
} kept;

static void
forget_after_relcache(Datum arg, Oid relation)
{
	if (relation != InvalidOid && relation != kept.leaf && relation != kept.parent)
		return;
	kept.valid = false;
	kept.changed = true;
}

/* ALTER DOMAIN says nothing about the tables. */
static void
forget_after_type(Datum arg, int cache_id, uint32 hash_value)
{
	if (!kept.with_domains)
		return;
	kept.valid = false;
	kept.changed = true;
}

/* -------------------------------------------------------------- columns */

static char *
describe_column(Relation table, const char *column, const char *what)
{
	return psprintf("Column \"%s\" of table \"%s\" %s.", column, RelationGetRelationName(table),
					what);
}

/* The first of our columns that is not as the install script made it. */
static char *
find_changed_column(Relation table)
{
	TupleDesc desc = RelationGetDescr(table);

	for (int i = 0; i < OUTBOX_COLUMNS; i++)
	{
		Form_pg_attribute attribute = i < desc->natts ? TupleDescAttr(desc, i) : NULL;

		if (attribute == NULL || attribute->attisdropped ||
			strcmp(NameStr(attribute->attname), columns[i].name) != 0)
			return describe_column(table, columns[i].name, "is not where the extension made it");
		if (attribute->atttypid != columns[i].type)
			return describe_column(table, columns[i].name,
								   psprintf("is of type %s, not of type %s",
											format_type_be(attribute->atttypid),
											format_type_be(columns[i].type)));
	}
	return NULL;
}

static char *
find_special_column(Relation table)
{
	TupleDesc desc = RelationGetDescr(table);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		const char		 *what = NULL;

		if (attribute->attisdropped)
			continue;
		if (attribute->attgenerated != '\0')
			what = "is generated";
		else if (attribute->attidentity != '\0')
			what = "is an identity column";
		else if (i < OUTBOX_COLUMNS && columns[i].may_be_null && attribute->attnotnull)
			what = "is NOT NULL, though an event may have none";
		else if (i < OUTBOX_COLUMNS && attribute->atttypmod != -1)
			what = psprintf("is of type %s, to which an INSERT would fit the value",
							format_type_with_typemod(attribute->atttypid, attribute->atttypmod));
		if (what != NULL)
			return describe_column(table, NameStr(attribute->attname), what);
		if (getBaseType(attribute->atttypid) == attribute->atttypid)
			continue;
		kept.with_domains = true;
		if (outbox_compat_is_constrained(attribute->atttypid))
			return describe_column(table, NameStr(attribute->attname),
								   "is of a domain with constraints");
	}
	return NULL;
}

static bool
is_users_function(Oid function, void *context)
{
	return function >= FirstNormalObjectId;
}

/* A function that somebody made is called by nobody's emit(), whatever it says of itself. */
static bool
calls_users_function(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return check_functions_in_node(node, is_users_function, NULL) ||
		expression_tree_walker(node, calls_users_function, context);
}

/* Puts the default of an added column into the row; an INSERT takes that of the parent. */
static char *
take_default(Relation leaf, Relation parent, int place, Datum *values, bool *nulls)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(leaf), place);
	const char		 *name = NameStr(attribute->attname);
	AttrNumber		  number = get_attnum(RelationGetRelid(parent), name);
	Node			 *expression = number > 0 ? build_column_default(parent, number) : NULL;

	if (expression != NULL && !calls_users_function(expression, NULL))
		expression = eval_const_expressions(NULL, expression);
	if (expression != NULL && !IsA(expression, Const))
		return describe_column(leaf, name, "has a default that is no constant");
	if (expression == NULL || ((Const *) expression)->constisnull)
		return attribute->attnotnull ?
			describe_column(leaf, name, "is NOT NULL and has no default") :
			NULL;
	values[place] =
		datumCopy(((Const *) expression)->constvalue, attribute->attbyval, attribute->attlen);
	nulls[place] = false;
	return NULL;
}

/* ----------------------------------------------------- what INSERT does */

static char *
find_storage(Relation leaf, Oid ring)
{
	const char *name = RelationGetRelationName(leaf);

	if (leaf->rd_rel->relkind != RELKIND_RELATION)
		return psprintf("\"%s\" is no ordinary table.", name);
	if (leaf->rd_rel->relam != HEAP_TABLE_AM_OID)
		return psprintf("Table \"%s\" has another access method than heap.", name);
	if (leaf->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		return psprintf("Table \"%s\" is unlogged: a crash would lose its events.", name);
	if (!leaf->rd_rel->relispartition || get_partition_parent(RelationGetRelid(leaf), true) != ring)
		return psprintf("Table \"%s\" is not attached to outbox.event.", name);
	return NULL;
}

static bool
is_own_trigger(const Trigger *trigger)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(trigger->tgfoid));
	bool	  own = false;
	Datum	  symbol;
	bool	  isnull;

	if (!HeapTupleIsValid(tuple))
		return false;
	symbol = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
	if (!isnull && ((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId)
		own = strcmp(TextDatumGetCString(symbol), OWN_TRIGGER_SYMBOL) == 0;
	ReleaseSysCache(tuple);
	return own;
}

/* A foreign key has triggers on both sides; the relay empties a leaf without those for DELETE. */
static char *
find_trigger(Relation table)
{
	TriggerDesc *triggers = table->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (TRIGGER_FOR_INSERT(trigger->tgtype) && trigger->tgenabled != TRIGGER_DISABLED &&
			!is_own_trigger(trigger))
			return trigger->tgisinternal ?
				psprintf("Constraint \"%s\" of table \"%s\" would not be checked.",
						 get_constraint_name(trigger->tgconstraint),
						 RelationGetRelationName(table)) :
				psprintf("Trigger \"%s\" of table \"%s\" would not be fired.", trigger->tgname,
						 RelationGetRelationName(table));
		if (TRIGGER_FOR_DELETE(trigger->tgtype) && trigger->tgisinternal)
			return psprintf("Constraint \"%s\" refers to table \"%s\", whose rows go after "
							"outbox.retention.",
							get_constraint_name(trigger->tgconstraint),
							RelationGetRelationName(table));
	}
	return NULL;
}

static char *
find_check(Relation table)
{
	TupleConstr *constraints = RelationGetDescr(table)->constr;

	if (constraints == NULL || constraints->num_check == 0)
		return NULL;
	return psprintf("Check constraint \"%s\" of table \"%s\" would not be checked.",
					constraints->check[0].ccname, RelationGetRelationName(table));
}

static char *
describe_rule(Relation table, Oid rule)
{
	Relation	rules = table_open(RewriteRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	const char *name = "?";

	ScanKeyInit(&key, Anum_pg_rewrite_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(rule));
	scan = systable_beginscan(rules, RewriteOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		name = pstrdup(NameStr(((Form_pg_rewrite) GETSTRUCT(tuple))->rulename));
	systable_endscan(scan);
	table_close(rules, AccessShareLock);
	return psprintf("Rule \"%s\" of table \"%s\" would not be applied.", name,
					RelationGetRelationName(table));
}

static char *
find_rule(Relation table)
{
	for (int i = 0; table->rd_rules != NULL && i < table->rd_rules->numLocks; i++)
	{
		RewriteRule *rule = table->rd_rules->rules[i];

		if (rule->event == CMD_INSERT && rule->enabled != RULE_DISABLED)
			return describe_rule(table, rule->ruleId);
	}
	return NULL;
}

/*
 * Also one that is not in force: it says that somebody counts on it.  Row security without a policy
 * denies the table to others than its owner, who have no right to it anyway.
 */
static char *
find_policy(Relation table)
{
	Relation	policies = table_open(PolicyRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *found = NULL;

	ScanKeyInit(&key, Anum_pg_policy_polrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationGetRelid(table)));
	scan = systable_beginscan(policies, PolicyPolrelidPolnameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		found = psprintf("Policy \"%s\" of table \"%s\" would not be applied.",
						 NameStr(((Form_pg_policy) GETSTRUCT(tuple))->polname),
						 RelationGetRelationName(table));
	systable_endscan(scan);
	table_close(policies, AccessShareLock);
	return found;
}

/* Entries are made, and uniqueness is checked; what needs more than that is not. */
static char *
find_index(Relation leaf)
{
	List	 *indexes = RelationGetIndexList(leaf);
	ListCell *cell;
	char	 *found = NULL;

	foreach(cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_index->indisexclusion || !index->rd_index->indimmediate)
			found = psprintf("Index \"%s\" of table \"%s\" belongs to an exclusion constraint or "
							 "is deferrable.",
							 RelationGetRelationName(index), RelationGetRelationName(leaf));
		index_close(index, AccessShareLock);
		if (found != NULL)
			break;
	}
	list_free(indexes);
	return found;
}

/* Then an INSERT of the owner is subject to it, too, and without a policy it is denied. */
static char *
find_forced_security(Relation table)
{
	if (!table->rd_rel->relrowsecurity || !table->rd_rel->relforcerowsecurity)
		return NULL;
	return psprintf("Row security of table \"%s\" is forced on its owner.",
					RelationGetRelationName(table));
}

static char *
find_rules(Relation table)
{
	char *found = find_check(table);

	if (found == NULL)
		found = find_trigger(table);
	if (found == NULL)
		found = find_rule(table);
	if (found == NULL)
		found = find_policy(table);
	return found != NULL ? found : find_forced_security(table);
}

/* ---------------------------------------------------------------- shape */

static char *
find_obstacle(Relation leaf, Relation ring, Datum *values, bool *nulls)
{
	char *found = find_storage(leaf, RelationGetRelid(ring));

	if (found == NULL)
		found = find_changed_column(leaf);
	if (found == NULL)
		found = find_special_column(leaf);
	for (int i = OUTBOX_COLUMNS; found == NULL && i < RelationGetDescr(leaf)->natts; i++)
		if (!TupleDescAttr(RelationGetDescr(leaf), i)->attisdropped)
			found = take_default(leaf, ring, i, values, nulls);
	if (found == NULL)
		found = find_rules(ring);
	if (found == NULL)
		found = find_rules(leaf);
	return found != NULL ? found : find_index(leaf);
}

static void
register_callbacks(void)
{
	if (kept.context != NULL)
		return;
	CacheRegisterRelcacheCallback(forget_after_relcache, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, forget_after_type, (Datum) 0);
	kept.context =
		AllocSetContextCreate(TopMemoryContext, "outbox event shape", ALLOCSET_SMALL_SIZES);
}

static void
make_shape(Relation leaf)
{
	MemoryContext caller;
	Relation	  ring;
	Datum		 *values;
	bool		 *nulls;

	register_callbacks();
	MemoryContextReset(kept.context);
	caller = MemoryContextSwitchTo(kept.context);
	kept.leaf = RelationGetRelid(leaf);
	kept.parent = outbox_leaf_ring();
	kept.valid = kept.changed = kept.with_domains = false;
	kept.shape.natts = RelationGetDescr(leaf)->natts;
	values = palloc0(sizeof(Datum) * kept.shape.natts);
	nulls = palloc(sizeof(bool) * kept.shape.natts);
	memset(nulls, true, sizeof(bool) * kept.shape.natts);

	ring = table_open(kept.parent, AccessShareLock);
	kept.obstacle = find_obstacle(leaf, ring, values, nulls);
	table_close(ring, AccessShareLock);
	kept.shape.values = values;
	kept.shape.nulls = nulls;
	kept.valid = !kept.changed;
	MemoryContextSwitchTo(caller);
}

static void
keep_shape(Relation leaf)
{
	if (!kept.valid || kept.leaf != RelationGetRelid(leaf))
		make_shape(leaf);
}

static void
refuse_table(Relation table, const char *obstacle)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("outbox.emit() cannot write table \"%s\"", RelationGetRelationName(table)),
			 errdetail_internal("%s", obstacle),
			 errhint("Events are written without the executor: undo the change, or give an added "
					 "column a constant default.")));
}

const OutboxEventShape *
outbox_event_shape(Relation leaf)
{
	keep_shape(leaf);
	if (kept.obstacle != NULL)
		refuse_table(leaf, kept.obstacle);
	return &kept.shape;
}

char *
outbox_event_obstacle(int leaf)
{
	Relation ring = table_open(outbox_leaf_ring(), AccessShareLock);
	Relation relation = table_open(outbox_leaf_relation(leaf), AccessShareLock);
	char	*obstacle;

	keep_shape(relation);
	obstacle = kept.obstacle == NULL ? NULL : pstrdup(kept.obstacle);
	table_close(relation, AccessShareLock);
	table_close(ring, AccessShareLock);
	return obstacle;
}

void
outbox_event_check_columns(Relation leaf)
{
	char *obstacle = find_changed_column(leaf);

	if (obstacle != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the relay cannot read table \"%s\"", RelationGetRelationName(leaf)),
				 errdetail_internal("%s", obstacle), errhint("Undo the change.")));
}
