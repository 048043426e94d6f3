-- A process that was counted as dead may go on committing before it says again that
-- it lives, and die without saying so: what is in nobody's hands who lives is free.

-- +goose Up
-- +goose StatementBegin
create or replace function beat(p_now bigint, p_lease bigint, p_holder bigint, p_name text) returns bigint language plpgsql as $$
declare
  n bigint := now_ms(p_now);
  v_dead bigint[]; v_freed bigint := 0; v_n bigint;
begin
  insert into worker(id, name, until) values (p_holder, p_name, n + p_lease) on conflict (id) do update set until = excluded.until;
  select array_agg(id) into v_dead from (select id from worker where until <= n for update skip locked) d;
  v_dead := coalesce(v_dead, '{}');
  update delivery set holder = null, attempts = attempts + 1
    where holder is not null and (holder = any(v_dead) or not exists (select 1 from worker w where w.id = holder));
  get diagnostics v_freed = row_count;
  update outbox set holder = null
    where holder is not null and (holder = any(v_dead) or not exists (select 1 from worker w where w.id = holder));
  get diagnostics v_n = row_count;
  delete from version_use where holder = any(v_dead);
  delete from worker where id = any(v_dead);
  return v_freed + v_n;
end $$;
-- +goose StatementEnd
