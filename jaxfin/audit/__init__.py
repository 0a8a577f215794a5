"""Does a forecast see the future? Proof where it can be had, tests where it cannot."""

from jaxfin.audit.certificate import Certificate as Certificate
from jaxfin.audit.check import check as check
from jaxfin.audit.check import check_network as check_network
from jaxfin.audit.dependence import Dependence as Dependence
from jaxfin.audit.dependence import Route as Route
from jaxfin.audit.dependence import dependence as dependence
from jaxfin.audit.finding import Finding as Finding
from jaxfin.audit.fitting import check_fit as check_fit
from jaxfin.audit.jacobian import Sensitivity as Sensitivity
from jaxfin.audit.jacobian import sensitivity as sensitivity
from jaxfin.audit.permuted_time import null_finding as null_finding
from jaxfin.audit.permuted_time import permuted_time as permuted_time
from jaxfin.audit.pipeline import check_pipeline as check_pipeline
from jaxfin.audit.pipeline import check_transforms as check_transforms
from jaxfin.audit.plausibility import Reported as Reported
from jaxfin.audit.plausibility import plausibility as plausibility
from jaxfin.audit.release_lags import check_release_lags as check_release_lags
