-- Budgets that came near their end, or to it: each is told once a month, whichever replica sees it first.
-- percent: 80 or 100. budget_micros is part of the key: a budget that was raised is another one, and told again.
CREATE TABLE budget_alerts (
  project_id     uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  resets_at      timestamptz NOT NULL,                   -- the end of the month
  percent        smallint NOT NULL,
  budget_micros  bigint NOT NULL,
  spent_micros   bigint NOT NULL,                        -- when it was told
  told_at        timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (resets_at, project_id, percent, budget_micros)
);
