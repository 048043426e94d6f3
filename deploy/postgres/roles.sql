-- The two roles of Dime's database, for a superuser, in that database:
--
--   createdb dime
--   psql -d dime -v ON_ERROR_STOP=1 -f roles.sql
--   psql -d dime -c '\password dime_owner' -c '\password dime'
--
-- dime_owner runs `dime migrate` and nothing else; dime is what gateways and workers
-- run as: it reads and writes rows, and can change no table. Doing it again does no
-- harm.
do $$
begin
  if not exists (select 1 from pg_roles where rolname = 'dime_owner') then
    create role dime_owner login nosuperuser nocreatedb nocreaterole noreplication connection limit 5;
  end if;
  if not exists (select 1 from pg_roles where rolname = 'dime') then
    create role dime login nosuperuser nocreatedb nocreaterole noreplication;
  end if;
end $$;

-- Nobody else comes in, and nothing is put into public.
do $$
begin
  execute format('revoke all on database %I from public', current_database());
  execute format('grant connect on database %I to dime_owner, dime', current_database());
end $$;
revoke all on schema public from public;

create schema if not exists dime authorization dime_owner;
grant usage on schema dime to dime;
grant select, insert, update, delete on all tables in schema dime to dime;
grant usage, select on all sequences in schema dime to dime;
grant execute on all functions in schema dime to dime;
-- And what later migrations bring.
alter default privileges for role dime_owner in schema dime grant select, insert, update, delete on tables to dime;
alter default privileges for role dime_owner in schema dime grant usage, select on sequences to dime;
alter default privileges for role dime_owner revoke execute on functions from public;
alter default privileges for role dime_owner in schema dime grant execute on functions to dime;

-- What is accepted is durable, whatever the server's default is.
alter role dime set synchronous_commit = on;
alter role dime set search_path = dime;
alter role dime_owner set search_path = dime;
