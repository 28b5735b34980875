# SPDX-License-Identifier: PostgreSQL
"""Objects that a caller puts on the search path, each of which raises when it is used."""

# Names that our functions use, as anybody may define them better matching, in a schema before pg_catalog.
HOSTILE = """
create schema {0};
create function {0}.caught() returns boolean language plpgsql as
    $$ begin raise exception 'hostile code ran as %', current_user using errcode = 'XX999'; end $$;
do $do$
declare
    name text;
    kind text;
begin
    foreach name in array array['now', 'clock_timestamp', 'current_database', 'gen_random_uuid', 'pg_current_xact_id',
        'pg_current_snapshot', 'session_user', 'version'] loop
        execute format('create function {0}.%I() returns text language plpgsql as
            $f$ begin perform {0}.caught(); return null; end $f$', name);
    end loop;
    foreach name in array array['length', 'lower', 'round', 'min', 'max', 'count', 'cardinality', 'quote_ident', 'format',
        'to_char', 'pg_snapshot_xmax', 'unnest', 'left', 'array_to_string', 'convert_to', 'set_config', 'jsonb_build_object'] loop
        foreach kind in array array['text', 'bytea', 'bigint', 'integer', 'timestamptz', 'uuid', 'text[]', 'uuid[]',
            'regrole', 'name', 'numeric', 'pg_snapshot', 'xid8'] loop
            execute format('create function {0}.%I(%s) returns text language plpgsql as
                $f$ begin perform {0}.caught(); return null; end $f$', name, kind);
            execute format('create function {0}.%I(%s, %s) returns text language plpgsql as
                $f$ begin perform {0}.caught(); return null; end $f$', name, kind, kind);
        end loop;
        execute format('create function {0}.%I(variadic anyarray) returns text language plpgsql as
            $f$ begin perform {0}.caught(); return null; end $f$', name);
    end loop;
    foreach kind in array array['text', 'bytea', 'bigint', 'integer', 'uuid', 'name', 'oid', 'boolean', 'xid8',
        'timestamptz', 'regrole', 'numeric'] loop
        execute format('create function {0}.hostile_operator(%s, %s) returns boolean language plpgsql as
            $f$ begin return {0}.caught(); end $f$', kind, kind);
        foreach name in array array['=', '<>', '<', '>', '<=', '>=', '+', '-', '*', '||', '~~'] loop
            execute format('create operator {0}.%s (leftarg = %s, rightarg = %s, function = {0}.hostile_operator)',
                name, kind, kind);
        end loop;
    end loop;
    foreach name in array array['dead_letter', 'topic', 'topic_grant', 'batch', 'event', 'idempotency', 'consumer_offset', 'consumer_anchor',
        'pg_class', 'pg_database', 'pg_db_role_setting', 'pg_namespace', 'installation'] loop
        execute format('create view {0}.%I as select {0}.caught()', name);
        execute format('create temp view %I as select {0}.caught()', name);
    end loop;
    foreach name in array array['header', 'regrole', 'jsonb', 'uuid', 'xid8', 'bigint', 'text', 'interval'] loop
        execute format('create domain {0}.%I as pg_catalog.int4 check ({0}.caught())', name);
        execute format('create domain pg_temp.%I as pg_catalog.int4 check ({0}.caught())', name);
    end loop;
end $do$;
"""
