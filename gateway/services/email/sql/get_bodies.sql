-- purpose: The bodies of one mail.
-- $1 id uuid: the mail
SELECT html, text FROM emails WHERE id = $1;
