-- A person's act may give a run another version of its route (semantics 10.3): with
-- the record that says so, or not at all. Code 10: no such version.

-- +goose Up
-- The caller shares the versions' lock: no version is dropped meanwhile.
-- +goose StatementBegin
create function append_pinned(
  p_now bigint, p_holder bigint, p_run bigint, p_epoch bigint, p_state int, p_reason text, p_wake bigint, p_names bytea, p_body bytea,
  p_spill text[], p_size bigint[], p_bytes bytea[], p_uses text[], p_unwait text[], p_taken bigint[],
  p_topic text[], p_out bytea[], p_k uuid[], p_path text[], p_since bigint[], p_until bigint[], p_version text,
  out o_code int, out o_wake boolean)
language plpgsql as $$
begin
  if not exists (select 1 from version where digest = p_version) then o_code := 10; o_wake := false; return; end if;
  select a.o_code, a.o_wake into o_code, o_wake from append(p_now, p_holder, p_run, p_epoch, p_state, p_reason, p_wake, p_names, p_body,
    p_spill, p_size, p_bytes, p_uses, p_unwait, p_taken, p_topic, p_out, p_k, p_path, p_since, p_until) a;
  if o_code = 0 then update run set version = p_version where id = p_run; end if;
end $$;
-- +goose StatementEnd
