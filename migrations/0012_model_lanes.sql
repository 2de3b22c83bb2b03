-- Model providers: what calls cost, how many may be made, and who rests (docs/models.md).

-- Prices by date; the newest that is valid counts. Micros are millionths of a US dollar, for a million tokens.
CREATE TABLE model_prices (
  model          text NOT NULL,
  provider       text NOT NULL,
  input_micros   bigint NOT NULL,
  output_micros  bigint NOT NULL,
  valid_from     timestamptz NOT NULL DEFAULT now(),
  seen_on        date NOT NULL DEFAULT current_date,  -- when somebody read it in the provider's list
  PRIMARY KEY (model, valid_from),
  CONSTRAINT model_prices_provider CHECK (provider IN ('openai', 'anthropic', 'google')),
  CONSTRAINT model_prices_not_negative CHECK (input_micros >= 0 AND output_micros >= 0)
);

-- Standard tier, prompts below the length at which some providers charge more, nothing cached.
INSERT INTO model_prices (model, provider, input_micros, output_micros, valid_from, seen_on)
SELECT model, provider, input_usd * 1000000, output_usd * 1000000, '2025-01-01T00:00:00Z', '2026-11-22'
FROM (VALUES
  ('gpt-5',                 'openai',    1.25,  10.00),
  ('gpt-5-mini',            'openai',    0.25,   2.00),
  ('gpt-5-nano',            'openai',    0.05,   0.40),
  ('gpt-5-pro',             'openai',   15.00, 120.00),
  ('gpt-5-codex',           'openai',    1.25,  10.00),
  ('gpt-5.1',               'openai',    1.25,  10.00),
  ('gpt-5.2',               'openai',    1.75,  14.00),
  ('gpt-5.4',               'openai',    2.50,  15.00),
  ('gpt-5.4-mini',          'openai',    0.75,   4.50),
  ('gpt-5.4-nano',          'openai',    0.20,   1.25),
  ('gpt-5.5',               'openai',    5.00,  30.00),
  ('gpt-4.1',               'openai',    2.00,   8.00),
  ('gpt-4.1-mini',          'openai',    0.40,   1.60),
  ('gpt-4.1-nano',          'openai',    0.10,   0.40),
  ('gpt-4o',                'openai',    2.50,  10.00),
  ('gpt-4o-mini',           'openai',    0.15,   0.60),
  ('o3',                    'openai',    2.00,   8.00),
  ('o4-mini',               'openai',    1.10,   4.40),
  ('claude-opus-4-1',       'anthropic', 15.00, 75.00),
  ('claude-opus-4-5',       'anthropic',  5.00, 25.00),
  ('claude-opus-4-6',       'anthropic',  5.00, 25.00),
  ('claude-opus-4-7',       'anthropic',  5.00, 25.00),
  ('claude-opus-4-8',       'anthropic',  5.00, 25.00),
  ('claude-opus-5',         'anthropic',  5.00, 25.00),
  ('claude-sonnet-4-0',     'anthropic',  3.00, 15.00),
  ('claude-sonnet-4-5',     'anthropic',  3.00, 15.00),
  ('claude-sonnet-4-6',     'anthropic',  3.00, 15.00),
  ('claude-sonnet-5',       'anthropic',  2.00, 10.00),
  ('claude-haiku-4-5',      'anthropic',  1.00,  5.00),
  ('gemini-2.5-pro',        'google',     1.25, 10.00),
  ('gemini-2.5-flash',      'google',     0.30,  2.50),
  ('gemini-2.5-flash-lite', 'google',     0.10,  0.40),
  ('gemini-3.1-flash-lite', 'google',     0.25,  1.50),
  ('gemini-3.5-flash',      'google',     1.50,  9.00)
) AS known (model, provider, input_usd, output_usd);

-- A provider's lane: while it rests, no replica calls it.
CREATE TABLE model_lanes (
  provider      text PRIMARY KEY,
  paused_until  timestamptz,
  kind          text,                            -- why: rate_limited, failing, by_hand
  reason        text,
  rests         integer NOT NULL DEFAULT 0,      -- in a row, without an answer between them: the next one is longer
  failures      integer NOT NULL DEFAULT 0,      -- in a row
  turn          bigint NOT NULL DEFAULT 0,       -- grows with every rest: calls from before it say nothing about after it
  updated_at    timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT model_lanes_kind CHECK (kind IN ('rate_limited', 'failing', 'by_hand'))
);
INSERT INTO model_lanes (provider) VALUES ('openai'), ('anthropic'), ('google');

-- Most requests and tokens of a model in any minute, over all replicas. No row, or NULL: no limit.
CREATE TABLE model_limits (
  model                text PRIMARY KEY,
  requests_per_minute  integer,
  tokens_per_minute    bigint,
  updated_by           text NOT NULL,
  updated_at           timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT model_limits_positive CHECK (requests_per_minute > 0 AND tokens_per_minute > 0)
);

-- Calls of the last minute of models that have a limit: estimated tokens when it was made, the true ones after it.
CREATE TABLE model_calls (
  id      uuid PRIMARY KEY,
  model   text NOT NULL,
  at      timestamptz NOT NULL,
  tokens  bigint NOT NULL
);
CREATE INDEX model_calls_newest ON model_calls (model, at);

-- May this call be made now? Answers the lane's turn and why not, with seconds to wait (NULL: it may, and is counted).
-- The lock on the model's limit makes the sums hold over all replicas; it ends with the statement. After a lane's rest
-- because of failures one call tries, the others wait `probe_s` for what becomes of it.
CREATE FUNCTION reserve_model_call(
  lane_provider text, call_model text, call_id uuid, estimate bigint, probe_s double precision)
RETURNS TABLE (turn bigint, why text, wait_s double precision) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  lane model_lanes;
  most model_limits;
  at_time timestamptz := clock_timestamp();
  calls bigint;
  used bigint;
  until timestamptz;
BEGIN
  SELECT * INTO lane FROM model_lanes l WHERE l.provider = lane_provider;
  IF lane.paused_until > at_time THEN
    until := least(lane.paused_until, at_time + interval '1 hour');
    RETURN QUERY SELECT lane.turn, lane.kind, extract(epoch FROM until - at_time)::double precision;
    RETURN;
  END IF;
  SELECT * INTO most FROM model_limits m WHERE m.model = call_model FOR UPDATE;
  IF FOUND THEN
    at_time := clock_timestamp();  -- the lock may have been waited for
    DELETE FROM model_calls c WHERE c.model = call_model AND c.at <= at_time - interval '1 minute';
    SELECT count(*), coalesce(sum(c.tokens), 0) INTO calls, used FROM model_calls c WHERE c.model = call_model;
    IF calls >= most.requests_per_minute THEN
      SELECT c.at + interval '1 minute' INTO until FROM model_calls c
      WHERE c.model = call_model ORDER BY c.at OFFSET calls - most.requests_per_minute LIMIT 1;
      RETURN QUERY SELECT lane.turn, 'requests', extract(epoch FROM until - at_time)::double precision;
      RETURN;
    END IF;
    estimate := least(estimate, most.tokens_per_minute);  -- what never fits has a minute of its own
    IF used + estimate > most.tokens_per_minute THEN
      SELECT line.at + interval '1 minute' INTO until
      FROM (SELECT c.at, sum(c.tokens) OVER (ORDER BY c.at, c.id) AS gone
            FROM model_calls c WHERE c.model = call_model) line
      WHERE line.gone >= used + estimate - most.tokens_per_minute ORDER BY line.at LIMIT 1;
      RETURN QUERY SELECT lane.turn, 'tokens', extract(epoch FROM until - at_time)::double precision;
      RETURN;
    END IF;
    INSERT INTO model_calls (id, model, at, tokens) VALUES (call_id, call_model, at_time, estimate);
  END IF;
  IF lane.kind = 'failing' THEN
    UPDATE model_lanes l SET paused_until = at_time + probe_s * interval '1 second', updated_at = at_time
    WHERE l.provider = lane_provider AND l.turn = lane.turn AND l.paused_until = lane.paused_until;
    IF NOT FOUND THEN
      DELETE FROM model_calls c WHERE c.id = call_id;
      RETURN QUERY SELECT lane.turn, 'failing', probe_s;
      RETURN;
    END IF;
  END IF;
  RETURN QUERY SELECT lane.turn, NULL::text, NULL::double precision;
END $$;
