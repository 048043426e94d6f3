-- What a later release may do while this one runs: it only adds. For the test that
-- runs the whole suite on it.

-- +goose Up
alter table run add column office text, add column weight int not null default 1;
alter table entry add column size bigint;
alter table wait add column route text;
alter table event add column source text not null default '';
alter table outbox add column shard int not null default 0;
alter table person add column rotated bigint;
alter table blob add column kind text;
alter table once add column at bigint;
alter table msg add column key text;
alter table delivery add column since bigint;
alter table worker add column version text;
create table shard(id int primary key, holder bigint);
create index run_started on run(started);
create index outbox_shard on outbox(shard, id);
-- +goose StatementBegin
create function append(p_run bigint, p_next jsonb) returns int language sql as $$ select 1 $$;
-- +goose StatementEnd
