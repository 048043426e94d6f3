-- The tables of semantics 13 for several processes. What differs from the embedded
-- store's: owner, lease_until and epoch stand in the row; an event leaves a row in
-- nudge instead of writing to a run that another process may be writing to; a
-- message is one row a queue. Instants are UTC milliseconds; look-up keys HMACs.
-- Migrations only add (an older binary runs on a newer schema); what an older
-- binary may no longer do raises meta.needs.

-- +goose Up
create table meta(name text primary key, value bytea, number bigint);
insert into meta(name, number) values ('needs', 0);
create table counter(name text primary key, value bigint not null) with (fillfactor = 10);
insert into counter(name, value) values ('runs', 1), ('messages', 0);
create sequence epoch;
create sequence place;

create table worker(id bigint primary key, name text not null, until bigint not null) with (fillfactor = 50);
create table mark(writer bigint primary key, batch bigint not null, at bigint not null) with (fillfactor = 10);

create table run(
  id bigint primary key, version text not null, route text not null, state smallint not null, reason text not null,
  prio smallint not null, epoch bigint not null, owner text, lease_until bigint, due bigint, ord bigint, place bigint,
  subject uuid[] not null default '{}', sealed_key bytea not null, started bigint not null, ended bigint) with (fillfactor = 80);
create index run_due on run(prio, due) where due is not null;
create index run_turn on run(prio, route, due) where due is not null;
create index run_lease on run(lease_until) where lease_until is not null;
create index run_ord on run(ord, place) where ord is not null and ended is null;
create index run_dead on run(route, state) where state in (5, 8);

create table entry(id bigint primary key, names bytea not null, body bytea not null);
create table once(k uuid primary key, run bigint not null, body_hash bytea, until bigint not null);

create table wait(k uuid, run bigint, path text, since bigint not null, until bigint, primary key (k, run, path));
create index wait_run on wait(run, path);
create table event(id bigint generated always as identity primary key, type text not null, msg bigint not null unique,
  at bigint not null, received bigint not null, until bigint not null, body bytea not null);
create index event_until on event(until);
create table event_key(k uuid, event bigint, primary key (k, event));
create index event_key_event on event_key(event);
create table shape(type text, shape text, primary key (type, shape));
create table held(event bigint primary key);
create table taken(run bigint, event bigint, primary key (run, event));
create table nudge(id bigint generated always as identity primary key, run bigint not null, at bigint not null,
  prio smallint not null, route text not null); -- the run's
create index nudge_run on nudge(run);
create index nudge_due on nudge(prio, at);
create index nudge_turn on nudge(prio, route, at);

create table outbox(id bigint generated always as identity primary key, run bigint not null, topic text not null, body bytea not null,
  due bigint, attempts int not null default 0, holder bigint);
create index outbox_new on outbox(id) where attempts = 0;
create index outbox_due on outbox(due) where attempts > 0;
create index outbox_run on outbox(run, id);
create index outbox_held on outbox(holder) where holder is not null;

create table version(digest text primary key, route text not null, label bigint not null, source bytea not null,
  first bigint not null, last bigint not null);
create table version_use(digest text, holder bigint, primary key (digest, holder));
create table blob(digest text primary key, size bigint not null, at bigint not null, bytes bytea not null);
create table blob_use(digest text, run bigint, primary key (digest, run));
create index blob_use_run on blob_use(run);
create table note(owner text, k text collate "C", rev bigint not null, value bytea not null, primary key (owner, k));
create table person(token uuid primary key, wrapped_key bytea, destroyed bigint, gone bytea);
create table fired(route text, at bigint, primary key (route, at));

create table msg(seq bigint primary key, topic text not null, mid bigint, at bigint not null, body bytea not null);
create index msg_topic on msg(topic, seq);
create index msg_mid on msg(mid) where mid is not null;
create table queue(id int generated always as identity primary key, name text not null unique, topics text[] not null);
create table delivery(queue int, seq bigint, due bigint not null default 0, attempts int not null default 0, holder bigint,
  primary key (queue, seq)) with (fillfactor = 70);
create index delivery_new on delivery(queue, seq) where holder is null and due = 0;
create index delivery_again on delivery(queue, due, seq) where holder is null and due > 0;
create index delivery_held on delivery(holder) where holder is not null;
create table parked(queue int, seq bigint, topic text not null, mid bigint, at bigint not null, attempts int not null, reason text not null,
  body bytea not null, primary key (queue, seq));

-- Sealed bytes do not compress again.
alter table entry alter body set storage external;
alter table event alter body set storage external;
alter table outbox alter body set storage external;
alter table version alter source set storage external;
alter table blob alter bytes set storage external;
alter table note alter value set storage external;
alter table msg alter body set storage external;
alter table parked alter body set storage external;

-- Small tables through which everything passes are swept often, or a look into
-- them reads the dead.
alter table nudge set (autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
alter table outbox set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
alter table delivery set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
alter table wait set (autovacuum_vacuum_scale_factor = 0.02);
alter table run set (autovacuum_vacuum_scale_factor = 0.02);
