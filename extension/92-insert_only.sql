/* SPDX-License-Identifier: PostgreSQL */
/* --------------------------------------------- tables that nobody changes
 *
 * outbox.event, outbox.batch and outbox.audit are insert-only; rows that logical replication
 * applies to them, or to outbox.installation, are dropped.
 */

/* Both are explained in src/guard.c. */
CREATE FUNCTION outbox.refuse_change() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_refuse_change';
CREATE FUNCTION outbox.drop_replicated() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'outbox_drop_replicated';

DO $$
DECLARE
	guarded regclass;
BEGIN
	FOREACH guarded IN ARRAY ARRAY['outbox.event', 'outbox.batch', 'outbox.audit',
		'outbox.installation'] LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER drop_replicated
			BEFORE INSERT OR UPDATE OR DELETE ON %s
			FOR EACH ROW EXECUTE FUNCTION outbox.drop_replicated()', guarded);
	END LOOP;
	FOR guarded IN SELECT coalesce(p.relid, t.root)
		FROM pg_catalog.unnest(ARRAY['outbox.event', 'outbox.batch',
			'outbox.audit']::regclass[]) t(root)
		LEFT JOIN LATERAL pg_catalog.pg_partition_tree(t.root) p ON true LOOP
		EXECUTE pg_catalog.format('ALTER TABLE ONLY %s ENABLE REPLICA TRIGGER drop_replicated',
			guarded);
		EXECUTE pg_catalog.format('CREATE TRIGGER refuse_change
			BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
			FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change()', guarded);
		EXECUTE pg_catalog.format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER refuse_change',
			guarded);
	END LOOP;
	ALTER TABLE outbox.installation ENABLE REPLICA TRIGGER drop_replicated;
END
$$;
