-- Verdicts in PostgreSQL, each once: a message that comes twice has the same (agent, machine, seq).
-- With Timescale, a unique index has the time in it: primary key (agent, machine, seq, ts), then
-- select create_hypertable('auscult.verdict', 'ts');
create schema if not exists auscult;

create table if not exists auscult.verdict (
  agent text not null,
  machine text not null,
  seq bigint not null,
  ts timestamptz not null,
  verdict text not null,
  reason text,
  distance double precision,
  threshold double precision,
  level_dbfs double precision,
  late boolean not null,
  payload jsonb not null,
  primary key (agent, machine, seq)
);
create index if not exists verdict_ts on auscult.verdict (ts);

-- A message's payload, in hex digits, so that nothing in it can be taken for SQL.
create or replace function auscult.take(hex text) returns void language sql as $$
  insert into auscult.verdict
  select
    it->>'agent', it->>'machine', (it->>'seq')::bigint, (it->>'ts')::timestamptz, it->>'verdict', it->>'reason',
    (it->>'distance')::double precision, (it->>'threshold')::double precision, (it->>'level_dbfs')::double precision,
    coalesce((it->>'late')::boolean, false), it
  from (select convert_from(decode(hex, 'hex'), 'UTF8')::jsonb as it) as message
  on conflict do nothing
$$;
