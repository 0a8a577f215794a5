"""Deep asset pricing research kernel: fit, forecast, judge, out of sample."""
