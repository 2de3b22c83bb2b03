"""What starts runs by itself: schedules and signed webhooks (docs/triggers.md)."""
