"""Numerical work with no finance in its signatures."""

from jaxfin.kernels.accumulate import accumulated_sum as accumulated_sum
from jaxfin.kernels.covariance import Covariance as Covariance
from jaxfin.kernels.covariance import dense_covariance as dense_covariance
from jaxfin.kernels.covariance import factor_model as factor_model
from jaxfin.kernels.covariance import ledoit_wolf as ledoit_wolf
from jaxfin.kernels.covariance import sample_covariance as sample_covariance
from jaxfin.kernels.least_squares import projection as projection
from jaxfin.kernels.least_squares import (
    residual_sum_of_squares as residual_sum_of_squares,
)
from jaxfin.kernels.mean_variance.solver import Problem as Problem
from jaxfin.kernels.mean_variance.solver import efficient_frontier as efficient_frontier
from jaxfin.kernels.mean_variance.solver import (
    mean_variance_batch as mean_variance_batch,
)
from jaxfin.kernels.mean_variance.solver import require_solved as require_solved
from jaxfin.kernels.ranks import average_rank as average_rank
from jaxfin.kernels.rolling import RollingRegression as RollingRegression
from jaxfin.kernels.rolling import rolling_least_squares as rolling_least_squares
