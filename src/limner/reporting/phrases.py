"""Every sentence of the conclusions, English and Russian side by side; figures and names are filled in."""

from __future__ import annotations

from limner.metrics import Code

HEADINGS: dict[Code, str] = {"en": "Conclusions", "ru": "Выводы"}
FOLDED: dict[Code, str] = {
    "en": "Further comparisons: {count}; no difference could be shown in {undecided} of them",
    "ru": "Остальные сравнения: {count}, из них без выявленной разницы: {undecided}",
}
TOGETHER: dict[Code, str] = {"en": "{Y} and {x} together", "ru": "{Y} и {x} вместе"}
BASE: dict[str, dict[Code, str]] = {  # Russian: «у …» and «между … и …»
    "of": {"en": "the base", "ru": "базовой модели"},
    "between": {"en": "the base", "ru": "базовой моделью"},
}
PHRASES: dict[str, dict[Code, str]] = {
    "higher": {
        "en": "{Metric} is higher for {a} than for {b}, by {d}{share}; {confidence} interval {low} to {high}, {p} "
        "({seeds}, {pictures}).",
        "ru": "{Metric} у {a} выше, чем у {b}, на {d}{share}; доверительный интервал уровня {confidence}: от {low} "
        "до {high}, {p} ({seeds}, {pictures}).",
    },
    "not shown": {
        "en": "No difference in {metric} between {a} and {b} could be shown (difference {d}, {confidence} interval "
        "{low} to {high}; a difference of {m} or more would have been found with 80% power).",
        "ru": "Разницы между {a} и {b} по показателю «{metric}» выявить не удалось (разность {d}, доверительный "
        "интервал уровня {confidence}: от {low} до {high}; разность не менее {m} была бы обнаружена с мощностью "
        "80\u00a0%).",
    },
    "no spread": {
        "en": "The difference in {metric} between {a} and {b} is {d}, but the training seeds do not differ from each "
        "other, so nothing could be tested.",
        "ru": "Разность между {a} и {b} по показателю «{metric}» равна {d}, но запуски обучения не отличаются друг от "
        "друга, поэтому проверить её нельзя.",
    },
    "described": {
        "en": "Mean difference in {metric} from the base’s picture of the same prompt and seed{order}: {figures}.",
        "ru": "Среднее отличие от изображений базовой модели с тем же запросом и начальным шумом по показателю "
        "«{metric}»{order}: {figures}.",
    },
    "means": {
        "en": "Mean {metric}{order}: {figures}.",
        "ru": "Среднее значение показателя «{metric}»{order}: {figures}.",
    },
    "mean within": {
        "en": "{a} {m} ({confidence} interval {low} to {high})",
        "ru": "{a} {m} (доверительный интервал уровня {confidence}: от {low} до {high})",
    },
    "order": {"en": ", from highest to lowest", "ru": ", от большего к меньшему"},
    "others between": {"en": "{count} others between", "ru": "ещё {count} между ними"},
    "last": {"en": "last {figure}", "ru": "на последнем месте {figure}"},
    "trend": {
        "en": "{Metric} {goes} with the rank, by {d} for each doubling{share}; {confidence} interval {low} to {high}, "
        "{p} ({sweep}; {seeds}).",
        "ru": "{Metric} {goes} с увеличением ранга: на {d} при каждом удвоении{share}; доверительный интервал "
        "уровня {confidence}: от {low} до {high}, {p} ({sweep}; {seeds}).",
    },
    "no trend": {
        "en": "No trend of {metric} over the rank could be shown ({d} for each doubling, {confidence} interval {low} "
        "to {high}; {m} or more would have been found with 80% power; {sweep}).",
        "ru": "Связи показателя «{metric}» с рангом выявить не удалось ({d} при каждом удвоении, доверительный "
        "интервал уровня {confidence}: от {low} до {high}; изменение не менее {m} было бы обнаружено с мощностью "
        "80\u00a0%; "
        "{sweep}).",
    },
    "trend described": {
        "en": "On these pictures {metric} {goes} with the rank, by {d} for each doubling{share}; {sweep}.",
        "ru": "На этих изображениях {metric} {goes} с увеличением ранга: на {d} при каждом удвоении{share}; {sweep}.",
    },
    "rises": {"en": "rises", "ru": "растёт"},
    "falls": {"en": "falls", "ru": "снижается"},
    "share": {"en": " ({share} of the span from floor to ceiling)", "ru": " ({share} размаха между ориентирами)"},
    "short share": {"en": " ({share} of the span)", "ru": " ({share} размаха)"},
    "p": {"en": "{p}", "ru": "{p}"},
    "adjusted p": {
        "en": "{p} corrected for {family}",
        "ru": "{p} с поправкой на {family}",
    },
    "ranks": {"en": "ranks {ranks}", "ru": "ранги {ranks}"},
    "alpha = rank": {"en": "alpha = rank", "ru": "alpha равна рангу"},
    "alpha fixed": {"en": "alpha fixed at {alpha}", "ru": "alpha постоянна: {alpha}"},
    "alpha/sqrt(rank)": {"en": "scale alpha/√rank", "ru": "масштаб alpha/√ранга"},
    "rate": {"en": "learning rate {rate}", "ru": "скорость обучения {rate}"},
    "strength": {"en": "rendered at strength {strength}", "ru": "сила LoRA при рендеринге: {strength}"},
    "tuned": {
        "en": "learning rate tuned for each rank by the other training seeds",
        "ru": "скорость обучения подобрана для каждого ранга по остальным запускам",
    },
    "over limit": {"en": "{over} of {pictures} of {a} ({share})", "ru": "{over} из {pictures} у {a} ({share})"},
    "the base's model": {"en": "the base’s CLIP", "ru": "CLIP базовой модели"},
    "seen": {"en": ", as {model} sees them", "ru": " (по данным {model})"},
    "front": {
        "en": "Trade-off front of {y} and {x}: {members}. By their means, which were not tested here, "
        "no variant surpasses these in both.{surpassed}",
        "ru": "Граница компромисса по показателям «{y}» и «{x}»: {members}. По средним значениям, "
        "различия которых здесь не проверялись, ни один вариант не превосходит их сразу по обоим "
        "показателям.{surpassed}",
    },
    "surpassed": {"en": " Surpassed: {figures}.", "ru": " Уступают по обоим: {figures}."},
    "by": {"en": "{a} by {b}", "ru": "{a} (варианту {b})"},
    "few seeds": {
        "en": "{Seeds} per variant: descriptive only. Whether a difference would hold with other seeds cannot be said "
        "from this.",
        "ru": "Запусков обучения на вариант: {number}. Этого хватает лишь для описания: сохранится ли разница при "
        "других запусках, сказать нельзя.",
    },
    "some few seeds": {
        "en": "{names} have fewer than three training seeds and are only described.",
        "ru": "Менее трёх запусков обучения у {names}: для них возможны только описания.",
    },
    "no values": {"en": "{Metric} could not be measured.", "ru": "{Metric}: измерить не удалось."},
    "no ceiling": {
        "en": "{Metric}: the ceiling is not measurable, so nothing is concluded; the figures stand in the tables.",
        "ru": "{Metric}: верхний ориентир измерить нельзя, поэтому выводов нет; числа приведены в таблицах.",
    },
    "no power": {
        "en": "{Metric}: nothing is concluded, as no prompt remains.",
        "ru": "{Metric}: выводов нет, так как не осталось ни одного запроса.",
    },
    "left out": {
        "en": "{Metric} leaves out prompts in whose style its embedding names the right subject in less than {least} "
        "of real photos: {prompts}.",
        "ru": "{Metric}: не учтены запросы, в стиле которых модель верно узнаёт объект менее чем на {least} настоящих "
        "фотографий: {prompts}.",
    },
    "power unknown": {
        "en": "Whether the embedding behind {metric} knows the subject in the style of the prompts was not measured on "
        "photos.",
        "ru": "{Metric}: на фотографиях не измерено, узнаёт ли модель объект в стиле запросов.",
    },
    "some power unknown": {
        "en": "Whether the embedding behind {metric} knows the subject in the style of {prompts} was not measured on "
        "photos.",
        "ru": "{Metric}: на фотографиях не измерено, узнаёт ли модель объект в стиле запросов: {prompts}.",
    },
}
