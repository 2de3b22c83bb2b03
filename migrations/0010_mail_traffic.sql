-- Placeholder so that numbers stay contiguous; its owner (mail traffic) overwrites this file.
SELECT 1;
