-- The audit: what people and releases did, each row's hash over the row before. It
-- is only added to; the trigger keeps mistakes away, and the hashes show the rest.

-- +goose Up
create table audit(seq bigint primary key, at bigint not null, who text not null, channel text not null, action text not null, target text not null,
  reason text not null, person uuid, sealed bytea, detail text not null, hash bytea not null);

-- +goose StatementBegin
create function audit_field(p bytea) returns bytea language sql immutable as $$ select int4send(coalesce(length(p), 0)) || coalesce(p, ''::bytea) $$;
-- +goose StatementEnd

-- The hash of a row behind another's (store.AuditHash).
-- +goose StatementBegin
create function audit_hash(p_before bytea, a audit) returns bytea language sql stable as $$
  select sha256(convert_to('dime/audit/1', 'UTF8') || coalesce(p_before, decode(repeat('00', 32), 'hex')) || int8send(a.seq) || int8send(a.at)
    || audit_field(convert_to(a.who, 'UTF8')) || audit_field(convert_to(a.channel, 'UTF8')) || audit_field(convert_to(a.action, 'UTF8'))
    || audit_field(convert_to(a.target, 'UTF8')) || audit_field(convert_to(a.reason, 'UTF8')) || audit_field(uuid_send(a.person))
    || audit_field(a.sealed) || audit_field(convert_to(a.detail, 'UTF8')))
$$;
-- +goose StatementEnd

-- Processes that add at once wait here for each other's commit: the numbers have no
-- gap, and each sees the row before. The lock's number is the word "audit".
-- +goose StatementBegin
create function audit_add(p_now bigint, p_who text, p_channel text, p_action text, p_target text, p_reason text, p_person uuid, p_sealed bytea, p_detail text,
  out o_seq bigint, out o_at bigint, out o_hash bytea)
language plpgsql as $$
declare
  v_before bytea; a audit;
begin
  perform pg_advisory_xact_lock(418447681908);
  select seq, hash into a.seq, v_before from audit order by seq desc limit 1;
  a.seq := coalesce(a.seq, 0) + 1;
  a.at := now_ms(p_now);
  a.who := p_who; a.channel := p_channel; a.action := p_action; a.target := p_target; a.reason := p_reason;
  a.person := p_person; a.sealed := p_sealed; a.detail := p_detail;
  a.hash := audit_hash(v_before, a);
  insert into audit select a.*;
  o_seq := a.seq; o_at := a.at; o_hash := a.hash;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function audit_stays() returns trigger language plpgsql as $$ begin raise exception 'the audit is only added to'; end $$;
-- +goose StatementEnd
create trigger audit_stays before update or delete on audit for each row execute function audit_stays();
