"""Forecasts into portfolios: sorts, mean-variance, drift, turnover, costs."""
