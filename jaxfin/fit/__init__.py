"""Training: one lane as a pure program, many lanes at once."""
