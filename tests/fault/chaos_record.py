"""A trigger of the driver's own that writes down every move of every job, so that the audit sees what the rows forget.

It rolls back with the move that it records.
"""

from __future__ import annotations

from typing import Any

_STATEMENTS = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.moves (
  n          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job        uuid NOT NULL,
  queue      text NOT NULL,
  old_state  text,       -- NULL: inserted
  new_state  text NOT NULL,
  priority   smallint NOT NULL,
  seq        bigint NOT NULL,
  fences     bigint NOT NULL,     -- by how much the fence grew
  attempts   integer[] NOT NULL,  -- before and after
  stalls     integer[] NOT NULL,
  claimed_at timestamptz
);
CREATE FUNCTION chaos.record_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos.moves (job, queue, old_state, new_state, priority, seq, fences, attempts, stalls, claimed_at)
  VALUES (NEW.id, NEW.queue, OLD.state, NEW.state, NEW.priority, NEW.seq, NEW.fence - coalesce(OLD.fence, 0),
          ARRAY[coalesce(OLD.attempts, 0), NEW.attempts], ARRAY[coalesce(OLD.stalls, 0), NEW.stalls], NEW.claimed_at);
  RETURN NULL;
END $$;
CREATE TRIGGER chaos_insert AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION chaos.record_move();
CREATE TRIGGER chaos_update AFTER UPDATE ON jobs FOR EACH ROW
  WHEN ((OLD.state, OLD.fence, OLD.attempts, OLD.stalls)
        IS DISTINCT FROM (NEW.state, NEW.fence, NEW.attempts, NEW.stalls))
  EXECUTE FUNCTION chaos.record_move();
"""


async def install(connection: Any) -> None:
    await connection.execute(_STATEMENTS)
