package sqlite

// SchemaVersion stands in the file as user_version. A file of a higher one was
// written by a later dime and is left alone; a lower one gets what it lacks.
const SchemaVersion = 1

// schema is the tables of semantics 13. Nothing randomly ordered is indexed on
// every run: an index on a random id, on `once` or on the subject costs more
// than the rest of an accept together. What differs from the page:
//   - run_hot takes the place of an index on `started`: after a crash it finds
//     the runs that had an owner without reading a million waiting ones.
//   - place orders a key's runs by their accepting commit, for ids are reserved
//     before it and do not.
//   - wait.k and event_key.k are one HMAC over type, shape and key.
//   - msg, queue, again and parked are the embedded bus.
const schema = `
create table if not exists meta(name text primary key, value) without rowid;

create table if not exists run(
  id integer primary key, version text not null, route text not null, state integer not null, reason text not null,
  prio integer not null, epoch integer not null, due integer, ord integer, place integer,
  subject blob, sealed_key blob not null, started integer not null, ended integer);
create index if not exists run_hot on run(prio) where state in (2, 4) and due is null;
drop index if exists run_due;
create index if not exists run_next on run(prio, due, route) where due is not null;
create index if not exists run_turn on run(prio, route, due) where due is not null;
create index if not exists run_ord on run(ord, place) where ord is not null and ended is null;
create index if not exists run_dead on run(route, state) where state in (5, 8);

create table if not exists entry(id integer primary key, names blob not null, body blob not null);
create table if not exists once(k blob primary key, run integer not null, body_hash blob, until integer not null) without rowid;

create table if not exists wait(k blob, run integer, path text, since integer not null, until integer,
  primary key (k, run, path)) without rowid;
create index if not exists wait_run on wait(run, path);
create table if not exists event(id integer primary key, type text not null, msg integer not null, at integer not null,
  received integer not null, until integer not null, body blob not null);
create index if not exists event_msg on event(msg);
create table if not exists event_key(k blob, event integer, primary key (k, event)) without rowid;
create table if not exists held(event integer primary key);
create table if not exists shape(type text, shape text, primary key (type, shape)) without rowid;
create table if not exists taken(run integer, event integer, primary key (run, event)) without rowid;

create table if not exists outbox(id integer primary key, run integer not null, topic text not null, body blob not null,
  due integer, attempts integer not null);
create index if not exists outbox_due on outbox(due) where attempts > 0;

create table if not exists version(digest text primary key, route text not null, label integer not null, source blob not null,
  first integer not null, last integer not null) without rowid;
create table if not exists blob(digest text primary key, size integer not null, at integer not null, bytes blob not null);
create table if not exists blob_use(digest text, run integer, primary key (digest, run)) without rowid;
create index if not exists blob_use_run on blob_use(run);
create table if not exists note(owner text, k text, rev integer not null, value blob not null, primary key (owner, k)) without rowid;
create table if not exists person(token blob primary key, wrapped_key blob, destroyed integer) without rowid;
create table if not exists fired(route text, at integer, primary key (route, at)) without rowid;

create table if not exists topic(id integer primary key, name text not null unique);
create table if not exists msg(seq integer primary key, topic integer not null, at integer not null, body blob not null);
create index if not exists msg_topic on msg(topic);
create table if not exists queue(id integer primary key, name text not null unique, topics text not null,
  first integer not null, head integer not null, pending blob not null);
create table if not exists again(queue integer, seq integer, due integer not null, attempts integer not null,
  primary key (queue, seq)) without rowid;
create table if not exists parked(queue integer, seq integer, topic integer not null, at integer not null, attempts integer not null,
  reason text not null, body blob not null, primary key (queue, seq)) without rowid;
`
