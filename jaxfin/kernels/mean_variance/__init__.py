"""Mean-variance portfolios that certify themselves; `solver` is the way in."""
