"""Student's t, where its whole family is needed: probabilities, quantiles, and the power of a test."""

from __future__ import annotations

from scipy import special

LEVEL = 0.05  # of a test by itself, and of a family of them together
POWER = 0.8


def two_sided_p(t: float, degrees_of_freedom: float) -> float:
    """Probability of a t at least this far from zero, to either side, where nothing is there to be found."""
    return float(2 * special.stdtr(degrees_of_freedom, -abs(t)))


def critical_t(level: float, degrees_of_freedom: float) -> float:
    """The t that a two-sided test at this level must exceed; an interval reaches so many standard errors."""
    return float(-special.stdtrit(degrees_of_freedom, level / 2))


def detectable(standard_error: float, degrees_of_freedom: float, level: float = LEVEL, power: float = POWER) -> float:
    """The difference that a two-sided test finds with this power, were the spread what it was observed to be.

    It solves P(t' > critical t) = power for the noncentrality of t' (Cohen 1988); the other tail is left out, which at
    80% is next to nothing.
    """
    limit = critical_t(level, degrees_of_freedom)
    return float(special.nctdtrinc(degrees_of_freedom, 1 - power, limit)) * standard_error
