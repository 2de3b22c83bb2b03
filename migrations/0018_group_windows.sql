-- Replicas may go by different group rates for a while (a deploy): none of them ends the noting of starts that another
-- one counts.

-- When a replica that goes by group_window_ms asked for turns the last time; written once a minute. After an hour and the
-- window without one, `give_turns` makes it as short as asked; an hour later `forget_group_windows` clears it, and starts
-- are noted no more.
ALTER TABLE queues ADD COLUMN group_window_at timestamptz;
UPDATE queues SET group_window_at = now() WHERE group_window_ms IS NOT NULL;

-- As in 0007 but for the window: the longest that was asked for lately stays, starts are kept as long, and each caller
-- counts those inside its own.
CREATE OR REPLACE FUNCTION give_turns(queue_name text, keys text[], width integer, rate_max integer, window_ms integer)
RETURNS TABLE (group_key text, wait_s double precision, id uuid, priority smallint, seq bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  this record;
  at_time timestamptz;
  running integer;
  ready integer;
  lowest smallint;
  starts integer;
  oldest timestamptz;
  room integer;
  returned integer;
  wait double precision;
  keep_ms integer;
BEGIN
  UPDATE queues q SET group_window_ms = window_ms, group_window_at = clock_timestamp()
  WHERE q.name = queue_name AND (
    window_ms > coalesce(q.group_window_ms, 0)
    OR window_ms = q.group_window_ms AND q.group_window_at < clock_timestamp() - interval '1 minute'
    OR window_ms < q.group_window_ms
      AND q.group_window_at < clock_timestamp() - interval '1 hour' - q.group_window_ms * interval '1 millisecond');
  SELECT greatest(q.group_window_ms, window_ms) INTO keep_ms FROM queues q WHERE q.name = queue_name;
  FOR this IN
    SELECT k.key, hashtextextended(queue_name || ' ' || k.key, 8) AS lock
    FROM (SELECT DISTINCT unnest(keys) AS key) k ORDER BY lock  -- all in one order: no deadlock
  LOOP
    PERFORM pg_advisory_xact_lock(this.lock);
    -- Before the starts: a job that is claimed meanwhile counts twice and never not at all.
    SELECT count(*) FILTER (WHERE j.state = 'active'), count(*) FILTER (WHERE j.state = 'waiting'),
           min(j.priority) FILTER (WHERE j.state = 'waiting')
    INTO running, ready, lowest
    FROM jobs j WHERE j.queue = queue_name AND j.group_key = this.key AND j.has_turn;
    room := greatest(0, width - running);
    wait := NULL;
    IF rate_max IS NOT NULL THEN
      at_time := clock_timestamp();
      DELETE FROM group_starts s
      WHERE s.queue = queue_name AND s.group_key = this.key AND s.at < at_time - keep_ms * interval '1 millisecond';
      SELECT count(*), min(s.at) INTO starts, oldest
      FROM group_starts s
      WHERE s.queue = queue_name AND s.group_key = this.key AND s.at >= at_time - window_ms * interval '1 millisecond'
        AND s.at <= at_time + interval '1 second';
      IF rate_max - starts < room THEN
        room := greatest(0, rate_max - starts);
        wait := extract(epoch FROM oldest - at_time) + window_ms / 1000.0 + 0.001;
      END IF;
    END IF;
    returned := 0;
    IF ready > 0 AND (ready > room OR lowest < (
      SELECT j.priority FROM jobs j
      WHERE j.queue = queue_name AND j.group_key = this.key AND j.state = 'waiting' AND j.blocked
      ORDER BY j.priority DESC, coalesce(j.arrival, j.seq) LIMIT 1))
    THEN
      UPDATE jobs SET turn_fence = NULL
      WHERE id = ANY (ARRAY(
        SELECT j.id FROM jobs j
        WHERE j.state || '' = 'waiting' AND j.has_turn AND j.id = ANY (ARRAY(
          SELECT line.id FROM (
            SELECT head.id, head.fresh, row_number() OVER (ORDER BY head.priority DESC, head.fresh, head.place) AS n
            FROM (
              SELECT r.id, r.priority, coalesce(r.arrival, r.seq) AS place, false AS fresh FROM jobs r
              WHERE r.queue = queue_name AND r.group_key = this.key AND r.has_turn AND r.state || '' = 'waiting'
              UNION ALL
              (SELECT b.id, b.priority, coalesce(b.arrival, b.seq), true FROM jobs b
               WHERE b.queue = queue_name AND b.group_key = this.key AND b.state = 'waiting' AND b.blocked
               ORDER BY b.priority DESC, coalesce(b.arrival, b.seq) LIMIT room)
            ) head
          ) line WHERE line.n > room AND NOT line.fresh))
        FOR UPDATE SKIP LOCKED));
      GET DIAGNOSTICS returned = ROW_COUNT;
    END IF;
    RETURN QUERY SELECT this.key, wait, NULL::uuid, NULL::smallint, NULL::bigint;
    CONTINUE WHEN room <= ready - returned;
    RETURN QUERY
    WITH next AS MATERIALIZED (
      SELECT j.id, j.priority, coalesce(j.arrival, j.seq) AS place FROM jobs j
      WHERE j.queue = queue_name AND j.group_key = this.key AND j.state = 'waiting' AND j.blocked
        AND (j.expires_at IS NULL OR j.expires_at > clock_timestamp())
      ORDER BY j.priority DESC, coalesce(j.arrival, j.seq)
      LIMIT room - (ready - returned)
      FOR UPDATE SKIP LOCKED
    ), line AS MATERIALIZED (
      SELECT n.id, n.place, nextval('jobs_seq_seq') AS seq FROM (SELECT * FROM next ORDER BY priority DESC, place) n
    )
    UPDATE jobs j SET turn_fence = j.fence, arrival = line.place, seq = line.seq
    FROM line WHERE j.id = ANY (ARRAY(SELECT line.id FROM line)) AND j.id = line.id
    RETURNING j.group_key, NULL::double precision, j.id, j.priority, j.seq;
  END LOOP;
END $$;
