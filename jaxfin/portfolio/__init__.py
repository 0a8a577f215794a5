"""Forecasts into portfolios: sorts, drift, turnover, costs."""
