-- The bus's queues, where there is no broker: a message is one row of msg and one
-- of delivery for each queue that takes its topic.

-- +goose Up
create index delivery_seq on delivery(seq);
-- +goose StatementBegin
create function publish(p_now bigint, p_topics text[], p_mids bigint[], p_ats bigint[], p_bodies bytea[], p_window bigint) returns text[] language plpgsql as $$
declare
  t bigint := now_ms(p_now);
  n bigint; v_names text[] := '{}'; v_got text[];
begin
  -- Whoever holds this row gives the numbers: they go by commit, without gaps.
  select value into n from counter where name = 'messages' for update;
  for i in 1 .. cardinality(p_topics) loop
    continue when p_mids[i] is not null and exists (select 1 from msg where mid = p_mids[i] and seq > n - p_window);
    n := n + 1;
    insert into msg(seq, topic, mid, at, body) values (n, p_topics[i], p_mids[i], coalesce(p_ats[i], t), p_bodies[i]);
    with q as (select id, name from queue where exists (select 1 from unnest(topics) p
        where p = '*' or p = p_topics[i] or p like '%.*' and starts_with(p_topics[i], left(p, -1)))),
      d as (insert into delivery(queue, seq) select id, n from q)
    select array_agg(name) into v_got from q;
    v_names := v_names || coalesce(v_got, '{}');
  end loop;
  update counter set value = n where name = 'messages';
  return array(select distinct unnest(v_names));
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function settle(p_queues text[], p_seqs bigint[]) returns int language plpgsql as $$
begin
  if exists (select 1 from unnest(p_queues) u(name) where not exists (select 1 from queue q where q.name = u.name)) then return 4; end if;
  delete from delivery d using unnest(p_queues, p_seqs) u(name, seq) join queue q on q.name = u.name where d.queue = q.id and d.seq = u.seq;
  return 0;
end $$;
-- +goose StatementEnd

-- What came back first, then the log.
-- +goose StatementBegin
create function receive(p_now bigint, p_holder bigint, p_queue text, p_max int)
returns table(o_seq bigint, o_topic text, o_at bigint, o_attempts int, o_body bytea, o_next bigint) language plpgsql as $$
declare
  n bigint := now_ms(p_now);
  v_queue int; v_seqs bigint[]; v_more bigint[]; v_next bigint;
begin
  select id into v_queue from queue where name = p_queue;
  if not found then raise exception 'no such queue; bind it first' using errcode = 'DM001'; end if;
  select array_agg(seq order by due, seq) into v_seqs from (select seq, due from delivery where queue = v_queue and holder is null and due > 0 and due <= n
    order by due, seq limit p_max for update skip locked) d;
  v_seqs := coalesce(v_seqs, '{}');
  if cardinality(v_seqs) < p_max then
    select array_agg(seq order by seq) into v_more from (select seq from delivery where queue = v_queue and holder is null and due = 0
      order by seq limit p_max - cardinality(v_seqs) for update skip locked) d;
    v_seqs := v_seqs || coalesce(v_more, '{}');
    select min(due) into v_next from delivery where queue = v_queue and holder is null and due > n;
  end if;
  update delivery set holder = p_holder where queue = v_queue and seq = any(v_seqs);
  return query select m.seq, m.topic, m.at, d.attempts, m.body, null::bigint from unnest(v_seqs) with ordinality u(seq, o)
    join msg m on m.seq = u.seq join delivery d on d.queue = v_queue and d.seq = u.seq order by u.o;
  if v_next is not null then return query select null::bigint, null::text, null::bigint, null::int, null::bytea, v_next; end if;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function park(p_holder bigint, p_queue text, p_seq bigint, p_reason text) returns int language plpgsql as $$
declare
  v_queue int;
begin
  select id into v_queue from queue where name = p_queue;
  if not found then return 4; end if;
  insert into parked(queue, seq, topic, mid, at, attempts, reason, body)
    select d.queue, d.seq, m.topic, m.mid, m.at, d.attempts + 1, p_reason, m.body from delivery d join msg m on m.seq = d.seq
      where d.queue = v_queue and d.seq = p_seq and d.holder = p_holder
    on conflict (queue, seq) do update set attempts = excluded.attempts, reason = excluded.reason;
  if found then delete from delivery where queue = v_queue and seq = p_seq; end if;
  return 0;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function unpark(p_now bigint, p_queue text, p_seq bigint) returns int language plpgsql as $$
declare
  v_queue int; p parked;
begin
  select id into v_queue from queue where name = p_queue;
  if not found then return 4; end if;
  delete from parked where queue = v_queue and seq = p_seq returning * into p;
  if not found then return 7; end if;
  insert into msg(seq, topic, mid, at, body) values (p.seq, p.topic, p.mid, p.at, p.body) on conflict do nothing; -- the log may have forgotten it
  insert into delivery(queue, seq, due) values (v_queue, p_seq, now_ms(p_now))
    on conflict (queue, seq) do update set due = excluded.due, attempts = 0, holder = null;
  return 0;
end $$;
-- +goose StatementEnd
