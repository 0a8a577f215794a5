"""What a forecast is made of: relevance of a network's inputs."""

from jaxfin.explain.attribution import UNEXPLAINED as UNEXPLAINED
from jaxfin.explain.attribution import Relevance as Relevance
from jaxfin.explain.attribution import gradient_relevance as gradient_relevance
from jaxfin.explain.attribution import integrated_relevance as integrated_relevance
from jaxfin.explain.attribution import member_relevance as member_relevance
from jaxfin.explain.attribution import relevance as relevance
from jaxfin.explain.gradients import Integrated as Integrated
from jaxfin.explain.gradients import gradient_times_input as gradient_times_input
from jaxfin.explain.gradients import integrated_gradients as integrated_gradients
from jaxfin.explain.rules import Rules as Rules
