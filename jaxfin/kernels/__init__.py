"""Numerical work with no finance in its signatures."""

from jaxfin.kernels.accumulate import accumulated_sum as accumulated_sum
from jaxfin.kernels.least_squares import projection as projection
from jaxfin.kernels.least_squares import (
    residual_sum_of_squares as residual_sum_of_squares,
)
from jaxfin.kernels.ranks import average_rank as average_rank
from jaxfin.kernels.rolling import RollingRegression as RollingRegression
from jaxfin.kernels.rolling import rolling_least_squares as rolling_least_squares
