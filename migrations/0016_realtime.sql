-- What was told on channels lately, for replicas without Redis (docs/realtime.md). No record: after a crash of PostgreSQL
-- it is empty, which listeners see as a gap.

CREATE UNLOGGED TABLE realtime_channels (
  channel     text PRIMARY KEY,
  last        bigint NOT NULL,                           -- position of the last message
  added       integer NOT NULL,                          -- how many messages the last append brought
  doubt       bigint NOT NULL,                           -- of the last append; see append_messages.sql
  written_at  timestamptz NOT NULL DEFAULT now(),
  touched_at  timestamptz NOT NULL DEFAULT now()         -- written or asked for
) WITH (fillfactor = 50);

CREATE UNLOGGED TABLE realtime_messages (
  channel  text NOT NULL,
  seq      bigint NOT NULL,
  body     text NOT NULL,                                -- JSON without its seq
  PRIMARY KEY (channel, seq)
);
