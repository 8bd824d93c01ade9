"""From findings to sentences: one for each kind, each with its figure and its interval, in English or Russian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from limner.metrics import all_metrics, metric_named, role_of
from limner.reporting.findings import BASE_MODEL, model_of
from limner.reporting.language import NUMERALS, Language
from limner.reporting.phrases import BASE, PHRASES, TOGETHER
from limner.statistics import LEAST_POWER, LEVEL, Conclusions, Described, Estimated, Finding, ScoreDifference, Sweep
from limner.statistics.findings import (
    AgainstBase,
    FewSeeds,
    Front,
    MeanScore,
    NotConcluded,
    OverLimit,
    Pair,
    PowerUnknown,
    PromptsLeftOut,
    RankTrend,
    difference_of,
)

MOST_NAMED = 6
HEADLINE = 6  # sentences
MOST_DECIMALS = 6  # as many as scores have


@dataclass(frozen=True)
class Speaker:
    """Says findings in one language; `several` are roles that more than one metric plays.

    `cluster` is the noun for what intervals are over: training seeds, or subjects where many are taken together.
    """

    language: Language
    several: frozenset[str] = frozenset()
    cluster: str = "training seed"

    def sentences(self, conclusions: Conclusions) -> list[str]:
        """All that is to be said, in the order of the findings."""
        described, means, said = _described_by_metric(conclusions), _means_by_metric(conclusions), []
        for finding in conclusions:
            if isinstance(finding, AgainstBase) and isinstance(finding.difference, Described):
                said.append(self._ordering(described.pop(finding.metric, [])))
            elif isinstance(finding, MeanScore):
                said.append(self._means(means.pop(finding.metric, [])))
            else:
                said.append(self.sentence(finding))
        return [each for each in said if each]

    def title(self, metric: str) -> str:
        """A metric's name as a heading."""
        return _capital(self._metric(metric))

    def title_together(self, y: str, x: str) -> str:
        """Two metrics' names as one heading."""
        names = [metric_named(metric).words[self.language.code].noun for metric in (y, x)]
        return TOGETHER[self.language.code].format(Y=_capital(names[0]), x=names[1])

    def headline(self, conclusions: Conclusions) -> list[str]:
        """The few that stand at the head of the report: of the first metric of each role, what is shown first."""
        first: dict[str, str] = {}
        for finding in conclusions:
            first.setdefault(role_of(getattr(finding, "metric", "")), getattr(finding, "metric", ""))
        leading = [f for f in conclusions if getattr(f, "metric", "") in first.values() and _weight(f) is not None]
        ordered = _one_of_each_kind_first(sorted(leading, key=lambda finding: _weight(finding) or (0, 0.0)))
        few = [finding for finding in conclusions if isinstance(finding, FewSeeds)]
        said = self.sentences(Conclusions(tuple(ordered)))[: HEADLINE - len(few)]
        return [*said, *(self.sentence(finding) for finding in few)]

    def sentence(self, finding: Finding) -> str:
        """One finding by itself; empty where others say it."""
        match finding:
            case AgainstBase() | Pair():
                said = self._difference(finding)
            case RankTrend():
                said = self._trend(finding)
            case MeanScore():
                said = self._means([finding])
            case OverLimit():
                said = self._over_limit(finding)
            case Front():
                said = self._front(finding)
            case FewSeeds():
                said = self._few_seeds(finding)
            case _:
                said = self._silence(finding)
        return said

    def _difference(self, finding: AgainstBase | Pair) -> str:
        found = finding.difference
        if isinstance(finding, AgainstBase):
            first, second, other = finding.variant, *(BASE[case][self.language.code] for case in ("of", "between"))
        else:
            first, second, other = finding.first, finding.second, finding.second
        if isinstance(found, Described):
            if found.reason == "few seeds":
                return ""  # the means say it
            return self._say(
                "no spread", finding.metric, a=first, b=other, d=self._signed(finding.metric, found.difference)
            )
        if not isinstance(found, Estimated):
            return ""
        if not found.is_shown:
            d, m = self._signed(finding.metric, found.difference), self._number(finding.metric, found.detectable)
            interval = self._interval(finding.metric, found)
            return self._say("not shown", finding.metric, a=first, b=other, d=d, m=m, **interval)
        if found.difference < 0:
            found, first, second = replace(found, difference=-found.difference), second, first
        return self._say("higher", finding.metric, a=first, b=second, **self._shown(finding.metric, found))

    def _ordering(self, findings: Sequence[AgainstBase]) -> str:
        """The means of variants with few training seeds, from highest to lowest."""
        if not findings:
            return ""
        ranked = sorted(findings, key=lambda finding: finding.difference.difference, reverse=True)
        figures = [
            f"{f.variant} {self._signed(f.metric, f.difference.difference)}{self._short_share(f)}" for f in ranked
        ]
        return self._say("described", findings[0].metric, **self._ranked(figures))

    def _means(self, findings: Sequence[MeanScore]) -> str:
        """The means of all variants, from highest to lowest, each with its interval where it has one."""
        if not findings:
            return ""
        ranked = sorted(findings, key=lambda finding: finding.mean.value, reverse=True)
        return self._say("means", findings[0].metric, **self._ranked([self._mean(finding) for finding in ranked]))

    def _mean(self, finding: MeanScore) -> str:
        value = self._number(finding.metric, finding.mean.value)
        if finding.mean.interval is None:
            return f"{finding.variant} {value}"
        low, high = (self._number(finding.metric, end) for end in finding.mean.interval)
        confidence = self.language.percent(1 - LEVEL, 1)
        return self._text("mean within", a=finding.variant, m=value, low=low, high=high, confidence=confidence)

    def _ranked(self, figures: Sequence[str]) -> dict[str, str]:
        """Figures from highest to lowest as one list; of many the first and the last."""
        order = self._text("order") if len(figures) > 1 else ""
        if len(figures) > MOST_NAMED:
            between = self._text("others between", count=self._numeral(len(figures) - MOST_NAMED))
            figures = [*figures[: MOST_NAMED - 1], between, self._text("last", figure=figures[-1])]
        return {"order": order, "figures": self.language.listed(figures)}

    def _trend(self, finding: RankTrend) -> str:
        found, sweep = finding.slope, self._sweep(finding.sweep, finding.ranks, finding.learning_rate)
        if isinstance(found, Estimated) and not found.is_shown:
            d, m = self._signed(finding.metric, found.difference), self._number(finding.metric, found.detectable)
            return self._say("no trend", finding.metric, d=d, m=m, sweep=sweep, **self._interval(finding.metric, found))
        goes = self._text("rises" if found.difference >= 0 else "falls")
        found = replace(found, difference=abs(found.difference))
        if isinstance(found, Estimated):
            return self._say("trend", finding.metric, goes=goes, sweep=sweep, **self._shown(finding.metric, found))
        figures = {"d": self._number(finding.metric, found.difference), "share": self._share(found)}
        return self._say("trend described", finding.metric, goes=goes, sweep=sweep, **figures)

    def _sweep(self, sweep: Sweep, ranks: Sequence[int], rate: float | None) -> str:
        said = [
            self._text("ranks", ranks=self.language.listed([str(rank) for rank in ranks])),
            self._text(sweep.alpha_rule, alpha=self.language.plain(sweep.alpha or 0.0)),
            self._text("rate", rate=self.language.plain(rate)) if rate else self._text("tuned"),
        ]
        if sweep.strength != 1.0:
            said.append(self._text("strength", strength=self.language.plain(sweep.strength)))
        return "; ".join(said)

    def _over_limit(self, finding: OverLimit) -> str:
        over = {name: counts for name, counts in finding.over.items() if counts[0]}
        seen = self._text("seen", model=self._model(finding.metric)) if role_of(finding.metric) in self.several else ""
        limit = metric_named(finding.metric).limit
        if limit is None:
            return ""
        words = limit[self.language.code]
        if not over:
            return words.none.format(seen=seen)
        base = {BASE["of"][self.language.code]: finding.base} if finding.base else {}
        figures = [self._share_over(name, *counts) for name, counts in (over | base).items()]
        return words.some.format(figures=self.language.listed(figures), seen=seen)

    def _share_over(self, name: str, over: int, pictures: int) -> str:
        counted = self.language.count(pictures, "of pictures")
        return self._text(
            "over limit", a=name, over=over, pictures=counted, share=self.language.percent(over / pictures)
        )

    def _front(self, finding: Front) -> str:
        separator = "; " if self.language.code == "ru" else ", "  # a comma is Russian's decimal point
        members = [
            f"{name} ({separator.join(map(self._number, (finding.y, finding.x), means))})"
            for name, means in finding.members.items()
        ]
        behind = [self._text("by", a=name, b=other) for name, other in finding.surpassed.items()]
        surpassed = self._text("surpassed", figures=self.language.listed(behind)) if behind else ""
        y, x = (metric_named(metric).words[self.language.code].noun for metric in (finding.y, finding.x))
        return self._text("front", y=y, x=x, members=self.language.listed(members), surpassed=surpassed)

    def _few_seeds(self, finding: FewSeeds) -> str:
        count = finding.training_seeds
        if not finding.of_all:
            return self._text("some few seeds", names=self.language.listed(finding.variants))
        seeds = f"{self._numeral(count)} training seed{'' if count == 1 else 's'}"
        return self._text("few seeds", Seeds=_capital(seeds), number=count)

    def _silence(self, finding: NotConcluded | PromptsLeftOut | PowerUnknown) -> str:
        """Why of a metric, or of some prompts, nothing is said."""
        percent = self.language.percent
        if isinstance(finding, NotConcluded):
            return self._say(finding.reason, finding.metric)
        if isinstance(finding, PromptsLeftOut):
            prompts = self.language.listed([f"{name} ({percent(share)})" for name, share in finding.shares.items()])
            return self._say("left out", finding.metric, least=percent(LEAST_POWER), prompts=prompts)
        key = "power unknown" if finding.of_all else "some power unknown"
        return self._say(key, finding.metric, prompts=self.language.listed(finding.prompts))

    def _say(self, key: str, metric: str, **fields: Any) -> str:
        name = self._metric(metric)
        return self._text(key, metric=name, Metric=_capital(name), **fields)

    def _text(self, key: str, **fields: Any) -> str:
        return PHRASES[key][self.language.code].format(**fields)

    def _metric(self, metric: str) -> str:
        name, model = metric_named(metric).words[self.language.code].noun, self._model(metric)
        return f"{name} ({model})" if role_of(metric) in self.several and model else name

    def _model(self, metric: str) -> str:
        model = model_of(metric)
        return self._text("the base's model") if model == BASE_MODEL else model

    def _interval(self, metric: str, found: Estimated) -> dict[str, str]:
        """Its ends, with as many decimals as it takes that an end which is not zero does not read as zero."""
        decimals = metric_named(metric).decimals
        while decimals < MOST_DECIMALS and any(abs(end) < 0.5 / 10**decimals for end in found.interval):
            decimals += 1
        low, high = (self.language.number(end, decimals=decimals) for end in found.interval)
        return {"low": low, "high": high, "confidence": self.language.percent(1 - found.level, 1)}

    def _shown(self, metric: str, found: Estimated) -> dict[str, str]:
        key = "adjusted p" if found.family > 1 else "p"
        return {
            "d": self._number(metric, found.difference),
            "share": self._share(found),
            **self._interval(metric, found),
            "p": self._text(
                key,
                p=self.language.probability(found.adjusted_p),
                family=self.language.count(found.family, "comparison"),
            ),
            "seeds": self.language.count(found.training_seeds, self.cluster),
            "pictures": self.language.count(found.pictures, "picture"),
        }

    def _share(self, found: ScoreDifference, key: str = "share") -> str:
        share = found.span_share
        return "" if share is None else self._text(key, share=self.language.percent(share).replace("-", "−"))

    def _short_share(self, finding: AgainstBase) -> str:
        return self._share(finding.difference, "short share")

    def _number(self, metric: str, value: float) -> str:
        return self.language.number(value, decimals=metric_named(metric).decimals)

    def _signed(self, metric: str, value: float) -> str:
        return self.language.number(value, signed=True, decimals=metric_named(metric).decimals)

    def _numeral(self, count: int) -> str:
        return NUMERALS[count] if self.language.code == "en" and count < len(NUMERALS) else str(count)


def _described_by_metric(conclusions: Conclusions) -> dict[str, list[AgainstBase]]:
    """What is said in one sentence a metric: differences from the base that were only described."""
    found: dict[str, list[AgainstBase]] = {}
    for finding in conclusions:
        if isinstance(finding, AgainstBase) and isinstance(finding.difference, Described):
            found.setdefault(finding.metric, []).append(finding)
    return found


def _means_by_metric(conclusions: Conclusions) -> dict[str, list[MeanScore]]:
    found: dict[str, list[MeanScore]] = {}
    for finding in conclusions:
        if isinstance(finding, MeanScore):
            found.setdefault(finding.metric, []).append(finding)
    return found


def _one_of_each_kind_first(ordered: Sequence[Finding]) -> list[Finding]:
    """A second comparison or trend of a metric waits until all others were said; what is only described is one."""
    seen: set[tuple[type, str]] = set()
    first: list[Finding] = []
    for finding in ordered:
        kind = (type(finding), getattr(finding, "metric", ""))
        if kind not in seen or isinstance(difference_of(finding), Described):
            first.append(finding)
        seen.add(kind)
    return [*first, *(finding for finding in ordered if finding not in first)]


def _weight(finding: Finding) -> tuple[int, float] | None:
    """What stands further up in the headline has less; None for what has no place there."""
    metric, found = getattr(finding, "metric", ""), difference_of(finding)
    leads = bool(metric) and metric_named(metric).leads
    if not leads and not (isinstance(found, Estimated) and found.is_shown):
        return None
    compared = [each.name for each in all_metrics() if each.compared]
    role = compared.index(role_of(metric)) if role_of(metric) in compared else 0
    if not leads:
        return 7, role - abs(found.difference if found else 0.0)
    place: tuple[int, float] | None = None
    match finding, found:
        case NotConcluded() | PromptsLeftOut(), _:
            place = 0, role
        case AgainstBase(), Described():
            place = 1, role
        case RankTrend(), _:
            place = 2, role
        case Pair(), Estimated() if found.is_shown:
            place = 3, role - abs(found.difference)
        case OverLimit(), _ if any(over for over, _ in finding.over.values()):
            place = 4, role
        case AgainstBase(), Estimated() if found.is_shown:
            place = 5, role - abs(found.difference)
        case Pair(), Estimated():
            place = 6, role + found.p
    return place


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
