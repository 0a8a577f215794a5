"""Everything a user can name."""
