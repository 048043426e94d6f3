-- A lateral subquery with a limit says in which order tables are looked up: a plan
-- that was made while nudge or wait was empty must not read all runs later.
--
-- One call is one job of a group commit. A function says no by its code, having
-- written nothing that matters without the rest:
--   0 done, 1 a person's key changed, 2 the once key is taken, 3 the order key's
--   queue is full, 4 no such queue, 5 another worker owns the run, 6 too many
--   commits, 7 no such run, 8 not in that state.

-- +goose Up
-- +goose StatementBegin
create function now_ms(p_now bigint) returns bigint language sql volatile as $$
  select coalesce(p_now, (extract(epoch from clock_timestamp()) * 1000)::bigint)
$$;
-- +goose StatementEnd

-- +goose StatementBegin
create function save(
  p_now bigint, p_run bigint, p_seq bigint, p_holder bigint, p_names bytea, p_body bytea,
  p_spill text[], p_size bigint[], p_bytes bytea[], p_uses text[], p_unwait text[], p_taken bigint[],
  p_topic text[], p_out bytea[], p_k uuid[], p_path text[], p_since bigint[], p_until bigint[])
returns boolean language plpgsql as $$
declare
  v_found boolean := false;
begin
  if p_names is not null then
    insert into entry(id, names, body) values (p_run << 20 | p_seq, p_names, p_body);
  end if;
  if p_spill is not null then
    insert into blob(digest, size, at, bytes) select d, s, p_now, b from unnest(p_spill, p_size, p_bytes) u(d, s, b) on conflict do nothing;
    insert into blob_use(digest, run) select d, p_run from unnest(p_spill) d on conflict do nothing;
  end if;
  if p_uses is not null then
    perform 1 from blob where digest = any(p_uses) order by digest for key share; -- retention looks again behind this lock
    insert into blob_use(digest, run) select d, p_run from unnest(p_uses) d on conflict do nothing;
  end if;
  if p_unwait is not null then
    delete from wait where run = p_run and path = any(p_unwait);
  end if;
  if p_taken is not null then
    delete from held where event = any(p_taken);
    insert into taken(run, event) select p_run, e from unnest(p_taken) e on conflict do nothing;
  end if;
  if p_topic is not null then
    insert into outbox(run, topic, body, holder) select p_run, t, b, p_holder from unnest(p_topic, p_out) with ordinality u(t, b, n) order by n;
  end if;
  if p_k is not null then
    insert into wait(k, run, path, since, until) select k, p_run, p, s, nullif(u, 0) from unnest(p_k, p_path, p_since, p_until) w(k, p, s, u)
      on conflict (k, run, path) do update set since = excluded.since, until = excluded.until;
    select exists (select 1 from unnest(p_k, p_since) w(k, s) cross join lateral (select ek.event from event_key ek where ek.k = w.k offset 0) ek
      cross join lateral (select 1 from event e where e.id = ek.event and e.received >= w.s limit 1) e
      where not exists (select 1 from taken t where t.run = p_run and t.event = ek.event)) into v_found;
  end if;
  return v_found;
end $$;
-- +goose StatementEnd

-- The first live run of an order key is due if it was only waiting for its turn; a
-- parked one holds the key. The caller holds the key's lock.
-- +goose StatementBegin
create function turn(p_now bigint, p_ord bigint) returns boolean language plpgsql as $$
declare
  v_id bigint; v_state int;
begin
  select id, state into v_id, v_state from run where ord = p_ord and ended is null order by place limit 1;
  if not found or v_state <> 1 then
    return false;
  end if;
  update run set due = p_now where id = v_id and state = 1;
  return true;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function accept(
  p_now bigint, p_lease bigint, p_owner text, p_holder bigint,
  p_id bigint, p_version text, p_route text, p_state int, p_reason text, p_prio int, p_due bigint, p_ord bigint,
  p_subject uuid[], p_wraps bytea[], p_fresh boolean[], p_sealed bytea,
  p_once uuid, p_hash bytea, p_once_until bigint, p_queue text, p_delivery bigint, p_names bytea, p_body bytea,
  p_spill text[], p_size bigint[], p_bytes bytea[], p_uses text[], p_unwait text[], p_taken bigint[],
  p_topic text[], p_out bytea[], p_k uuid[], p_path text[], p_since bigint[], p_until bigint[],
  out o_code int, out o_state int, out o_epoch bigint, out o_now bigint, out o_due bigint, out o_run bigint, out o_same boolean, out o_wake boolean)
language plpgsql as $$
declare
  n bigint := now_ms(p_now);
  v_ahead int := 0; v_place bigint; v_wrap bytea; v_gone bytea; v_until bigint; v_hot boolean; v_queue int;
begin
  o_code := 0; o_now := n; o_state := p_state; o_wake := false;
  if p_queue is not null then
    select id into v_queue from queue where name = p_queue;
    if not found then o_code := 4; return; end if;
  end if;
  for i in 1 .. cardinality(p_subject) loop
    select wrapped_key, gone into v_wrap, v_gone from person where token = p_subject[i] for share; -- erasure waits
    if not found then
      insert into person(token, wrapped_key) values (p_subject[i], p_wraps[i]);
    elsif v_wrap is null then
      -- The key that was destroyed last must not come back by a commit that was under way.
      if not p_fresh[i] or v_gone = sha256(p_wraps[i]) then o_code := 1; return; end if;
      update person set wrapped_key = p_wraps[i] where token = p_subject[i];
    elsif v_wrap <> p_wraps[i] then
      o_code := 1; return;
    end if;
  end loop;
  if p_ord is not null then
    select count(*) into v_ahead from (select 1 from run where ord = p_ord and ended is null limit 1002) q;
  end if;
  if p_once is not null then
    loop
      if v_ahead <= 1000 then
        insert into once(k, run, body_hash, until) values (p_once, p_id, p_hash, p_once_until) on conflict (k) do nothing;
        exit when found;
      end if;
      select o.run, coalesce(o.body_hash, '') = coalesce(p_hash, ''), o.until into o_run, o_same, v_until from once o where k = p_once for update;
      if not found then
        exit when v_ahead > 1000;
        continue; -- retention took it in between
      end if;
      if v_until > n or exists (select 1 from run where id = o_run and ended is null) then o_code := 2; return; end if;
      if v_ahead <= 1000 then
        update once set run = p_id, body_hash = p_hash, until = p_once_until where k = p_once;
      end if;
      exit;
    end loop;
  end if;
  if v_ahead > 1000 then o_code := 3; return; end if;
  if v_ahead > 0 then o_state := 1; end if;
  v_hot := o_state in (2, 4) and p_due is null;
  o_epoch := nextval('epoch');
  if p_due is not null and o_state not in (1, 6, 7, 8, 9) then o_due := p_due; o_wake := true; end if;
  if p_ord is not null then v_place := nextval('place'); end if;
  insert into run(id, version, route, state, reason, prio, epoch, owner, lease_until, due, ord, place, subject, sealed_key, started, ended)
    values (p_id, p_version, p_route, o_state, p_reason, p_prio, o_epoch, case when v_hot then p_owner end, case when v_hot then n + p_lease end,
      o_due, p_ord, v_place, p_subject, p_sealed, n, case when o_state in (6, 7, 8, 9) then n end);
  if save(n, p_id, 0, p_holder, p_names, p_body, p_spill, p_size, p_bytes, p_uses, p_unwait, p_taken, p_topic, p_out, p_k, p_path, p_since, p_until) then
    if o_state = 3 then
      update run set due = n where id = p_id;
      o_due := n; o_wake := true;
    elsif v_hot then
      insert into nudge(run, at, prio, route) values (p_id, n, p_prio, p_route);
    end if;
  end if;
  o_wake := o_wake or p_topic is not null;
  if v_queue is not null then
    delete from delivery where queue = v_queue and seq = p_delivery;
  end if;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function append(
  p_now bigint, p_holder bigint, p_run bigint, p_epoch bigint, p_state int, p_reason text, p_wake bigint, p_names bytea, p_body bytea,
  p_spill text[], p_size bigint[], p_bytes bytea[], p_uses text[], p_unwait text[], p_taken bigint[],
  p_topic text[], p_out bytea[], p_k uuid[], p_path text[], p_since bigint[], p_until bigint[],
  out o_code int, out o_wake boolean)
language plpgsql as $$
declare
  n bigint := now_ms(p_now);
  r run; v_seq bigint := 0; v_nudged boolean; v_due bigint; v_ended bigint;
begin
  o_code := 0; o_wake := p_topic is not null;
  -- The lock keeps a claim out until this commit is done; a claim that was quicker
  -- has changed the epoch, which is read behind the lock.
  select * into r from run where id = p_run and epoch = p_epoch for no key update;
  if not found then o_code := 5; return; end if;
  if p_names is not null then
    select (max(id) & 1048575) + 1 into v_seq from entry where id between p_run << 20 and p_run << 20 | 1048575;
    v_seq := coalesce(v_seq, 0);
    if v_seq >= 400000 then o_code := 6; return; end if;
  end if;
  v_nudged := save(n, p_run, v_seq, p_holder, p_names, p_body, p_spill, p_size, p_bytes, p_uses, p_unwait, p_taken, p_topic, p_out, p_k, p_path, p_since, p_until);
  if p_state in (2, 4) and p_wake is null then
    if v_nudged then insert into nudge(run, at, prio, route) values (p_run, n, r.prio, r.route); end if; -- it is looked at when it rests
    if r.state <> p_state or r.due is not null then
      update run set state = p_state, reason = p_reason, due = null, ended = null where id = p_run;
    end if;
    return;
  end if;
  v_nudged := v_nudged or exists (select 1 from nudge where run = p_run);
  if p_state in (6, 7, 8, 9) then
    v_ended := coalesce(r.ended, n); -- or a person's note on a run that had ended already
  elsif v_nudged and p_state in (2, 3) then
    v_due := n;
  else
    v_due := p_wake;
  end if;
  o_wake := o_wake or v_due is not null;
  update run set state = p_state, reason = p_reason, due = v_due, ended = v_ended, owner = null, lease_until = null where id = p_run;
  if v_nudged then delete from nudge where run = p_run; end if;
  if v_ended is not null then
    delete from wait where run = p_run;
    if r.ord is not null and r.ended is null then o_wake := turn(n, r.ord) or o_wake; end if;
  end if;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function rearm(
  p_now bigint, p_lease bigint, p_owner text, p_holder bigint, p_run bigint, p_names bytea, p_body bytea,
  p_spill text[], p_size bigint[], p_bytes bytea[], p_uses text[], p_unwait text[], p_taken bigint[],
  p_topic text[], p_out bytea[], p_k uuid[], p_path text[], p_since bigint[], p_until bigint[],
  out o_code int, out o_state int, out o_epoch bigint, out o_wake boolean)
language plpgsql as $$
declare
  n bigint := now_ms(p_now);
  r run; v_seq bigint;
begin
  o_code := 0; o_wake := p_topic is not null;
  select * into r from run where id = p_run for no key update;
  if not found then o_code := 7; return; end if;
  o_state := r.state;
  if r.lease_until > n then o_code := 5; return; end if;
  if r.state <> 8 then o_code := 8; return; end if;
  select coalesce((max(id) & 1048575) + 1, 0) into v_seq from entry where id between p_run << 20 and p_run << 20 | 1048575;
  o_state := 2;
  if r.ord is not null and exists (select 1 from run where ord = r.ord and ended is null) then o_state := 1; end if;
  o_epoch := nextval('epoch');
  update run set state = o_state, reason = '', due = null, ended = null, epoch = o_epoch, place = case when ord is not null then nextval('place') end,
    owner = case when o_state = 2 then p_owner end, lease_until = case when o_state = 2 then n + p_lease end where id = p_run;
  if save(n, p_run, v_seq, p_holder, p_names, p_body, p_spill, p_size, p_bytes, p_uses, p_unwait, p_taken, p_topic, p_out, p_k, p_path, p_since, p_until) then
    insert into nudge(run, at, prio, route) values (p_run, n, r.prio, r.route);
  end if;
end $$;
-- +goose StatementEnd

-- What a class has to claim: the runs whose lease has lapsed, those that are due and
-- those that are nudged, the oldest first; and where there are more than are looked
-- at, the oldest of every route too, so that each has its turn behind the longest queue.
-- +goose StatementBegin
create function claimable(n bigint, p_class int, p_want int) returns table(o_id bigint, o_since bigint, o_nudged boolean, o_route text)
language plpgsql as $$
declare
  v_near int := 4 * p_want + 64;
  v_n int;
begin
  return query select id, lease_until, false, route from run
    where lease_until is not null and lease_until <= n and prio = p_class and state in (2, 4) and due is null order by lease_until limit 4096; -- what processes that died had at work
  return query select id, due, false, route from run
    where prio = p_class and due is not null and due <= n and coalesce(lease_until, 0) <= n order by due limit v_near;
  get diagnostics v_n = row_count;
  if v_n = v_near then
    return query with recursive turn(route) as (
      select min(route) from run where prio = p_class and due is not null
      union all
      select (select min(r.route) from run r where r.prio = p_class and r.due is not null and r.route > t.route) from turn t where t.route is not null)
    select h.id, h.due, false, t.route from turn t cross join lateral (select id, due from run
      where prio = p_class and route = t.route and due is not null and due <= n and coalesce(lease_until, 0) <= n order by due limit p_want) h;
  end if;
  return query select k.run, k.at, true, k.route from nudge k cross join lateral (select 1 from run r where r.id = k.run
      and (r.state = 3 or r.state = 2 and r.due is not null) and coalesce(r.lease_until, 0) <= n limit 1) r
    where k.prio = p_class order by k.at limit v_near;
  get diagnostics v_n = row_count;
  if v_n = v_near then
    return query with recursive turn(route) as (
      select min(route) from nudge where prio = p_class
      union all
      select (select min(k.route) from nudge k where k.prio = p_class and k.route > t.route) from turn t where t.route is not null)
    select h.run, h.at, true, t.route from turn t cross join lateral (select k.run, k.at from nudge k
        cross join lateral (select 1 from run r where r.id = k.run
          and (r.state = 3 or r.state = 2 and r.due is not null) and coalesce(r.lease_until, 0) <= n limit 1) r
      where k.prio = p_class and k.route = t.route order by k.at limit p_want) h;
  end if;
end $$;
-- +goose StatementEnd

-- A class's share first, then what the others leave to the highest that has some;
-- inside a class the routes take turns, from the one behind p_after on (semantics 11.2).
-- +goose StatementBegin
create function claim(p_now bigint, p_lease bigint, p_owner text, p_quota int[], p_after text[], p_max int) returns setof run language plpgsql as $$
declare
  n bigint := now_ms(p_now);
  v_want int; v_took int := 0; v_ids bigint[] := '{}'; v_got bigint[];
begin
  for pass in 1 .. 2 loop
    for c in 0 .. 2 loop
      v_want := case when pass = 1 then least(p_quota[c + 1], p_max - v_took) else p_max - v_took end;
      continue when v_want <= 0;
      select array_agg(id order by k, later, route) into v_got from (
        select q.id, q.k, q.later, q.route from (
          select id, nudged, route, route <= p_after[c + 1] as later, row_number() over (partition by route order by since, id) as k from (
            select o_id as id, min(o_since) as since, bool_or(o_nudged) as nudged, o_route as route from claimable(n, c, v_want) group by o_id, o_route
          ) x order by k, later, route
        ) q cross join lateral (select 1 from run r where r.id = q.id and coalesce(r.lease_until, 0) <= n and r.ended is null
          and (r.due <= n or r.state in (2, 4) and r.due is null or q.nudged and r.state in (2, 3))
          for update skip locked) r
        limit v_want
      ) locked;
      if v_got is not null then
        update run set state = case when state in (1, 3) then 2 else state end, due = null, epoch = nextval('epoch'),
          owner = p_owner, lease_until = n + p_lease where id = any(v_got);
        delete from nudge where run = any(v_got); -- the claimer looks at its events
        v_ids := v_ids || v_got; v_took := v_took + cardinality(v_got);
        p_after[c + 1] := (select r.route from run r where r.id = v_got[cardinality(v_got)]);
      end if;
    end loop;
    exit when v_took >= p_max;
  end loop;
  return query select r.* from unnest(v_ids) with ordinality u(id, o) join run r on r.id = u.id order by u.o;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function claim_one(p_now bigint, p_lease bigint, p_owner text, p_run bigint) returns int language plpgsql as $$
declare
  n bigint := now_ms(p_now);
  r run;
begin
  select * into r from run where id = p_run for no key update;
  if not found then return 7; end if;
  if r.lease_until > n then return 5; end if;
  update run set epoch = nextval('epoch'), owner = p_owner, lease_until = n + p_lease where id = p_run;
  return 0;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function renew(p_now bigint, p_lease bigint, p_runs bigint[], p_epochs bigint[]) returns setof bigint language sql as $$
  with mine as (select r.id from run r join unnest(p_runs, p_epochs) u(id, epoch) on r.id = u.id and r.epoch = u.epoch
    where r.lease_until is not null order by r.id for no key update of r)
  update run set lease_until = now_ms(p_now) + p_lease from mine where run.id = mine.id returning run.id
$$;
-- +goose StatementEnd

-- A run that was on its way can be claimed at once; one that rested rests on.
-- +goose StatementBegin
create function release(p_runs bigint[], p_epochs bigint[]) returns setof bigint language sql as $$
  with mine as (select r.id from run r join unnest(p_runs, p_epochs) u(id, epoch) on r.id = u.id and r.epoch = u.epoch order by r.id for no key update of r)
  update run set owner = null, epoch = nextval('epoch'), lease_until = case when state in (2, 4) and due is null then 0 end
    from mine where run.id = mine.id returning run.id
$$;
-- +goose StatementEnd

-- +goose StatementBegin
create function next_due(p_now bigint, p_holder bigint) returns bigint language plpgsql as $$
declare
  n bigint := now_ms(p_now);
  v bigint; v_next bigint;
begin
  select min(lease_until) into v_next from run where lease_until is not null and (lease_until > n or state in (2, 4) and due is null);
  for c in 0 .. 2 loop
    select due into v from run where prio = c and due is not null and coalesce(lease_until, 0) <= n order by due limit 1;
    v_next := least(v_next, v);
    v := null;
  end loop;
  select min(k.at) into v from nudge k cross join lateral (select 1 from run r where r.id = k.run
    and (r.state = 3 or r.state = 2 and r.due is not null) and coalesce(r.lease_until, 0) <= n limit 1) r;
  v_next := least(v_next, v);
  select min(due) into v from outbox where attempts > 0 and (holder is null or holder = p_holder);
  return least(v_next, v);
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function match(p_now bigint, p_event bigint, p_k uuid, p_received bigint) returns int language plpgsql as $$
declare
  v_woken int;
begin
  insert into event_key(k, event) values (p_k, p_event) on conflict do nothing;
  with woken as (insert into nudge(run, at, prio, route)
    select w.run, p_now, r.prio, r.route from (select distinct run from wait where k = p_k and since <= p_received) w
      cross join lateral (select r.prio, r.route from run r where r.id = w.run and (r.state in (2, 3) or r.state = 4 and r.due is null) limit 1) r returning 1)
  select count(*) into v_woken from woken;
  return v_woken;
end $$;
-- +goose StatementEnd

-- What is being delivered ends first; who delivers from here on must know the shape.
-- +goose StatementBegin
create function teach(p_type text, p_shape text) returns void language plpgsql as $$
begin
  if not exists (select 1 from shape where type = p_type and shape = p_shape) then
    perform pg_advisory_xact_lock(1, hashtext(p_type));
    insert into shape(type, shape) values (p_type, p_shape) on conflict do nothing;
  end if;
end $$;
-- +goose StatementEnd

-- The caller holds the locks on the event's id and on its keys.
-- +goose StatementBegin
create function deliver(p_now bigint, p_type text, p_msg bigint, p_at bigint, p_keep bigint, p_body bytea, p_hold boolean, p_k uuid[],
  p_queue text, p_delivery bigint, p_shapes text[], out o_code int, out o_woken int)
language plpgsql as $$
declare
  n bigint := now_ms(p_now);
  v_id bigint; v_queue int;
begin
  o_code := 0; o_woken := 0;
  perform pg_advisory_xact_lock_shared(1, hashtext(p_type));
  if exists (select 1 from shape where type = p_type and shape <> all(p_shapes)) then o_code := 9; return; end if;
  if p_queue is not null then
    select id into v_queue from queue where name = p_queue;
    if not found then o_code := 4; return; end if;
    delete from delivery where queue = v_queue and seq = p_delivery;
  end if;
  insert into event(type, msg, at, received, until, body) values (p_type, p_msg, coalesce(p_at, n), n, n + p_keep, p_body)
    on conflict (msg) do nothing returning id into v_id;
  if v_id is null then return; end if;
  if p_hold then insert into held(event) values (v_id); end if;
  for i in 1 .. coalesce(cardinality(p_k), 0) loop
    o_woken := o_woken + match(n, v_id, p_k[i], n);
  end loop;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function reindex(p_now bigint, p_events bigint[], p_k uuid[], p_received bigint[]) returns int language plpgsql as $$
declare
  v_woken int := 0;
begin
  for i in 1 .. cardinality(p_events) loop
    if exists (select 1 from event where id = p_events[i]) then -- retention may have been here
      v_woken := v_woken + match(now_ms(p_now), p_events[i], p_k[i], p_received[i]);
    end if;
  end loop;
  return v_woken;
end $$;
-- +goose StatementEnd

-- A process says that it lives; what one that does not say so any more had in its
-- hands is free again, and a delivery counts (who kills the process each time is
-- parked in the end). Who was counted as dead may go on committing before it says
-- again that it lives, so what is in the hands of nobody who lives is free too.
-- +goose StatementBegin
create function beat(p_now bigint, p_lease bigint, p_holder bigint, p_name text) returns bigint language plpgsql as $$
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

-- One claimer a row; and no row of a run before an earlier one that is in another
-- living process's hands, so that what a run says stays in order.
-- +goose StatementBegin
create function take_outbox(p_now bigint, p_holder bigint, p_max int)
returns table(o_id bigint, o_run bigint, o_topic text, o_attempts int, o_body bytea) language plpgsql as $$
declare
  n bigint := now_ms(p_now);
  v_ids bigint[]; v_more bigint[];
begin
  select array_agg(id order by id) into v_ids from (select o.id from outbox o where o.attempts = 0 and (o.holder is null or o.holder = p_holder)
    and not exists (select 1 from outbox e where e.run = o.run and e.id < o.id and e.holder <> p_holder)
    order by o.id limit p_max for update skip locked) x;
  v_ids := coalesce(v_ids, '{}');
  if cardinality(v_ids) < p_max then
    select array_agg(id order by due) into v_more from (select o.id, o.due from outbox o where o.attempts > 0 and o.due <= n and (o.holder is null or o.holder = p_holder)
      order by o.due limit p_max - cardinality(v_ids) for update skip locked) x;
    v_ids := v_ids || coalesce(v_more, '{}');
  end if;
  update outbox set holder = p_holder where id = any(v_ids) and holder is null;
  return query select o.id, o.run, o.topic, o.attempts, o.body from unnest(v_ids) with ordinality u(id, n) join outbox o on o.id = u.id order by u.n;
end $$;
-- +goose StatementEnd
