"""Judgement: R2 family and portfolio performance."""
