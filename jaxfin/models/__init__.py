"""Networks and their losses as pure functions."""
