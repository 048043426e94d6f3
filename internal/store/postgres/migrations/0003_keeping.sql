-- +goose Up
-- +goose StatementBegin
create function swap_note(p_now bigint, p_owner text, p_k text, p_rev bigint, p_value bytea) returns int language plpgsql as $$
declare
  n bigint := now_ms(p_now);
  v_rev bigint;
begin
  select rev into v_rev from note where owner = p_owner and k = p_k for update;
  if coalesce(v_rev, 0) <> p_rev then return 1; end if;
  if p_value is null then
    delete from note where owner = p_owner and k = p_k;
    return 0;
  end if;
  -- A row that was deleted and came again must not look like the old one.
  if v_rev is null then
    insert into note(owner, k, rev, value) values (p_owner, p_k, greatest(p_rev + 1, n), p_value) on conflict do nothing;
    return case when found then 0 else 1 end;
  end if;
  update note set rev = greatest(p_rev + 1, n), value = p_value where owner = p_owner and k = p_k;
  return 0;
end $$;
-- +goose StatementEnd

-- The caller holds the versions' lock alone: no run is being accepted.
-- +goose StatementBegin
create function drop_versions(p_keep text[], p_holder bigint) returns bigint language sql as $$
  with gone as (delete from version v where v.digest <> all(p_keep)
    and not exists (select 1 from run r where r.version = v.digest)
    and not exists (select 1 from version_use u where u.digest = v.digest and u.holder <> p_holder) returning v.digest),
  unused as (delete from version_use u using gone where u.digest = gone.digest)
  select count(*) from gone
$$;
-- +goose StatementEnd

-- A run's claims on blobs go, and the blobs that nobody else claims and that were
-- put before an instant: a younger one may be on its way to a run. A record's own
-- value goes at once.
-- +goose StatementBegin
create function free_blobs(p_run bigint, p_before bigint) returns void language plpgsql as $$
declare
  v_digests text[]; v_locked text[];
begin
  with gone as (delete from blob_use where run = p_run returning digest) select array_agg(digest) into v_digests from gone;
  if v_digests is null then return; end if;
  select array_agg(digest) into v_locked from (select digest from blob where digest = any(v_digests) and (at < p_before or digest like 'v:%')
    order by digest for update skip locked) b; -- skipped: a commit is claiming it
  delete from blob b where digest = any(v_locked) and not exists (select 1 from blob_use u where u.digest = b.digest);
end $$;
-- +goose StatementEnd

-- A person's key is destroyed, if it is still that one.
-- +goose StatementBegin
create function erase(p_now bigint, p_token uuid, p_wrapped bytea) returns boolean language plpgsql as $$
declare
  v_run bigint;
begin
  update person set gone = sha256(wrapped_key), wrapped_key = null, destroyed = now_ms(p_now) where token = p_token and wrapped_key = p_wrapped;
  if not found then return false; end if;
  for v_run in select distinct u.run from blob_use u join run r on r.id = u.run where r.subject = array[p_token] order by 1 loop
    perform free_blobs(v_run, 9223372036854775807);
  end loop;
  return true;
end $$;
-- +goose StatementEnd

-- One batch of retention. o_last is where the walk over the runs stands, 0 at its end.
-- +goose StatementBegin
create function expire(p_now bigint, p_before bigint, p_limit int, p_from bigint, p_keep bigint, p_other bigint, p_routes jsonb, out o_n bigint, out o_last bigint) language plpgsql as $$
declare
  n bigint := now_ms(p_now);
  v_ids bigint[]; v_run bigint; v_digests text[]; v_count bigint;
begin
  o_n := 0; o_last := 0;
  select array_agg(id order by id) into v_ids from (select id from run where id > p_from and state in (6, 7, 9) and ended < coalesce((p_routes->>route)::bigint, p_other) and coalesce(lease_until, 0) <= n
    and not exists (select 1 from outbox o where o.run = run.id) order by id limit p_limit for update skip locked) r;
  if v_ids is not null then
    foreach v_run in array v_ids loop
      perform free_blobs(v_run, p_before);
      delete from entry where id between v_run << 20 and v_run << 20 | 1048575;
    end loop;
    delete from wait where run = any(v_ids);
    delete from taken where run = any(v_ids);
    delete from nudge where run = any(v_ids);
    delete from run where id = any(v_ids);
    o_n := cardinality(v_ids);
    if o_n = p_limit then o_last := v_ids[o_n]; end if;
  end if;

  delete from once where k in (select o.k from once o left join run r on r.id = o.run where o.until < n and (r.id is null or r.ended is not null)
    limit p_limit for update of o skip locked);
  get diagnostics v_count = row_count; o_n := o_n + v_count;

  v_ids := null;
  select array_agg(id) into v_ids from (select id from event e where until < n and not exists (select 1 from held h where h.event = e.id)
    limit p_limit for update skip locked) e;
  if v_ids is not null then
    delete from event_key where event = any(v_ids);
    delete from event where id = any(v_ids);
    o_n := o_n + cardinality(v_ids);
  end if;

  -- The last instant of a route says what was missed while nobody was there.
  delete from fired f where at < p_before and at < (select max(at) from fired m where m.route = f.route);

  select array_agg(digest) into v_digests from (select digest from blob b where at < p_before and not exists (select 1 from blob_use u where u.digest = b.digest)
    limit p_limit for update skip locked) b;
  if v_digests is not null then
    delete from blob b where digest = any(v_digests) and not exists (select 1 from blob_use u where u.digest = b.digest);
    get diagnostics v_count = row_count; o_n := o_n + v_count;
  end if;

  delete from msg where seq in (select seq from msg m where at < n - p_keep and not exists (select 1 from delivery d where d.seq = m.seq) order by seq limit p_limit);
  get diagnostics v_count = row_count; o_n := o_n + v_count;
  delete from mark where at < n - 86400000;
end $$;
-- +goose StatementEnd
