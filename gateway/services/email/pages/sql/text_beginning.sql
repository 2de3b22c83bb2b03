-- purpose: The beginning of a mail's text.
-- $1 id uuid: the mail
-- $2 most int: characters
SELECT left(text, $2) AS text, greatest(0, length(text) - $2) AS left_out FROM emails WHERE id = $1;
