/* SPDX-License-Identifier: PostgreSQL */
/* ----------------------------------------------------- replica identity
 *
 * A publication FOR ALL TABLES, or of this schema, forbids UPDATE and DELETE in tables without a
 * replica identity.  Primary keys are one; all others get FULL, which is written to WAL at
 * wal_level logical alone, for each row that is changed or deleted.  Roots of partitions as well,
 * and their leaves in the same way, for a publication with publish_via_partition_root sends the
 * root's.
 */
DO $$
DECLARE
	identified regclass;
BEGIN
	FOR identified IN SELECT c.oid FROM pg_catalog.pg_class c
			WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'p') AND
				(c.relispartition OR NOT EXISTS (SELECT FROM pg_catalog.pg_index i
					WHERE i.indrelid = c.oid AND i.indisprimary)) ORDER BY c.oid LOOP
		EXECUTE pg_catalog.format('ALTER TABLE ONLY %s REPLICA IDENTITY FULL', identified);
	END LOOP;
END
$$;
