"""Of ``carbon-router check``: aliases, what may wait, and who is told how many replicas there
should be."""

from __future__ import annotations

from rich.text import Text

from router.config import Config
from router.config.deferral import DeferralSettings
from router.config.settings import ScalingSettings
from router.model.aliases import Alias, HttpJudge, QualityFloors, RulesJudge
from router.units import HOUR_S


def alias_lines(config: Config) -> list[Text]:
    """A line for each alias: its variants, the floors that hold, and who judges."""
    return [_alias(alias) for alias in config.fleet.aliases.values()]


def _alias(alias: Alias) -> Text:
    variants = ", ".join(f"{one.model} {one.quality:g}" for one in alias.variants)
    window = f"over {alias.window_s / HOUR_S:g} h"
    floors = [f"floor {_floors(alias.floors, window)}"]
    floors += [f"of {who} {_floors(one, window)}" for who, one in sorted(alias.tenants.items())]
    return Text(
        f"alias {alias.name}: {variants} (by {alias.source}); {', '.join(floors)}; "
        f"{_judge(alias.judge)}"
    )


def _floors(floors: QualityFloors, window: str) -> str:
    mean = f"{floors.mean:g} in the mean {window}" if floors.mean else ""
    each = f"{floors.each:g}" if floors.each else ""
    return " and ".join(filter(None, (each, mean))) or "none: any variant"


def _judge(judge: RulesJudge | HttpJudge | None) -> str:
    if judge is None:
        return "every answer stands"
    if isinstance(judge, HttpJudge):
        by = f"{judge.url}, within {judge.timeout_s * 1e3:g} ms"
    else:
        count = len(judge.phrases)
        by = f"rules and {count} phrase{'s' * (count != 1)}" if count else "rules"
    return f"whole answers are judged by {by}"


def deferral_line(config: Config) -> list[Text]:
    """Where work waits, and how long; nothing where none does."""
    deferral = config.settings.deferral
    return [] if deferral is None else [Text(_deferral(deferral))]


def _deferral(deferral: DeferralSettings) -> str:
    queue = "in state.redis" if deferral.is_shared else f"in {deferral.dir}"
    flex = "held open: none"
    if deferral.flex_wait_s:
        flex = f"held open for {deferral.flex_wait_s:g} s and {deferral.flex_max_held} at most"
    return (
        f"deferral: the queue is {queue}, callers' files in {deferral.files or deferral.dir}; "
        f"{deferral.max_concurrent} at once where less than {deferral.share:.0%} of an "
        f"endpoint is in use; {flex}"
    )


def scaling_line(config: Config) -> list[Text]:
    """Who is told hints of replicas; nothing where nobody is."""
    scaling, server = config.settings.scaling, config.settings.server
    if scaling is None and server.scaler is None:
        return []
    return [Text(_scaling(scaling or ScalingSettings(), config))]


def _scaling(scaling: ScalingSettings, config: Config) -> str:
    told = []
    if scaling.webhook is not None:
        told.append(f"{scaling.webhook.url}")
    if scaling.command is not None:
        told.append(f"{' '.join(scaling.command.argv)}")
    if config.settings.server.scaler is not None:
        told.append(f"who asks {config.settings.server.scaler}")
    state = config.settings.state
    kept = "a restart forgets what is usual: set state.file to keep it"
    if state.redis is not None:
        kept = "what is usual is kept in state.redis"
    elif state.file is not None:
        kept = f"what is usual is kept in {state.file}.usual"
    return (
        f"hints of replicas: told to {', '.join(told)}, every {scaling.every_s:g} s and when they "
        f"change; {scaling.wake_s:g} s to wake until it is measured; {kept}"
    )
