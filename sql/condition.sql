-- The role that looks at the condition of `plait export --where`, and the schema in which an export makes, for its own
-- transaction, the function that looks. Run by `plait setup roles`, and by an export where its user may make roles.
-- The role reads nothing: a row is handed to the function, so that no condition sees more than the row that it judges.

do $$
declare
    plait text := coalesce((select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'canon'), current_user);
begin
    if to_regrole('plait_condition') is null then
        begin
            create role plait_condition nologin nosuperuser nocreatedb nocreaterole noreplication;
        exception
            -- Another export made it meanwhile.
            when duplicate_object or unique_violation then null;
        end;
    end if;
    -- Since Postgres 16, whoever makes a role is no member of it that may hand it anything.
    if not pg_has_role(plait, 'plait_condition', case when current_setting('server_version_num')::integer < 160000
                                                      then 'member' else 'set' end) then
        execute format('grant plait_condition to %I', plait);
    end if;
    if to_regnamespace('plait_condition') is null then
        begin
            execute format('create schema plait_condition authorization %I', plait);
        exception
            when duplicate_schema or unique_violation then null;
        end;
    end if;
    comment on schema plait_condition is 'Where an export puts the condition of --where for its own transaction; empty for everybody else.';
    if not has_schema_privilege('plait_condition', 'plait_condition', 'create') then
        grant usage, create on schema plait_condition to plait_condition;
    end if;
end
$$;
